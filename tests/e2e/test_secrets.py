"""The order flow with marked secrets in all that it is given, and faults that make it talk: no log and no span repeats one."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streams.config import Settings
from streams.local import FAILOVER, LocalKafka
from streams.trace import parse
from tests.support.contracts import Contracts
from tests.support.psp import KEY, SECRET, Mailbox, Psp
from tests.support.pump import sender
from tests.support.reader import Reader
from tests.support.workers import ROOT, Crew, free_port, towpath, wait_for
from topologies.orders.seed import seed
from topologies.orders.subscribers import Subscriber, Subscribers, opened

MODULE = "topologies.orders"
GOOD = 60
MARKS = {
    "card": "4111 1111 1111 1111",
    "e-mail": "ann.marked@mail.example",
    "address": "Marked Street 12, 10115 Markington",
    "provider's key": KEY,
    "webhook secret": SECRET,
    "mail password": "marked-smtp-5c1",
    "Kafka password": "marked-sasl-9d1",
    "collector key": "marked-otel-31c",
    "hook token": "marked-hook-77e",
}


def order(number: int, *, quantity: int = 1) -> dict[str, Any]:
    """It says card, e-mail and address wherever a shop could have put them."""
    line = {"sku": f"sku-{number % 7}", "name": f"{MARKS['card']} for {MARKS['address']}", "quantity": quantity}
    return {
        "order_id": f"o{number}",
        "customer_id": MARKS["e-mail"] if number % 2 else f"c{number}",
        "store_id": MARKS["address"],
        "placed_at": "2026-11-24T10:00:00+00:00",
        "currency": "USD",
        "lines": [line | {"amount_minor": 1000}],
    }


def test_no_log_and_no_span_repeats_a_secret_and_a_handlers_line_says_where_it_is(tmp_path: Path) -> None:
    settings = Settings(store=f"sqlite:///{tmp_path / 'store.db'}")
    with (
        LocalKafka.start(tmp_path / "kafka", overrides=FAILOVER) as kafka,
        Psp(tmp_path) as psp,
        Mailbox() as receiver,
        Mailbox() as collector,
    ):
        environment = {
            "TOWPATH_BOOTSTRAP": kafka.bootstrap,
            "TOWPATH_DIR": str(tmp_path),
            "TOWPATH_STORE": settings.store,
            "TOWPATH_KAFKA": f"sasl.password={MARKS['Kafka password']}",
            "TOWPATH_PSP_URL": psp.url,
            "TOWPATH_PSP_API_KEY": KEY,
            "TOWPATH_PSP_WEBHOOK_SECRET": SECRET,
            "TOWPATH_WEBHOOK_ALLOW": "127.0.0.1",
            "TOWPATH_SMTP_URL": f"smtp://shop:{MARKS['mail password']}@127.0.0.1:{free_port()}",
            "TOWPATH_MAIL_FROM": MARKS["e-mail"],
            "TOWPATH_FAULTS_BUG": "0.3",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{MARKS['collector key']}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        psp.faults(errors=0.3)
        towpath(environment, "topics", "apply", MODULE)
        towpath(environment, "db", "upgrade", MODULE)
        seed(settings, [order(number) for number in range(GOOD)], 0.1)
        with opened(settings.store) as engine, engine.begin() as connection:
            hook = f"{receiver.url}?token={MARKS['hook token']}"
            Subscribers(connection).add(Subscriber("s-hook", "c2", hook, (SECRET,)))
            Subscribers(connection).add(Subscriber("s-mail", "c4", f"mailto:{MARKS['e-mail']}", (SECRET,)))
        topics = ["orders.submitted", "notifications.sent", "orders.cases"]
        with (
            Crew(tmp_path, environment) as crew,
            door(tmp_path, environment) as knock,
            Reader(kafka.bootstrap, topics) as reader,
        ):
            worker = crew.start(MODULE, instance="a")
            crew.wait_until_ready(120)
            submit(kafka.bootstrap)
            knock()
            wait_for(lambda: reader.count("notifications.sent") >= GOOD // 2, 120, "too few ends", crew.logs)
            wait_for(lambda: reader.count("orders.cases") >= 2, 60, "no case is open", crew.logs)
            wait_for(lambda: bool(receiver.got), 60, "nobody is told", crew.logs)
            wait_for(lambda: b"POST /v1/payments" in spans(collector), 30, "no spans have come", crew.logs)
            assert worker.terminate()[0] == 0, worker.log[-3000:]
            assert receiver.got, "nobody was told"
            assert all(parse(headers["traceparent"].encode()) for headers, _ in receiver.got)
            said = b"".join(record.value for record in reader.records["orders.submitted"])
        logs = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.log")}
        assert {"psp.log", "webhooks.log"} < set(logs)
        for name, mark in MARKS.items():
            for log, text in logs.items():
                assert mark not in text, f"{name} in {log}"
                assert mark.replace(" ", "") not in text, f"{name} in {log}"
            assert mark.encode() not in spans(collector), f"{name} in a span"
        for carried in ("card", "e-mail", "address"):  # else nothing is shown
            assert MARKS[carried].encode() in said
        assert f"Bearer {MARKS['collector key']}" in {headers.get("authorization") for headers, _ in collector.got}
        check_lines(logs[f"{worker.name}.log"])


def check_lines(log: str) -> None:
    lines = [json.loads(line) for line in log.splitlines()]
    assert len(lines) < GOOD, "one for each record"
    asking = [line for line in lines if line["logger"] == "towpath.psp"]
    assert asking, "the provider's faults were not talked of"
    for line in asking:
        assert line["message"].startswith(f"order {line['key']}:")
        assert (line["stage"], line["topic"]) == ("payment", "inventory.reserved")
        assert len(line["trace_id"]) == 32
        assert line["attempt"] >= 1
        assert line.keys() >= {"partition", "offset", "event_id"}


def spans(collector: Mailbox) -> bytes:
    return b"".join(body for _, body in list(collector.got))


def submit(bootstrap: str) -> None:
    """Good orders, one that is impossible, one that comes again with other content, and bytes that are none."""
    contracts, producer = Contracts(ROOT / "schemas"), sender(bootstrap)
    for said in [*(order(number) for number in range(GOOD)), order(GOOD, quantity=-1), order(1, quantity=2)]:
        value = contracts.encode("OrderSubmitted", said | {"placed_at": datetime(2026, 11, 24, 10, tzinfo=UTC)})
        producer.produce("orders.submitted", value, said["order_id"])
    producer.produce("orders.submitted", b" ".join(mark.encode() for mark in MARKS.values()), "bytes")
    producer.flush()


@contextmanager
def door(directory: Path, environment: dict[str, str]) -> Iterator[Any]:
    """Where the provider's webhooks come in; what is yielded sends one that nobody has signed, and waits for its refusal."""
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
    command = [sys.executable, "-m", "topologies.orders.webhooks", "--port", str(port)]
    with (directory / "webhooks.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=clean | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield lambda: refused(port)
    finally:
        process.kill()
        process.wait(10)


def refused(port: int) -> None:
    body = json.dumps(MARKS).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/webhooks/psp", body, {"content-type": "application/json"})

    def answered() -> bool:
        try:
            urllib.request.urlopen(request, timeout=2)  # noqa: S310  # our own
        except urllib.error.HTTPError as error:
            with error:
                return error.code == 401
        except OSError:
            return False
        return False

    wait_for(answered, 60, "the door does not refuse it")
