"""`towpath cases redrive|edit|dismiss|import`: decisions on cases.

The one rule: what is asked about is shown first; what was done is reported as it is done, each case with its outcome.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.cli.invocation import complain, interactive, invocation, json_line, say
from streams.cli.options import as_json, chosen, dry_run, filters, me, reason, who, yes
from streams.errors import DecodeError, SetupError

if TYPE_CHECKING:  # they load a client
    from streams.dead import Case
    from streams.ops.cases import Book
    from streams.ops.redrive import Step


class _Report:
    """Says what became of each case as it comes: a line of JSON in a pipe, on a terminal only what went wrong, and a sum."""

    def __init__(self, *, json_: bool) -> None:
        self._lines = json_ or not interactive()
        self._sums: Counter[str] = Counter()
        self._good = True

    def take(self, steps: "Iterable[Step]", total: int | None = None) -> None:
        """Report these steps; `total` is how many cases there are, if that is known."""
        from streams.ops.show import safe

        problems: list[str] = []
        bar = click.progressbar(length=total or 0, file=sys.stderr, hidden=self._lines or not total)
        try:
            with bar:
                for step in steps:
                    self._sums[step.done] += 1
                    self._good = self._good and step.good
                    if self._lines:
                        click.echo(json_line(step))
                    elif not step.good:
                        problems.append(f"{step.case_id} ({step.stage}): {step.done}: {step.why}")
                    bar.update(step.done not in ("resolved", "died again"))  # a canary's second step
        finally:  # also when another operator takes over, or after Ctrl-C: what is done is done
            for problem in problems:
                complain(safe(problem.encode()))
            if self._sums:
                say(", ".join(f"{count:,} {done}" for done, count in self._sums.items()))

    def end(self) -> None:
        click.get_current_context().exit(0 if self._good else 1)


@click.command()
@click.argument("module")
@click.argument("ids", metavar="[CASE]…", nargs=-1)
@filters
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N cases, the longest dead first.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="R", help="Cases per second. Default: at once.")
@click.option("--canary", type=click.IntRange(min=1), metavar="N", help="N first; the rest only if all of these succeed.")
@click.option(
    "--within",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the canary's verdict.",
)
@dry_run
@reason
@who
@yes
@as_json
def redrive(module: str, ids: tuple[str, ...], **options: Any) -> None:
    """Hand dead records back to their stages, due at once.

    Which: the CASEs that are named, or all open ones that the filters choose. The stage takes a redriven record before
    any other of its key, with all its attempts, and closes the case when it succeeds; else the case is open again. With
    an edited value, that one goes.

    \b
    Examples:
      towpath cases redrive topologies.orders 3f9c 81aa --reason 'provider is back'
      towpath cases redrive topologies.orders --stage payment --canary 5 --rate 50 --yes
      towpath cases redrive topologies.orders --fingerprint 'KeyError@stock.py:take' --dry-run
    """
    from streams.ops.cases import Book
    from streams.ops.redrive import Desk, Pace
    from streams.topology import load

    with Book(invocation().cluster(), load(module)) as book:
        cases = _choose(book, ids, options)
        if options["dry_run"] or not cases:
            return _would(cases, "redriven", json_=options["json_"])
        _confirm(len(cases), "redrive", agreed=options["yes"])
        report = _Report(json_=options["json_"])
        with Desk(book, options["who"] or me(), options["reason"]) as desk:
            report.take(desk.redrive(cases, Pace(options["rate"], options["canary"] or 0, options["within"])), len(cases))
    return report.end()


@click.command()
@click.argument("module")
@click.argument("ids", metavar="[CASE]…", nargs=-1)
@filters
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N cases, the longest dead first.")
@dry_run
@click.option("--reason", metavar="TEXT", required=True, help="Why, for the record.")
@who
@yes
@as_json
def dismiss(module: str, ids: tuple[str, ...], **options: Any) -> None:
    """Close cases for good, without another attempt.

    The dead letter stays where it is. A key that its stage keeps closed for a dead record is open again.

    \b
    Examples:
      towpath cases dismiss topologies.orders 3f9c --reason 'test order'
      towpath cases dismiss topologies.orders --stage notification --since 1h --reason 'sent by hand' --yes
    """
    from streams.ops.cases import Book
    from streams.ops.redrive import Desk
    from streams.topology import load

    with Book(invocation().cluster(), load(module)) as book:
        cases = _choose(book, ids, options)
        if options["dry_run"] or not cases:
            return _would(cases, "dismissed", json_=options["json_"])
        _confirm(len(cases), "dismiss", agreed=options["yes"])
        report = _Report(json_=options["json_"])
        with Desk(book, options["who"] or me(), options["reason"]) as desk:
            report.take(desk.dismiss(cases), len(cases))
    return report.end()


@click.command()
@click.argument("module")
@click.argument("case_id", metavar="CASE")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Change one place; may be given again.")
@click.option("--file", metavar="FILE", help="Take the whole event from a file of JSON; `-` is stdin.")
@click.option("--original", is_flag=True, help="Take the record's own value back.")
@dry_run
@reason
@who
@as_json
def edit(module: str, case_id: str, **options: Any) -> None:
    """Change the event that a redrive will hand to the stage.

    Without --set or --file the event opens as JSON in $EDITOR. The new event is checked against its class and schema, and
    keeps its key. The dead letter stays as it is; the change is recorded with the case. Redrive the case afterwards.

    An event that cannot be decoded has no JSON to be changed: give the whole of it with --file.

    \b
    Examples:
      towpath cases edit topologies.orders 3f9c --set 'lines[0].quantity=2' --reason 'customer called'
      towpath cases edit topologies.orders 3f9c --file fixed.json
    """
    from streams.ops.cases import Book, full_id
    from streams.ops.edit import Editor
    from streams.ops.redrive import Desk
    from streams.topology import load

    if sum((bool(options["changes"]), options["file"] is not None, options["original"])) > 1:
        raise click.UsageError("use one of --set, --file and --original")
    with Book(invocation().cluster(), load(module)) as book:
        book.read()
        case = book.cases[full_id(book.cases, case_id)]
        if case.state.value != "open":
            raise SetupError(f"case {case.case_id} is {case.state.value}", fix="only an open case can be edited")
        value, change = _edited(book, case, Editor(book.topology, book.codec, case), options)
        if options["dry_run"]:
            return _would([case], "edited", json_=options["json_"])
        report = _Report(json_=options["json_"])
        with Desk(book, options["who"] or me(), options["reason"]) as desk:
            report.take([desk.edit(case, value, change)])
    return report.end()


@click.command("import")
@click.argument("module")
@click.argument("topic")
@click.option("--stage", required=True, metavar="STAGE", help="The stage that is to handle the records.")
@click.option("--as", "stands_for", metavar="TOPIC", help="Which of the stage's topics a record of another topic is taken for.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N cases.")
@reason
@who
@as_json
def import_(module: str, topic: str, **options: Any) -> None:
    """Open cases for the dead letters in TOPIC, of whatever made them.

    Understands the headers of Spring Kafka, Kafka Connect, Kafka Streams (KIP-1034) and Towpath. Each record goes into the
    dead letters of STAGE with its own headers, and gets an open case; TOPIC is left as it is. A record that has a case
    already is passed over, so an import can be repeated.

    \b
    Example:
      towpath cases import topologies.orders orders.accepted.DLT --stage inventory --reason 'from the old service'
    """
    from streams.ops.cases import Book
    from streams.ops.foreign import Import
    from streams.ops.redrive import Desk
    from streams.topology import load

    topology = load(module)
    stage = topology.stage(options["stage"])
    report = _Report(json_=options["json_"])
    with Book(invocation().cluster(), topology) as book, Desk(book, options["who"] or me(), options["reason"]) as desk:
        work = Import(desk, stage, topic, options["stands_for"])
        report.take(work.run(limit=options["limit"]))
    if work.known:
        say(f"{work.known:,} had a case already")
    report.end()


def _choose(book: "Book", ids: tuple[str, ...], options: dict[str, Any]) -> "list[Case]":
    book.read()
    return chosen(ids, options, book).choose(book.cases)[: options["limit"]]


def _would(cases: "Sequence[Case]", what: str, *, json_: bool) -> None:
    """A dry run's result, or that of a call that has nothing to do."""
    from streams.ops.show import safe

    for case in cases:
        fate, why = (what, f"{case.error}: {case.message}")
        if case.state.value != "open":
            fate, why = "skipped", f"it is {case.state.value}"
        if json_ or not interactive():
            click.echo(json_line({"case_id": case.case_id, "stage": case.stage, "done": f"would be {fate}", "why": why}))
        else:
            click.echo(f"{case.case_id} ({case.stage}) would be {fate}: {safe(why.encode())}")
    say("nothing was done" if cases else "no open case is meant")


def _confirm(count: int, what: str, *, agreed: bool) -> None:
    if count == 1 or agreed:
        return
    if not (interactive() and sys.stdin.isatty()):
        raise click.UsageError(f"{count:,} cases are meant: say --yes to {what} them, or look first with --dry-run")
    if not click.confirm(f"{what} {count:,} cases?"):
        say("nothing was done")
        click.get_current_context().exit(1)


def _edited(book: "Book", case: "Case", editor: Any, options: dict[str, Any]) -> tuple[bytes | None, str]:
    """The new value of a case's event, and what was changed, in words."""
    from streams.ops.edit import assign

    if options["original"]:
        return None, "the original is back"
    value = case.edited_value
    if value is None:
        record = next((found for _, found in book.letters([case])), None)
        if record is None and options["file"] is None:
            raise SetupError("its dead letter is no longer kept", fix="give the whole event with --file")
        value = record.value if record else None
    if options["file"] is not None:
        return editor.read(_content(options["file"]), value), "the whole event"
    try:
        before = editor.show(value)
    except DecodeError as error:
        raise SetupError(f"the event cannot be decoded: {error}", fix="give the whole event as JSON with --file") from None
    if options["changes"]:
        return editor.read(assign(before, options["changes"]), value), ", ".join(options["changes"])
    return _by_hand(before, lambda text: editor.read(text, value)), "by hand"


def _by_hand(before: str, read: Callable[[str], bytes]) -> bytes:
    """Let the user edit until it is sound."""
    if not (interactive() and sys.stdin.isatty()):
        raise click.UsageError("without a terminal, use --set or --file")
    text = before
    while True:
        edited = click.edit(text, extension=".json")
        if edited is None or edited.strip() == before.strip():
            say("nothing was changed")
            click.get_current_context().exit(1)
        text = str(edited)
        try:
            return read(text)
        except SetupError as error:
            complain(str(error))
            if not click.confirm("edit it again?", default=True):
                raise


def _content(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise SetupError(f"cannot be read: {error.strerror}", where=file, fix="name a file of JSON") from None
