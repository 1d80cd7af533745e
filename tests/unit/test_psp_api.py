"""The provider's API: as strict as a real one, whatever a merchant sends."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from tests.support.psp import SECRET, Mailbox, Psp
from tests.support.workers import ROOT

WISH = {"order_id": "o1", "customer_id": "c1", "amount_minor": 500, "currency": "EUR"}


@pytest.fixture(scope="module")
def psp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Psp]:
    with Psp(tmp_path_factory.mktemp("psp"), "--decline-share", "0") as psp:
        yield psp


def pay(psp: Psp, key: str, **changes: Any) -> tuple[int, Any, Any]:
    return psp.ask("POST", "/v1/payments", {**WISH, "order_id": key, **changes}, key=key)


def code(answer: tuple[int, Any, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


def test_one_key_is_one_payment(psp: Psp) -> None:
    status, first, headers = pay(psp, "one")
    assert (status, first["state"], first["captured_minor"]) == (201, "captured", 500)
    assert "idempotent-replayed" not in headers
    backwards = json.dumps(dict(reversed({**WISH, "order_id": "one"}.items()))).encode()
    status, again, headers = psp.ask("POST", "/v1/payments", backwards, key="one")
    assert (status, again, headers["idempotent-replayed"]) == (201, first, "true")
    assert code(pay(psp, "one", amount_minor=501)) == (422, "idempotency-key-reused")
    assert code(psp.ask("POST", f"/v1/payments/{first['id']}/refund", {}, key="one")) == (422, "idempotency-key-reused")
    assert psp.ask("GET", "/v1/payments?idempotency_key=one")[1] == {"data": [first]}
    assert psp.ask("GET", "/v1/payments?idempotency_key=two")[1] == {"data": []}
    assert psp.moves("capture")["one"] == [500]


def test_of_two_at_once_with_one_key_the_second_is_told_so(psp: Psp) -> None:
    psp.faults(latency=1.0)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: pay(psp, "race"), range(4)))
    psp.faults()
    assert sorted(answer[0] for answer in answers) == [201, 409, 409, 409]
    refused = next(answer for answer in answers if answer[0] == 409)
    assert (code(refused), refused[2]["retry-after"]) == ((409, "idempotency-key-in-use"), "1")
    assert psp.moves("capture")["race"] == [500]


def test_money_that_is_set_aside_is_taken_or_given_back_once(psp: Psp) -> None:
    taken, left = (pay(psp, name, capture=False)[1]["id"] for name in ("taken", "left"))
    assert psp.ask("GET", f"/v1/payments/{taken}")[1]["state"] == "authorized"
    part = psp.ask("POST", f"/v1/payments/{taken}/capture", {"amount_minor": 300}, key="c1")
    assert (part[0], part[1]["state"], part[1]["captured_minor"]) == (200, "captured", 300)
    assert code(psp.ask("POST", f"/v1/payments/{taken}/capture", {}, key="c2")) == (400, "payment-state")
    assert code(psp.ask("POST", f"/v1/payments/{taken}/void", key="c3")) == (400, "payment-state")
    assert psp.ask("POST", f"/v1/payments/{left}/void", key="v1")[1]["state"] == "voided"
    assert code(psp.ask("POST", f"/v1/payments/{left}/capture", {}, key="v2")) == (400, "payment-state")


def test_no_more_is_refunded_than_was_taken(psp: Psp) -> None:
    one = f"/v1/payments/{pay(psp, 'refunded')[1]['id']}/refund"
    assert psp.ask("POST", one, {"amount_minor": 200}, key="r1")[1]["state"] == "captured"
    assert psp.ask("POST", one, {"amount_minor": 200}, key="r1")[2]["idempotent-replayed"] == "true"
    assert code(psp.ask("POST", one, {"amount_minor": 301}, key="r2")) == (400, "amount-too-large")
    assert psp.ask("POST", one, {}, key="r3")[1]["state"] == "refunded"
    assert code(psp.ask("POST", one, {}, key="r4")) == (400, "payment-state")
    assert psp.moves("refund")["refunded"] == [200, 300]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "JSON"),
        (b"[]", 400, "body"),
        ({**WISH, "amount_minor": "500"}, 400, "amount_minor"),
        ({**WISH, "amount_minor": 5.0}, 400, "amount_minor"),
        ({**WISH, "amount_minor": 0}, 400, "amount_minor"),
        ({**WISH, "amount_minor": 2**63}, 400, "amount_minor"),
        ({**WISH, "currency": "eur"}, 400, "currency"),
        ({**WISH, "currency": "XXY"}, 400, "XXY"),
        ({**WISH, "tip": 1}, 400, "tip"),
        ({**WISH, "order_id": ""}, 400, "order_id"),
        ({"order_id": "o"}, 400, "customer_id"),
        ({**WISH, "customer_id": "c" * 20_000}, 413, "16384"),
    ],
)
def test_what_is_not_exactly_right_moves_no_money(psp: Psp, body: Any, status: int, says: str) -> None:
    answer = psp.ask("POST", "/v1/payments", body, key="bad")
    assert (answer[0], says in answer[1]["error"]["message"]) == (status, True), answer
    assert psp.ask("GET", "/v1/payments?idempotency_key=bad")[1] == {"data": []}


def test_a_stranger_sees_nothing(psp: Psp) -> None:
    mine = pay(psp, "mine")[1]["id"]
    for stranger in ({"Authorization": "Bearer no"}, {"Authorization": ""}, {"Authorization": "Basic c2s6"}):
        assert code(psp.ask("GET", f"/v1/payments/{mine}", headers=stranger)) == (401, "unauthorized")
        assert psp.ask("PUT", "/v1/admin/faults", {}, headers=stranger)[0] == 401
    other = {"Authorization": "Bearer another"}
    assert code(psp.ask("GET", f"/v1/payments/{mine}", headers=other)) == (404, "payment-unknown")
    assert psp.ask("GET", "/v1/payments?idempotency_key=mine", headers=other)[1] == {"data": []}
    assert psp.ask("POST", "/v1/payments", {**WISH, "amount_minor": 7}, key="mine", headers=other)[0] == 201
    assert code(psp.ask("POST", "/v1/payments", WISH)) == (400, "idempotency-key-missing")


def test_a_statement_has_every_move_of_its_day(psp: Psp) -> None:
    pay(psp, "stated", amount_minor=7)
    today = datetime.now(UTC).date().isoformat()
    rows = list(csv.DictReader(io.StringIO(psp.ask("GET", f"/v1/statements/{today}")[1])))
    mine = [row for row in rows if row["order_id"] == "stated"]
    assert [(row["kind"], row["amount_minor"], row["currency"]) for row in mine] == [
        ("authorize", "7", "EUR"),
        ("capture", "7", "EUR"),
    ]
    assert mine[0]["at"].startswith(today)
    assert len(psp.ask("GET", "/v1/statements/2020-02-29")[1].splitlines()) == 1
    assert psp.ask("GET", "/v1/statements/2021-02-29")[0] == 400


def test_what_was_answered_is_still_so_after_a_kill(tmp_path: Path) -> None:
    with Psp(tmp_path, "--decline-share", "0.5") as psp:
        before = {key: pay(psp, key)[:2] for key in map(str, range(10))}
        assert {status for status, _ in before.values()} == {201, 402}
        psp.kill()
        psp.start()
        assert {key: pay(psp, key)[:2] for key in before} == before
        declined = {key for key, (status, _) in before.items() if status == 402}
        assert psp.moves("capture").keys() == before.keys() - declined


def test_every_change_is_told_until_it_is_taken(tmp_path: Path) -> None:
    with (
        Mailbox() as box,
        Psp(
            tmp_path,
            *("--webhook-url", box.url, "--settle-after", "0.5", "--dispute-share", "1", "--disorder", "0"),
            *("--decline-share", "0"),
        ) as psp,
    ):
        box.status = 500
        payment = pay(psp, "told")[1]
        box.wait_for("payment.captured", 2)
        box.status = 204
        (settled,) = box.wait_for("payment.settled", 1)[:1]
        (disputed,) = box.wait_for("payment.disputed", 1)[:1]
        assert settled["data"]["id"] == disputed["data"]["id"] == payment["id"]
        assert (settled["data"]["order_id"], settled["data"]["moved_minor"]) == ("told", 500)
        judge = standardwebhooks.Webhook(SECRET)
        ids: dict[str, set[str]] = {}
        for headers, body in box.got:
            judge.verify(body, headers)
            ids.setdefault(json.loads(body)["type"], set()).add(headers["webhook-id"])
        assert [len(of) for of in ids.values()] == [1] * 4, "an attempt is the same webhook again"


def test_webhooks_come_late_and_twice_if_told_to(tmp_path: Path) -> None:
    arguments = ("--disorder", "0.5", "--decline-share", "0", "--settle-after", "0")
    with Mailbox() as box, Psp(tmp_path, "--webhook-url", box.url, *arguments) as psp:
        for number in range(12):
            pay(psp, f"o{number}")

        def seen() -> list[str]:
            return [headers["webhook-id"] for headers, _ in list(box.got)]

        box.wait_for("payment.settled", 12)
        kinds = [json.loads(body)["type"] for _, body in list(box.got)]
        assert len(seen()) > len(set(seen())) or box.wait_for("payment.settled", 13)
        assert kinds.index("payment.settled") < len(kinds) - 1 - kinds[::-1].index("payment.captured"), kinds


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "TOWPATH_PSP_API_KEY"),
        (("--faults", '{"timeouts": 2}'), "share"),
        (("--faults", '{"rain": 1}'), "rain"),
        (("--webhook-url", "http://127.0.0.1:1/"), "TOWPATH_PSP_WEBHOOK_SECRET"),
        (("--db", "/proc/nowhere/psp.db"), "/proc/nowhere"),
    ],
)
def test_a_provider_that_cannot_start_says_why(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    environment = {"PATH": "", "TOWPATH_PSP_API_KEY": "k"} if arguments else {"PATH": ""}
    command = [sys.executable, "-m", "topologies.orders.psp", "--port", "0", "--db", str(tmp_path / "psp.db"), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
