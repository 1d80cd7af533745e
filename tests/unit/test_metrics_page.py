"""docs/metrics.md and what is exported are the same, both ways: names, types and labels."""

import re
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streams.catalogue import EXPORTER, FAMILIES, PROCESS, RECONCILE, WORKER
from tests.support.measured import eventful, page, standing
from tests.support.moves import World, start

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
MESSAGES = {"messaging_system", "stage"}
OF_OTHERS = {"towpath_store_batch_duration_seconds", "towpath_store_inbox_hits_total", "towpath_dependency_state"}


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric by name, as the page's tables say."""
    found: dict[str, tuple[str, set[str]]] = {}
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != 5 or cells[1] not in ("counter", "gauge", "histogram"):
            continue
        labels = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", cells[2])))
        (name,) = re.findall(r"`(\w+)`", cells[0])
        found[name] = cells[1], labels | {"topology"} | (MESSAGES if name.startswith("messaging") else set())
    return found


def test_the_page_names_every_metric_with_its_type_and_labels() -> None:
    assert {name: (family.kind, set(family.labels)) for name, family in FAMILIES.items()} == documented()
    assert len(FAMILIES) == len(WORKER) + len(EXPORTER) + len(RECONCILE), "no name is there twice"
    assert {family.name for family in PROCESS} <= set(re.findall(r"`(process_\w+)`", PAGE.read_text("utf-8")))


def test_a_worker_exports_what_the_page_says_of_it() -> None:
    at = World()
    with start(at=at) as flow:
        worker = flow.workers[0]
        eventful(flow, worker, at)
        text = page(standing(flow, worker))
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # it has no types
    exported = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert exported == {family.name for family in (*WORKER, *PROCESS)} - OF_OTHERS
