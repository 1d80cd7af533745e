"""A stage with a store, as the engine drives it: each event adds one to the counter `n`."""

from typing import Any

from streams import migrate
from streams.record import Output, Record
from streams.stage import Store
from streams.store import Inbox
from tests.support.counters import STORE

OUTPUTS = (Output("shop.a", b"k", b"value"),)


def open_inbox(url: str, store: Store[Any] = STORE, time_limit: float = 60.0) -> Inbox:
    migrate.upgrade(url, [store])
    inbox = Inbox(url, "shop.one", store, time_limit=time_limit)
    inbox.open()
    return inbox


def effect(journal: Any, event_id: str, partition: int = 0) -> tuple[Output, ...]:
    """What the engine does with one event."""
    recorded: tuple[Output, ...] | None = journal.recorded(event_id)
    if recorded is not None:
        return recorded
    with journal.savepoint():
        journal.repository.add("n")
    journal.record(event_id, OUTPUTS, Record("orders", partition, 0, None, None))
    return OUTPUTS


def batch(inbox: Inbox, *event_ids: str, partition: int = 0) -> None:
    with inbox.batch(event_ids, 0.0, [partition]) as journal:
        for event_id in event_ids:
            effect(journal, event_id, partition)


def count(inbox: Inbox) -> int:
    with inbox.batch([], 0.0) as journal:
        return int(journal.repository.value("n"))
