"""Random messages of any descriptor, and random damage to their JSON."""

from __future__ import annotations

import math
from typing import Any

from flagledger.transcoding.codec_fields import Kind, field_kind, is_map, message_kind, real_oneof
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SNAKE = st.from_regex(r"[a-z]{1,4}(_[a-z]{1,4}){0,2}(\.[a-z]{1,4})?", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 7, 1.0, 1.5, -0.0, 1e10, 1e40, -1e300, 2**31, -(2**31), 2**32, 2**53 + 1, 2**63, 2**64 - 1,
    "", "x", "5", "-5", "1.0", "1e2", "1.5", "NaN", "Infinity", "-Infinity", "true",
    "COLOR_RED", "COLOR_NONE", "YWJj", "YQ==", "_-8",
    "2026-02-10T11:00:00Z", "2026-02-10T11:00:00.5+02:00", "2026-13-10T11:00:00Z", "1.5s", "-0.25s", "1", "a,bC.d", "é\u0000",
    [], [None], [1], ["x"], [{}], {}, {"a": 1}, {"name": "x"}, {"1": 2}, {"true": 1}, {"name": None},
]  # fmt: skip

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


def scalars(field: Any) -> st.SearchStrategy[Any]:
    """Return values of a scalar field."""
    kind = field_kind(field)
    if kind is Kind.ENUM:
        return st.sampled_from([0, 1, 2, -1, 77])
    if kind in {Kind.INT32, Kind.INT64}:
        return st.integers(*_INTEGERS[field.type])
    return {
        Kind.STRING: TEXT,
        Kind.BYTES: st.binary(max_size=8),
        Kind.BOOL: st.booleans(),
        Kind.DOUBLE: st.floats(),
        Kind.FLOAT: st.floats(width=32),
        Kind.NULL: st.just(0),
    }[kind]


@st.composite
def messages(draw: st.DrawFn, descriptor: Any, levels: int = 3) -> Any:
    """Return a random message of *descriptor*, nested at most *levels* deep."""
    message = message_factory.GetMessageClass(descriptor)()
    kind = message_kind(descriptor)
    if kind is Kind.TIMESTAMP:
        message.seconds = draw(st.integers(-62135596800, 253402300799))
        message.nanos = draw(st.sampled_from([0, 1, 999_999_999, 500_000_000, 120_000, 7_000]))
    elif kind is Kind.DURATION:
        sign = draw(st.sampled_from([-1, 1]))
        message.seconds = sign * draw(st.integers(0, 315576000000))
        message.nanos = sign * draw(st.sampled_from([0, 1, 999_999_999, 500_000_000, 120_000]))
    elif kind is Kind.FIELD_MASK:
        message.paths.extend(draw(st.lists(SNAKE, max_size=3)))
    elif kind is Kind.VALUE:
        _set_value(message, draw(JSON))
    elif kind is Kind.STRUCT:
        message.update(draw(st.dictionaries(TEXT, JSON, max_size=3)))
    elif kind is Kind.LIST_VALUE:
        message.extend(draw(st.lists(JSON, max_size=3)))
    elif kind is Kind.WRAPPER:
        message.value = draw(scalars(descriptor.fields_by_name["value"]))
    elif kind is Kind.MESSAGE:
        draw(_set_fields(message, levels))
    return message


@st.composite
def _set_fields(draw: st.DrawFn, message: Any, levels: int) -> None:
    descriptor = message.DESCRIPTOR
    names = draw(
        st.sets(st.sampled_from([field.name for field in descriptor.fields]), max_size=12)
        if descriptor.fields
        else st.just(())
    )
    taken = set()
    for name in sorted(names):
        field = descriptor.fields_by_name[name]
        oneof = real_oneof(field)
        if (field.message_type is not None and levels == 0) or (oneof is not None and oneof in taken):
            continue
        taken.add(oneof)
        draw(_set_field(message, field, levels))


@st.composite
def _set_field(draw: st.DrawFn, message: Any, field: Any, levels: int) -> None:
    if is_map(field):
        key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        for drawn in draw(st.lists(scalars(key), max_size=3, unique=True)):
            if value.message_type is None:
                getattr(message, field.name)[drawn] = draw(scalars(value))
            else:
                getattr(message, field.name)[drawn].CopyFrom(draw(messages(value.message_type, levels - 1)))
    elif field.is_repeated and field.message_type is not None:
        getattr(message, field.name).extend(draw(st.lists(messages(field.message_type, levels - 1), max_size=3)))
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(scalars(field), max_size=3)))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(draw(messages(field.message_type, levels - 1)))
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, draw(scalars(field)))


def _set_value(message: Any, value: Any) -> None:
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, (int, float)):
        assert math.isfinite(value)
        message.number_value = value
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        message.struct_value.update(value)
    else:
        message.list_value.SetInParent()
        message.list_value.extend(value)


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """Return *value* with one part of it replaced, added or renamed, at a random depth."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)) < 8:
        name = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 19)) == 0:
            return {**value, name + draw(st.sampled_from(["x", "_", "é"])): value[name]}
        return {**value, name: draw(damaged(value[name]))}
    if isinstance(value, list) and value and draw(st.integers(0, 9)) < 7:
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(damaged(value[at])), *value[at + 1 :]]
    return draw(st.sampled_from(JUNK))
