from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
import pytest
from flagledger.transcoding import CodecError
from flagledger.transcoding.codec_fields import Kind, field_kind, is_map, map_value, message_kind, spellings
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transcoding.conformance import Chain, Lists, Maps
from transcoding.kitchen import Everything, Order
from transcoding.reference import NAMES, PLAIN
from transcoding.strategies import messages

# What does not fit a value of the kind; every other kind takes no number.
UNFIT: dict[Kind, Any] = {
    Kind.BOOL: "true",
    Kind.DOUBLE: "x",
    Kind.FLOAT: "x",
    Kind.INT32: "x",
    Kind.INT64: "x",
    Kind.LIST_VALUE: {"a": 1},
    Kind.NULL: "x",
    Kind.WRAPPER: {},
}


class Place(NamedTuple):
    """Where something that does not fit can be put: an object or array, the key or index in it, and the path of it."""

    holder: Any
    at: str | int
    unfit: Any
    path: str


def places(descriptor: Any, value: dict[str, Any], outer: str, *, proto_names: bool) -> Iterator[Place]:
    """Yield every place in *value*, the JSON of a message, further in ones included."""
    yield Place(value, "nope", 1, f"{outer}nope")
    for name, item in list(value.items()):
        field = spellings(descriptor)[name]
        path = outer + (field.name if proto_names else field.json_name)
        if is_map(field):
            yield Place(value, name, [], path)
            if field_kind(field.message_type.fields_by_name["key"]) is not Kind.STRING:
                yield Place(item, "x", next(iter(item.values())), f"{path}[x]")
            entries = ((key, f"{path}[{key[:100]}]") for key in item)
            yield from _items(map_value(field), item, entries, proto_names=proto_names)
        elif field.is_repeated:
            yield Place(value, name, {}, path)
            entries = ((at, f"{path}[{at}]") for at in range(len(item)))
            yield from _items(field, item, entries, proto_names=proto_names)
        else:
            yield from _items(field, value, [(name, path)], proto_names=proto_names)


def _items(field: Any, holder: Any, entries: Any, *, proto_names: bool) -> Iterator[Place]:
    kind = field_kind(field)
    for at, path in list(entries):
        if kind is not Kind.VALUE:
            yield Place(holder, at, UNFIT.get(kind, 7.5), path)
        if kind is Kind.MESSAGE:
            yield from places(field.message_type, holder[at], f"{path}.", proto_names=proto_names)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    message_class=st.sampled_from([Everything, Everything, Order, Chain, Lists, Maps]),
    data=st.data(),
    proto_names=st.booleans(),
    spelled_out=st.booleans(),
)
def test_every_path(message_class: Any, data: st.DataObject, *, proto_names: bool, spelled_out: bool) -> None:
    """Whatever does not fit, wherever it stands, in whichever spelling it came: the path leads to it."""
    message = data.draw(messages(message_class.DESCRIPTOR))
    if message_class is Lists:
        # It is refused wherever it stands.
        message.ClearField("anys")
    value = json_format.MessageToDict(message, preserving_proto_field_name=spelled_out)
    place = data.draw(st.sampled_from(list(places(message_class.DESCRIPTOR, value, "", proto_names=proto_names))))
    place.holder[place.at] = place.unfit
    codec = NAMES if proto_names else PLAIN
    with pytest.raises(CodecError) as caught:
        codec.parse(orjson.dumps(value), message_class())

    assert place.path == caught.value.path
    assert place.path in caught.value.sentence


def test_places_are_of_every_kind() -> None:
    """The property above puts something into fields of every kind but Value, which takes anything, and Any, which nothing."""
    kinds = {
        field_kind(field if not is_map(field) else map_value(field))
        for message_class in (Everything, Lists, Maps)
        for field in message_class.DESCRIPTOR.fields
    }

    assert set(Kind) == kinds
    assert Kind.MESSAGE is message_kind(Everything.DESCRIPTOR)
