"""Every released version of a record reads under every other: the folder's own, and a record that has grown twice."""

import copy
import io
from itertools import groupby, product
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec import Codec
from streams.registry import FolderRegistry, default_folder
from streams.schema import Schema, find_schemas
from tests.property.contracts import EVERYTHING, Everything, data_of, released

relaxed = settings(deadline=None, max_examples=25)


def version(*fields: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The record of every kind, with more fields and without some."""
    raw = copy.deepcopy(EVERYTHING)
    kept = [field for field in EVERYTHING["fields"] if field["name"] not in without]  # type: ignore[index]  # a list of dicts
    raw["fields"] = [*fields, *copy.deepcopy(kept)]
    return raw


EXTRA = {"name": "extra", "type": ["null", {"type": "map", "values": "long"}], "default": None}
GRADE = {"name": "grade", "type": {"type": "enum", "name": "Grade", "symbols": ["low", "high"]}, "default": "low"}
VERSIONS = [version(), version(EXTRA, without=("note", "rest")), version(GRADE, EXTRA)]


def pairs(schemas: list[Schema]) -> list[tuple[Schema, Schema]]:
    records = groupby(schemas, key=lambda schema: schema.subject)
    return [(writer, reader) for _, group in records for writer, reader in product(list(group), repeat=2)]


def write(schema: Schema, value: object) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema.raw, named_schemas={}), value)
    return out.getvalue()


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> FolderRegistry:
    return released(tmp_path_factory.mktemp("grown"), *VERSIONS)


def read_each_other(schemas: list[Schema], data: st.DataObject) -> None:
    writer, reader = data.draw(st.sampled_from(pairs(schemas)))
    ours, theirs = (fastavro.parse_schema(schema.raw, named_schemas={}) for schema in (reader, writer))
    body = write(writer, data.draw(data_of(writer.node)))
    value = fastavro.schemaless_reader(io.BytesIO(body), theirs, ours)
    assert isinstance(value, dict)
    assert set(value) == {field.name for field in reader.node.fields}


@relaxed
@given(data=st.data())
def test_released_versions_read_each_other(data: st.DataObject) -> None:
    read_each_other(find_schemas(default_folder()), data)


@relaxed
@given(data=st.data())
def test_versions_of_a_record_that_grew_read_each_other(grown: FolderRegistry, data: st.DataObject) -> None:
    read_each_other(find_schemas(grown.root), data)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> FolderRegistry:
    first, second = version(EXTRA), version(GRADE, without=("note", "rest", "limit"))
    return released(tmp_path_factory.mktemp("older"), first, second, EVERYTHING)


@relaxed
@given(data=st.data())
def test_the_codec_reads_every_version_into_the_newest_class(older: FolderRegistry, data: st.DataObject) -> None:
    versions = older.versions("things.made-value")
    release = data.draw(st.sampled_from(versions))
    written = data.draw(data_of(release.schema.node))
    value = b"\x00" + release.id.to_bytes(4) + write(release.schema, written)
    defaults: dict[str, Any] = {"note": None, "rest": [], "limit": 10}
    expected = {field.name: (defaults | written)[field.name] for field in versions[-1].schema.node.fields}
    assert Codec([Everything], older).decoder(Everything)(value) == msgspec.convert(expected, Everything)
