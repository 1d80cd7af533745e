"""The demo: real orders through the order flow, on a real Kafka, in front of the user's eyes.

The one rule: it starts from nothing and leaves nothing running, whether it ends well, by an error or by Ctrl-C.
"""

import contextlib
import fcntl
import gzip
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import msgspec

from streams import local, migrate, postgres, topics, viewer
from streams.config import Settings
from streams.errors import SetupError
from streams.viewer import LocalZipkin
from topologies.orders import orders as flow
from topologies.orders.demo.crew import Crew
from topologies.orders.demo.foresight import BAD, foresee, order_faults, quiet_faults
from topologies.orders.demo.further import further
from topologies.orders.demo.outside import Outside
from topologies.orders.demo.proof import proof
from topologies.orders.demo.regret import Regret
from topologies.orders.demo.shelf import shelf
from topologies.orders.demo.trouble import Trouble
from topologies.orders.demo.view import View, summary
from topologies.orders.demo.watch import Watch
from topologies.orders.seed import seed

_MODULE: Final = "topologies.orders"
_SAMPLE: Final = Path(__file__).parents[1] / "data" / "baskets.jsonl.gz"
_PATIENCE: Final = 60.0  # seconds without any progress
_STEP: Final = 0.5  # seconds between two looks at the flow


def run(settings: Settings, *, orders: int, rate: float, keep: bool, faults: bool = False, traces: bool = False) -> None:
    """Send `orders` orders at `rate` per second and wait until each has ended. `SetupError` says what is in the way.

    With `faults` a known share of them fails on the way, is redriven, and ends as well; raises `TowpathError` if it does not.
    With `traces` a Zipkin shows them, and is left running if all went well.
    """
    home = settings.directory / "demo"
    with contextlib.ExitStack() as undo:
        undo.enter_context(_alone(home.with_suffix(".lock")))
        undo.enter_context(_ended_by_sigterm())
        _clear(home)  # left by `--keep` or `--traces`, or by a demo that was killed
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        sample = _take(orders, home / "orders.jsonl")

        undo.callback(_leave if keep else _down, home)
        looking = undo.enter_context(contextlib.ExitStack())
        zipkin = looking.enter_context(LocalZipkin.start(home / "zipkin", say=_say)) if traces else None
        bootstrap = str(local.up(home, say=_say)["bootstrap"])
        store = str(postgres.up(home, say=_say)["url"])
        settings = msgspec.structs.replace(settings, bootstrap=bootstrap, directory=home, store=store)
        topics.apply(topics.plan(flow), topics.connect(settings))
        migrate.upgrade(settings.store, migrate.stores(flow))
        stock = seed(settings, sample)
        _say(f"{stock.units:,} units of {stock.skus:,} products are in stock; {len(stock.short):,} orders will find one short")
        quiet, deadline = quiet_faults(sample)
        wrong = order_faults(orders, home / "mended") if faults else quiet
        patience = {} if faults else {"TOWPATH_PAYMENT_DEADLINE": str(deadline)}
        outside = Outside()
        watched = {"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_ZIPKIN_ENDPOINT": zipkin.endpoint} if zipkin else {}
        crew = undo.enter_context(Crew(settings, outside.variables | wrong.variables() | patience | watched))
        undo.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)  # from here on nothing interrupts the tidying up
        _say(f"Kafka is at {bootstrap}; starting the payment provider and the agents")
        outside.start(crew, settings)
        for stage in flow.stages:
            crew.start_agent(_MODULE, stage.name)
        crew.wait_until_ready()
        regret = Regret(settings, flow, wrong, sample)
        regret.before_payment()
        crew.start("send", "send", _MODULE, flow.sources[0].__name__, str(home / "orders.jsonl"), "--rate", str(rate))
        watch = undo.enter_context(Watch(settings, flow, orders))
        trouble = None
        if faults:
            unpaid = {*stock.short, *regret.early}
            trouble = undo.enter_context(Trouble(settings, flow, wrong, foresee(wrong, sample, unpaid)))
            _follow(watch, crew, regret, trouble)
            trouble.mend(_say)
        _follow(watch, crew, regret, trouble)
        sys.stdout.write(summary(watch, BAD if faults else 0) + (trouble.summary() if trouble else ""))
        sys.stdout.write(outside.balance(settings, flow) + shelf(settings, flow, watch, stock.units) + outside.told(watch.told))
        if trouble:
            trouble.check(watch)
        sys.stdout.write(proof(settings, flow, outside))
        sys.stdout.write(further(settings, watch, zipkin, kept=keep))
        looking.pop_all()  # whoever has asked for traces wants to look at them


def _follow(watch: Watch, crew: Crew, regret: Regret, trouble: Trouble | None) -> None:
    """Show the flow until every order is at its end, or is a case, and every stage has read all there is."""
    with View(watch, trouble.note if trouble else str) as view:
        before, since = -1, time.monotonic()
        while regret.pending(watch) or not (trouble.settled(watch) if trouble else watch.done):
            watch.look(_STEP)
            regret.after_payment(watch)
            if trouble:
                trouble.look(watch, crew)
            view.show()
            crew.check()
            now = time.monotonic()
            total = watch.total + (trouble.total if trouble else 0)
            if total != before:
                before, since = total, now
            elif now - since > _PATIENCE:
                raise SetupError(
                    f"nothing has moved for {_PATIENCE:.0f} s, with {len(watch.endings)} of {watch.orders} orders at their end",
                    fix=f"look into {crew.logs}",
                )


def _take(count: int, path: Path) -> list[dict[str, object]]:
    """Write the first `count` orders of the sample to a file, and return them."""
    with gzip.open(_SAMPLE) as packed:
        lines = list(islice(packed, count))
    if len(lines) < count:
        raise SetupError(f"the sample holds {len(lines):,} orders", where="--orders", fix="ask for no more")
    path.write_bytes(b"".join(lines))
    return [json.loads(line) for line in lines]


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two demos in one directory would stop each other's Kafka."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError("a demo is running here already", where=str(path), fix="wait for it, or set TOWPATH_DIR") from None
        yield


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: tidily. Both signals are as before at the end."""
    told = False

    def end(_: int, __: FrameType | None) -> NoReturn:
        nonlocal told
        told = True
        raise SystemExit(128 + signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    except Exception:
        if told:  # what falls into the middle of a call may come out of it as another error
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _leave(home: Path) -> None:
    if bootstrap := local.status(home)["bootstrap"]:
        _say(f"Kafka is still at {bootstrap}; `TOWPATH_DIR={home} towpath down` stops it, and PostgreSQL")


def _down(home: Path) -> None:
    local.down(home)
    postgres.down(home)


def _clear(home: Path) -> None:
    _down(home)
    viewer.down(home)


def _say(text: str) -> None:
    sys.stderr.write(f"towpath: {text}\n")
