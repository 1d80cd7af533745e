"""Folders of schemas that somebody spoiled: mistakes of evolution, types that cost too much, a poisoned LOCK.

The one rule: a change starts from a sound folder with one released record, `Thing`, and says what has to be said of it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

_MILLIS: Final = {"type": "long", "logicalType": "timestamp-millis"}
_COLOUR: Final = {"type": "enum", "name": "Colour", "symbols": ["red", "green"]}
_FIELDS: Final[dict[str, Any]] = {
    "name": "string",
    "count": "long",
    "blob": "bytes",
    "at": _MILLIS,
    "colour": _COLOUR,
    "note": ["null", "string"],
    "numbers": {"type": "array", "items": "long"},
}


class Spoiled(msgspec.Struct, frozen=True):
    """`spoil` changes the folder; `says` is part of the error. `check_only`: to `lock` it looks like a folder that begins."""

    name: str
    what: str
    spoil: Callable[[Path], object]
    says: str
    check_only: bool = False


def thing(*more: dict[str, Any], without: str = "", **changed: Any) -> dict[str, Any]:
    """The record, changed."""
    fields = [{"name": name, "type": changed.get(name, kind)} for name, kind in _FIELDS.items() if name != without]
    return {"type": "record", "name": "Thing", "topic": "things", "fields": [*fields, *more]}


def put(root: Path, raw: Any, version: int = 1, record: str = "Thing") -> Path:
    """A version of a record; bytes and text as they are."""
    path = root / "test" / record / f"v{version}.avsc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw if isinstance(raw, bytes) else json.dumps(raw).encode())
    return path


def _second(name: str, what: str, raw: Any, says: str) -> Spoiled:
    """A second version."""
    return Spoiled(name, what, lambda root: put(root, raw, 2), says)


def _typed(name: str, what: str, kind: Any, says: str, **more: Any) -> Spoiled:
    """A second version with one field more, of this type."""
    return _second(name, what, thing({"name": "more", "type": kind, **more}), says)


def _lock(name: str, what: str, change: Callable[[bytes], bytes], says: str) -> Spoiled:
    """LOCK, changed. Its first line is that of `Thing`."""
    return Spoiled(name, what, lambda root: (root / "LOCK").write_bytes(change((root / "LOCK").read_bytes())), says)


def _field(line: bytes, at: int, content: bytes) -> bytes:
    first, rest = line.split(b"\n", 1)
    parts = first.split(b"\t")
    parts[at] = content
    return b"\t".join(parts) + b"\n" + rest


_DEEP: Any = "long"
for _ in range(12):
    _DEEP = {"type": "array", "items": _DEEP}
_NOTHING: Final = {"type": "record", "name": "Nothing", "fields": []}
_CYCLE: Final = {"type": "record", "name": "A", "fields": [{"name": "b", "type": ["null", "Thing"]}]}

EVOLUTION: Final = (
    _typed("no-default", "a new field without a default", "string", "v2.avsc cannot read version 1"),
    _typed("wrong-default", "a default of another type", "long", "default 'none' is not supported for long", default="none"),
    _typed("default-float", "a default of 0.0 for a whole number", "long", "default 0.0 is not supported", default=0.0),
    _typed("default-large", "a default of 65 bits", "long", "default 18446744073709551616", default=2**64),
    _typed("default-union", "a default for the second branch", ["null", "string"], "default 'x' is not supported", default="x"),
    _typed("default-symbol", "a default that is no symbol", "Colour", "default 'blue' is not supported", default="blue"),
    _second("removed", "a field less", thing(without="count"), "v1.avsc cannot read version 2"),
    _second(
        "renamed",
        "a field with another name",
        thing({"name": "number", "type": "long", "default": 0}, without="count"),
        "v1.avsc cannot read version 2",
    ),
    _second("aliased", "a new name with an alias", thing({"name": "n", "type": "long", "aliases": ["count"]}), "aliases"),
    _second("narrowed", "an int where a long was", thing(count="int"), "type 'int' is not supported"),
    _second("widened", "a double where a long was", thing(count="double"), "v1.avsc cannot read version 2"),
    _second("text-count", "a string where a long was", thing(count="string"), "cannot read version"),
    _second("optional", "null where there was always a value", thing(count=["null", "long"]), "v1.avsc cannot read version 2"),
    _second("required", "a value where there may be none", thing(note="string"), "v2.avsc cannot read version 1"),
    _second("symbol-gone", "a symbol less", thing(colour={**_COLOUR, "symbols": ["red"]}), "v2.avsc cannot read version 1"),
    _second(
        "symbol-new",
        "one more",
        thing(colour={**_COLOUR, "symbols": ["red", "green", "blue"]}),
        "v1.avsc cannot read version 2",
    ),
    _second("timed", "a number that becomes a time", thing(count=_MILLIS), "count is timestamp, in version 1 long"),
    _second("untimed", "a time that becomes a number", thing(at="long"), "at is long, in version 1 timestamp"),
    _second("bytes-text", "bytes that become text", thing(blob="string"), "blob is string, in version 1 bytes"),
    _second("moved", "another topic", {**thing(), "topic": "things.new"}, "its topic is things.new"),
    Spoiled("gap", "version 3 after version 1", lambda root: put(root, thing(), 3), "version 3 comes after 1"),
    Spoiled(
        "second-record",
        "another record on the same topic",
        lambda root: put(root, {**thing(), "name": "Other"}, record="Other"),
        "has another record",
    ),
)
TYPES: Final = (
    _typed("recursion", "a record that holds itself", {"type": "array", "items": "Thing"}, "'Thing' holds itself"),
    _typed("cycle", "two records that hold each other", _CYCLE, "'Thing' holds itself"),
    _typed("deep", "arrays of arrays", _DEEP, "types nest deeper than 9"),
    _typed("zero-size", "items that take no bytes", {"type": "array", "items": _NOTHING}, "a record needs fields"),
    _typed(
        "nulls", "as many nulls as one likes for nothing", {"type": "array", "items": "null"}, "type 'null' is not supported"
    ),
    _typed("fixed-0", "bytes of length 0", {"type": "fixed", "name": "F", "size": 0}, "type 'fixed' is not supported"),
    _typed("fixed-huge", "a fixed size of 2^40", {"type": "fixed", "name": "F", "size": 2**40}, "type 'fixed'"),
    _typed("union", "a union of three", ["null", "string", "long"], "only unions of null with one type"),
    _typed("union-empty", "a union of nothing", [], "only unions of null with one type"),
    _typed(
        "decimal", "money as a decimal", {"type": "bytes", "logicalType": "decimal", "precision": 0}, "logical type 'decimal'"
    ),
    _typed("time-text", "a time in a string", {"type": "string", "logicalType": "timestamp-millis"}, "logical type"),
    _typed("uuid", "a logical type of another language", {"type": "string", "logicalType": "uuid"}, "logical type 'uuid'"),
    _typed("unknown", "a type that nobody knows", "Missing", "unknown type 'Missing'"),
    _typed("number-type", "a number for a type", 7, "7 is no type"),
    _typed("again", "a name defined twice", {"type": "enum", "name": "Thing", "symbols": ["a"]}, "Thing is defined twice"),
    _second("twins", "two fields of one name", thing({"name": "count", "type": "long"}), "two fields have one name"),
    _second("symbols", "one symbol twice", thing(colour={**_COLOUR, "symbols": ["a", "a"]}), "bad or repeated symbols"),
    _second("keyword", "a field that Python cannot call so", thing({"name": "class", "type": "long"}), "bad name 'class'"),
    _second("injection", "a field that is code", thing({"name": "x = __import__('os')", "type": "long"}), "bad name"),
    _second("dunder", "a field that is Python's own", thing({"name": "__init__", "type": "long"}), "bad name '__init__'"),
    _second("topic-path", "a topic that is a path", {**thing(), "topic": "../../etc"}, "bad topic name"),
    _second("topic-none", "no topic", {**thing(), "topic": None}, "names no topic"),
    _second("other-name", "the record of another folder", {**thing(), "name": "Other"}, "not the record of its folder"),
)
JSON: Final = (
    _second("empty", "an empty file", b"", "no JSON"),
    _second("half", "half a file", json.dumps(thing()).encode()[:100], "no JSON"),
    _second("bytes", "no text", b"\xff\xfe\x00", "no JSON"),
    _second("brackets", "100,000 brackets", b"[" * 100_000, "no JSON"),
    _second("nested", "20,000 types in each other", b'{"type":' * 20_000 + b'"long"' + b"}" * 20_000, "no JSON"),
    _second("list", "a list", [thing()], "only unions of null"),
    _second("nan", "NaN", thing({"name": "d", "type": "double", "default": float("nan")}), "NaN is no number of JSON"),
    _second("twice", "two topics", json.dumps(thing()).encode()[:-1] + b', "topic": "b"}', "'topic' is there twice"),
    _second("digits", "a number of 5,000 digits", b'{"type": ' + b"9" * 5000 + b"}", "no JSON"),
)
LOCKS: Final = (
    _lock("hash", "another hash", lambda lock: _field(lock, 3, b"0" * 64), "a released schema was changed"),
    _lock("id-twice", "an id twice", lambda lock: lock + lock.split(b"\n")[0] + b"\n", "do not count up by one"),
    _lock("id-other", "another id", lambda lock: _field(lock, 0, b"7"), "do not count up by one"),
    _lock("id-word", "an id that is no number", lambda lock: _field(lock, 0, b"one"), "not five fields"),
    _lock("id-digits", "an id of 5,000 digits", lambda lock: _field(lock, 0, b"1" * 5000), "not five fields"),
    _lock("version", "another version", lambda lock: _field(lock, 2, b"2"), "do not count up by one"),
    _lock(
        "traversal", "a path out of the folder", lambda lock: _field(lock, 4, b"../../etc/passwd"), "a released schema is gone"
    ),
    _lock("absolute", "a path from the root", lambda lock: _field(lock, 4, b"/etc/passwd"), "a released schema is gone"),
    _lock("spaces", "spaces for tabs", lambda lock: lock.replace(b"\t", b"    "), "not five fields"),
    _lock("tabs", "a tab too many", lambda lock: lock.replace(b"\n", b"\t\n", 1), "not five fields"),
    _lock("blank", "an empty line at the top", lambda lock: b"\n" + lock, "not five fields"),
    _lock("bom", "a byte order mark", lambda lock: b"\xef\xbb\xbf" + lock, "not five fields"),
    _lock("utf-16", "another encoding", lambda lock: lock.decode().encode("utf-16"), "not five fields"),
    _lock("conflict", "a merge that nobody has finished", lambda lock: b"<<<<<<< ours\n" + lock, "not five fields"),
    _lock("cut", "a last line that is cut", lambda lock: lock[:-40], ""),
    Spoiled("gone", "no LOCK", lambda root: (root / "LOCK").unlink(), "the schema is not released", check_only=True),
    Spoiled("emptied", "an empty LOCK", lambda root: (root / "LOCK").write_bytes(b""), "not released", check_only=True),
    Spoiled(
        "file-gone", "a released file is gone", lambda root: (root / "test/Thing/v1.avsc").unlink(), "a released schema is gone"
    ),
    Spoiled(
        "touched",
        "a released file with a space more",
        lambda root: put(root, json.dumps(thing()).encode() + b" "),
        "was changed",
    ),
    Spoiled(
        "stray", "a schema where none may be", lambda root: (root / "stray.avsc").write_text("{}"), "no place for a schema"
    ),
)
FOLDERS: Final = (*EVOLUTION, *TYPES, *JSON, *LOCKS)
