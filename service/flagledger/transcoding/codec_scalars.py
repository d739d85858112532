"""
Scalars and the string-like well-known types between JSON and protobuf, as strictly as the JSON mapping of proto3 is
written.

Every `*_from_json` takes what orjson parsed and raises `CodecError` with a sentence; the compiled codecs call these
only off the fast path.
"""

from __future__ import annotations

import binascii
import datetime as dt
import math
import re
import struct
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

SAFE_INTEGER: Final = 2**53

INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_TIMESTAMP: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_DURATION: Final = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
_MAX_DIGITS: Final = 20
_MAX_OFFSET_HOURS: Final = 23
_MAX_MINUTE: Final = 59
_FIRST_SECOND: Final = -62_135_596_800  # 0001-01-01T00:00:00Z
_LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59Z
_MAX_DURATION_SECONDS: Final = 315_576_000_000
_SECONDS_PER_DAY: Final = 86_400
_MAX_NANOS: Final = 999_999_999
_EPOCH_DAY: Final = dt.date(1970, 1, 1).toordinal()
FLOAT_MAX: Final = float.fromhex("0x1.fffffep+127")
# From here on a number is rounded to beyond the largest float. What lies between is the largest one, written short: 3.4028235e38.
BEYOND_FLOATS: Final = float.fromhex("0x1.ffffffp+127")
_FLOAT_PACK: Final = struct.Struct("<f")

# Bounds of the integer kinds by FieldDescriptor.type.
INTEGER_BOUNDS: Final[dict[int, tuple[int, int]]] = {
    **dict.fromkeys(
        (
            FieldDescriptor.TYPE_INT32,
            FieldDescriptor.TYPE_SINT32,
            FieldDescriptor.TYPE_SFIXED32,
            FieldDescriptor.TYPE_ENUM,
        ),
        (-(2**31), 2**31 - 1),
    ),
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64), (-(2**63), 2**63 - 1)
    ),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32), (0, 2**32 - 1)),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64), (0, 2**64 - 1)),
}


class CodecError(ValueError):
    """
    JSON that does not fit its message.

    Args:
        description: A sentence for people that says what is wrong.
        path: Path of the offending field, relative to the message that was decoded; empty for the message itself.
        fatal: Whether it costs the whole message even inside an element whose errors are collected.
    """

    def __init__(self, description: str, path: str = "", *, fatal: bool = False) -> None:
        super().__init__(description, path)
        self.description = description
        self.path = path
        self.fatal = fatal

    def __str__(self) -> str:
        return f"{self.path}: {self.description}" if self.path else self.description

    @property
    def sentence(self) -> str:
        """What is wrong and where, as a whole sentence for the sender."""
        if self.path:
            return f"{self.path} {self.description}."
        return f"The body {self.description}." if self.description[:1].islower() else self.description

    def within(self, outer: str) -> CodecError:
        """Return this error with its path lengthened at the front: a field name, or `name[3]`."""
        if not self.path:
            self.path = outer
        elif self.path[0] == "[":
            self.path = outer + self.path
        else:
            self.path = f"{outer}.{self.path}"
        return self


class TooManyElementsError(CodecError):
    """
    A repeated field with more elements than it may have; none of them was looked at.

    Args:
        most: Elements that it may have.
        path: As in CodecError.
        field: Full name of the repeated field.
    """

    def __init__(self, most: int, path: str, *, field: str) -> None:
        super().__init__(f"has more than {most:,} elements", path)
        self.most = most
        self.field = field


def describe(value: Any) -> str:
    """Return what kind of JSON *value* is, for an error text that quotes nothing of it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return {str: "a string", int: "a number", float: "a number", list: "an array", dict: "an object"}.get(
        type(value), "no JSON"
    )


def integer_from_json(value: Any, kind: int) -> int:
    """Return the integer that a JSON number or string spells, within the bounds of the field type *kind*."""
    low, high = INTEGER_BOUNDS[kind]
    if value.__class__ is int:
        number: int = value
    elif value.__class__ is float:
        if not math.isfinite(value) or value != math.floor(value):
            raise CodecError("is not an integer")
        number = int(value)
        # orjson reads integers past 64 bits as floats: -2^63 - 1 would come out as the lower bound itself.
        if number in (-(2**63), 2**64):
            raise CodecError("is out of range")
    elif value.__class__ is str:
        number = _integer_from_text(value)
    else:
        raise CodecError(f"has to be an integer, not {describe(value)}")
    if not low <= number <= high:
        raise CodecError("is out of range")
    return number


def _integer_from_text(text: str) -> int:
    if not NUMBER.fullmatch(text):
        raise CodecError("is not an integer")
    if not text.lower().partition("e")[0].strip("-.0"):
        return 0
    try:
        number = Decimal(text)
    except InvalidOperation:
        # An exponent that a Decimal has no room for.
        raise CodecError("is out of range") from None
    # Before anything is computed: 1e999999999 has as many digits as that says.
    if number.adjusted() > _MAX_DIGITS:
        raise CodecError("is out of range")
    if number.adjusted() < 0 or number != number.to_integral_value():
        raise CodecError("is not an integer")
    return int(number)


def double_from_json(value: Any) -> float:
    """Return the double that a JSON number or string spells; NaN and the infinities have to be spelled as strings."""
    if value.__class__ is float:
        number: float = value
    elif value.__class__ is int:
        number = float(value)
    elif value.__class__ is str:
        if value == "NaN":
            return math.nan
        if value == "Infinity":
            return math.inf
        if value == "-Infinity":
            return -math.inf
        if not NUMBER.fullmatch(value):
            raise CodecError("is not a number")
        number = float(value)
    else:
        raise CodecError(f"has to be a number, not {describe(value)}")
    if not math.isfinite(number):
        raise CodecError("is out of range")
    return number


def float_from_json(value: Any) -> float:
    """Return the single-precision number that a JSON number or string spells, as `double_from_json` does."""
    number = double_from_json(value)
    if math.isfinite(number) and abs(number) >= BEYOND_FLOATS:
        raise CodecError("is out of range")
    return number


def float_to_json(value: float) -> float | str:
    """Return a single-precision number with as few digits as bring it back, or the name of a non-finite one."""
    if not math.isfinite(value):
        return double_to_json(value)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if abs(short) <= FLOAT_MAX and _FLOAT_PACK.unpack(_FLOAT_PACK.pack(short))[0] == value:
            return short
    short = float(f"{value:.9g}")
    # The largest one would be rounded to beyond its own type, where no parser reads it back.
    return short if abs(short) <= FLOAT_MAX else value


def double_to_json(value: float) -> float | str:
    """Return a double, or the name of a non-finite one."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def long_to_json(value: int) -> int | str:
    """Return a 64-bit integer as a number up to 2^53, which every JSON parser reads exactly, and as a string beyond."""
    return value if -SAFE_INTEGER <= value <= SAFE_INTEGER else str(value)


def bytes_from_json(value: Any) -> bytes:
    """Return the bytes that standard or URL-safe base64 spells, padded or not."""
    if value.__class__ is not str:
        raise CodecError(f"has to be base64 in a string, not {describe(value)}")
    digits = value.rstrip("=")
    if not _BASE64.fullmatch(value) or len(digits) % 4 == 1 or (value != digits and len(value) % 4):
        raise CodecError("is not base64")
    padded = digits.replace("-", "+").replace("_", "/") + "=" * (-len(digits) % 4)
    return binascii.a2b_base64(padded)


def bytes_to_json(value: bytes) -> str:
    """Return standard base64 with padding."""
    return binascii.b2a_base64(value, newline=False).decode()


def bool_from_json(value: Any) -> bool:
    """Return a JSON truth value as it is."""
    if value is True or value is False:
        return bool(value)
    raise CodecError(f"has to be true or false, not {describe(value)}")


def timestamp_from_json(value: Any) -> tuple[int, int]:
    """
    Return seconds and nanos of an RFC 3339 string.

    The years are 0001 to 9999; a second has at most nine decimals, an offset at most 23:59.
    """
    if value.__class__ is not str:
        raise CodecError(f"has to be an RFC 3339 timestamp in a string, not {describe(value)}")
    match = _TIMESTAMP.fullmatch(value)
    if match is None:
        raise CodecError("is not an RFC 3339 timestamp such as 2026-02-10T11:00:00Z")
    second, fraction, sign, hours, minutes = match.groups()
    try:
        moment = dt.datetime.fromisoformat(second)
    except ValueError:
        raise CodecError("is not a moment of the calendar") from None
    seconds = (
        (moment.toordinal() - _EPOCH_DAY) * _SECONDS_PER_DAY + moment.hour * 3600 + moment.minute * 60 + moment.second
    )
    if sign is not None:
        offset = int(hours) * 3600 + int(minutes) * 60
        if int(hours) > _MAX_OFFSET_HOURS or int(minutes) > _MAX_MINUTE:
            raise CodecError("has an offset beyond 23:59")
        seconds -= offset if sign == "+" else -offset
        if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
            raise CodecError("lies outside the years 0001 to 9999")
    return seconds, int(fraction.ljust(9, "0")) if fraction else 0


# Second → its text: the moments of one answer lie close together.
_seconds_cache: dict[int, str] = {}
_MAX_CACHED_SECONDS: Final = 16_384


def timestamp_to_json(message: Any) -> str:
    """
    Return a Timestamp as RFC 3339 in UTC, with 0, 3, 6 or 9 digits of a second.

    Raises:
        ValueError: It lies outside the years 0001 to 9999, or its nanos are not those of a second.
    """
    seconds = message.seconds
    nanos = message.nanos
    text = _seconds_cache.get(seconds) or _second_to_json(seconds)
    # Microseconds without zeros before them are what most clocks tell, and numbers without a width what Python writes fastest.
    if 100_000_000 <= nanos <= _MAX_NANOS and nanos % 1_000 == 0 and nanos % 1_000_000:  # noqa: PLR2004
        return f"{text}.{nanos // 1_000}Z"
    if not 0 <= nanos <= _MAX_NANOS:
        raise ValueError("The nanos of a Timestamp are not those of a second.")
    return f"{text}{_fraction(nanos)}Z"


def _second_to_json(seconds: int) -> str:
    """Return the text of a second without its fraction, and keep it."""
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise ValueError("A Timestamp lies outside the years 0001 to 9999.")
    if len(_seconds_cache) >= _MAX_CACHED_SECONDS:
        _seconds_cache.clear()
    day, second = divmod(seconds, _SECONDS_PER_DAY)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    date = dt.date.fromordinal(day + _EPOCH_DAY).isoformat()
    text = _seconds_cache[seconds] = f"{date}T{hour:02}:{minute:02}:{second:02}"
    return text


def duration_from_json(value: Any) -> tuple[int, int]:
    """Return seconds and nanos of a Duration, from seconds with at most nine decimals and an `s`: `-1.5s`."""
    if value.__class__ is not str:
        raise CodecError(f"has to be a duration in a string, not {describe(value)}")
    match = _DURATION.fullmatch(value)
    if match is None:
        raise CodecError("is not a duration such as 1.5s")
    sign, whole, fraction = match.groups()
    seconds = int(whole)
    nanos = int(fraction.ljust(9, "0")) if fraction else 0
    if seconds > _MAX_DURATION_SECONDS:
        raise CodecError("is longer than 10,000 years")
    return (-seconds, -nanos) if sign else (seconds, nanos)


def duration_to_json(message: Any) -> str:
    """
    Return a Duration in seconds, with 0, 3, 6 or 9 decimals.

    Raises:
        ValueError: It is longer than 10,000 years, or its parts have different signs.
    """
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > _MAX_DURATION_SECONDS or abs(nanos) > _MAX_NANOS or seconds * nanos < 0:
        raise ValueError("A Duration is out of range.")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def _fraction(nanos: int) -> str:
    if nanos == 0:
        return ""
    if nanos % 1_000_000 == 0:
        return f".{nanos // 1_000_000:03}"
    if nanos % 1_000 == 0:
        return f".{nanos // 1_000:06}"
    return f".{nanos:09}"
