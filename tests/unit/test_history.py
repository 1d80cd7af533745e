"""The history checker, by histories with one planted error each; and it finds nothing where nothing is."""

from collections.abc import Callable

import msgspec
import pytest

from streams.history import Balance, Effect, Handled, History, Letter, Part, Seen, Waiting, check

SPLIT = Part("split", ("asked", "urgent"), ("odd", "even"))
JOIN = Part("join", ("odd", "even"), ("answered",))


def right() -> History:
    """Ten numbers of two keys through two stages. One is dead, one waits, one ends silently, one was aborted and done again."""
    asked = [Seen("asked", 0, number, b"k%d" % (number % 2), f"a{number}") for number in range(10)]
    odd = [Seen("odd", 0, at, b"k1", f"o{n}", f"a{n}") for at, n in enumerate(n for n in (1, 9))]
    even = [Seen("even", 0, at + 1, b"k0", f"e{n}", f"a{n}") for at, n in enumerate(range(0, 10, 2))]
    undone = Seen("even", 0, 0, b"k0", "e0", "a0", committed=False)
    split = [*odd, *even]
    answered = [Seen("answered", 0, at, seen.key, f"r{seen.id}", seen.id) for at, seen in enumerate(split)]
    return History(
        parts=[SPLIT, JOIN],
        records=[*asked, undone, *split, *answered],
        letters=[Letter("split", "a3", ("asked", 0, 3))],
        waiting=[Waiting("split", "a5", ("asked", 0, 5))],
        silent={("split", ("asked", 0, 7))},
        handled=[Handled("split", "a", ("asked", 0, 0)), Handled("join", "b", ("even", 0, 1))],
        committed={("split", "asked", 0): 10, ("join", "odd", 0): 2, ("join", "even", 0): 6},
        effects=[Effect("charge", "a1"), Effect("charge", "a2"), Effect("refund", "a1")],
        balances=[Balance("stock", 5, 5)],
        ends={b"k0": {"answered"}, b"k1": {"answered"}},
        single={"answered"},
        timers=frozenset(),
    )


def test_a_right_history_has_no_anomaly() -> None:
    assert check(right()) == []


def without(history: History, name: str) -> None:
    history.records = [seen for seen in history.records if seen.id != name]


def replaced(history: History, name: str, **changes: object) -> None:
    history.records = [msgspec.structs.replace(seen, **changes) if seen.id == name else seen for seen in history.records]


def lost_output(history: History) -> None:
    without(history, "re4")


def lost_letter(history: History) -> None:
    history.letters = []


def lost_parked(history: History) -> None:
    history.waiting = []


def lost_silence(history: History) -> None:
    history.silent = set()


def lost_end(history: History) -> None:
    history.ends = {**history.ends, b"k2": {"answered"}}


def doubled_output(history: History) -> None:
    history.records = [*history.records, Seen("answered", 0, 50, b"k0", "re2", "e2")]


def doubled_under_another_id(history: History) -> None:
    history.records = [*history.records, Seen("answered", 0, 50, b"k0", "new", "e8")]


def doubled_letter(history: History) -> None:
    history.letters = [*history.letters, *history.letters]


def done_and_parked(history: History) -> None:
    history.waiting = [*history.waiting, Waiting("split", "a2", ("asked", 0, 2))]


def done_and_dead(history: History) -> None:
    history.letters = [*history.letters, Letter("split", "a9", ("asked", 0, 9))]


def offset_behind(history: History) -> None:
    history.committed = {**history.committed, ("split", "asked", 0): 8}


def reordered(history: History) -> None:
    replaced(history, "e2", offset=77)
    history.committed = {**history.committed, ("join", "even", 0): 78}


def aborted_read(history: History) -> None:
    history.handled = [*history.handled, Handled("join", "b", ("even", 0, 0))]


def aborted_cause(history: History) -> None:
    replaced(history, "e0", committed=False)


def unknown_cause(history: History) -> None:
    history.records = [*history.records, Seen("answered", 0, 60, b"k0", "stranger", "nobody")]


def charged_twice(history: History) -> None:
    history.effects = [*history.effects, Effect("charge", "a1")]


def stock_gone(history: History) -> None:
    history.balances = [Balance("stock", 5, 4)]


PLANTED: list[tuple[Callable[[History], None], str, str]] = [
    (lost_output, "lost", "even[0]@3"),
    (lost_letter, "lost", "asked[0]@3"),
    (lost_parked, "lost", "asked[0]@5"),
    (lost_silence, "lost", "asked[0]@7"),
    (lost_end, "lost", "b'k2'"),
    (doubled_output, "doubled", "re2"),
    (doubled_under_another_id, "doubled", "e8"),
    (doubled_letter, "doubled", "asked[0]@3"),
    (done_and_parked, "doubled", "asked[0]@2"),
    (done_and_dead, "doubled", "asked[0]@9"),
    (offset_behind, "doubled", "asked[0]@8"),
    (reordered, "reordered", "asked[0]@2"),
    (aborted_read, "aborted-seen", "even[0]@0"),
    (aborted_cause, "aborted-seen", "answered[0]@2"),
    (unknown_cause, "aborted-seen", "answered[0]@60"),
    (charged_twice, "effect-doubled", "a1"),
    (stock_gone, "conservation", "stock"),
]


@pytest.mark.parametrize(("plant", "kind", "where"), PLANTED, ids=lambda each: getattr(each, "__name__", ""))
def test_a_planted_error_is_found_and_named(plant: Callable[[History], None], kind: str, where: str) -> None:
    history = right()
    plant(history)
    found = check(history)
    assert (kind, where) in {(anomaly.kind, anomaly.where) for anomaly in found}
    assert {anomaly.kind for anomaly in found} <= {kind, "lost"}, "nothing else is called wrong, but for what follows from it"


def test_a_redrive_may_come_late_and_a_second_time() -> None:
    """An operator's decision puts it out of its order; that is no anomaly."""
    history = right()
    history.records = [*history.records, Seen("odd", 0, 40, b"k1", "o3", "a3"), Seen("answered", 0, 41, b"k1", "ro3", "o3")]
    history.committed = {**history.committed, ("join", "odd", 0): 41}
    history.letters = [*history.letters, *history.letters]
    assert check(history) != []
    history.redriven = {"a3"}
    assert check(history) == []


def test_what_a_stage_sent_itself_is_a_cause_of_which_there_is_no_record() -> None:
    history = right()
    history.records = [*history.records, Seen("answered", 0, 60, b"k0", "late", "timer")]
    history.timers = {"timer"}
    assert check(history) == []
    history.timers = None
    assert check(history) == []


def test_a_stage_without_order_may_overtake() -> None:
    history = right()
    replaced(history, "e2", offset=77)
    history.parts = [msgspec.structs.replace(SPLIT, ordered=False), JOIN]
    history.committed = {**history.committed, ("join", "even", 0): 78}
    assert not [anomaly for anomaly in check(history) if anomaly.where == "asked[0]@2"]
