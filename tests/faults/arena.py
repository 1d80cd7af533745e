"""The order flow at work on three brokers, and a round of it with a fault in its midst.

The one rule: a round ends when everything that went in has come to its end; then the checker says what it makes of it.
"""

import contextlib
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import msgspec

from streams import migrate
from streams.config import Settings
from streams.history import Anomaly, check
from streams.store import Inbox
from tests.faults import collect
from tests.faults.cluster import Cluster, whole
from tests.faults.shop import Shop, stocked
from tests.faults.tap import Tap
from tests.support.postgres import own_server, raw
from tests.support.psp import KEY, Psp
from tests.support.workers import Crew, Worker, towpath
from topologies.orders import orders
from topologies.orders.stock import stock

MODULE: Final = "topologies.orders"
BUSY: Final = tuple(stage.name for stage in orders.stages if stage.name != "delivery")  # nobody subscribes
_PATIENCE: Final = 120.0  # seconds
_STILL: Final = 90.0  # seconds without any record; an attempt may wait for 60
_LATE: Final = 15.0  # seconds for what a round has left
_OPEN: Final = 30.0  # seconds; transaction.timeout.ms is half of it
_PSP: Final = '{"busy": 0.03}'


class Round(msgspec.Struct):
    """What came of one.

    `recoveries` are in seconds, one for each time that the fault struck: until every stage has committed again on each of its
    partitions; `firsts` are the same until every stage has committed at all. `ends` are exit codes; `failure` is a traceback:
    the fault did not go as it should, or the flow did not recover from it. `stands` says what was left when nothing moved any
    more.
    """

    orders: int = 0
    records: int = 0
    undone: int = 0
    recoveries: list[float] = []
    firsts: list[float] = []
    ends: list[int] = []
    notes: list[str] = []
    failure: str = ""
    stands: str = ""
    anomalies: list[Anomaly] = []
    seconds: float = 0.0


class Arena:
    """Cluster, provider, database, workers, shop and readers. As a context manager all are gone at the end."""

    def __init__(self, rate: float = 12.0) -> None:
        """`rate` is in orders per second."""
        self._rate = rate
        self._undo = contextlib.ExitStack()
        self.partitions = orders.partitions
        self.round = Round()
        self._before: collect.Marks = {}  # where the round has begun

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            home = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="towpath-faults-")))
            self.cluster = undo.enter_context(Cluster(home / "kafka"))
            postgres = undo.enter_context(own_server())
            url = postgres.create("faults")
            self._store = undo.enter_context(raw(url))
            self.psp = undo.enter_context(Psp(home, "--faults", _PSP))
            self.environment = {
                "TOWPATH_BOOTSTRAP": self.cluster.direct,
                "TOWPATH_DIR": str(home),
                "TOWPATH_STORE": url,
                "TOWPATH_PSP_URL": self.psp.url,
                "TOWPATH_PSP_API_KEY": KEY,
                "TOWPATH_PAYMENT_DEADLINE": "30",
            }
            towpath(self.environment, "topics", "apply", MODULE)
            migrate.upgrade(url, migrate.stores(orders))
            self.shop = Shop(self.cluster.direct, self._rate)
            self._seed(Settings.load(self.environment))
            self._readers = undo.enter_context(contextlib.ExitStack())
            self.reread()
            theirs = self.environment | {"TOWPATH_BOOTSTRAP": self.cluster.bootstrap}
            self._crews = undo.enter_context(contextlib.ExitStack())
            self.crew = self._crews.enter_context(Crew(home, theirs))
            self.staff()
            undo.callback(self.shop.shut)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _seed(self, settings: Settings) -> None:
        self.seeded = stocked(self.shop._orders)
        inbox = Inbox(settings.store, "seed", stock)
        inbox.open()
        with inbox.batch([], 0.0) as journal:
            journal.repository.restock(self.seeded)
        inbox.close()

    # -- a round --------------------------------------------------------------------------------------------------------

    def play(self, fault: Callable[["Arena"], None], patience: float = _STILL) -> Round:
        """Let a fault happen while orders come in, wait for the end of all, and judge it.

        A round in which nothing moves any more for `patience` seconds ends there, and says what is left.
        """
        self.round = result = Round()
        self._quiet()
        began, self._before = time.monotonic(), collect.ends(self.committed)
        lives = {worker.name: len(worker.ends) for worker in self.crew.workers}
        self.shop.open()
        try:
            self.recovered(began)
            fault(self)
        except Exception:
            result.failure = traceback.format_exc()
        finally:
            self.shop.shut()
        self._settle(patience)
        self._read()
        while not result.stands and self._left():  # readers may be late as well, and not have seen an input until now
            self._settle(patience)
            self._read()
        self._judge(result)
        result.ends = [end for worker in self.crew.workers for end in worker.ends[lives.get(worker.name, 0) :]]
        result.seconds = time.monotonic() - began
        return result

    def _quiet(self) -> None:
        """Wait until nothing comes for a second: what the round before has left (a payment that waited) is not of this one."""
        deadline = time.monotonic() + _LATE
        count = -1
        while (now := self.committed.count(*collect.TOPICS)) != count and time.monotonic() < deadline:
            count = now
            self.last(1.0)
            self._read()

    def _read(self) -> None:
        """Read to the end of everything."""
        for reader in (self.committed, self.uncommitted):
            reader.to_end()

    def _settle(self, patience: float) -> None:
        """Wait until every order has come to its end and no stage has anything left, or until nothing moves any more."""
        count, since = 0, time.monotonic()
        while self._left():
            if (now := self.committed.count(*collect.TOPICS)) != count:
                count, since = now, time.monotonic()
            if time.monotonic() - since > patience:
                known = dict.fromkeys([*self._left(), *self._behind(), *collect.open_transactions(self.cluster.direct)])
                self.round.stands = "; ".join(known)
                return
            self.last(0.5)

    def _stood(self) -> dict[tuple[str, str, int], int]:
        """Where the groups stand, with all read that is decided and nothing under way: no transaction is seen by half."""
        deadline = time.monotonic() + _OPEN
        while True:
            offsets = collect.committed(self.cluster.direct, self.partitions)
            undecided = collect.open_transactions(self.cluster.direct)
            self._read()
            if not undecided and offsets == collect.committed(self.cluster.direct, self.partitions):
                return offsets
            if time.monotonic() > deadline:  # what the checker then calls lost or doubled may be half of a transaction
                self.note(f"judged while it moved: {'; '.join(undecided) or 'groups went on'}")
                return offsets

    def _left(self) -> list[str]:
        """What has not come to its end yet."""
        records = self.committed.records
        dead = {record.key for topic in collect.DLQS for record in records[topic]}  # of three deaths, say
        missing = set(self.shop.sent) - {record.key for record in records[collect.TOLD]} - dead
        if missing:
            return [f"{len(missing)} of {len(self.shop.sent)} orders have no end"]
        return self._behind() or collect.open_transactions(self.cluster.direct)

    def _behind(self) -> list[str]:
        return collect.behind(self.committed, collect.committed(self.cluster.direct, self.partitions))

    def judged_anew(self) -> list[Anomaly]:
        """What is wrong with the last round by readers that have read everything from its beginning."""
        again = Round(stands=self.round.stands)
        self.reread()
        self._judge(again)
        return again.anomalies

    def _judge(self, result: Round) -> None:
        offsets = self._stood()
        history = collect.history(self.committed, self.uncommitted, offsets, self._before)
        history.effects = collect.effects(self.psp)
        if result.stands:  # what has not come to its end is under way, not lost; stock and money are in the midst of it
            history.ends = {}
        else:
            history.balances = collect.balances(self.committed, self.psp, self._store, self.seeded)
        result.orders = len(self.shop.sent)
        result.records = sum(seen.committed for seen in history.records)
        result.undone = len(history.records) - result.records
        result.anomalies = check(history)

    # -- what a fault may use -------------------------------------------------------------------------------------------

    def reread(self) -> None:
        """Read everything from its beginning, also partitions that are new."""
        self._readers.close()
        self.committed = self._readers.enter_context(Tap(self.cluster.direct, collect.TOPICS))
        self.uncommitted = self._readers.enter_context(Tap(self.cluster.direct, collect.EVENTS, "read_uncommitted"))

    def whole(self) -> None:
        """Wait until the cluster is."""
        admin = self.cluster.admin()
        self.wait(lambda: whole(admin), _PATIENCE, "the cluster is not whole", self.cluster.logs, step=0.3)

    def staff(self, module: str = "streams") -> None:
        """Two new workers in the place of those that are there. `module` is what they run."""
        for worker in self.workers:
            worker.terminate()
        self._crews.close()
        self.crew = self._crews.enter_context(Crew(self.crew.directory, self.crew.environment, module))
        for name in ("a", "b"):
            self.crew.start(MODULE, instance=name)
        self.crew.wait_until_ready(120)

    @property
    def workers(self) -> list[Worker]:
        """All of them, first to last."""
        return self.crew.workers

    def wait(
        self, done: Callable[[], bool], seconds: float, what: str, more: Callable[[], str] = str, step: float = 0.1
    ) -> None:
        """Wait until it is so. Whoever ends meanwhile is started again, as a supervisor does."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} after {seconds:.0f} s\n{more()}")
            self.crew.supervise()
            self.committed.pause(step)

    def last(self, seconds: float) -> None:
        """Let the fault last."""
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= until, seconds + 60, "time stands still")

    def recovered(self, since: float, patience: float = _PATIENCE) -> tuple[float, float]:
        """Wait until every stage has committed again on each of its partitions.

        Seconds from `since` until every stage had committed, and until the last of its partitions.
        """
        missing = {(stage, number) for stage in BUSY for number in range(self.partitions)}
        arrived, records = self.committed.arrived[collect.RECEIPTS], self.committed.records[collect.RECEIPTS]
        at = len(records)
        while at and arrived[at - 1] > since:
            at -= 1
        last = since
        stages = dict.fromkeys(BUSY, 0.0)

        def done() -> bool:
            nonlocal at, last
            while at < len(records) and missing:
                receipt = collect.CONTRACTS.decode(records[at].value)
                reached = {(receipt["stage"], span["partition"]) for span in receipt["ranges"]} & missing
                if reached:
                    missing.difference_update(reached)
                    last = arrived[at]
                    stages[receipt["stage"]] = stages[receipt["stage"]] or last
                at += 1
            return not missing

        self.wait(done, patience, "not every partition is at work again", lambda: f"{sorted(missing)}\n{self.crew.logs()}")
        return max(stages.values()) - since, last - since

    def struck(self, since: float) -> None:
        """Wait for the recovery from a fault that ended at `since`, and note how long it took."""
        first, last = self.recovered(since)
        self.round.firsts.append(first)
        self.round.recoveries.append(last)

    def note(self, text: str) -> None:
        """Something for the page."""
        self.round.notes.append(text)

    def owned(self, *, but: Worker | None = None) -> bool:
        """Whether every partition of every stage is owned by a worker other than `but`."""
        owned: dict[str, set[int]] = {stage.name: set() for stage in orders.stages}
        for worker in self.workers:
            if worker is not but:
                for stage, partitions in worker.owned().items():
                    owned[stage] |= partitions
        return all(partitions == set(range(self.partitions)) for partitions in owned.values())
