import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from streams.cli import towpath
from streams.stage import Stage
from streams.testing import Simulation
from streams.topology import Topology, load, mermaid
from topologies.orders.events import Demand, OrderAccepted, StockRejected, StockReserved

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(r"TOWPATH(?:_[A-Z]+)+")


def blocks(text: str, kind: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == kind]


def test_the_graph_is_that_of_the_order_flow() -> None:
    (shown,) = blocks(README, "mermaid")
    assert shown == mermaid(load("topologies.orders")), "put the output of `towpath graph topologies.orders` there"


def test_the_flow_of_ones_own_runs_as_it_is_shown(tmp_path: Path) -> None:
    files = dict(FILE.findall(README))
    assert any(path.startswith("test_") for path in files)
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content, encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    for arguments in (["streams", "schemas", "lock"], ["streams", "graph", "parcels"], ["pytest", "-q", "-W", "error"]):
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_handler_that_is_shown_is_one() -> None:
    scope: dict[str, object] = {}
    exec(blocks(README, "python")[0], scope)  # noqa: S102  # the page's own example
    inventory = scope["inventory"]
    assert isinstance(inventory, Stage)
    real = load("topologies.orders").stage("inventory")
    assert (inventory.retry, inventory.store, inventory.topics[0]) == (real.retry, real.store, real.topics[0])
    sinks = [StockReserved, StockRejected]
    flow = Topology("shown", sources=[OrderAccepted], stages=[inventory], sinks=sinks, schemas=ROOT / "schemas")
    with Simulation(flow) as running:
        order = OrderAccepted("o1", "c1", "s1", datetime(2024, 5, 31, tzinfo=UTC), "USD", 500, (Demand("sku", "Tea", 2),))
        running.produce(order)
        running.run()
        (rejected,) = running.outputs(StockRejected)
    assert rejected.reason == "We do not have enough of Tea."


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    for line in calls(page.read_text(encoding="utf-8")):
        command: click.Command = towpath
        for word in shlex.split(line)[1:]:
            if word.startswith("--"):
                known = {name for option in command.params for name in option.opts} | {"--help"}
                assert word.partition("=")[0] in known, line
            elif isinstance(command, click.Group):
                found = command.commands.get(word)
                if found is None and command.name == "cases":  # `towpath cases MODULE`
                    found = command.commands["groups"]
                assert found is not None, line
                command = found


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z-]+)", "\n".join((README, *blocks(README, "sh"))), re.MULTILINE)
    assert {"demo", "test", "setup"} <= set(named) <= targets


def test_every_variable_of_the_runtime_is_described_and_none_that_nobody_reads() -> None:
    runtime, flows = variables(ROOT / "streams"), variables(ROOT / "topologies")
    runtime.add("TOWPATH_WEB_HOST")  # read by its name without the prefix
    described = variables(ROOT / "README.md")
    assert described >= runtime
    assert described <= runtime | flows


def test_every_module_of_the_runtime_is_on_the_map() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## One cycle")[0]
    named = set(re.findall(r"`(\w+)/?`", table))
    runtime = ROOT / "streams"
    modules = {path.stem for path in (*runtime.glob("*.py"), *(runtime / "ops").glob("*.py"))} - {"__init__"}
    assert modules - named == set()


def calls(text: str) -> Iterator[str]:
    """Every call of towpath on a page: in blocks for a shell, and in code within the text."""
    for block in blocks(text, "sh"):
        for line in block.splitlines():
            words = re.sub(r"\s+#.*| \|.*", "", line)
            if words.startswith("towpath "):
                yield words
    yield from re.findall(r"`(towpath [^`\n]+)`", re.sub(FENCE, "", text))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def variables(place: Path) -> set[str]:
    """The variables that a file names, or the Python files below a folder."""
    files = place.rglob("*.py") if place.is_dir() else [place]
    return {name for file in files for name in VARIABLE.findall(file.read_text(encoding="utf-8"))}
