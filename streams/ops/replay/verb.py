"""The parts of a replay put together: range, evidence, database, sandbox, verdicts; and its report.

The one rule: findings come one after the other as they are made, and nothing of them is kept but counts and examples.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from streams import names
from streams.codec import Codec
from streams.errors import SetupError
from streams.ops import rebuild
from streams.ops.page import Page
from streams.ops.replay.evidence import Evidence
from streams.ops.replay.judge import Finding, Judge, Kind, Tally, Trial
from streams.ops.replay.recorded import Recorded
from streams.ops.replay.repair import Plan
from streams.ops.replay.rerun import Rerun, Timeline
from streams.ops.replay.sandbox import Sandbox
from streams.ops.replay.window import Inputs, Waits, Window
from streams.record import Record, event_info
from streams.registry import FolderRegistry
from streams.snapshot import Snapshot, snapshot

_SOON: Final = 2**62


class Options(msgspec.Struct, frozen=True):
    """How to replay. `fresh`: on a throw-away database, from the beginning; `base` is the store before the first event.

    `keep` says what goes into the plan: nothing, `missing`, or `all`.
    """

    key: bytes | None = None
    fresh: bool = False
    base: str = ""
    ignore: frozenset[str] = frozenset()
    keep: str = ""


class Replay:
    """One stage over one range. `folder` is for temporary files, `plan` takes what is to be published."""

    def __init__(self, inputs: Inputs, window: Window, options: Options, folder: Path, plan: Plan) -> None:
        """Raises `SetupError` for `fresh` at a stage without a database."""
        self._inputs = inputs
        self._window = window
        self._options = options
        self._folder = folder
        self._plan = plan
        self._stage = inputs.stage
        registry = FolderRegistry(inputs.topology.schemas)
        self.codec = Codec(self._stage.events, registry)
        self._judge = Judge(
            registry,
            horizon=inputs.horizon(),
            later=frozenset(event_info(cls).topic for cls in self._stage.timers),
            ignore=options.ignore,
        )
        if options.fresh and self._stage.store is None:
            raise SetupError(f"stage {self._stage.name!r} has no database", where="--effects fresh", fix="leave the option out")

    def findings(self) -> Generator[Finding, None, None]:
        """What is to be said of each event, as it is found out."""
        inputs, stage = self._inputs, self._stage
        consumer = names.group(inputs.topology.name, stage.name)
        with ExitStack() as stack:
            evidence = stack.enter_context(Evidence(self._folder))
            live = stack.enter_context(snapshot(inputs.settings.store, consumer) if stage.store else nullcontext())
            waits = Waits(inputs.waiting())
            whole = msgspec.structs.replace(self._window, first=dict.fromkeys(self._window.first, 0), since=0)
            evidence.add(inputs.outputs(whole if self._options.fresh else self._window))
            if self._options.fresh:
                trials = self._fresh(evidence, live, waits, whole)
            else:
                sandbox = Sandbox(stage, self.codec, inputs.settings)
                recorded = Recorded(inputs.topology, stage, sandbox, evidence, inbox=live, waits=waits)
                trials = recorded.run(inputs.read(self._window, self._options.key))
            for trial in trials:
                finding = self._judge.judge(trial)
                self._keep(trial, finding)
                yield finding

    def _fresh(self, evidence: Evidence, live: Snapshot | None, waits: Waits, whole: Window) -> Iterator[Trial]:
        inputs, stage = self._inputs, self._stage
        assert stage.store is not None  # noqa: S101  # for mypy: looked at before
        url = rebuild.scratch(self._folder)
        rebuild.prepare(url, stage.store, names.group(inputs.topology.name, stage.name), self._options.base)
        line = Timeline(self._folder, live, waits)
        line.add(inputs.read(whole))
        rerun = Rerun(inputs.topology, stage, self.codec, inputs.settings, url, evidence=evidence)
        try:
            for trial in rerun.run(line, live, end=_SOON if live else int(datetime.now(UTC).timestamp() * 1000)):
                if self._wanted(trial.record):
                    yield trial
        finally:
            line.close()

    def _wanted(self, record: Record) -> bool:
        return self._window.holds(record) and self._options.key in (None, record.key)

    def _keep(self, trial: Trial, finding: Finding) -> None:
        if self._options.keep == "missing":
            self._plan.add(finding.missing)
        elif self._options.keep == "all":
            later = {event_info(cls).topic for cls in self._stage.timers}
            self._plan.add(output for output in trial.outcome.outputs if output.topic not in later)


def page(inputs: Inputs, window: Window, tally: Tally, now: datetime) -> str:
    """The report as a page of HTML."""
    total = sum(tally.counts.values())
    name = f"{inputs.topology.name}.{inputs.stage.name}"
    shown = Page(f"Replay of {name}", f"{total:,} events, replayed {now:%Y-%m-%d %H:%M:%S} UTC")
    moods = {Kind.SAME: "good", Kind.CHANGED: "bad", Kind.NEW: "bad", Kind.GONE: "bad"}
    shown.figures([(kind.value, f"{tally.counts[kind]:,}", moods.get(kind, "") if tally.counts[kind] else "") for kind in Kind])
    shown.heading("What differs")
    if tally.groups:
        shown.table(("kind", "how", "events"), [(group.kind.value, group.shape, group.events) for group in tally.groups])
    else:
        shown.words("Nothing: every event gives what it gave then.")
    for group in tally.groups:
        shown.heading(f"{group.kind.value}: {group.shape}")
        rows = []
        for example in group.examples:
            place = f"{example.topic}[{example.partition}]@{example.offset}"
            changes = [(one.topic, change) for one in example.differences for change in one.changes]
            rows += [(example.event_id, place, topic, change.path, change.was, change.now) for topic, change in changes]
            if not changes:
                what = ", ".join(f"{one.kind} {one.topic}" for one in example.differences)
                rows.append((example.event_id, place, what, "", "", ""))
        shown.table(("event", "record", "output", "field", "then", "now"), rows)
    shown.heading("The range")
    rows_ = [(*place, first, max(window.end[place], first)) for place, first in sorted(window.first.items())]
    shown.table(("topic", "partition", "from", "to"), rows_)
    return shown.html
