"""Messages on a real Kafka while their agent is killed and a receiver is busy: each is had once, each subscriber's in order."""

import json
from collections import Counter
from pathlib import Path

from confluent_kafka import Producer
from standardwebhooks.webhooks import Webhook

from streams import migrate, topics
from streams.config import Settings
from streams.local import FAILOVER, LocalKafka
from tests.support.contracts import Contracts
from tests.support.psp import SECRET, Mailbox
from tests.support.reader import Reader
from tests.support.workers import Crew, wait_for
from topologies.orders import orders as flow
from topologies.orders.subscribers import Subscriber, Subscribers, opened, subscribers

ORDERS = 240
CUSTOMERS = 4
WANTED = ORDERS + ORDERS // 2  # all of them to one subscriber, and those of every other customer to their own


def test_a_killed_agent_and_a_busy_receiver_tell_nobody_twice_and_nobody_out_of_order(tmp_path: Path) -> None:
    settings = Settings(store=f"sqlite:///{tmp_path / 'store.db'}")
    migrate.upgrade(settings.store, [subscribers])
    with Mailbox() as mailbox, LocalKafka.start(tmp_path / "kafka", overrides=FAILOVER) as kafka:
        with opened(settings.store) as engine, engine.begin() as connection:
            for subscriber_id, customer in (("s-all", None), ("s0", "c0"), ("s1", "c1")):
                Subscribers(connection).add(Subscriber(subscriber_id, customer, mailbox.url + subscriber_id, (SECRET,)))
        variables = {
            "TOWPATH_BOOTSTRAP": kafka.bootstrap,
            "TOWPATH_DIR": str(tmp_path),
            "TOWPATH_STORE": settings.store,
            "TOWPATH_WEBHOOK_ALLOW": "127.0.0.1",
        }
        topics.apply(topics.plan(flow), topics.connect(Settings(bootstrap=kafka.bootstrap)))
        with (
            Crew(tmp_path, variables) as crew,
            Reader(kafka.bootstrap, ["notifications.requested", "notifications.sent"]) as reader,
        ):
            agent = crew.start("topologies.orders", "notification", "delivery", instance="a")
            crew.wait_until_ready()
            reject(kafka.bootstrap)
            for share in (60, 120):
                wait_for(lambda share=share: len(had(mailbox)) >= share, 60, f"not {share} are told", crew.logs)  # type: ignore[misc]
                mailbox.status = 503
                refused = len(mailbox.got)
                wait_for(lambda refused=refused: len(mailbox.got) > refused + 2, 60, "nobody asks", crew.logs)  # type: ignore[misc]
                agent.kill()
                mailbox.status = 200
                agent.start()
            wait_for(lambda: reader.count("notifications.sent") >= ORDERS, 120, "not all ends are told", crew.logs)
            wait_for(lambda: len(had(mailbox)) >= WANTED, 60, "not all are told", crew.logs)
            reader.to_end()
        contracts = Contracts(flow.schemas)
        sent, requested = (
            [contracts.decode(record.value) for record in reader.records[topic]]
            for topic in ("notifications.sent", "notifications.requested")
        )
    assert Counter(one["order_id"] for one in sent) == Counter(f"o{number}" for number in range(ORDERS))
    assert len(requested) == WANTED == len(had(mailbox))
    for subscriber_id in ("s-all", "s0", "s1"):
        order = [one["delivery_id"] for one in requested if one["subscriber_id"] == subscriber_id]
        mine = set(order)
        assert [webhook_id for webhook_id in had(mailbox) if webhook_id in mine] == order
    letters = [json.loads(line)["order_id"] for line in (tmp_path / "notifications.jsonl").read_text().splitlines()]
    assert set(letters) == {f"o{number}" for number in range(ORDERS) if number % CUSTOMERS > 1}


def reject(bootstrap: str) -> None:
    """Orders that have ended, of customers in turn."""
    contracts = Contracts(flow.schemas)
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    for number in range(ORDERS):
        order = {
            "order_id": f"o{number}",
            "customer_id": f"c{number % CUSTOMERS}",
            "code": "no-lines",
            "reason": "It is empty.",
        }
        producer.produce("orders.rejected", contracts.encode("OrderRejected", order), f"o{number}")
    assert producer.flush(60) == 0


def had(mailbox: Mailbox) -> list[str]:
    """Ids of the webhooks that have come, by the last time of each, verified by a judge that is not ours."""
    judge = Webhook(SECRET)
    ids = []
    for headers, body in list(mailbox.got):
        judge.verify(body.decode(), headers)
        ids.append(headers["webhook-id"])
    return list(dict.fromkeys(reversed(ids)))[::-1]
