"""
Where `google.protobuf.json_format` is wrong, and what the codec does instead: the one table of it.

Tests compare the two everywhere else; the fuzz tests find every row by its predicate, and docs/transcoding.md shows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from flagledger.transcoding.codec_fields import Kind

REFUSED: Final = object()
"""What a row gives instead of a value that the codec does not take."""

FLOAT_MAX: Final = float.fromhex("0x1.fffffep+127")
BEYOND_FLOATS: Final = float.fromhex("0x1.ffffffp+127")
DEEP: Final = 24
"""Levels up to which both take anything."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}(?:==)?|[A-Za-z0-9+/_-]{3}=?)?")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
_DURATION = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?s")
_INTEGERS = frozenset({Kind.INT32, Kind.INT64})
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})


@dataclass(frozen=True, kw_only=True)
class Place:
    """
    One value in JSON, and what it stands for.

    Attributes:
        kind: The kind of the message or scalar, None for what is so in any JSON text.
        value: As `json.loads` gives it; of a text the bytes.
    """

    kind: Kind | None
    value: Any


@dataclass(frozen=True, kw_only=True)
class Difference:
    """
    One row.

    Attributes:
        shown: The input in the words of the documentation.
        input: An example of it, as a body.
        message: Full name of the test message that it is read as.
        json_format: What json_format does, in words.
        here: What the codec does, in words.
        why: The reason.
        applies: Tells whether a place is one of it.
        instead: Gives what json_format has to read to do as the codec does, or REFUSED.
    """

    shown: str
    input: bytes
    message: str = "kitchen.v1.Everything"
    json_format: str
    here: str = "refused"
    why: str
    applies: Callable[[Place], bool]
    instead: Callable[[Any], Any] = lambda _: REFUSED


def _text(place: Place, *kinds: Kind) -> str | None:
    return place.value if place.kind in kinds and isinstance(place.value, str) else None


def exact(text: str) -> Decimal | None:
    """Return the number that a text of JSON's grammar spells, or None where it is far out of range."""
    if not text.lower().partition("e")[0].strip("-.0"):
        return Decimal(0)
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if abs(number.adjusted()) < 400 else None


def _no_integer_text(place: Place) -> bool:
    text = _text(place, *_INTEGERS)
    return text is not None and not _NUMBER.fullmatch(text)


def _no_enum_text(place: Place) -> bool:
    text = _text(place, Kind.ENUM)
    if text is None or _INTEGER.fullmatch(text):
        return False
    try:
        int(text)
    except ValueError:
        return False
    return True


def _no_number_text(place: Place) -> bool:
    text = _text(place, Kind.DOUBLE, Kind.FLOAT)
    return text is not None and text not in _NOT_FINITE and not _NUMBER.fullmatch(text)


def _rounded(place: Place) -> bool:
    """Tell whether a double has no room for the integer, or the fraction, that a string spells."""
    text = _text(place, *_INTEGERS)
    if text is None or not _NUMBER.fullmatch(text) or _INTEGER.fullmatch(text):
        return False
    number = exact(text)
    return number is None or Decimal(float(text)) != number


def _exactly(text: str) -> Any:
    number = exact(text)
    if number is None or number != number.to_integral_value():
        return REFUSED
    return str(int(number))


def _too_large(place: Place) -> bool:
    """Tell whether a number is beyond the range of its type, in a string or for a float."""
    value = place.value
    if place.kind not in {Kind.DOUBLE, Kind.FLOAT} or isinstance(value, bool) or _no_number_text(place):
        return False
    if not isinstance(value, (int, float, str)) or value in _NOT_FINITE:
        return False
    try:
        number = abs(float(value))
    except OverflowError:
        return True
    return number == float("inf") or (place.kind is Kind.FLOAT and number >= BEYOND_FLOATS)


def _largest_float(place: Place) -> bool:
    value = place.value
    return place.kind is Kind.FLOAT and isinstance(value, float) and FLOAT_MAX < abs(value) < BEYOND_FLOATS


def _no_enum_number(place: Place) -> bool:
    value = place.value
    if place.kind is not Kind.ENUM:
        return False
    return isinstance(value, bool) or (isinstance(value, float) and not value.is_integer())


def _wrapped_enum_number(place: Place) -> bool:
    if place.kind is not Kind.ENUM or isinstance(place.value, bool):
        return False
    number = place.value
    if isinstance(number, str) and _INTEGER.fullmatch(number):
        number = int(number) if len(number) < 4000 else 2**40
    return isinstance(number, (int, float)) and not -(2**31) <= number < 2**31


def _no_null(place: Place) -> bool:
    value = place.value
    return place.kind is Kind.NULL and value not in (None, "NULL_VALUE") and not (type(value) is int and value == 0)


def _no_base64(place: Place) -> bool:
    text = _text(place, Kind.BYTES)
    return text is not None and not _BASE64.fullmatch(text)


def _no_timestamp(place: Place) -> bool:
    text = _text(place, Kind.TIMESTAMP)
    return text is not None and not _TIMESTAMP.fullmatch(text)


def _no_duration(place: Place) -> bool:
    text = _text(place, Kind.DURATION)
    return text is not None and not _DURATION.fullmatch(text)


# Of any JSON text. What is found here is found by the reading of the text, see reference.py.
NAN = Difference(
    shown='`{"value": NaN}`, `Infinity`, `-Infinity`',
    input=b'{"value":NaN}',
    json_format="a `Value` that holds it, and that it will not write",
    why="JSON has no such numbers; a `double` takes them as strings",
    applies=lambda place: place.kind is None and place.value in _NOT_FINITE,
)
TOO_LARGE = Difference(
    shown='`{"value": 1e400}`',
    input=b'{"value":1e400}',
    json_format="a `Value` that holds infinity, and that it will not write",
    why="no `double` has room for it",
    applies=lambda place: isinstance(place.value, float) and abs(place.value) == float("inf"),
)
BROKEN_TEXT = Difference(
    shown="bytes that are no UTF-8",
    input=b'{"stringField":"\xff"}',
    json_format="`UnicodeDecodeError`, which is not its `ParseError`",
    here="refused as every text that is not JSON",
    why="whoever sends it is to be told as of any other fault",
    applies=lambda place: place.kind is None and isinstance(place.value, UnicodeDecodeError),
)
DUPLICATE_KEYS = Difference(
    shown='`{"stringField": "a", "stringField": "b"}`',
    input=b'{"stringField":"a","stringField":"b"}',
    json_format="refused",
    here="the last counts, as a whole",
    why="RFC 8259 leaves it open, most parsers do so, and the one that is fast enough keeps no trace of the others",
    applies=lambda place: place.kind is None and place.value == "a key twice",
    instead=lambda value: value,
)
TWO_SPELLINGS = Difference(
    shown='`{"choiceInt": 1, "choice_int": 2}`',
    input=b'{"choiceInt":1,"choice_int":2}',
    json_format="refused in a oneof or with `optional`; elsewhere messages are merged, and of the rest the last counts",
    here="the last counts, as a whole, whatever stands in the other",
    why="the two are one name, so this is a duplicate key",
    applies=lambda place: place.kind is None and place.value == "a field in two spellings",
    instead=lambda value: value,
)
NULL_FOR_VALUES = Difference(
    shown='`{"values": null}` for `repeated google.protobuf.Value`',
    input=b'{"values":null}',
    json_format="refused, for an `AttributeError` of its own",
    here="an empty list",
    why="`null` leaves a repeated field of any type unset",
    applies=lambda place: place.kind is None and place.value == "null for a list of values",
    instead=lambda _: [],
)
NULL_IN_A_ONEOF = Difference(
    shown="a second member of a oneof that is `null`, where that is a `Value` or a `NullValue`",
    input=b'{"aString":"a","aValue":null}',
    message="conformance.v1.Oneofs",
    json_format="the last counts",
    why="`null` is a value there, so that two members are set; `null` for any other member is as if it was not there",
    applies=lambda place: place.kind is None and place.value == "null and another member",
)
TOO_DEEP = Difference(
    shown="objects and arrays inside each other, beyond `max_depth`",
    input=b'{"struct":' + b'{"a":' * 35 + b"1" + b"}" * 36,
    json_format="refused beyond 100 messages, of which an object in a `Struct` is two and an array in it too",
    here="refused beyond `max_depth` levels of JSON (40), or 100 messages on the wire, of which an object in a `Struct` is three",
    why="what is accepted has to be one that every protobuf parser reads again",
    applies=lambda place: place.kind is None and isinstance(place.value, int) and place.value > DEEP,
)

# Of one value.
ANY = Difference(
    shown="a `google.protobuf.Any`",
    input=b'{"any":{"@type":"type.googleapis.com/kitchen.v1.Nested","name":"x"}}',
    message="kitchen.v1.Packed",
    json_format="the message of that type, of all that the process knows",
    why="a client is not to choose what is built",
    applies=lambda place: place.kind is Kind.ANY,
)
OF_VALUES = (
    Difference(
        shown='`{"nested": []}`, `{"nested": ""}`',
        input=b'{"nested":[]}',
        json_format="an empty message",
        why="a message is an object",
        applies=lambda place: place.kind is Kind.MESSAGE and place.value in ([], ""),
    ),
    ANY,
    Difference(
        shown='`"1_0"`, `"+5"`, `"007"`, `"5\\t"`, `"5."`, Arabic digits for an integer',
        input='{"int64Field":"\u0665"}'.encode(),
        json_format="what Python's `int` or `float` makes of it",
        why="a number in a string is a number of JSON",
        applies=_no_integer_text,
    ),
    Difference(
        shown='`"9007199254740993.0"` for an integer',
        input=b'{"int64Field":"9007199254740993.0"}',
        json_format="9007199254740992, by way of a `double`",
        here="9007199254740993; and `0.99999999999999999999` is no integer",
        why="an integer is read exactly or not at all",
        applies=_rounded,
        instead=_exactly,
    ),
    Difference(
        shown="`-9223372036854775808.0` for an integer, as a number",
        input=b'{"int64Field":-9223372036854775808.0}',
        json_format="-9223372036854775808",
        why="the parser gives the same for -9223372036854775809; without the fraction or in a string it is read",
        applies=lambda place: place.kind in _INTEGERS and isinstance(place.value, float) and place.value == -(2.0**63),
    ),
    Difference(
        shown='`"inf"`, `" 1"`, `"1_0"`, `".5"`, `"5."` for a `double` or `float`',
        input=b'{"doubleField":"inf"}',
        json_format="what Python's `float` makes of it",
        why='a number in a string is a number of JSON, or `"NaN"`, `"Infinity"`, `"-Infinity"`',
        applies=_no_number_text,
    ),
    Difference(
        shown='`"1e400"` for a `double`; `"3.5e38"`, or that as an integer, for a `float`',
        input=b'{"doubleField":"1e400"}',
        json_format="infinity",
        why="what is out of range is refused, as without the quotes",
        applies=_too_large,
    ),
    Difference(
        shown="`3.4028235e+38` for a `float`",
        input=b'{"floatField":3.4028235e+38}',
        json_format="refused, and yet it is what json_format itself writes for the largest `float`",
        here="the largest `float`",
        why="it is nearer to that than to what would come next",
        applies=_largest_float,
        instead=lambda value: FLOAT_MAX if value > 0 else -FLOAT_MAX,
    ),
    Difference(
        shown="`true` for a `double` or `float`",
        input=b'{"doubleField":true}',
        json_format="1",
        why="a truth value is no number",
        applies=lambda place: place.kind in {Kind.DOUBLE, Kind.FLOAT} and isinstance(place.value, bool),
    ),
    Difference(
        shown="`1.5`, `true` for an enum",
        input=b'{"color":1.5}',
        json_format="the value 1",
        why="neither is a value of an enum",
        applies=_no_enum_number,
    ),
    Difference(
        shown='`"+1"`, `" 1"`, `"1_0"`, `"007"`, Arabic digits for an enum',
        input=b'{"color":" 1"}',
        json_format="what Python's `int` makes of it",
        why="a number in a string is a number of JSON",
        applies=_no_enum_text,
    ),
    Difference(
        shown="`4294967297` for an enum",
        input=b'{"color":4294967297}',
        json_format="the value 1, of the low 32 bits",
        why="it is out of range",
        applies=_wrapped_enum_number,
    ),
    Difference(
        shown='`5`, `false`, `"0"` for a `NullValue`',
        input=b'{"nullField":5}',
        json_format="a value that the enum does not have, or null",
        why='null is `null`, and `"NULL_VALUE"` or 0 from those who take it for an enum',
        applies=_no_null,
    ),
    Difference(
        shown="`[null]` for `repeated google.protobuf.NullValue`",
        input=b'{"nulls":[null]}',
        message="conformance.v1.Lists",
        json_format="refused, and yet it is what json_format itself writes",
        here="a list of one null",
        why="`null` is what a `NullValue` is in JSON",
        applies=lambda place: place.kind is Kind.NULL and place.value is None,
        instead=lambda _: "NULL_VALUE",
    ),
    Difference(
        shown='`"YW I="`, `"YQ="` for `bytes`',
        input=b'{"bytesField":"YQ="}',
        json_format="what is left when other characters are passed over, with any padding",
        why="base64 has its alphabet, and is padded wholly or not at all",
        applies=_no_base64,
    ),
    Difference(
        shown='`"2026-2-1T0:0:0Z"`, a fraction of `1e0`, an offset of `+2:00` or `+99:99`, Arabic digits for a `Timestamp`',
        input=b'{"time":"2026-02-10T11:00:00+99:99"}',
        json_format="what Python's `strptime`, `float` and `int` make of the parts",
        why="RFC 3339",
        applies=_no_timestamp,
    ),
    Difference(
        shown='`"1.0000000001s"`, `"+1s"`, `" 1s"`, `"1.s"`, `"0000000000001s"`, Arabic digits for a `Duration`',
        input=b'{"duration":"1.0000000001s"}',
        json_format="what Python's `int` and `float` make of the parts",
        why="seconds in at most twelve digits, with at most nine decimals: what fits into nanoseconds",
        applies=_no_duration,
    ),
)

DIFFERENCES: Final = (
    NAN,
    TOO_LARGE,
    BROKEN_TEXT,
    DUPLICATE_KEYS,
    TWO_SPELLINGS,
    NULL_FOR_VALUES,
    NULL_IN_A_ONEOF,
    TOO_DEEP,
    *OF_VALUES,
)


def documented_rows() -> list[str]:
    """Return the table of the documentation, line by line."""
    lines = ["| input | json_format | here | why |", "|---|---|---|---|"]
    lines += [f"| {each.shown} | {each.json_format} | {each.here} | {each.why} |" for each in DIFFERENCES]
    return lines
