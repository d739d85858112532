"""
Where `json_format` and the JSON mapping of proto3 part, as code: the tests compare the codec with `json_format` everywhere else.

The same list in words: an empty array or string is no message; a truth value is no number and no enum value; a fraction is no
enum value, nor is a number of more than 32 bits (it comes out as another); base64 has no
other characters than its alphabet's; NaN, infinities and 1e400 are no JSON.
"""

from __future__ import annotations

import re
from typing import Any

from flagledger.transcoding.codec_fields import Kind, field_kind, is_map, message_kind, spellings

BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


def json_format_errs(descriptor: Any, value: Any) -> bool:
    """Tell whether `json_format` accepts something in *value* that is no JSON of a message of *descriptor*."""
    kind = message_kind(descriptor)
    if kind is Kind.WRAPPER:
        return _scalar_errs(descriptor.fields_by_name["value"], value)
    if kind is not Kind.MESSAGE:
        return False
    if value in ([], ""):
        return True
    if not isinstance(value, dict):
        return False
    names = spellings(descriptor)
    return any(_field_errs(names[name], item) for name, item in value.items() if name in names)


def _field_errs(field: Any, value: Any) -> bool:
    if is_map(field):
        inner = field.message_type.fields_by_name["value"]
        return isinstance(value, dict) and any(_value_errs(inner, item) for item in value.values())
    if field.is_repeated:
        return isinstance(value, list) and any(_value_errs(field, item) for item in value)
    return _value_errs(field, value)


def _value_errs(field: Any, value: Any) -> bool:
    if field.message_type is not None:
        return json_format_errs(field.message_type, value)
    return _scalar_errs(field, value)


def _scalar_errs(field: Any, value: Any) -> bool:
    kind = field_kind(field)
    if kind in {Kind.FLOAT, Kind.DOUBLE}:
        return isinstance(value, bool)
    if kind in {Kind.ENUM, Kind.NULL}:
        fraction = isinstance(value, float) and value != int(value)
        wrapped = isinstance(value, int) and not -(2**31) <= value < 2**31
        return isinstance(value, bool) or fraction or wrapped or kind is Kind.NULL
    if kind is Kind.BYTES and isinstance(value, str):
        digits = value.rstrip("=")
        # Padding that is too short or too long is passed over as well.
        return not BASE64.fullmatch(value) or (digits != value and len(value) % 4 != 0)
    return False
