"""A worker's metrics, as Prometheus' own parser reads them."""

import pytest

from streams.codec import Codec
from streams.parked import Parked
from streams.process import Failure
from streams.record import BORN, Output, Record
from streams.registry import FolderRegistry, default_folder
from streams.stage import Stage
from streams.standing import Standing
from streams.tally import Exemplar, Spread, Words, ends, sampled, waiting
from streams.telemetry import exposition, textfile
from tests.support.measured import page, samples, standing, tallied
from tests.support.moves import Asked, World, make, start
from topologies.orders.events import Closing, Ending, NotificationSent
from topologies.orders.subscribers import subscribers

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode()),)


def test_what_a_stage_did_is_counted_once_it_is_committed() -> None:
    with start() as flow:
        worker = flow.workers[0]
        tallied(flow, worker)
        for number, moves in enumerate([("done:2",), ("reject",), ("bug", "bug", "bug"), ("retry",)]):
            flow.produce(Asked(f"k{number}", number, moves))
        flow.produce(Asked("k3", 4))  # queues behind what fails, and is tried once
        flow.run(seconds=60)
        found = samples(standing(flow, worker))
    assert found["messaging_client_consumed_messages_total", "moves.asked"] == 5
    assert found["messaging_client_sent_messages_total", "moves.answered"] == 4
    assert found["messaging_client_sent_messages_total", "moves.play.dlq"] == 2
    assert found["towpath_outcomes_total", "done"] == 3
    assert found["towpath_outcomes_total", "retry"] == 4
    assert found["towpath_outcomes_total", "unavailable"] == 0, "all verdicts are there from the start"
    assert (found["towpath_dead_total", "Reject"], found["towpath_dead_total", "ZeroDivisionError"]) == (1, 1)
    assert found["towpath_retries_total",] == 3
    assert found["towpath_stage_duration_seconds_count",] == 5
    assert found["towpath_transaction_duration_seconds_count",] == found["towpath_transaction_records_count",] > 0
    assert found["messaging_process_duration_seconds_count", "process"] > 0


def test_an_aborted_transaction_is_counted_and_what_it_did_is_not() -> None:
    with start() as flow:
        flow.run()
        worker = flow.workers[0]
        flow.broker.abort_next("moves.play.a")
        flow.produce(Asked("k", 0))
        flow.run()
        found = samples(standing(flow, worker))
    assert found["towpath_transactions_aborted_total",] == 1
    assert found["messaging_client_consumed_messages_total", "moves.asked"] == 1


def test_what_waits_is_told_apart_and_so_is_what_it_waits_for() -> None:
    at = World()
    with start(at=at) as flow:
        worker = flow.workers[0]
        flow.produce(Asked("k", 0, ("wait:500",)))
        flow.produce(Asked("k", 1))
        flow.run()
        at.away = True
        flow.produce(Asked("other", 2))
        flow.run(seconds=5)
        stage = standing(flow, worker)
        found = samples(stage)
        assert (found["towpath_parked_records", "retry"], found["towpath_parked_records", "queued"]) == (1, 2)
        assert found["towpath_parked_oldest_seconds",] > 0
        assert found["towpath_dependency_away", "world"] == 1
        assert found["towpath_holds_total", "world"] == 1, "a hold is one, however often it is probed"
        health = stage.health()
        assert health["healthy"] is True
        assert health["reason"].startswith("it waits for world")
        assert stage.unready() == "", "who waits is ready: what it owns is in good hands"
        at.away = False
        flow.run(seconds=20)
        assert not [name for name, *_ in samples(standing(flow, worker)) if name == "towpath_dependency_away"]


def test_what_waits_for_its_case_or_its_time_is_not_to_be_tried() -> None:
    with start(make(after_dead="hold")) as flow:
        flow.produce(Asked("k", 0, ("reject",)))
        flow.run()
        found = samples(standing(flow, flow.workers[0]))
    assert (found["towpath_parked_records", "held"], found["towpath_parked_records", "queued"]) == (1, 0)
    assert found["towpath_parked_oldest_seconds",] == 0
    timer = Parked(Record("t", 0, -77, b"k", b"", (), 5), 0, due=9.0)
    assert (waiting([timer]).timer, waiting([timer]).oldest) == (1, None)


def test_how_long_the_flow_took_is_counted_from_the_source_with_the_trace_to_look_at() -> None:
    with start() as flow:
        worker = flow.workers[0]
        tallied(flow, worker)
        flow.produce(Asked("k", 0, ("wait:40",)), TRACED)
        flow.run(seconds=41)
        answer = flow.broker.read("moves.answered")[0]
        assert dict(answer.headers)[BORN] == b"%d" % flow.broker.read("moves.asked")[0].timestamp
        text = page(standing(flow, worker))
    line = next(line for line in text.splitlines() if line.startswith("towpath_e2e_duration_seconds_bucket") and "#" in line)
    assert 'le="60.0"' in line
    assert f'# {{trace_id="{TRACE}"}} 4' in line


def test_who_forges_when_an_event_was_born_spoils_no_sum() -> None:
    with start() as flow:
        worker = flow.workers[0]
        tallied(flow, worker)
        for number, born in enumerate([b"-5", b"9" * 400, b"\xff", b"0", None, b"99999999999999"]):
            flow.produce(Asked("k", number), ((BORN, born),))
        flow.run()
        found = samples(standing(flow, worker))
    assert found["towpath_e2e_duration_seconds_count", "moves.answered"] == 2, "those that are numbers"
    assert found["towpath_e2e_duration_seconds_sum", "moves.answered"] == 30 * 86400, "as long as can be, and nothing"


def test_librdkafkas_numbers_are_those_of_all_its_connections() -> None:
    with start() as flow:
        found = samples(standing(flow, flow.workers[0]))
    assert found["towpath_kafka_rtt_seconds", "producer"] == 0.009, "the slowest"
    assert found["towpath_kafka_request_errors_total", "member"] == 15
    assert (found["towpath_kafka_queue_records", "follower"], found["towpath_kafka_queue_records", "producer"]) == (5, 3)
    assert (found["towpath_kafka_brokers_up", "member"], found["towpath_kafka_rebalances_total",]) == (1, 6)


def test_a_stage_that_has_not_begun_and_one_that_cannot_go_on_are_shown() -> None:
    new, broken = Standing("moves", Stage("new"), "a"), Standing("moves", Stage("broken"), "a")
    broken.failure = "it has stopped"
    assert [value for name, _, value in (*new.samples(), *broken.samples()) if name == "towpath_stage_healthy"] == [1, 0]
    assert (new.unready(), broken.unready()) == ("it is starting", "it has stopped")
    assert (new.health()["healthy"], new.health()["reason"]) == (True, "it is starting")


def test_partitions_that_wait_for_a_dead_owners_transaction_make_it_unready_and_say_so() -> None:
    with start() as flow:
        flow.run()
        stage = standing(flow, flow.workers[0])
        assert stage.unready() == ""
        assert stage.session is not None
        stage.session.why = "partitions [0] wait until …"  # type: ignore[attr-defined]  # the test's
        assert stage.unready() == stage.health()["reason"] == "partitions [0] wait until …"
        assert stage.health()["healthy"] is True


def test_who_waits_for_its_own_database_is_alive_and_not_ready() -> None:
    with start() as flow:
        flow.run()
        worker = flow.workers[0]
        worker.engine.gate.shut(Failure("Unavailable", "locked", "x", None, "database"), flow.clock.now())
        stage = standing(flow, worker)
        assert stage.unready() == "", "a database that is another's"
        mine = Standing("moves", Stage("play", store=subscribers), "a")
        mine.engine, mine.member_since = worker.engine, 1.0
        assert mine.unready() == "its store does not answer: locked"
        assert mine.health()["healthy"] is True


def test_an_order_says_how_it_ended_and_bytes_that_do_not_say_it_are_told_by_their_topic() -> None:
    codec = Codec([NotificationSent], FolderRegistry(default_folder()))
    outcome = ends([NotificationSent], codec)["notifications.sent"]
    encode = codec.encoder(NotificationSent)
    expired = NotificationSent("o", "c", Ending.UNPAID, "", "", "late", Closing.EXPIRED)
    rejected = NotificationSent("o", "c", Ending.REJECTED, "", "")
    told = [outcome(Output("notifications.sent", b"o", value)) for value in (encode(expired), encode(rejected), b"\x00old")]
    assert told == ["expired", "rejected", "notifications.sent"]


def test_many_values_at_once_count_as_one_by_one() -> None:
    values = [0.0, 0.005, 0.0051, 0.3, 2.0, 1800.0, 5000.0]
    one, all_ = Spread((0.005, 0.3, 1800)), Spread((0.005, 0.3, 1800))
    for value in values:
        one.add(value)
    all_.add_sorted(values)
    assert all_.counts == one.counts == [2, 2, 2, 1]
    assert all_.total == pytest.approx(one.total)
    later, shifted = Spread((0.25, 2, 1800)), Spread((0.25, 2, 1800))
    for value in values:
        later.add(value + 0.25)
    shifted.add_sorted(values, 0.25)
    assert shifted.counts == later.counts == [1, 3, 1, 2]
    assert shifted.total == pytest.approx(later.total)


def test_words_beyond_the_first_are_one() -> None:
    words = Words(2)
    assert [words.add(word) for word in ("a", "b", "c", "b", "x" * 99, "\x00")] == ["a", "b", "other", "b", "other", "other"]
    assert words.counts == {"a": 1, "b": 2, "other": 3}


@pytest.mark.parametrize(
    "value", [b"", b"00-" + b"z" * 32 + b"-b7ad6b7169203331-01", b"00-" + b"1" * 32 + b"-b7ad6b7169203331-00"]
)
def test_a_trace_that_is_none_or_is_not_kept_is_no_example(value: bytes) -> None:
    assert sampled((("traceparent", value),)) == ""


def test_labels_have_to_be_those_of_the_catalogue() -> None:
    with pytest.raises(ValueError, match="labels"):
        exposition([("towpath_retries_total", ("moves",), 1)])


def test_the_older_format_is_for_files() -> None:
    text = textfile([("towpath_reconcile_differences", ("orders", "lost"), 2)]).decode()
    assert 'towpath_reconcile_differences{kind="lost",topology="orders"} 2.0' in text
    assert "# EOF" not in text


def test_an_example_is_in_the_bucket_of_its_value() -> None:
    spread = Spread((1.0, 2.0))
    spread.show(Exemplar(TRACE, 1.5, 100.0))
    assert list(spread.exemplars) == [1]
