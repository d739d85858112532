"""
`google.protobuf.Value`, `Struct` and `ListValue`: messages whose shape is JSON itself.

Depth is counted in JSON levels. A level of an object costs three levels of protobuf messages (Value, Struct, map entry), and
protobuf parsers stop at 100, so that a limit beyond 32 levels is in fact that of protobuf.
"""

from __future__ import annotations

import math
from math import copysign
from typing import Any, Final

from flagledger.transcoding.codec_scalars import CodecError, describe
from flagledger.transcoding.codec_wire import DOUBLE, sized, utf8

TOO_DEEP: Final = "is nested too deeply"

# Integers up to here are doubles, each of them.
_MAX_EXACT: Final = float(1 << 53)

# Tags of the fields of Value, and of the one field of Struct and of ListValue.
_NULL: Final = "\x08\x00"
_STRING: Final = "\x1a"
_FALSE: Final = "\x20\x00"
_TRUE: Final = "\x20\x01"
_STRUCT: Final = "\x2a"
_LIST: Final = "\x32"
_ONE: Final = "\n"
_TWO: Final = "\x12"


class DynamicDecoder:
    """
    Writes Value, Struct and ListValue from parsed JSON, in protobuf's wire format.

    Args:
        max_depth: JSON levels allowed, counted from the outermost object of the body.
    """

    def __init__(self, max_depth: int) -> None:
        self._max_depth = max_depth

    def value(self, value: Any, depth: int) -> str:
        """Return the content of a Value; *depth* is the level at which an object or array would stand."""
        if value is True:
            return _TRUE
        if value is False:
            return _FALSE
        kind = value.__class__
        if kind is int or kind is float:
            return f"\x11{DOUBLE(value).decode('latin-1')}"
        if kind is str:
            return _STRING + sized(utf8(value))
        if value is None:
            return _NULL
        if kind is dict:
            return _STRUCT + sized(self.struct(value, depth))
        return _LIST + sized(self.list_value(value, depth))

    def struct(self, value: Any, depth: int) -> str:
        """Return the content of a Struct."""
        if value.__class__ is not dict:
            raise CodecError(f"has to be an object, not {describe(value)}")
        if depth > self._max_depth:
            raise CodecError(TOO_DEEP, fatal=True)
        key = ""
        entries = []
        try:
            for key, item in value.items():
                entry = _ONE + sized(utf8(key)) + _TWO + sized(self.value(item, depth + 1))
                entries.append(_ONE + sized(entry))
        except CodecError as error:
            raise error.within(key) from None
        return "".join(entries)

    def list_value(self, value: Any, depth: int) -> str:
        """Return the content of a ListValue."""
        if value.__class__ is not list:
            raise CodecError(f"has to be an array, not {describe(value)}")
        if depth > self._max_depth:
            raise CodecError(TOO_DEEP, fatal=True)
        index = 0
        items = []
        try:
            for index, item in enumerate(value):  # noqa: B007  # read where it failed
                items.append(_ONE + sized(self.value(item, depth + 1)))
        except CodecError as error:
            raise error.within(f"[{index}]") from None
        return "".join(items)


def value_to_json(message: Any) -> Any:
    """
    Return the JSON that a Value holds; an empty one is null.

    Raises:
        ValueError: It holds NaN or an infinity, which JSON has no word for.
    """
    return message.string_value or value_without_text(message)


def value_without_text(message: Any) -> Any:
    """Return what `value_to_json` does, for a Value whose string has been found to be empty, or not to be what it holds."""
    number = message.number_value
    if number:
        # As it was sent, most likely: `1` and `1.0` are the same here.
        if -_MAX_EXACT <= number <= _MAX_EXACT:
            return int(number) if number.is_integer() else number
        if not math.isfinite(number):
            raise ValueError("A Value holds NaN or an infinity, which cannot be written as JSON.")
        return number
    kind = message.WhichOneof("kind")
    if kind == "bool_value":
        return message.bool_value
    if kind == "struct_value":
        return struct_to_json(message.struct_value)
    if kind == "list_value":
        return list_value_to_json(message.list_value)
    if kind == "string_value":
        return ""
    if kind == "number_value":
        # Minus zero is not zero.
        return 0 if copysign(1, number) > 0 else number
    return None


def struct_to_json(message: Any) -> dict[str, Any]:
    """Return the object that a Struct holds."""
    fields = message.fields
    return {key: value_to_json(fields[key]) for key in fields}


def list_value_to_json(message: Any) -> list[Any]:
    """Return the array that a ListValue holds."""
    return [value_to_json(item) for item in message.values[:]]
