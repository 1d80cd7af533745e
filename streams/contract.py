"""An event class checked against its schema, before the start.

The one rule: a class that passes takes every value that its schema can hold (save times outside year 1 to 9999), and the
schema takes every value of the class's types that fits into 64 bits.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final

import msgspec
import msgspec.inspect as mi

from streams.errors import SetupError
from streams.record import event_info
from streams.schema import Field, Node, Release, Schema

_PLAIN: Final[dict[str, tuple[type[mi.Type], str]]] = {
    "string": (mi.StrType, "str"),
    "bytes": (mi.BytesType, "bytes"),
    "boolean": (mi.BoolType, "bool"),
    "long": (mi.IntType, "int"),
    "double": (mi.FloatType, "float"),
    "timestamp": (mi.DateTimeType, "datetime"),
}
_BOUNDS: Final = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")


def check_class(cls: type, release: Release) -> None:
    """Check an event class against the newest schema of its topic. Raises `SetupError`: class, schema, field, what to do."""
    schema = release.schema
    if event_info(cls).topic != schema.topic:
        raise SetupError(f"{cls.__name__} goes to {event_info(cls).topic}, its schema to {schema.topic}", where=place_of(cls))
    _Check(cls, schema).record(schema.node, type_of(cls), cls.__name__)


def place_of(cls: type) -> str:
    """`file:line` of a class, or its name where there is no source."""
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return f"{cls.__module__}.{cls.__qualname__}"


def type_of(cls: type) -> mi.Type:
    """What msgspec knows of a class. Raises `SetupError` where an annotation is nothing that it can hold."""
    try:
        return mi.type_info(cls)
    except (NameError, TypeError, ValueError) as error:
        raise SetupError(f"{cls.__name__}: {error}", where=place_of(cls)) from error


def plain_type(type_: mi.Type) -> tuple[mi.Type, bool]:
    """A type without its None, and whether it had one."""
    while isinstance(type_, mi.Metadata):
        type_ = type_.type
    if isinstance(type_, mi.UnionType) and type_.includes_none and len(type_.types) == 2:
        inner = next(one for one in type_.types if not isinstance(one, mi.NoneType))
        return plain_type(inner)[0], True
    return type_, False


class _Check:
    """One comparison of a class with a schema."""

    def __init__(self, cls: type, schema: Schema) -> None:
        self.where = place_of(cls)
        self.schema = schema
        self.kinds: dict[str, Callable[[Node, mi.Type, str], None]] = {
            "record": self.record,
            "enum": self.enum,
            "array": self.array,
            "map": self.map,
        }

    def refuse(self, at: str, what: str, fix: str = "change the class, or release a new version of the schema") -> SetupError:
        return SetupError(f"{at} {what} (schemas/{self.schema.path})", where=self.where, fix=fix)

    def value(self, node: Node, type_: mi.Type, at: str) -> None:
        type_, optional = plain_type(type_)
        if optional != node.optional:
            may = "may be null" if node.optional else "is never null"
            raise self.refuse(at, f"{may} by the schema, but the class says otherwise")
        if any(getattr(type_, bound, None) is not None for bound in _BOUNDS):
            raise self.refuse(at, "has a bound that the schema does not know", "check values in the stage that needs them")
        check = self.kinds.get(node.kind)
        if check:
            check(node, type_, at)
            return
        expected, name = _PLAIN[node.kind]
        if not isinstance(type_, expected) or getattr(type_, "tz", None) is False:
            raise self.refuse(at, f"is a {node.kind} by the schema", f"annotate it as {name}")

    def record(self, node: Node, type_: mi.Type, at: str) -> None:
        if not isinstance(type_, mi.StructType) or type_.cls.__name__ != node.name:
            raise self.refuse(at, f"is a record {node.name} by the schema", f"use a msgspec.Struct of the name {node.name}")
        config = type_.cls.__struct_config__
        if config.array_like or config.tag is not None or config.omit_defaults or hasattr(type_.cls, "__post_init__"):
            raise self.refuse(at, "does more than hold values", "use no array_like, tag, omit_defaults or __post_init__")
        fields = {field.name: field for field in type_.fields}
        for field in node.fields:
            if field.name not in fields or fields[field.name].encode_name != field.name:
                raise self.refuse(f"{at}.{field.name}", "is missing in the class, or renamed")
            self.field(field, fields.pop(field.name), f"{at}.{field.name}")
        for name in fields:
            raise self.refuse(f"{at}.{name}", "is not in the schema")

    def field(self, field: Field, own: mi.Field, at: str) -> None:
        self.value(field.node, own.type, at)
        default: Any = own.default
        if own.default_factory is not msgspec.NODEFAULT:
            default = own.default_factory()
        if default is msgspec.NODEFAULT:
            default = msgspec.UNSET
        if not _same_default(default, field.default):
            says = "no default" if field.default is msgspec.UNSET else f"the default {field.default!r}"
            raise self.refuse(at, f"has {says} by the schema, but another in the class")

    def enum(self, node: Node, type_: mi.Type, at: str) -> None:
        if not isinstance(type_, mi.EnumType) or {member.value for member in type_.cls} != set(node.symbols):
            raise self.refuse(at, f"is an enum of {', '.join(node.symbols)} by the schema", "use an Enum with these values")

    def array(self, node: Node, type_: mi.Type, at: str) -> None:
        if not isinstance(type_, mi.VarTupleType):
            raise self.refuse(at, "is an array by the schema", "annotate it as tuple[…, ...]")
        self.value(node.items, type_.item_type, f"{at}[]")

    def map(self, node: Node, type_: mi.Type, at: str) -> None:
        if not isinstance(type_, mi.DictType) or not isinstance(type_.key_type, mi.StrType):
            raise self.refuse(at, "is a map by the schema", "annotate it as dict[str, …]")
        self.value(Node("string"), type_.key_type, f"{at} (its keys)")
        self.value(node.items, type_.value_type, f"{at}[]")


def _same_default(own: object, theirs: object) -> bool:
    """Whether the class's default is the schema's, where both are written as JSON would write them."""
    if own is msgspec.UNSET or theirs is msgspec.UNSET:
        return own is theirs
    plain = msgspec.to_builtins(own)
    plain = list(plain) if isinstance(plain, tuple) else plain
    return bool(plain == theirs) and isinstance(plain, bool) == isinstance(theirs, bool)
