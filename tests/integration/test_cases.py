import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.dead import case_id
from streams.local import LocalKafka
from streams.record import Record
from tests.support.ward import MODULE, Ward
from tests.support.workers import wait_for


@pytest.fixture
def ward(tmp_path: Path, kafka: LocalKafka) -> Iterator[Ward]:
    with Ward(tmp_path, kafka.bootstrap) as ward:
        yield ward


def test_a_redrive_closes_its_cases_and_each_record_comes_out_once(ward: Ward) -> None:
    ward.worker("keeper")
    ward.break_down()
    items = [(f"k{number % 7}", number) for number in range(20)]
    ward.send(*items)
    ward.wait_for_cases(20)
    (group,) = (json.loads(line) for line in ward.towpath("cases", MODULE).stdout.splitlines())
    assert (group["stage"], group["cases"], group["message"]) == ("keeper", 20, "the fridge is broken")
    assert group["fingerprint"] == "Reject@__init__.py:keep"
    ward.repair()
    steps = ward.cases("redrive", "--stage", "keeper", "--since", "1h", "--reason", "repaired", "--who", "ann@desk", "--yes")
    assert [step["done"] for step in steps] == ["redriven"] * 20
    resolved = ward.wait_for_cases(20, "resolved")
    assert sorted(ward.items("kept")) == sorted(items)
    assert [(step["what"], step["who"], step["why"]) for step in resolved[0]["decisions"]][1] == (
        "redriven",
        "ann@desk",
        "repaired",
    )
    assert ward.cases("redrive", "--yes") == [], "repeated, it finds nothing"
    (step,) = ward.cases("redrive", resolved[0]["case_id"], code=1)
    (dry,) = ward.cases("redrive", resolved[0]["case_id"], "--dry-run")
    assert (step["done"], dry["done"], step["why"]) == ("skipped", "would be skipped", "it is resolved")
    assert len(ward.items("kept")) == 20


def test_a_case_shows_its_record_with_headers_trace_and_history(ward: Ward) -> None:
    ward.worker("keeper")
    trace = "0af7651916cd43dd8448eb211c80319c"
    value = ward.contracts.encode("Sent", {"key": "k", "size": -4})
    headers = [("traceparent", f"00-{trace}-b7ad6b7169203331-01".encode()), ("odd", b"\xff"), ("dead-origin", b"mine/0/0")]
    ward.raw("sent", b"k", value, headers)
    ward.raw("sent", b"other", b"\xffno avro")
    by_verdict = {case["verdict"]: case for case in ward.wait_for_cases(2)}
    (shown,) = ward.cases("show", by_verdict["reject"]["case_id"][:8])
    assert shown["trace_id"] == trace
    assert (shown["record"]["event"], shown["record"]["value"]) == ("Sent", {"key": "k", "size": -4})
    assert shown["record"]["headers"][1:] == [["odd", {"base64": "/w=="}], ["dead-origin", "mine/0/0"]]
    assert shown["record"]["topic"] == f"{ward.name}.sent"
    assert [step["what"] for step in shown["case"]["decisions"]] == ["died"]
    (bytes_,) = ward.cases("show", by_verdict["undecodable"]["case_id"])
    assert "wire format" in bytes_["record"]["undecodable"]
    assert bytes_["record"]["value"] == {"base64": "/25vIGF2cm8="}
    assert "no case" in ward.towpath("cases", "show", MODULE, "zz").stderr


def test_a_canary_that_dies_again_keeps_the_rest_back(ward: Ward) -> None:
    ward.worker("keeper")
    ward.break_down()
    ward.send(*((f"k{number}", number) for number in range(8)))
    ward.wait_for_cases(8)
    steps = ward.cases("redrive", "--canary", "2", "--yes", code=1)
    assert [step["done"] for step in steps] == ["redriven"] * 2 + ["died again"] * 2 + ["kept back"] * 6
    assert steps[2]["why"] == "Reject: the fridge is broken"
    assert len(ward.wait_for_cases(8)) == 8, "all are open, for another try"
    ward.repair()
    steps = ward.cases("redrive", "--canary", "2", "--yes")
    assert [step["done"] for step in steps] == ["redriven"] * 2 + ["resolved"] * 2 + ["redriven"] * 6
    resolved = ward.wait_for_cases(8, "resolved")
    assert max(case["attempts"] for case in resolved) == 2, "over all redrives"
    assert sorted(ward.items("kept")) == [(f"k{number}", number) for number in range(8)]


def test_a_canary_without_a_verdict_keeps_the_rest_back(ward: Ward) -> None:
    worker = ward.worker("keeper")
    ward.send(*((f"k{number}", -1) for number in range(3)))
    ward.wait_for_cases(3)
    worker.terminate()
    steps = ward.cases("redrive", "--canary", "1", "--within", "0.5", "--yes", code=1)
    assert [step["done"] for step in steps] == ["redriven", "failed", "kept back", "kept back"]
    assert "does it run?" in steps[1]["why"]


def test_a_dismissed_case_opens_the_key_that_was_held_for_it(ward: Ward) -> None:
    ward.worker("holder")
    ward.send(("a", 13), ("a", 1), ("b", 2))
    (case,) = ward.wait_for_cases(1)
    wait_for(lambda: ward.items("held") == [("b", 2)], 30, "b is held for a", ward.logs)
    done = ward.towpath("cases", "dismiss", MODULE, case["case_id"])
    assert (done.returncode, "--reason" in done.stderr) == (2, True)
    ward.cases("dismiss", case["case_id"], "--reason", "a test")
    wait_for(lambda: ("a", 1) in ward.items("held"), 30, "a is still held", ward.logs)
    (dismissed,) = ward.wait_for_cases(1, "dismissed")
    assert dismissed["decisions"][-1]["why"] == "a test"
    assert ward.cases("redrive", "--yes") == []


def test_an_edited_record_goes_before_those_that_were_held_behind_it(ward: Ward) -> None:
    ward.worker("holder")
    ward.send(("a", 13), ("a", 1))
    (case,) = ward.wait_for_cases(1)
    one = case["case_id"]
    for change, wrong in (
        ("size=many", "Expected `int`"),
        ("key=b", "key is 'b'"),
        ("sizes=1", "no field"),
        ("a.b=1", "place"),
    ):
        done = ward.towpath("cases", "edit", MODULE, one, "--set", change)
        assert (done.returncode, wrong in done.stderr) == (2, True), done.stderr
    ward.cases("edit", one, "--set", "size=12", "--reason", "they are superstitious")
    (shown,) = ward.cases("show", one)
    assert (shown["record"]["value"]["size"], shown["edited"]["value"]["size"]) == (13, 12)
    assert shown["case"]["decisions"][-1]["why"] == "they are superstitious (size=12)"
    ward.cases("redrive", one)
    ward.wait_for_cases(1, "resolved")
    assert ward.items("held") == [("a", 12), ("a", 1)]


def test_an_undecodable_record_is_replaced_by_a_whole_event(ward: Ward) -> None:
    ward.worker("keeper")
    ward.raw("sent", b"a", b"{}", [("id", b"the-same")])
    (case,) = ward.wait_for_cases(1)
    assert "--file" in ward.towpath("cases", "edit", MODULE, case["case_id"], "--set", "size=1").stderr
    ward.cases("edit", case["case_id"], "--file", "-", given='{"key": "a", "size": 3}')
    ward.cases("redrive", case["case_id"])
    ward.wait_for_cases(1, "resolved")
    assert ward.items("kept") == [("a", 3)]
    assert ("cause", b"the-same") in ward.records("kept")[0].headers


def test_many_cases_in_a_pipe_need_a_yes_and_a_dry_run_does_nothing(ward: Ward) -> None:
    ward.worker("keeper")
    ward.send(("a", -1), ("b", -2))
    ward.wait_for_cases(2)
    done = ward.towpath("cases", "dismiss", MODULE, "--stage", "keeper", "--reason", "none")
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    assert [step["done"] for step in ward.cases("redrive", "--dry-run", "--limit", "1")] == ["would be redriven"]
    assert all(len(case["decisions"]) == 1 for case in ward.wait_for_cases(2))
    assert ward.cases("list", "--key", "b")[0]["key"] == "b"
    assert ward.towpath("cases", "list", MODULE, "--stage", "none").returncode == 2


def _big(number: int, size: int) -> bytes:
    return number.to_bytes(size)


def _foreign(ward: Ward) -> list[tuple[str, bytes, list[tuple[str, Any]]]]:
    """A dead letter of each kind: key, value and headers."""
    sent, other = f"{ward.name}.sent".encode(), b"legacy.topic"
    return [
        (
            "spring",
            ward.contracts.encode("Sent", {"key": "spring", "size": 1}),
            [
                ("mine", b"x"),
                ("kafka_dlt-original-topic", sent),
                ("kafka_dlt-original-partition", _big(1, 4)),
                ("kafka_dlt-original-offset", _big(900, 8)),
                ("kafka_dlt-original-timestamp", _big(1_700_000_000_123, 8)),
                ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
                ("kafka_dlt-exception-cause-fqcn", b"com.acme.NoStock"),
                ("kafka_dlt-exception-message", b"no stock"),
            ],
        ),
        (
            "connect",
            ward.contracts.encode("Sent", {"key": "connect", "size": 2}),
            [
                ("__connect.errors.topic", other),
                ("__connect.errors.partition", b"7"),
                ("__connect.errors.offset", b"12"),
                ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
                ("__connect.errors.exception.message", b"bad data"),
            ],
        ),
        (
            "streams",
            ward.contracts.encode("Sent", {"key": "streams", "size": 3}),
            [
                ("__streams.errors.exception", b"java.lang.IllegalStateException: no state"),
                ("__streams.errors.message", None),
                ("__streams.errors.topic", sent),
                ("__streams.errors.partition", b"0"),
                ("__streams.errors.offset", b"901"),
            ],
        ),
        ("junk", b"", []),
    ]


def test_dead_letters_of_others_become_cases_once_and_can_be_redriven(ward: Ward) -> None:
    ward.worker("keeper")
    for key, value, headers in _foreign(ward):
        ward.raw("held", key.encode(), value, headers)  # any topic will do
    steps = ward.cases("import", f"{ward.name}.held", "--stage", "keeper", code=1)
    assert sorted(step["done"] for step in steps) == ["failed", "imported", "imported", "imported"]
    opened = {case["key"]: case for case in ward.wait_for_cases(3)}
    assert {key: (case["error"], case["message"]) for key, case in opened.items()} == {
        "spring": ("com.acme.NoStock", "no stock"),
        "connect": ("org.apache.kafka.connect.errors.DataException", "bad data"),
        "streams": ("java.lang.IllegalStateException", "no state"),
    }
    assert (opened["spring"]["partition"], opened["spring"]["offset"]) == (1, 900)
    assert opened["connect"]["offset"] < 0, "no place that a record of ours could have"
    again = ward.cases("import", f"{ward.name}.held", "--stage", "keeper", code=1)
    assert [step["done"] for step in again] == ["failed"]
    ward.cases("redrive", "--yes")
    ward.wait_for_cases(3, "resolved")
    assert sorted(ward.items("kept")) == [("connect", 2), ("spring", 1), ("streams", 3)]
    (spring,) = (record for record in ward.records("kept") if record.key == b"spring")
    assert [name for name, _ in spring.headers] == ["id", "cause", "mine", "born"], "and nothing of Spring's"


def test_lost_cases_come_back_from_towpaths_own_dead_letters(ward: Ward, kafka: LocalKafka) -> None:
    ward.worker("keeper")
    ward.send(("a", -1))
    (case,) = ward.wait_for_cases(1)
    with Ward(ward.home, kafka.bootstrap) as other:  # it has the letter, and never had the case
        (letter,) = ward.records("keeper.dlq")
        source = Record(f"{other.name}.sent", case["partition"], case["offset"], b"a", None)
        headers = [(n, v.replace(ward.name.encode(), other.name.encode())) for n, v in letter.headers if n != "dead-case"]
        headers.append(("dead-case", case_id("keeper", source).encode()))
        other.raw("keeper.dlq", letter.key, other.contracts.encode("Sent", {"key": "a", "size": 1}), headers)
        other.cases("import", f"{other.name}.keeper.dlq", "--stage", "keeper")
        (found,) = other.wait_for_cases(1)
        same = ("error", "message", "fingerprint", "attempts", "verdict", "first_failed_at", "last_failed_at")
        assert [found[name] for name in same] == [case[name] for name in same]
        assert len(other.records("keeper.dlq")) == 1, "no second letter"
        other.worker("keeper")
        other.cases("redrive", found["case_id"])
        other.wait_for_cases(1, "resolved")
        assert other.items("kept") == [("a", 1)]
