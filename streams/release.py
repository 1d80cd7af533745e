"""Releasing schemas: what `towpath schemas check` and `towpath schemas lock` do.

The one rule: LOCK only grows, and only by versions that every other version of their record can read and be read by.
"""

import json
from itertools import combinations, groupby
from pathlib import Path

import avro.compatibility
import avro.schema

from streams.errors import SetupError
from streams.registry import LOCK, Line, default_folder, read_lock
from streams.schema import Schema, find_schemas, walk


def check_schemas(root: Path) -> list[str]:
    """Compare all versions of each record in both directions, by Apache avro's checker.

    Returns one line of text for each thing that is wrong, none if all is well. Raises `SetupError` for what is no schema.
    """
    problems: list[str] = []
    for _, group in groupby(find_schemas(root), key=lambda schema: Path(schema.path).parent):
        for one, other in combinations(group, 2):
            problems += _check_pair(one, other)
    return problems


def lock_schemas(root: Path, *, dry_run: bool = False) -> list[Line]:
    """Append every schema that is not in LOCK yet, and return the new lines; with `dry_run`, write nothing.

    Raises `SetupError` where a released schema was changed or is gone, versions leave a gap, a topic would have two records,
    or versions are incompatible.
    """
    lines = read_lock(root)
    schemas = {schema.path: schema for schema in find_schemas(root)}
    for line in lines:
        released = schemas.pop(line.path, None)
        if released is None or released.sha256 != line.sha256:
            what = "a released schema is gone" if released is None else "a released schema was changed"
            raise SetupError(what, where=str(root / line.path), fix="restore the file and add a new version instead")
    if problems := check_schemas(root):
        raise SetupError("; ".join(problems), where=str(root), fix="change the new version, or make a new record and topic")
    new: list[Line] = []
    for schema in sorted(schemas.values(), key=lambda each: each.path.startswith("streams/")):  # the flow's own first
        new.append(_next_line(root, [*lines, *new], schema))
    if new and not dry_run:
        temporary = root / f"{LOCK}.new"
        temporary.write_text("".join(f"{line}\n" for line in [*lines, *new]), encoding="utf-8")
        temporary.replace(root / LOCK)
    return new


def bring_ours(root: Path) -> None:
    """Copy the runtime's own schemas (cases) into a flow's folder: all ids of a flow come from one LOCK."""
    ours = default_folder()
    for path in sorted((ours / "streams").rglob("*.avsc")):
        copy = root / path.relative_to(ours)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())


def _next_line(root: Path, lines: list[Line], schema: Schema) -> Line:
    where = str(root / schema.path)
    before = [line for line in lines if line.subject == schema.subject]
    if any(Path(line.path).parent != Path(schema.path).parent for line in before):
        raise SetupError(f"the topic {schema.topic} has another record", where=where, fix="give this one a topic of its own")
    if schema.version != len(before) + 1:
        fix = f"name it v{len(before) + 1}.avsc"
        raise SetupError(f"version {schema.version} comes after {len(before)}", where=where, fix=fix)
    return Line(len(lines) + 1, schema.subject, schema.version, schema.sha256, schema.path)


def _check_pair(one: Schema, other: Schema) -> list[str]:
    """What stops either of two versions from reading the other."""
    problems = []
    if one.topic != other.topic:
        problems.append(f"{other.path}: its topic is {other.topic}, that of version {one.version} is {one.topic}")
    for reader, writer in ((one, other), (other, one)):
        checker = avro.compatibility.ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # avro's own gap
        result = checker.get_compatibility(_parsed(reader), _parsed(writer))
        if result.compatibility is not avro.compatibility.SchemaCompatibilityType.compatible:
            reasons = ", ".join(sorted(result.messages))
            problems.append(f"{reader.path} cannot read version {writer.version}: {reasons}")
    kinds = dict(walk(one.node))
    for at, node in walk(other.node):
        # Avro's checker looks at bytes only: a long that becomes a time, or bytes that become a string, would pass
        if at in kinds and kinds[at].kind != node.kind:
            problems.append(f"{other.path}: {at or 'the record'} is {node.kind}, in version {one.version} {kinds[at].kind}")
    return problems


def _parsed(schema: Schema) -> avro.schema.Schema:
    return avro.schema.parse(json.dumps(schema.raw))
