"""A steady stream through a flow, and blows that fall while it runs.

The one rule: what happens next depends on what has come out so far, never on how much time has passed.
"""

import time
from collections.abc import Callable

from confluent_kafka import Producer

from tests.support.reader import Reader
from tests.support.workers import Crew

GAP = 100
"""Records that end between two blows: the flow has come to itself again."""
TRICKLE = 10
"""Records on their way while a blow waits for its condition, so that it falls on a flow at work and not on its end."""


class Blow:
    """Something that befalls the flow once `at` records have ended and `when` holds. `strike` may name what must follow."""

    def __init__(
        self, at: int, name: str, strike: "Callable[[], Blow | None]", when: Callable[[], bool] = lambda: True
    ) -> None:
        self.at = at
        self.name = name
        self.strike = strike
        self.when = when


class Pump:
    """Sends records and follows them. `ended` says how many have come to their end."""

    def __init__(self, reader: Reader, crew: Crew, send: Callable[[int], None], ended: Callable[[], int]) -> None:
        self._reader = reader
        self._crew = crew
        self._send = send
        self._ended = ended
        self._sent = 0
        self.struck: list[str] = []

    def run(self, total: int, window: int, blows: list[Blow], patience: float = 60) -> None:
        """Send `total` records, at most `window` of them on their way at once, until all have ended and every blow has fallen.

        A worker that ends is started again. Fails when nothing has moved for `patience` seconds. A second call goes on where
        the first has ended; its `total` is that of both.
        """
        blows = sorted(blows, key=lambda blow: blow.at)
        before, since, fell = -1, time.monotonic(), 0
        while (now := self._ended()) < total or blows:
            if now != before:
                before, since = now, time.monotonic()
            if time.monotonic() - since > patience:
                waiting = [blow.name for blow in blows]
                raise AssertionError(
                    f"{now} of {total} ended, {self._sent} sent, {self.struck}, {waiting}\n{self._crew.logs()}"
                )
            due = bool(blows) and max(blows[0].at, min(fell + GAP, total)) <= now
            while self._sent < min(total, now + (TRICKLE if due else window)):
                self._send(self._sent)
                self._sent += 1
            if due and blows[0].when():
                blow, fell = blows.pop(0), now
                self.struck.append(f"{blow.name} at {now}")
                print(self.struck[-1], flush=True)  # noqa: T201  # what a failed test shows of its course
                then = blow.strike()
                if then:
                    blows, fell = [then, *blows], -GAP
            self._crew.supervise()
            self._reader.pause(0.1)


def sender(bootstrap: str) -> Producer:
    """A producer that neither loses nor doubles what it sends, and picks partitions as every Kafka client does."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 2,
            "message.max.bytes": 2_000_000,
            "log_level": 0,
        }
    )
