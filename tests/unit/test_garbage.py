"""A stage is left in peace by the collector, and cycles are collected all the same."""

import gc
import weakref

from streams.garbage import collected_seldom


class _Node:
    other: "_Node"


def test_what_was_there_before_is_not_looked_at_and_after_all_is_as_it_was() -> None:
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    with collected_seldom():
        assert gc.get_threshold()[0] > thresholds[0]
        assert gc.get_freeze_count() > frozen + 1000
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0


def test_cycles_are_still_collected() -> None:
    with collected_seldom():
        first, second = _Node(), _Node()
        first.other, second.other = second, first
        gone = weakref.ref(first)
        del first, second
        held: list[object] = []
        while gone() is not None and len(held) < 1_000_000:
            held.append([held])
        assert gone() is None
