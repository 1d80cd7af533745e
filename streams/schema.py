"""Schemas: `.avsc` files read into small trees, and what of Avro this runtime takes.

The one rule: a schema that could make a small record cost much, or a class fail on valid bytes, is refused when it is loaded.

Taken: records, arrays, maps, enums, `["null", T]`, string, bytes, boolean, long, double and `timestamp-millis`. Every value of
these takes at least one byte, so no body can hold more items than bytes. A record names its topic in an attribute `topic`.
"""

import hashlib
import json
import keyword
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import fastavro
import fastavro.schema
import msgspec

from streams.errors import SetupError
from streams.names import check_topic

MAX_DEPTH: Final = 9  # the compiled codec nests two loops per level, and Python takes twenty
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE: Final = re.compile(r"v([1-9][0-9]*)\.avsc")
_PLAIN: Final = frozenset({"string", "bytes", "boolean", "long", "double"})
_INSTEAD: Final = {
    "int": 'use "long": its bytes are the same',
    "float": 'use "double"',
    "null": 'use ["null", T] for a value that may be missing',
    "fixed": 'use "bytes"',
}


class Node(msgspec.Struct, frozen=True):
    """A type in a schema. `kind` is an Avro type's name, or `timestamp`; `optional` stands for `["null", T]`."""

    kind: str
    optional: bool = False
    name: str = ""
    symbols: tuple[str, ...] = ()
    fields: "tuple[Field, ...]" = ()
    item: "Node | None" = None

    @property
    def items(self) -> "Node":
        """The type of an array's items or a map's values."""
        if self.item is None:
            raise TypeError(f"{self.kind} has no items")
        return self.item


class Field(msgspec.Struct, frozen=True):
    """A record's field. `default` is UNSET where the schema has none."""

    name: str
    node: Node
    default: object = msgspec.UNSET


class Schema(msgspec.Struct, frozen=True):
    """One version of a record. `path` is relative to the schemas' folder, `sha256` is the file's (hex).

    Two schemas of one `fingerprint` (SHA-256 of Avro's parsing canonical form) have the same bytes for the same values.
    """

    path: str
    version: int
    topic: str
    sha256: str
    fingerprint: str
    raw: dict[str, Any]
    node: Node

    @property
    def subject(self) -> str:
        """Where a registry keeps the versions of this record (TopicNameStrategy; a topic has one record)."""
        return subject_of(self.topic)

    @property
    def record(self) -> str:
        """The record's name, without its namespace."""
        return self.node.name


class Release(msgspec.Struct, frozen=True):
    """A schema with the id that its bytes carry on the wire."""

    id: int
    schema: Schema


def subject_of(topic: str) -> str:
    """The subject of a topic's values."""
    return f"{topic}-value"


def find_schemas(root: Path) -> list[Schema]:
    """Every `<group>/<Record>/v<n>.avsc` under `root`, by path and version. Raises `SetupError`."""
    found = [load_schema(root, path) for path in sorted(root.rglob("*.avsc"))]
    return sorted(found, key=lambda schema: (Path(schema.path).parent, schema.version))


def load_schema(root: Path, path: Path) -> Schema:
    """Read one `.avsc` file under `root`. Raises `SetupError`, naming file and field, for what is no schema or not taken."""
    where = str(path)
    numbered = _FILE.fullmatch(path.name)
    if not numbered or len(path.relative_to(root).parts) != 3:
        raise SetupError("no place for a schema", where=where, fix="name it <group>/<Record>/v<number>.avsc")
    data = path.read_bytes()
    raw = _parse_json(data, where)
    try:
        node = _Reader(where).node(raw, "", "")
    except RecursionError as error:
        raise SetupError("types nest without end", where=where) from error
    if _depth(node) > MAX_DEPTH:
        raise SetupError(f"types nest deeper than {MAX_DEPTH}", where=where, fix="flatten the record")
    if not isinstance(raw, dict) or node.kind != "record" or node.name != path.parent.name:
        raise SetupError("the schema is not the record of its folder", where=where, fix=f"name the record {path.parent.name}")
    topic = raw.get("topic")
    if not isinstance(topic, str):
        raise SetupError("the record names no topic", where=where, fix='add "topic": "…" beside its name')
    try:
        fastavro.parse_schema(raw, named_schemas={})
        canonical = fastavro.schema.to_parsing_canonical_form(raw)
    except Exception as error:  # fastavro raises half a dozen kinds for what is no schema
        raise SetupError(f"no Avro schema: {error}", where=where) from error
    return Schema(
        path=path.relative_to(root).as_posix(),
        version=int(numbered[1]),
        topic=check_topic(topic, where),
        sha256=hashlib.sha256(data).hexdigest(),
        fingerprint=fastavro.schema.fingerprint(canonical, "SHA-256"),
        raw=raw,
        node=node,
    )


def walk(node: Node, at: str = "") -> Iterator[tuple[str, Node]]:
    """Every type in a schema with its place, such as `lines[].sku`."""
    yield at, node
    for field in node.fields:
        yield from walk(field.node, f"{at}.{field.name}".lstrip("."))
    if node.item:
        yield from walk(node.item, f"{at}[]")


def _depth(node: Node) -> int:
    inner = [field.node for field in node.fields] + ([node.item] if node.item else [])
    return max((1 + _depth(one) for one in inner), default=0)


def _parse_json(data: bytes, where: str) -> object:
    try:
        return json.loads(data, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise SetupError(f"no JSON: {error.msg}", where=f"{where}:{error.lineno}") from error
    except (ValueError, RecursionError) as error:
        raise SetupError(f"no JSON: {error}", where=where) from error


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object. Of a name that is there twice one reader takes the first, another the last: that is no contract."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name in found if sum(name == other for other, _ in pairs) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _no_number(word: str) -> object:
    raise ValueError(f"{word} is no number of JSON")


class _Reader:
    """Turns the JSON of one file into nodes. `known` holds its named types; None while one is still being read."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.known: dict[str, Node | None] = {}

    def refuse(self, what: str, at: str, fix: str = "") -> SetupError:
        return SetupError(f"field {at}: {what}" if at else what, where=self.where, fix=fix)

    def node(self, raw: object, space: str, at: str) -> Node:
        if isinstance(raw, list):
            return self.union(raw, space, at)
        if isinstance(raw, str):
            return self.named(raw, space, at)
        if not isinstance(raw, dict):
            raise self.refuse(f"{raw!r} is no type", at)
        kind = raw.get("type")
        if "aliases" in raw:
            raise self.refuse("aliases are not supported", at, "add a new field instead")
        if logical := raw.get("logicalType"):
            if (kind, logical) != ("long", "timestamp-millis"):
                raise self.refuse(f"logical type {logical!r} of {kind!r} is not supported", at, "use timestamp-millis of long")
            return Node("timestamp")
        if kind in {"array", "map"}:
            return Node(kind, item=self.node(raw.get("items" if kind == "array" else "values"), space, f"{at}[]"))
        if kind in {"record", "enum"}:
            return self.define(kind, raw, space, at)
        return self.node(kind, space, at)

    def union(self, raw: list[object], space: str, at: str) -> Node:
        if len(raw) != 2 or raw[0] != "null" or isinstance(raw[1], list):
            raise self.refuse("only unions of null with one type are supported", at, 'write ["null", T]')
        return msgspec.structs.replace(self.node(raw[1], space, at), optional=True)

    def named(self, name: str, space: str, at: str) -> Node:
        if name in _PLAIN:
            return Node(name)
        if name in _INSTEAD:
            raise self.refuse(f"type {name!r} is not supported", at, _INSTEAD[name])
        full = name if "." in name or not space else f"{space}.{name}"
        if full not in self.known:
            raise self.refuse(f"unknown type {name!r}", at)
        found = self.known[full]
        if found is None:
            raise self.refuse(f"{name!r} holds itself", at, "a record's size must be known: refer to the other by its id")
        return found

    def define(self, kind: str, raw: dict[str, object], space: str, at: str) -> Node:
        name, space = self.full_name(raw, space, at)
        full = f"{space}.{name}".lstrip(".")
        if full in self.known:
            raise self.refuse(f"{full} is defined twice", at)
        self.known[full] = None
        if kind == "enum":
            node = Node("enum", name=name, symbols=self.symbols(raw.get("symbols"), at))
        else:
            node = Node("record", name=name, fields=self.fields(raw.get("fields"), space, at))
        self.known[full] = node
        return node

    def full_name(self, raw: dict[str, object], space: str, at: str) -> tuple[str, str]:
        name, own = raw.get("name"), raw.get("namespace", space)
        if not isinstance(name, str) or not isinstance(own, str):
            raise self.refuse("a record or enum needs a name", at)
        if "." in name:
            own, _, name = name.rpartition(".")
        return self.name(name, at), own

    def name(self, name: object, at: str) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or keyword.iskeyword(name) or name.startswith("__"):
            raise self.refuse(f"bad name {name!r}", at, "use letters, digits and '_', and no word of Python's own")
        return name

    def symbols(self, raw: object, at: str) -> tuple[str, ...]:
        if not isinstance(raw, list) or not raw:
            raise self.refuse("an enum needs symbols", at)
        symbols = tuple(symbol for symbol in raw if isinstance(symbol, str) and _NAME.fullmatch(symbol))
        if len(symbols) != len(raw) or len(set(symbols)) != len(raw):
            raise self.refuse("bad or repeated symbols", at, "use letters, digits and '_'")
        return symbols

    def fields(self, raw: object, space: str, at: str) -> tuple[Field, ...]:
        if not isinstance(raw, list) or not raw:
            raise self.refuse("a record needs fields", at, "a record without any takes no bytes")
        fields = tuple(self.field(one, space, at) for one in raw)
        if len({field.name for field in fields}) != len(fields):
            raise self.refuse("two fields have one name", at)
        return fields

    def field(self, raw: object, space: str, at: str) -> Field:
        if not isinstance(raw, dict):
            raise self.refuse(f"{raw!r} is no field", at)
        name = self.name(raw.get("name"), at)
        at = f"{at}.{name}".lstrip(".")
        if "aliases" in raw:
            raise self.refuse("aliases are not supported", at, "add a new field instead")
        node = self.node(raw.get("type"), space, at)
        default = raw.get("default", msgspec.UNSET)
        if default is not msgspec.UNSET and not _may_be_default(node, default):
            raise self.refuse(f"default {default!r} is not supported for {node.kind}", at, "use a plain value, null, [] or {}")
        return Field(name, node, default)


def _may_be_default(node: Node, value: object) -> bool:
    """A reader fills in a default as it stands in the JSON: so only those that are the value itself."""
    if node.optional:
        return value is None
    if node.kind == "long":
        return type(value) is int and -(2**63) <= value < 2**63
    if node.kind == "double":
        return type(value) in {int, float}
    if node.kind == "enum":
        return value in node.symbols
    plain: dict[str, object] = {"array": [], "map": {}}
    return isinstance(value, {"string": str, "boolean": bool}.get(node.kind, ())) or plain.get(node.kind) == value
