"""Each order is charged at most once, and exactly once if it is captured, by the provider's own books."""

from pathlib import Path

from tests.support.charges import measure


def test_killed_agents_and_a_silent_provider_charge_nobody_twice(tmp_path: Path) -> None:
    figures = measure(tmp_path, orders=400)
    assert (figures.twice, figures.unpaid, figures.unheard) == (0, 0, 0), figures
    assert figures.captured == figures.charged > 360, "each once, as an event too"
    assert figures.captured + figures.failed == 400, figures
    assert figures.silent >= 5, "the provider was not silent often enough to prove anything"
