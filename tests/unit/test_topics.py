import socket
import time
from pathlib import Path

import msgspec
import pytest

from streams.config import Settings
from streams.errors import SetupError
from streams.record import event
from streams.stage import Context, Stage
from streams.topics import connect, plan, properties
from streams.topology import Topology


@event("things.seen", key="name")
class Seen(msgspec.Struct, frozen=True):
    name: str


@event("things.kept", key="name")
class Kept(msgspec.Struct, frozen=True):
    name: str


keeper = Stage("keeper")


@keeper.on
def keep(seen: Seen, ctx: Context) -> Kept:
    return Kept(f"{seen.name} {ctx.stage}")


THINGS = Topology("things", sources=[Seen], stages=[keeper], sinks=[Kept], partitions=3, schemas=Path())


def test_a_topology_needs_its_events_and_every_derived_topic_with_as_many_partitions() -> None:
    specs = {spec.name: spec for spec in plan(THINGS)}
    assert set(specs) == {
        "things.seen",
        "things.kept",
        "things.keeper.retry",
        "things.keeper.dlq",
        "things.cases",
        "things.receipts",
    }
    assert {spec.partitions for spec in specs.values()} == {3}


def test_the_parking_table_is_compacted_and_dead_letters_are_kept() -> None:
    specs = {spec.name: spec.config for spec in plan(THINGS)}
    assert specs["things.keeper.retry"]["cleanup.policy"] == specs["things.cases"]["cleanup.policy"] == "compact"
    assert specs["things.keeper.dlq"]["retention.ms"] == "-1"
    assert specs["things.seen"]["cleanup.policy"] == "delete"


def test_a_largest_record_fits_into_retry_and_dead_letters_with_the_headers_it_gains() -> None:
    specs = {spec.name: spec.config for spec in plan(THINGS)}
    for name in ("things.keeper.retry", "things.keeper.dlq"):
        assert int(specs[name]["max.message.bytes"]) > 1048588, "the default of the sources"


def test_the_users_properties_win_over_ours() -> None:
    given = properties(Settings(bootstrap="a:1", kafka={"linger.ms": "9"}), {"linger.ms": 1, "acks": "all"})
    assert given == {"bootstrap.servers": "a:1", "linger.ms": "9", "acks": "all"}


def test_no_broker_is_one_clear_error_within_ten_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(SetupError, match=rf"no Kafka answers at {address} .*refused.*towpath up"):
        connect(Settings(bootstrap=address))
    assert time.monotonic() - start < 10
    assert capfd.readouterr() == ("", ""), "librdkafka is quiet"


def test_an_unknown_property_is_the_users_error() -> None:
    with pytest.raises(SetupError, match='TOWPATH_KAFKA: No such configuration property: "nonsense"'):
        connect(Settings(bootstrap="127.0.0.1:1", kafka={"nonsense": "1"}))
