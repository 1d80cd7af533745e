import uuid
from collections.abc import Sequence

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from streams.config import Settings
from streams.errors import SetupError
from streams.local import LocalKafka
from streams.topics import TopicSpec, apply, connect, diff, partition_counts


def specs(partitions: int = 2) -> list[TopicSpec]:
    suffix = uuid.uuid4().hex[:8]
    return [
        TopicSpec(f"kept-{suffix}", partitions, {"cleanup.policy": "delete", "retention.ms": "-1"}),
        TopicSpec(f"table-{suffix}", partitions, {"cleanup.policy": "compact"}),
    ]


@pytest.fixture(scope="module")
def admin(kafka: LocalKafka) -> AdminClient:
    return connect(Settings(bootstrap=kafka.bootstrap))


def create(admin: AdminClient, name: str, partitions: int, config: dict[str, str]) -> None:
    """A topic as somebody else has made it."""
    apply([TopicSpec(name, partitions, config)], admin)


def config_of(admin: AdminClient, name: str, entry: str) -> str:
    resource = ConfigResource(ResourceType.TOPIC, name)
    return str(admin.describe_configs([resource])[resource].result(30)[entry].value)


def actions(changes: Sequence[object]) -> list[tuple[str, str]]:
    return [(change.topic, change.action) for change in changes]  # type: ignore[attr-defined]  # Change, for brevity


def test_apply_creates_what_is_missing_and_a_second_one_does_nothing(admin: AdminClient) -> None:
    wanted = specs()
    assert actions(diff(wanted, admin)) == [(spec.name, "create") for spec in wanted]
    apply(wanted, admin)
    assert partition_counts(admin, [spec.name for spec in wanted]) == {spec.name: 2 for spec in wanted}
    assert config_of(admin, wanted[1].name, "cleanup.policy") == "compact"
    assert apply(wanted, admin) == []


def test_a_setting_that_differs_is_set_and_others_are_left_alone(admin: AdminClient) -> None:
    kept, _ = specs()
    create(admin, kept.name, 2, {"retention.ms": "60000", "compression.type": "lz4"})
    assert actions(apply([kept], admin)) == [(kept.name, "configure")]
    assert config_of(admin, kept.name, "retention.ms") == "-1"
    assert config_of(admin, kept.name, "compression.type") == "lz4"


@pytest.mark.parametrize("partitions", [1, 3])
def test_another_number_of_partitions_stops_apply_before_it_does_anything(admin: AdminClient, partitions: int) -> None:
    missing, there = specs()
    create(admin, there.name, partitions, {"cleanup.policy": "compact"})
    with pytest.raises(SetupError, match=f"{there.name}: has {partitions} partitions, not 2; partitions cannot go away"):
        apply([missing, there], admin)
    with pytest.raises(SetupError, match=f"no such topic: {missing.name}"):
        partition_counts(admin, [missing.name])


def test_a_policy_that_would_delete_records_is_not_set(admin: AdminClient) -> None:
    kept, _ = specs()
    create(admin, kept.name, 2, {"cleanup.policy": "compact", "retention.ms": "-1"})
    with pytest.raises(SetupError, match="would delete old records"):
        apply([kept], admin)
    assert config_of(admin, kept.name, "cleanup.policy") == "compact"


def test_a_limit_that_the_operator_raised_stays(admin: AdminClient) -> None:
    kept, _ = specs()
    spec = TopicSpec(kept.name, 2, {"max.message.bytes": "2097152"})
    create(admin, kept.name, 2, {"max.message.bytes": "5000000"})
    assert diff([spec], admin) == []
