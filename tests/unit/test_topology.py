"""A graph that does not add up is refused with the line to mend; one that does can be asked, drawn and loaded."""

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.errors import SetupError
from streams.record import event
from streams.stage import Context, Stage
from streams.topology import Topology, load, mermaid

HERE = "tests/unit/test_topology.py"
SCHEMAS = Path("schemas")


def an_event(topic: str, name: str) -> type:
    return event(topic, key="id")(msgspec.defstruct(name, [("id", str)], frozen=True))


A, B, C, D = (an_event(f"shop.{name.lower()}", name) for name in "ABCD")


def handler(consumes: type, emits: Any) -> Callable[..., Any]:
    def handle(event: Any, ctx: Context) -> Any: ...

    handle.__annotations__ = {"event": consumes, "ctx": Context, "return": emits}
    return handle


def stage(name: str, *flows: tuple[type, Any]) -> Stage:
    made = Stage(name)
    for consumes, emits in flows:
        made.on(handler(consumes, emits))
    return made


HANDLER = f"{HERE}:{inspect.getsourcelines(handler)[1] + 1}"
STAGE = f"{HERE}:{inspect.getsourcelines(stage)[1] + 1}"


def shop(stages: list[Stage], sources: tuple[type, ...] = (A,), name: str = "shop", **rest: Any) -> Topology:
    return Topology(name, sources=sources, stages=stages, schemas=SCHEMAS, **rest)


TOPOLOGY = f"{HERE}:{inspect.getsourcelines(shop)[1] + 1}"


@pytest.mark.parametrize(
    ("declare", "says", "where"),
    [
        (lambda: shop([stage("one", (A, None), (B, None))]), "B is consumed, but no stage emits it", HANDLER),
        (lambda: shop([stage("one", (A, B))]), "B is emitted, but no stage consumes it", HANDLER),
        (lambda: shop([stage("one", (A, None))], (A, B)), "B is a source, but no stage consumes it", TOPOLOGY),
        (
            lambda: shop([stage("one", (A, B)), stage("two", (B, A))]),
            "A is a source of topology 'shop' and",
            HANDLER,
        ),
        (lambda: shop([stage("one", (A, B)), stage("two", (A, B))], sinks=[B]), "B is emitted by one and two", HANDLER),
        (lambda: shop([stage("one", (A, B), (B, None))]), "'one' consumes B, which it emits itself", HANDLER),
        (lambda: shop([stage("one", (A, B)), stage("one", (B, None))]), "2 stages named 'one'", STAGE),
        (lambda: shop([stage("one", (A, None)), stage("two")]), "stage 'two' has no handler", STAGE),
        (lambda: shop([stage("one", (A, None))], sinks=[B]), "B is in sinks, but no stage emits it", TOPOLOGY),
        (lambda: shop([stage("one", (A, None))], joint=[B]), "B is in joint, but no stage emits it", TOPOLOGY),
        (lambda: shop([stage("one", (A, None))], (A, str)), "sources: builtins.str is no event", TOPOLOGY),
        (lambda: shop([stage("one", (A, an_event("shop.a", "E")))]), "events A and E have one topic, 'shop.a'", HANDLER),
        (lambda: shop([stage("one", (A, an_event("shop.e", "A")))]), "two events are named A", HANDLER),
        (lambda: shop([stage("one", (A, an_event("Shop", "E")))]), "bad topic name 'Shop'", HANDLER),
        (lambda: shop([stage("one", (A, an_event("shop.one.retry", "E")))]), "uses for the parking table of one", HANDLER),
        (lambda: shop([stage("one", (A, an_event("shop.one.dlq", "E")))]), "uses for the dead letters of one", HANDLER),
        (lambda: shop([stage("one", (A, an_event("shop.cases", "E")))]), "uses for its cases", HANDLER),
        (lambda: shop([stage("one", (A, an_event("shop.receipts", "E")))]), "uses for its receipts", HANDLER),
        (lambda: shop([]), "has no stage", TOPOLOGY),
        (lambda: shop([stage("one", (A, None))], partitions=0), "partitions=0", TOPOLOGY),
        (lambda: shop([stage("one", (A, None))], name="Shop"), "bad name 'Shop' of a topology", TOPOLOGY),
    ],
)
def test_a_graph_that_does_not_add_up_is_refused(declare: Callable[[], Topology], says: str, where: str) -> None:
    with pytest.raises(SetupError, match=re.escape(says)) as caught:
        declare()
    assert caught.value.where == where
    assert caught.value.fix


def test_a_sound_graph_can_be_asked() -> None:
    one, two = stage("one", (A, B | C)), stage("two", (B, C | D))
    three = stage("three", (C, None), (D, None))
    graph = shop([one, two, three], joint=[C], sinks=[D])
    assert graph.events == (A, B, C, D)
    assert graph.by_topic == {"shop.a": A, "shop.b": B, "shop.c": C, "shop.d": D}
    assert graph.producers(C) == (one, two)
    assert graph.consumers(C) == (three,)
    assert graph.producers(A) == ()
    assert graph.stage("two") is two
    with pytest.raises(SetupError, match="has no stage 'four'; use one of: one, two, three"):
        graph.stage("four")


def test_the_drawing_shows_every_way_an_event_takes() -> None:
    graph = shop([stage("one", (A, B | C)), stage("end", (B, D))], sinks=[C, D])
    assert mermaid(graph).splitlines() == [
        "flowchart LR",
        "    stage_one[one]",
        "    stage_end[end]",
        "    topic_1([shop.a])",
        "    topic_1 --> stage_one",
        "    stage_one -->|shop.b| stage_end",
        "    stage_one --> topic_3([shop.c])",
        "    stage_end --> topic_4([shop.d])",
    ]


MODULE = """
from pathlib import Path
import msgspec
from streams.record import event
from streams.stage import Context, Stage
from streams.topology import Topology

@event("shop.a", key="id")
class A(msgspec.Struct, frozen=True):
    id: str

one = Stage("one")

@one.on
def handle(a: A, ctx: Context) -> None: ...

"""
ONE = 'shop = Topology("shop", sources=[A], stages=[one], schemas=Path("."))\n'


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])

    def write_module(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)

    return write_module


def test_a_topology_is_loaded_from_the_working_directory(write: Callable[[str, str], None]) -> None:
    write("loaded_good", f"{MODULE}{ONE}again = shop\n")
    assert load("loaded_good").name == "shop"


@pytest.mark.parametrize(
    ("name", "text", "says", "where"),
    [
        ("loaded_none", MODULE, "must hold one topology and holds none", "loaded_none.py"),
        ("loaded_two", f"{MODULE}{ONE}b{ONE.replace('shop', 'bshop')}", "holds 'shop', 'bshop'", "loaded_two.py"),
        ("loaded_import", "\nimport no_such_package\n", "No module named 'no_such_package'", "loaded_import.py:2"),
        ("loaded_syntax", "\n\ndef (:\n", "SyntaxError: invalid syntax", "loaded_syntax.py:3"),
        ("loaded_crash", "import json\n\njson.loads('{')\n", "JSONDecodeError", "loaded_crash.py:3"),
        (
            "loaded_unsound",
            f"{MODULE}{ONE.replace('[A]', '[]')}",
            "A is consumed, but no stage emits it",
            "loaded_unsound.py:14",
        ),
    ],
)
def test_a_module_that_gives_no_topology_is_told_with_its_line(
    write: Callable[[str, str], None], name: str, text: str, says: str, where: str
) -> None:
    write(name, text)
    with pytest.raises(SetupError, match=re.escape(says)) as caught:
        load(name)
    assert caught.value.where == where


@pytest.mark.parametrize("name", ["no_such_module", "streams.no_such_module", "topologies/orders", "orders.", ""])
def test_a_module_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(SetupError, match="no module") as caught:
        load(name)
    assert caught.value.fix
