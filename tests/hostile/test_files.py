"""Files and bodies from outside: what is wrong is said in words, and whatever is sound beside it is taken."""

import asyncio
import io
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from streams import topics
from streams.config import Settings
from streams.errors import SetupError
from streams.ops import send
from streams.ops.publish import Notice
from streams.ops.reconcile.ledger import Ledger
from tests.hostile.files import LINES, MIB, STATEMENTS, WEBHOOKS, Input, packed
from tests.support.psp import SECRET
from topologies.orders import orders, statement
from topologies.orders.events import OrderSubmitted
from topologies.orders.signature import secret, sign
from topologies.orders.webhooks import PATH, Intake

KEY = secret(SECRET, "here")


class Wire:
    """A producer that takes everything."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def produce(self, *_: Any, on_delivery: Any, **__: Any) -> None:
        on_delivery(None, None)

    def poll(self, _seconds: float) -> None:
        pass

    def flush(self, _seconds: float) -> int:
        return 0


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Publishes a file of lines; returns how many went, and what was said of the others."""
    monkeypatch.setattr(send, "Producer", Wire)
    monkeypatch.setattr(topics, "connect", lambda _: None)
    monkeypatch.setattr(topics, "partition_counts", lambda *_: {})

    def publish(data: bytes) -> tuple[int, dict[int, str]]:
        file, said = tmp_path / "lines", dict[int, str]()
        file.write_bytes(data)
        sender = send.Sender(Settings(bootstrap="nowhere:1"), orders, OrderSubmitted, said.__setitem__)
        result = sender.send(send.lines(str(file), io.BytesIO()))
        assert result.bad == len(said)
        return result.sent, said

    return publish


@pytest.mark.parametrize("case", LINES, ids=lambda case: case.name)
def test_a_hostile_line_is_named_and_the_next_one_goes(published: Any, case: Input) -> None:
    good = next(line.data for line in LINES if not line.says)
    sent, said = published(case.data + b"\n" + good + b"\n")
    assert (sent, list(said)) == ((1, [1]) if case.says else (2, []))
    assert case.says in said.get(1, "")


def test_a_packed_line_of_128_mib_costs_no_128_mib(published: Any) -> None:
    data = packed()
    tracemalloc.start()
    try:
        assert published(data) == (1, {1: "longer than 16,777,216 bytes"})
        assert tracemalloc.get_traced_memory()[1] < 80 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", STATEMENTS, ids=lambda case: case.name)
def test_a_hostile_statement_is_refused_with_file_and_line(tmp_path: Path, case: Input) -> None:
    path = tmp_path / "statement.csv"
    path.write_bytes(case.data)
    ledger = Ledger(orders, tmp_path)
    try:
        if case.says:
            with pytest.raises(SetupError) as caught:
                ledger.put(statement.SOURCE, statement.lines([path]))
            assert case.says in str(caught.value)
            assert str(path) in str(caught.value)
        else:
            ledger.put(statement.SOURCE, statement.lines([path]))
            assert {fact.source for _, facts in ledger.by_key() for fact in facts} <= {statement.SOURCE}
    finally:
        ledger.close()


class Publisher:
    """Takes everything, once."""

    def publish(self, notices: Sequence[Notice], _now: float) -> list[bool]:
        return [True] * len(notices)

    def stop(self) -> None:
        pass


async def _post(bodies: Sequence[bytes]) -> list[tuple[int, str]]:
    """What the door says to signed webhooks, one after the other."""
    intake = Intake(Publisher(), [KEY])  # type: ignore[arg-type]  # it does what is asked of one here
    publishing = asyncio.create_task(intake.publish())
    runner = web.AppRunner(intake.application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
        answers = []
        async with aiohttp.ClientSession() as client:
            for number, body in enumerate(bodies):
                headers = {"content-type": "application/json", **sign(KEY, f"msg_{number}", int(time.time()), body)}
                async with client.post(url, data=body, headers=headers) as answer:
                    answers.append((answer.status, await answer.text()))
        return answers
    finally:
        publishing.cancel()
        await runner.cleanup()
        intake.close()


@pytest.mark.parametrize("case", WEBHOOKS, ids=lambda case: case.name)
def test_a_hostile_webhook_is_refused_and_the_next_one_taken(case: Input, caplog: pytest.LogCaptureFixture) -> None:
    (status, said), (after, _) = asyncio.run(_post([case.data, WEBHOOKS[0].data]))
    assert status in ((400, 413) if case.says else (200,)), said
    assert case.says in said
    assert after == 200
    assert [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
