"""JSON Schemas of what JSON writes as one string, number or truth value: as requests, answers and parameters have it."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from flagledger.transcoding import codec_scalars
from flagledger.transcoding.codec_fields import Kind, field_kind

Schema = dict[str, Any]


class Use(Enum):
    """Where a schema stands: readers of JSON take more than writers of it write, and a parameter is text."""

    REQUEST = auto()
    RESPONSE = auto()
    PARAMETER = auto()


NUMBER: Final = codec_scalars.NUMBER.pattern
INTEGER: Final = codec_scalars.INTEGER.pattern
_NOT_FINITE: Final = "NaN|-?Infinity"
_BASE64: Final = r"(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}(?:==)?|[A-Za-z0-9+/_-]{3}=?)?"
_TIMESTAMP: Final = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_DURATION: Final = r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?s"

NEVER: Final[Schema] = {"not": {}}
"""What nothing fits."""

# Messages that JSON writes as a string.
TEXTS: Final[dict[Kind, Schema]] = {
    Kind.TIMESTAMP: {"type": "string", "format": "date-time", "pattern": f"^{_TIMESTAMP}$"},
    Kind.DURATION: {"type": "string", "pattern": f"^{_DURATION}$", "examples": ["1.5s"]},
    Kind.FIELD_MASK: {"type": "string", "pattern": "^[^_]*$", "examples": ["name,owner.displayName"]},
}


def scalar(field: FieldDescriptor, use: Use, *, int64_as_numbers: bool) -> Schema:
    """Return the schema of one value of a scalar field that is no enum."""
    kind = field_kind(field)
    if kind in {Kind.INT32, Kind.INT64}:
        return _integer(field, kind, use, as_numbers=int64_as_numbers)
    if kind in {Kind.DOUBLE, Kind.FLOAT}:
        return _number(kind, use)
    if kind is Kind.BYTES:
        schema: Schema = {"type": "string", "contentEncoding": "base64"}
        return schema if use is Use.RESPONSE else schema | {"pattern": f"^{_BASE64}$"}
    if kind is Kind.NULL:
        if use is Use.REQUEST:
            return {"enum": [None, "NULL_VALUE", 0]}
        return {"type": "null"} if use is Use.RESPONSE else {"const": "NULL_VALUE"}
    return {"type": "boolean" if kind is Kind.BOOL else "string"}


def integer_bounds(field: FieldDescriptor) -> Schema:
    """Return format and bounds of an integer field."""
    bits = 64 if field_kind(field) is Kind.INT64 else 32
    low, high = codec_scalars.INTEGER_BOUNDS[field.type]
    return {"format": f"int{bits}" if low else f"uint{bits}", "minimum": low, "maximum": high}


def nullable(schema: Schema) -> Schema:
    """Return *schema* with null allowed beside what it allows."""
    if not schema:
        return schema
    if schema == NEVER:
        return {"type": "null"}
    kind = schema.get("type")
    if isinstance(kind, str):
        return schema | {"type": [kind, "null"]} if kind != "null" else schema
    if isinstance(kind, list):
        return schema | {"type": [*kind, "null"]}
    if None in schema.get("enum", ()):
        return schema
    return {"anyOf": [schema, {"type": "null"}]}


def _integer(field: FieldDescriptor, kind: Kind, use: Use, *, as_numbers: bool) -> Schema:
    schema: Schema = {"type": "integer"} | integer_bounds(field)
    if use is Use.REQUEST:
        return schema | {"type": ["integer", "string"], "pattern": f"^{NUMBER}$"}
    if use is Use.PARAMETER or kind is Kind.INT32:
        return schema
    sign = "-?" if schema["minimum"] else ""
    text: Schema = {"type": "string", "format": schema["format"], "pattern": f"^{sign}[0-9]+$"}
    if not as_numbers:
        return text
    return text | {
        "type": ["integer", "string"],
        "minimum": max(-codec_scalars.SAFE_INTEGER, schema["minimum"]),
        "maximum": codec_scalars.SAFE_INTEGER,
    }


def _number(kind: Kind, use: Use) -> Schema:
    texts = f"{NUMBER}|{_NOT_FINITE}" if use is Use.REQUEST else _NOT_FINITE
    schema: Schema = {"type": ["number", "string"], "format": kind.name.lower(), "pattern": f"^(?:{texts})$"}
    if kind is Kind.DOUBLE:
        return schema
    if use is Use.RESPONSE:
        return schema | {"minimum": -codec_scalars.FLOAT_MAX, "maximum": codec_scalars.FLOAT_MAX}
    # What lies beyond the largest float and before this is read as that.
    bound = codec_scalars.BEYOND_FLOATS
    return schema | {"exclusiveMinimum": -bound, "exclusiveMaximum": bound}
