"""A worker's metrics, as Prometheus' own parser reads them."""

from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streams.telemetry import exposition

PAGE: dict[str, Any] = {
    "stage": "payment",
    "healthy": True,
    "partitions": [0, 2],
    "paused": [2],
    "parked": 7,
    "waits_for": {"dependency": "psp", "reason": "503", "since": 1000.0},
    "dependencies": {"psp": "half-open"},
    "records": {"aborted": 1, "done": 40, "retry": 3},
}


def samples(*pages: dict[str, Any]) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(exposition(pages).decode())  # type: ignore[no-untyped-call]  # it has no types
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_what_a_stage_waits_for_and_what_waits_for_it_can_be_read() -> None:
    found = samples(PAGE)
    assert found["towpath_dependency_away", "psp", "payment"] == 1
    assert found["towpath_dependency_state", "psp", "payment", "half-open"] == 1
    assert found["towpath_hold_since_seconds", "payment"] == 1000
    assert found["towpath_parked_records", "payment"] == 7
    assert (found["towpath_paused_partitions", "payment"], found["towpath_owned_partitions", "payment"]) == (1, 2)


def test_verdicts_and_aborted_transactions_are_counters() -> None:
    found = samples(PAGE)
    assert found["towpath_outcomes_total", "payment", "done"] == 40
    assert found["towpath_transactions_aborted_total", "payment"] == 1
    assert ("towpath_outcomes_total", "payment", "aborted") not in found


def test_a_stage_that_has_not_begun_and_one_that_cannot_go_on_are_shown() -> None:
    found = samples({"stage": "new", "healthy": False}, {**PAGE, "waits_for": None})
    assert found["towpath_stage_healthy", "new"] == 0
    assert found["towpath_stage_healthy", "payment"] == 1
    assert not any(name == "towpath_dependency_away" for name, *_ in found)
