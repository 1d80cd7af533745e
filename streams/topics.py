"""The topics of a topology: what there should be, how a cluster differs from it, and the way from one to the other.

The one rule: nothing here deletes data: no topic goes, no partition is added to keyed data, no retention gets shorter.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams import names
from streams.config import Settings
from streams.errors import SetupError
from streams.record import event_info
from streams.topology import Topology

QUIET: Final = logging.getLogger("streams.librdkafka")
"""What librdkafka says of its connections. A command reports its own errors, so nobody hears it unless a handler is added."""
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False

_PATIENCE: Final = 8.0  # seconds for the first answer of a cluster
_REPLY: Final = 30.0  # seconds for an operation on a cluster that has answered

_EVENTS: Final = {"cleanup.policy": "delete", "message.timestamp.type": "CreateTime"}
_WHOLE: Final = {"max.message.bytes": "2097152"}  # the largest record of a source must fit with the headers it gains
_COMPACTED: Final = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.bytes": "16777216",  # only closed segments are compacted, and a restore reads all there is
    "segment.ms": "3600000",
}
_KEPT: Final = {"cleanup.policy": "delete", "retention.ms": "-1"}


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic as it should be. Of its configuration only what matters here; the rest is the broker's or the operator's."""

    name: str
    partitions: int
    config: Mapping[str, str] = {}


class Change(msgspec.Struct, frozen=True):
    """What is to be done to one topic: `create` it, `configure` it, or, where it `differs`, nothing that is safe.

    `config` is what will be set; `detail` says it all in words.
    """

    topic: str
    action: Literal["create", "configure", "differs"]
    detail: str
    partitions: int
    config: Mapping[str, str] = {}


def plan(topology: Topology) -> list[TopicSpec]:
    """Every topic that the topology needs: its events, each stage's retry and dead letters, its cases and receipts."""
    made = [(event_info(cls).topic, _EVENTS) for cls in topology.events]
    for stage in topology.stages:
        made.append((names.retry(topology.name, stage.name), _COMPACTED | _WHOLE))
        made.append((names.dlq(topology.name, stage.name), _KEPT | _WHOLE))
    made.append((names.cases(topology.name), _COMPACTED | _WHOLE))
    made.append((names.receipts(topology.name), _KEPT))
    return [TopicSpec(name, topology.partitions, config) for name, config in made]


def properties(settings: Settings, defaults: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """What librdkafka is told by a plain client: `defaults`, and over them what the settings say."""
    return {**defaults, "bootstrap.servers": settings.bootstrap, **settings.kafka}


def connect(settings: Settings) -> AdminClient:
    """An admin client of a cluster that has answered. Raises `SetupError`, within 10 s, when none does."""
    heard: list[str] = []
    wanted = properties(settings, {"error_cb": lambda error: heard.append(error.str())})
    try:
        admin = AdminClient(wanted, logger=QUIET)
    except KafkaException as error:
        raise refused(error) from None
    try:
        admin.list_topics(timeout=_PATIENCE)
    except KafkaException as error:
        admin.poll(0)
        why = next((text for text in heard if "brokers are down" not in text), error.args[0].str())
        raise SetupError(
            f"no Kafka answers at {wanted['bootstrap.servers']} ({why})",
            fix="start one with `towpath up`, or say where it is with --bootstrap or TOWPATH_BOOTSTRAP",
        ) from None
    return admin


def refused(error: KafkaException) -> SetupError:
    """What librdkafka has against its properties, as the user's error."""
    return SetupError(
        error.args[0].str(), where="TOWPATH_KAFKA", fix="see librdkafka's CONFIGURATION.md for the names and values"
    )


def partition_counts(admin: AdminClient, topics: Sequence[str]) -> dict[str, int]:
    """How many partitions each topic has. Raises `SetupError` naming those that do not exist."""
    known = _known(admin)
    if missing := [topic for topic in topics if topic not in known]:
        raise SetupError(
            f"no such topic: {', '.join(missing)}", fix="make a topology's topics with `towpath topics apply MODULE`"
        )
    return {topic: len(known[topic].partitions) for topic in topics}


def diff(specs: Sequence[TopicSpec], admin: AdminClient) -> list[Change]:
    """What the cluster lacks, in the order of `specs`; nothing where it is as it should be."""
    known = _known(admin)
    present = [spec for spec in specs if spec.name in known]
    configs = configurations(admin, [spec.name for spec in present])
    changes = []
    for spec in specs:
        if spec.name not in known:
            config = ", ".join(f"{name}={value}" for name, value in spec.config.items())
            changes.append(Change(spec.name, "create", f"{spec.partitions} partitions, {config}", spec.partitions, spec.config))
        elif change := _compare(spec, len(known[spec.name].partitions), configs[spec.name]):
            changes.append(change)
    return changes


def apply(specs: Sequence[TopicSpec], admin: AdminClient, *, replication: int = -1) -> list[Change]:
    """Create what is missing and set what differs; a second call does nothing. Returns what was done, when it can be used.

    `replication` is that of new topics; -1 is the broker's default. Raises `SetupError`, before anything is done, if a
    topic differs in a way that cannot be mended without harm.
    """
    changes = diff(specs, admin)
    if differing := [f"{change.topic}: {change.detail}" for change in changes if change.action == "differs"]:
        raise SetupError("; ".join(differing))
    new = [
        NewTopic(change.topic, change.partitions, replication, config=dict(change.config))
        for change in changes
        if change.action == "create"
    ]
    if new:
        _wait(admin.create_topics(new, operation_timeout=_REPLY), but=KafkaError.TOPIC_ALREADY_EXISTS)
        _wait_until_led(admin, [topic.topic for topic in new])
    resources = [_resource(change) for change in changes if change.action == "configure"]
    if resources:
        _wait(admin.incremental_alter_configs(resources))
    return changes


def _known(admin: AdminClient) -> dict[str, Any]:
    try:
        topics: dict[str, Any] = admin.list_topics(timeout=_REPLY).topics
    except KafkaException as error:
        raise SetupError(f"the cluster answers no more: {error.args[0].str()}", fix="try again when it is back") from None
    return topics


def _wait_until_led(admin: AdminClient, names: Sequence[str]) -> None:
    """A broker hears of a topic a little after the controller has made it, and of its leaders a little later still."""
    deadline = time.monotonic() + _REPLY
    while True:
        known = _known(admin)
        if all(name in known and all(part.leader >= 0 for part in known[name].partitions.values()) for name in names):
            return
        if time.monotonic() > deadline:
            raise SetupError(f"new topics have no leader after {_REPLY:.0f} s", fix="see whether all brokers are up")
        time.sleep(0.05)


def _compare(spec: TopicSpec, partitions: int, config: Mapping[str, str]) -> Change | None:
    if partitions != spec.partitions:
        detail = f"has {partitions} partitions, not {spec.partitions}; partitions cannot go away" + (
            "" if partitions > spec.partitions else ", and more of them would send a key's later records past its earlier ones"
        )
        detail += f"; set partitions={partitions} in the topology, or move to new topics"
        return Change(spec.name, "differs", detail, spec.partitions)
    wanted = {name: value for name, value in spec.config.items() if not _satisfied(name, value, config.get(name, ""))}
    if not wanted:
        return None
    if "delete" in wanted.get("cleanup.policy", ""):
        detail = (
            f"has cleanup.policy={config.get('cleanup.policy')}, not {wanted['cleanup.policy']}, which would delete old records"
        )
        detail += "; set it with kafka-configs.sh if that is what you want"
        return Change(spec.name, "differs", detail, spec.partitions)
    detail = ", ".join(f"{name}={value} (was {config.get(name)})" for name, value in wanted.items())
    return Change(spec.name, "configure", detail, spec.partitions, wanted)


def _satisfied(name: str, wanted: str, actual: str) -> bool:
    if name == "max.message.bytes":
        return actual.isdigit() and int(actual) >= int(wanted)  # an operator may allow more
    return actual == wanted


def configurations(admin: AdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """What is set for each topic, by Kafka's own names. Raises `SetupError`."""
    if not topics:
        return {}
    futures = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic) for topic in topics], request_timeout=_REPLY)
    try:
        return {
            resource.name: {name: entry.value or "" for name, entry in future.result().items()}
            for resource, future in futures.items()
        }
    except KafkaException as error:
        raise SetupError(f"the cluster does not show its topics' configuration: {error.args[0].str()}") from None


def keeps(admin: AdminClient, topics: Sequence[str]) -> dict[str, float]:
    """How long each topic keeps its records at least, in seconds; 0 where a size limits it as well. Raises `SetupError`."""
    kept = {}
    for topic, config in configurations(admin, topics).items():
        millis = int(config.get("retention.ms", "-1"))
        by_size = int(config.get("retention.bytes", "-1")) >= 0
        kept[topic] = 0.0 if by_size else millis / 1000 if millis >= 0 else math.inf
    return kept


def _resource(change: Change) -> ConfigResource:
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in change.config.items()]
    return ConfigResource(ResourceType.TOPIC, change.topic, incremental_configs=entries)


def _wait(futures: Mapping[Any, Any], *, but: int | None = None) -> None:
    """Wait for each; raise `SetupError` with every failure, except those with the code `but`."""
    failures = []
    for of, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != but:
                failures.append(f"{getattr(of, 'name', of)}: {error.args[0].str()}")
    if failures:
        raise SetupError("the cluster refuses: " + "; ".join(failures))
