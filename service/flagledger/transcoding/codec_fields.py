"""What the codecs ask of descriptors: the kind of a field, the spellings of its name, and which messages can hold themselves."""

from __future__ import annotations

import keyword
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

TIMESTAMP: Final = "google.protobuf.Timestamp"
DURATION: Final = "google.protobuf.Duration"
FIELD_MASK: Final = "google.protobuf.FieldMask"
ANY: Final = "google.protobuf.Any"
VALUE: Final = "google.protobuf.Value"
STRUCT: Final = "google.protobuf.Struct"
LIST_VALUE: Final = "google.protobuf.ListValue"
NULL_VALUE: Final = "google.protobuf.NullValue"
_WRAPPERS: Final = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


class Kind(Enum):
    """How one value of a field is written in JSON."""

    STRING = auto()
    BYTES = auto()
    BOOL = auto()
    INT32 = auto()  # and every other integer of 32 bits
    INT64 = auto()  # and every other integer of 64 bits
    DOUBLE = auto()
    FLOAT = auto()
    ENUM = auto()
    NULL = auto()
    MESSAGE = auto()
    WRAPPER = auto()
    TIMESTAMP = auto()
    DURATION = auto()
    FIELD_MASK = auto()
    VALUE = auto()
    STRUCT = auto()
    LIST_VALUE = auto()
    ANY = auto()


_BY_TYPE: Final = {
    FieldDescriptor.TYPE_STRING: Kind.STRING,
    FieldDescriptor.TYPE_BYTES: Kind.BYTES,
    FieldDescriptor.TYPE_BOOL: Kind.BOOL,
    FieldDescriptor.TYPE_DOUBLE: Kind.DOUBLE,
    FieldDescriptor.TYPE_FLOAT: Kind.FLOAT,
    FieldDescriptor.TYPE_INT32: Kind.INT32,
    FieldDescriptor.TYPE_SINT32: Kind.INT32,
    FieldDescriptor.TYPE_UINT32: Kind.INT32,
    FieldDescriptor.TYPE_FIXED32: Kind.INT32,
    FieldDescriptor.TYPE_SFIXED32: Kind.INT32,
    FieldDescriptor.TYPE_INT64: Kind.INT64,
    FieldDescriptor.TYPE_SINT64: Kind.INT64,
    FieldDescriptor.TYPE_UINT64: Kind.INT64,
    FieldDescriptor.TYPE_FIXED64: Kind.INT64,
    FieldDescriptor.TYPE_SFIXED64: Kind.INT64,
}
_BY_MESSAGE: Final = {
    TIMESTAMP: Kind.TIMESTAMP,
    DURATION: Kind.DURATION,
    FIELD_MASK: Kind.FIELD_MASK,
    VALUE: Kind.VALUE,
    STRUCT: Kind.STRUCT,
    LIST_VALUE: Kind.LIST_VALUE,
    ANY: Kind.ANY,
    **dict.fromkeys(_WRAPPERS, Kind.WRAPPER),
}
SCALARS: Final = frozenset(
    {Kind.STRING, Kind.BYTES, Kind.BOOL, Kind.INT32, Kind.INT64, Kind.DOUBLE, Kind.FLOAT, Kind.ENUM, Kind.NULL}
)


def message_of(field: FieldDescriptor) -> Descriptor:
    """Return the type of a message field."""
    return cast("Descriptor", field.message_type)


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """Return the type of an enum field."""
    return cast("EnumDescriptor", field.enum_type)


def map_value(field: FieldDescriptor) -> FieldDescriptor:
    """Return the field that holds the values of a map."""
    return message_of(field).fields_by_name["value"]


def message_kind(descriptor: Descriptor) -> Kind:
    """Return how a message is written in JSON."""
    return _BY_MESSAGE.get(descriptor.full_name, Kind.MESSAGE)


def field_kind(field: FieldDescriptor) -> Kind:
    """Return how one value of *field* is written in JSON; for a map that of its entry, MESSAGE."""
    if field.message_type is not None:
        return message_kind(field.message_type)
    if field.enum_type is not None:
        return Kind.NULL if field.enum_type.full_name == NULL_VALUE else Kind.ENUM
    return _BY_TYPE[field.type]


def is_map(field: FieldDescriptor) -> bool:
    """Tell whether *field* is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def real_oneof(field: FieldDescriptor) -> str | None:
    """Return the name of the oneof that *field* belongs to, or None; `optional` alone makes none."""
    oneof = field.containing_oneof
    if oneof is None or (len(oneof.fields) == 1 and oneof.name == f"_{field.name}"):
        return None
    return str(oneof.name)


def attribute(target: str, name: str) -> str:
    """Return the Python expression that reads field *name* of *target*, also where the name is a keyword."""
    return f"getattr({target}, {name!r})" if keyword.iskeyword(name) else f"{target}.{name}"


def submessages(descriptor: Descriptor) -> Iterator[Descriptor]:
    """Yield the types of the message fields of *descriptor*, those of map values instead of entries, without well-known types."""
    for field in descriptor.fields:
        inner = field.message_type
        if inner is not None and is_map(field):
            inner = map_value(field).message_type
        if inner is not None and message_kind(inner) is Kind.MESSAGE:
            yield inner


def reachable(descriptor: Descriptor) -> frozenset[str]:
    """Return the full names of the messages that *descriptor* can hold, at any depth; its own only where it is recursive."""
    seen: set[str] = set()
    waiting = list(submessages(descriptor))
    while waiting:
        inner = waiting.pop()
        if inner.full_name not in seen:
            seen.add(inner.full_name)
            waiting.extend(submessages(inner))
    return frozenset(seen)


def spellings(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Return the fields of *descriptor* by every spelling of their names; the JSON name goes before the proto name."""
    names = {field.name: field for field in descriptor.fields}
    names.update({field.json_name: field for field in descriptor.fields})
    return names


def fast_keys(descriptor: Descriptor, *, proto_names: bool) -> dict[str, str]:
    """
    Return the one spelling of each field that compiled code looks for first, by proto name.

    It is the proto name where that is preferred and names no other field in JSON, else the JSON name.
    """
    names = spellings(descriptor)
    if proto_names and all(names[field.name] is field for field in descriptor.fields):
        return {field.name: field.name for field in descriptor.fields}
    return {field.name: field.json_name for field in descriptor.fields}


def indent(lines: list[str], levels: int = 1) -> list[str]:
    """Return statements of a compiled codec, that many levels further in."""
    return ["    " * levels + line for line in lines]
