"""Registries: which schema an id stands for, and which versions a subject has.

The one rule: what a registry has said once stays true. An id means one schema for ever, and versions are only added.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from streams.errors import SetupError
from streams.schema import Release, Schema, find_schemas

LOCK: Final = "LOCK"


class Registry(Protocol):
    """Where schemas come from. Both calls answer from memory or block for long enough to ask a server once."""

    def find(self, schema_id: int) -> Release | None:
        """The schema of this id, or None."""
        ...

    def versions(self, subject: str) -> Sequence[Release]:
        """The released versions of a subject, the oldest first; empty for an unknown one."""
        ...


class Line(msgspec.Struct, frozen=True):
    """One line of LOCK: a schema that was released. `path` is relative to the schemas' folder."""

    id: int
    subject: str
    version: int
    sha256: str
    path: str

    def __str__(self) -> str:
        return f"{self.id}\t{self.subject}\t{self.version}\t{self.sha256}\t{self.path}"


class FolderRegistry:
    """The folder of schemas as a registry; ids come from its LOCK file. Raises `SetupError` if folder and LOCK differ."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_folder()
        self._by_id: dict[int, Release] = {}
        self._by_subject: dict[str, list[Release]] = {}
        schemas = {schema.path: schema for schema in find_schemas(self.root)}
        for line in read_lock(self.root):
            release = Release(line.id, _released(self.root, line, schemas.pop(line.path, None)))
            self._by_id[line.id] = release
            self._by_subject.setdefault(line.subject, []).append(release)
        for path in schemas:
            raise SetupError("the schema is not released", where=str(self.root / path), fix="run `towpath schemas lock`")

    def find(self, schema_id: int) -> Release | None:
        """The schema of this id, or None."""
        return self._by_id.get(schema_id)

    def versions(self, subject: str) -> Sequence[Release]:
        """The released versions of a subject, the oldest first; empty for an unknown one."""
        return tuple(self._by_subject.get(subject, ()))


def default_folder() -> Path:
    """The schemas that came with this installation: beside the package `streams`."""
    return Path(__file__).resolve().parent.parent / "schemas"


def read_lock(root: Path) -> list[Line]:
    """The lines of LOCK: ids count up from 1, and so do the versions of each subject. Raises `SetupError`."""
    path = root / LOCK
    if not root.is_dir():
        raise SetupError(f"no folder of schemas at {root}", fix="name the folder that holds LOCK")
    lines: list[Line] = []
    newest: dict[str, int] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for number, row in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        try:
            schema_id, subject, version, sha256, file = row.split("\t")
            line = Line(int(schema_id), subject, int(version), sha256, file)
        except ValueError as error:
            raise SetupError("not five fields with tabs between", where=where, fix="restore LOCK as it was") from error
        if line.id != number or line.version != newest.get(subject, 0) + 1:
            raise SetupError("ids or versions do not count up by one", where=where, fix="restore LOCK as it was")
        newest[subject] = line.version
        lines.append(line)
    return lines


def _released(root: Path, line: Line, schema: Schema | None) -> Schema:
    """The schema of a line, if its file is still what was released."""
    where = str(root / line.path)
    if schema is None:
        raise SetupError("a released schema is gone", where=where, fix="restore the file: its records are still on topics")
    if schema.sha256 != line.sha256 or (schema.subject, schema.version) != (line.subject, line.version):
        raise SetupError("a released schema was changed", where=where, fix="restore the file and add a new version instead")
    return schema
