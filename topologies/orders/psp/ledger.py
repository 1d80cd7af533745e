"""The provider's ledger: its books in a SQLite file, opened for one transaction at a time.

The one rule: what is asked under an idempotency key happens once, in one transaction with the answer to it.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from streams.errors import SetupError
from topologies.orders.psp.books import SCHEMA, Books
from topologies.orders.psp.terms import Answer, Caller, Refused


class Policy(msgspec.Struct, frozen=True):
    """How the provider deals with its merchants' payments.

    `decline_share` of the orders are declined; `settle_after` seconds from its capture a payment is settled, and
    `dispute_share` of the settled ones are disputed. Which ones follows from the order's id. `hooks`: webhooks are written.
    """

    decline_share: float = 0.02
    dispute_share: float = 0.0
    settle_after: float = 86400.0
    hooks: bool = False


class Ledger:
    """The file. Any thread may use it; it is closed with `close`."""

    def __init__(self, path: Path, policy: Policy, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since the Unix epoch. Raises `SetupError` for a file that cannot be opened."""
        self.policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._at_work: set[tuple[str, str]] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise SetupError(f"cannot open the ledger: {error}", where=str(path), fix="name a file of its own") from None
        self._connection.row_factory = sqlite3.Row

    @contextmanager
    def books(self) -> Iterator[Books]:
        """One transaction: whole, or, after an exception, nothing of it."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Books(self._connection, int(self._clock() * 1000), self.policy.decline_share, self.policy.hooks)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def alone(self, caller: Caller) -> Iterator[None]:
        """While this is entered nobody else may ask under the same key. Raises `Refused` for who comes second."""
        one = (caller.merchant, caller.key)
        with self._lock:
            if one in self._at_work:
                raise Refused(409, "idempotency-key-in-use", "A request with this Idempotency-Key is at work.", after=1)
            self._at_work.add(one)
        try:
            yield
        finally:
            self._at_work.discard(one)

    def once(self, caller: Caller, act: Callable[[Books], Answer]) -> Answer:
        """What `act` answers, or what it answered the first time. Raises `Refused`; that is no answer to be kept."""
        with self.books() as books:
            answer = books.answered(caller)
            if answer is None:
                answer = act(books)
                books.answer(caller, answer)
            return answer

    def settle(self) -> int:
        """Settle what is due. How many there were."""
        with self.books() as books:
            before = int((self._clock() - self.policy.settle_after) * 1000)
            return books.settle(before, self.policy.dispute_share)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
