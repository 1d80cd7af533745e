"""Faults to order: the same orders suffer the same, until they are mended; and no setting is misread."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streams.config import Settings
from streams.errors import Reject, Retry, SetupError, Unavailable
from topologies.orders.faults import Fate, Faults, Troubles
from topologies.orders.ports import Captured, Charge, Letter, mail, psp

ALL = [str(number) for number in range(10_000)]


def of(fate: Fate, faults: Faults) -> str:
    return next(order_id for order_id in ALL if faults.fate(order_id) is fate)


def test_each_fate_befalls_about_its_share_of_the_orders() -> None:
    faults = Faults(busy=0.1, refused=0.05, bug=0.02)
    fates = [faults.fate(order_id) for order_id in ALL]
    assert 850 < fates.count(Fate.BUSY) < 1150
    assert 400 < fates.count(Fate.REFUSED) < 600
    assert 140 < fates.count(Fate.BUG) < 260
    assert {faults.times_busy(order_id) for order_id in ALL} == {1, 2, 3}


def test_a_busy_provider_takes_an_order_after_as_many_tries_as_were_foreseen() -> None:
    faults = Faults(busy=1.0)
    for order_id in ALL[:10]:
        troubles = Troubles(faults)
        for _ in range(faults.times_busy(order_id)):
            with pytest.raises(Retry):
                troubles.at_provider(order_id)
        troubles.at_provider(order_id)


def test_a_silent_provider_answers_when_it_is_asked_again_as_late_as_it_was_told_to_be() -> None:
    faults = Faults(silent="1,22", silent_for=12.0)
    troubles = Troubles(faults)
    with pytest.raises(Retry) as raised:
        troubles.at_provider("1")
    assert (faults.fate("1"), faults.fate("2"), raised.value.after) == (Fate.SILENT, Fate.GOOD, 12.0)
    troubles.at_provider("1")


def test_a_provider_is_away_once_for_as_long_as_it_was_told() -> None:
    times = [100.0]
    troubles = Troubles(Faults(away_after=3, away_for=10), clock=lambda: times[-1])
    for order_id in ALL[:3]:
        troubles.at_provider(order_id)
    for time in (100.0, 105.0, 109.9):
        times.append(time)
        with pytest.raises(Unavailable, match="psp"):
            troubles.at_provider("next")
    for time in (110.0, 1000.0):
        times.append(time)
        for order_id in ALL[:10]:
            troubles.at_provider(order_id)


def test_what_is_broken_is_broken_at_the_ports_until_it_is_mended(tmp_path: Path) -> None:
    faults = Faults(refused=0.3, bug=0.3, mended=str(tmp_path / "mended"))
    settings = Settings.load({"TOWPATH_DIR": str(tmp_path), "TOWPATH_DECLINE_SHARE": "0", **faults.variables()})
    refused, bug, good = (of(fate, faults) for fate in (Fate.REFUSED, Fate.BUG, Fate.GOOD))

    def letter(order_id: str) -> Letter:
        return Letter("e", datetime(2017, 1, 1, tzinfo=UTC), order_id, "c", "s", "m")

    with psp.connect(settings) as provider, mail.connect(settings) as mailer:  # type: ignore[union-attr]  # ours are synchronous

        def pay(order_id: str) -> object:
            return asyncio.run(provider.capture(Charge("k", order_id, "c", 1, "USD")))

        assert isinstance(pay(good), Captured)
        assert isinstance(pay(bug), Captured)
        with pytest.raises(Reject):
            pay(refused)
        with pytest.raises(KeyError):
            mailer.send(letter(bug))
        mailer.send(letter(refused))
        (tmp_path / "mended").touch()
        assert isinstance(pay(refused), Captured)
        mailer.send(letter(bug))


def test_without_a_switch_there_are_no_faults() -> None:
    assert Faults.load(Settings.load({"TOWPATH_STORE": "x"})) is None


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("BUSY", "5%", "busy"),
        ("BUSY", "nan", "shares"),
        ("BUG", "1.5", "shares"),
        ("AWAY_FOR", "-1", "seconds"),
        ("BISY", "0.1", "bisy"),
    ],
)
def test_a_fault_that_makes_no_sense_is_named(name: str, value: str, says: str) -> None:
    with pytest.raises(SetupError, match=f"TOWPATH_FAULTS_.*{says}"):
        Faults.load(Settings.load({f"TOWPATH_FAULTS_{name}": value}))
