"""What the loader of schemas takes and refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from streams.errors import SetupError
from streams.registry import default_folder
from streams.schema import find_schemas, load_schema, walk
from tests.property.contracts import EVERYTHING, write_schema


def record(*types: object, **more: object) -> dict[str, Any]:
    fields = [{"name": f"f{index}", "type": type_} for index, type_ in enumerate(types)]
    return {"type": "record", "name": "Thing", "topic": "things", "fields": fields, **more}


SELF = {"type": "array", "items": "Thing"}
MUTUAL = {"type": "record", "name": "A", "fields": [{"name": "b", "type": ["null", "Thing"]}]}
EMPTY = {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}
DEEP: Any = "long"
for _ in range(10):
    DEEP = {"type": "array", "items": DEEP}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (record(SELF), "field f0[]: 'Thing' holds itself"),
        (record(MUTUAL), "field f0.b: 'Thing' holds itself"),
        (record(EMPTY), "field f0[]: a record needs fields"),
        (record({"type": "array", "items": "null"}), "field f0[]: type 'null' is not supported"),
        (record({"type": "map", "values": {"type": "null"}}), "field f0[]: type 'null' is not supported"),
        (record("string", "int"), "field f1: type 'int' is not supported"),
        (record({"type": "fixed", "name": "F", "size": 0}), "type 'fixed' is not supported"),
        (record(["null", "string", "long"]), "only unions of null with one type"),
        (record(["string", "null"]), "only unions of null with one type"),
        (record({"type": "bytes", "logicalType": "decimal"}), "logical type 'decimal'"),
        (record("Missing"), "field f0: unknown type 'Missing'"),
        (record(None), "field f0: None is no type"),
        (record(DEEP), "nest deeper than 9"),
        (record({"type": "enum", "name": "C", "symbols": ["a", "a"]}), "bad or repeated symbols"),
        (record("string", name="Other"), "not the record of its folder"),
        (record("string", topic=7), "names no topic"),
        (record("string", fields=[{"name": "class", "type": "string"}]), "bad name 'class'"),
        (record("string", fields=[{"name": "a", "type": "string", "default": 7}]), "field a: default 7"),
        (record("string", fields=[{"name": "a", "type": "string", "aliases": ["b"]}]), "field a: aliases"),
        (record("string", fields=[{"name": "a", "type": "string"}] * 2), "two fields have one name"),
        ([record("string")], "only unions of null"),
    ],
)
def test_what_is_not_taken_is_refused_with_file_and_field(tmp_path: Path, raw: Any, says: str) -> None:
    path = write_schema(tmp_path, {"name": "Thing"})
    path.write_text(json.dumps(raw))
    with pytest.raises(SetupError) as caught:
        load_schema(tmp_path, path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xff", b"[" * 100_000, b'{"type":' * 5000], ids=len)
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, data: bytes) -> None:
    path = write_schema(tmp_path, {"name": "Thing"})
    path.write_bytes(data)
    with pytest.raises(SetupError, match="no JSON"):
        load_schema(tmp_path, path)


def test_a_file_in_a_strange_place_is_refused(tmp_path: Path) -> None:
    write_schema(tmp_path, record("string")).rename(tmp_path / "stray.avsc")
    with pytest.raises(SetupError, match="no place for a schema"):
        find_schemas(tmp_path)


def test_versions_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        write_schema(tmp_path, EVERYTHING, version)
    assert [schema.version for schema in find_schemas(tmp_path)] == [1, 2, 10]


def test_a_comment_does_not_change_the_fingerprint_and_a_field_does(tmp_path: Path) -> None:
    for version, raw in enumerate((record("string"), record("string", doc="why"), record("long")), 1):
        write_schema(tmp_path, raw, version)
    one, commented, other = (schema.fingerprint for schema in find_schemas(tmp_path))
    assert one == commented != other


def test_every_record_and_field_of_ours_is_documented() -> None:
    def undocumented(raw: Any, at: str) -> list[str]:
        if isinstance(raw, list):
            return [missing for one in raw for missing in undocumented(one, at)]
        if not isinstance(raw, dict):
            return []
        missing = [f"{at}.{raw['name']}"] if "name" in raw and not raw.get("doc") else []
        inner = [raw.get(part) for part in ("fields", "items", "values", "type")]
        return missing + undocumented(inner, f"{at}.{raw.get('name', '')}")

    schemas = find_schemas(default_folder())
    assert schemas
    assert [missing for schema in schemas for missing in undocumented(schema.raw, schema.path)] == []


def test_money_is_in_minor_units_and_times_are_millis() -> None:
    ours = [place for schema in find_schemas(default_folder()) for place in walk(schema.node)]
    assert {node.kind for at, node in ours if at.endswith("_minor")} == {"long"}
    assert {node.kind for at, node in ours if at.endswith("_at")} == {"timestamp"}
