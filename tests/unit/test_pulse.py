from streams.pulse import SILENT, Pulse
from streams.record import Record

RECORD = Record("orders.accepted", 1, 7, b"k", b"v")
NEXT = Record("orders.accepted", 1, 8, b"k", b"v")


def test_a_stage_that_goes_on_polling_moves_also_when_nothing_comes() -> None:
    pulse = Pulse(60)
    assert not any(pulse.look(1 + second, None, float(second)) for second in range(0, 1000, 10))


def test_a_record_that_a_handler_does_not_let_go_is_named() -> None:
    pulse = Pulse(60)
    assert [pulse.look(1, RECORD, now) for now in (0.0, 60.0)] == ["", ""]
    assert pulse.look(1, RECORD, 61.0) == "a handler has been at orders.accepted[1]@7 for 61 s"
    assert pulse.look(1, NEXT, 62.0) == "", "it went on"


def test_a_call_to_broker_or_database_that_does_not_return_is_told() -> None:
    pulse = Pulse(60)
    assert [pulse.look(1, RECORD, 0.0), pulse.look(1, None, 10.0), pulse.look(1, None, 70.0 + SILENT)] == ["", "", ""]
    assert "has not polled for 361 s" in pulse.look(1, None, 71.0 + SILENT)


def test_a_stage_that_has_not_polled_yet_is_starting() -> None:
    pulse = Pulse(60)
    assert [pulse.look(0, None, 0.0), pulse.look(0, None, 10_000.0)] == ["", ""]
    assert pulse.look(1, None, 10_001.0) == ""
