"""A replay of the order flow: what is the same is the same, and a change shows as exactly what it changes."""

import hashlib
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.config import Settings
from streams.ops.replay.evidence import Evidence
from streams.ops.replay.judge import Judge, Kind, Tally
from streams.ops.replay.recorded import Recorded
from streams.ops.replay.sandbox import Sandbox
from streams.record import CAUSE, Record
from streams.testing import Simulation
from streams.travel import event_id
from tests.support.history import CODEC, REGISTRY, history, inputs, kinds, outputs, replayed
from topologies.orders import orders
from topologies.orders.events import OrderAccepted

intake = sys.modules["topologies.orders.intake"]  # the package has the stage under this name

STAGES = ("intake", "inventory", "payment", "settlement", "notification")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulation, Settings]]:
    with history(tmp_path_factory.mktemp("history")) as found:
        yield found


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_of_then_gives_what_it_gave_then(past: tuple[Simulation, Settings], stage: str) -> None:
    flow, settings = past
    records = inputs(flow.broker, orders, stage)
    findings = replayed(settings, stage, records, outputs(flow.broker, orders, stage))
    assert len(findings) == len(records) > 0
    different = [finding for finding in findings if finding.kind not in (Kind.SAME, Kind.UNDECIDABLE)]
    assert different == []
    undecided = {finding.topic for finding in findings if finding.kind is Kind.UNDECIDABLE}
    assert undecided <= {"orders.cancelled"}  # one that came to nothing: why it did is recorded nowhere


def test_a_price_rule_shows_as_exactly_the_orders_that_it_concerns(
    past: tuple[Simulation, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, settings = past
    judge = intake.judge

    def dearer(order: Any) -> Any:
        found = judge(order)
        if order.customer_id == "c2" and hasattr(found, "total_minor"):
            return msgspec.structs.replace(found, total_minor=found.total_minor + 1)
        return found

    monkeypatch.setattr(intake, "judge", dearer)
    records = inputs(flow.broker, orders, "intake")
    findings = replayed(settings, "intake", records, outputs(flow.broker, orders, "intake"))
    changed = {finding.event_id for finding in findings if finding.kind is Kind.CHANGED}
    concerned = {record.cause for record in map(_Seen, flow.broker.read("orders.accepted")) if record.customer == "c2"}
    assert changed == concerned
    assert len(concerned) == 4
    assert {finding.shape for finding in findings if finding.kind is Kind.CHANGED} == {"orders.accepted: total_minor"}
    assert kinds(findings) == {Kind.SAME: len(records) - 4, Kind.CHANGED: 4}
    (change,) = next(finding for finding in findings if finding.event_id in changed).differences[0].changes
    assert (change.path, change.now - change.was) == ("total_minor", 1)


class _Seen:
    def __init__(self, record: Record) -> None:
        self.cause = dict(record.headers)[CAUSE].decode()  # type: ignore[union-attr]  # an output has one
        self.customer = CODEC.decoder(OrderAccepted)(record.value).customer_id


def test_an_output_that_is_gone_is_found_and_is_the_one_that_would_be_published(past: tuple[Simulation, Settings]) -> None:
    flow, settings = past
    emitted = outputs(flow.broker, orders, "inventory")
    lost = emitted.pop(next(n for n, one in enumerate(emitted) if one.topic == "inventory.reserved"))
    findings = replayed(settings, "inventory", inputs(flow.broker, orders, "inventory"), emitted)
    (new,) = [finding for finding in findings if finding.kind is Kind.NEW]
    assert new.event_id == dict(lost.headers)[CAUSE].decode()  # type: ignore[union-attr]  # an output has one
    assert new.shape == "lost: inventory.reserved"
    assert [(one.key, one.value, one.headers) for one in new.missing] == [(lost.key, lost.value, lost.headers)]


def test_an_output_that_retention_may_have_removed_is_not_called_missing(past: tuple[Simulation, Settings]) -> None:
    flow, settings = past
    emitted = outputs(flow.broker, orders, "inventory")
    lost = emitted.pop(next(n for n, one in enumerate(emitted) if one.topic == "inventory.reserved"))
    records = inputs(flow.broker, orders, "inventory")
    findings = replayed(settings, "inventory", records, emitted, horizon={lost.topic: lost.timestamp + 1})
    assert not [finding for finding in findings if finding.kind is Kind.NEW]
    assert [
        finding.shape for finding in findings if finding.topic == "orders.accepted" and finding.kind is Kind.UNDECIDABLE
    ] == ["inventory.reserved is no longer kept from then on"]


def test_what_the_stage_has_passed_over_is_not_taken_for_handled(past: tuple[Simulation, Settings], tmp_path: Path) -> None:
    """Its group was moved forward: there is no output, and no effect in the database that an output could stand on."""
    flow, settings = past
    record = inputs(flow.broker, orders, "intake")[0]
    emitted = [one for one in outputs(flow.broker, orders, "intake") if dict(one.headers)[CAUSE] != event_id(record).encode()]
    with closing(sqlite3.connect(settings.directory / "live.db")) as live, closing(sqlite3.connect(tmp_path / "l.db")) as copy:
        live.backup(copy)
        copy.execute("DELETE FROM inbox WHERE event_id = ?", (event_id(record),))
        copy.commit()
    told = msgspec.structs.replace(settings, store=f"sqlite:///{tmp_path / 'l.db'}", directory=tmp_path)
    (finding,) = replayed(told, "intake", [record], emitted)
    assert (finding.kind, finding.missing) == (Kind.UNDECIDABLE, ())


def test_without_a_record_of_the_charge_nobody_is_charged_and_nothing_is_claimed(past: tuple[Simulation, Settings]) -> None:
    flow, settings = past
    records = inputs(flow.broker, orders, "payment")
    findings = replayed(settings, "payment", records, ())
    assert kinds(findings) == {Kind.UNDECIDABLE: len(records)}
    tally = Tally()
    for finding in findings:
        tally.take(finding)
    assert tally.clean


def test_a_replay_connects_to_nothing_and_changes_no_file(past: tuple[Simulation, Settings]) -> None:
    flow, settings = past
    away = {"psp_url": "http://127.0.0.1:1", "notifications": "/nowhere/letters", "webhook_url": "http://127.0.0.1:1"}
    calls: list[tuple[str, Any]] = []
    live = Path(settings.store.removeprefix("sqlite:///"))
    before = hashlib.sha256(live.read_bytes()).digest(), (settings.directory / "letters.jsonl").read_bytes()

    def hook(name: str, arguments: Any) -> None:
        if watching and name in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "subprocess.Popen"):
            calls.append((name, arguments))

    watching = True
    sys.addaudithook(hook)
    try:
        for stage in STAGES:
            told = msgspec.structs.replace(settings, variables={**settings.variables, **away})
            findings = replayed(told, stage, inputs(flow.broker, orders, stage), outputs(flow.broker, orders, stage))
            assert findings
    finally:
        watching = False
    assert calls == []
    assert (hashlib.sha256(live.read_bytes()).digest(), (settings.directory / "letters.jsonl").read_bytes()) == before


def test_a_question_that_was_not_asked_then_has_no_answer(
    past: tuple[Simulation, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, settings = past
    monkeypatch.setattr(orders.stage("intake").store, "recorded", lambda _: object())
    findings = replayed(settings, "intake", inputs(flow.broker, orders, "intake"), outputs(flow.broker, orders, "intake"))
    assert {finding.kind for finding in findings} == {Kind.UNDECIDABLE}
    assert {finding.shape for finding in findings} == {"submissions does not say what it would have answered to take"}


def test_an_event_that_waits_is_open_and_not_missing(past: tuple[Simulation, Settings]) -> None:
    flow, settings = past
    record = inputs(flow.broker, orders, "payment")[0]
    folder = settings.directory / "waiting"
    folder.mkdir()
    stage = orders.stage("payment")
    with Evidence(folder) as evidence:
        replay = Recorded(orders, stage, Sandbox(stage, CODEC, settings), evidence, inbox=None, waits=lambda _: "parked")
        (trial,) = replay.run([record])
    finding = Judge(REGISTRY).judge(trial)
    assert (finding.kind, finding.event_id, finding.missing) == (Kind.OPEN, event_id(record), ())
