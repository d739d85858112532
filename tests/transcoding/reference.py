"""
What the codec has to do, by what `json_format` does: the same, but where a row of the table of differences applies.

A text is read once more here, down to the kind of each value in it. Where rows apply, `json_format` is given what they put in
place of it, so that everything around is compared as well.
"""

from __future__ import annotations

import json
import math
from enum import Enum, auto
from typing import Any, NamedTuple

from flagledger.transcoding import Codec, CodecError, CodecOptions
from flagledger.transcoding.codec_fields import Kind, field_kind, is_map, map_value, message_kind, spellings
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from transcoding.differences import (
    BROKEN_TEXT,
    DEEP,
    DUPLICATE_KEYS,
    FLOAT_MAX,
    NAN,
    NULL_FOR_VALUES,
    NULL_IN_A_ONEOF,
    OF_VALUES,
    REFUSED,
    TOO_DEEP,
    TOO_LARGE,
    TWO_SPELLINGS,
    Difference,
    Place,
)

PLAIN = Codec()
NAMES = Codec(CodecOptions(preserving_proto_field_name=True))


class Verdict(Enum):
    """What becomes of a text."""

    ACCEPTED = auto()
    REFUSED = auto()
    EITHER = auto()


class Outcome(NamedTuple):
    """A verdict, the bytes of the message where there is one, and the rows that were needed to come to it."""

    verdict: Verdict
    message: bytes
    rows: tuple[Difference, ...] = ()


def wire(message: Any) -> bytes:
    """Return *message* as bytes that are equal for equal messages, NaN included."""
    return message.SerializeToString(deterministic=True)


def found(codec: Codec, message_class: Any, text: bytes) -> Outcome:
    """Return what the codec makes of *text*; nothing but its own error is caught."""
    try:
        return Outcome(Verdict.ACCEPTED, wire(codec.parse(text, message_class())))
    except CodecError:
        return Outcome(Verdict.REFUSED, b"")


def expected(message_class: Any, text: bytes) -> Outcome:
    """Return what the codec has to make of *text*."""
    reading = _Reading()
    try:
        value = reading.text(text)
        mended = reading.message(message_class.DESCRIPTOR, value)
    except _RefusedError:
        return Outcome(Verdict.REFUSED, b"", tuple(reading.rows))
    rows = tuple(reading.rows)
    try:
        read = json_format.Parse(json.dumps(mended) if rows else text, message_class())
    except json_format.ParseError:
        return Outcome(Verdict.EITHER if TOO_DEEP in rows else Verdict.REFUSED, b"", rows)
    return Outcome(Verdict.EITHER if TOO_DEEP in rows else Verdict.ACCEPTED, wire(read), rows)


def check_inward(message_class: Any, text: bytes) -> Outcome:
    """Assert that the codec makes of *text* what it has to, whichever spelling it prefers; return it."""
    wanted = expected(message_class, text)
    for codec in (PLAIN, NAMES):
        got = found(codec, message_class, text)
        if wanted.verdict is not Verdict.EITHER:
            assert wanted[:2] == got[:2], (text, wanted)
        elif wanted.message and got.message:
            assert wanted.message == got.message, (text, wanted)
    return wanted


def check_outward(message: Any) -> Any:
    """Assert that the codec writes *message* as json_format does, or refuses it too; return the JSON, or None."""
    for codec, proto_names in ((PLAIN, False), (NAMES, True)):
        try:
            theirs = json_format.MessageToDict(message, preserving_proto_field_name=proto_names)
        # Of an Any of a type that it does not know a TypeError, and of one that is broken what its parser raises.
        except (ValueError, TypeError, DecodeError, json_format.SerializeToJsonError):
            theirs = None
        try:
            ours = codec.encoder(message.DESCRIPTOR)(message)
            text = codec.serialize(message)
        except ValueError:
            assert theirs is None, theirs
            continue
        assert alike(theirs, ours), (theirs, ours)
        assert alike(ours, json.loads(text)), (ours, text)
    return theirs


def alike(theirs: Any, ours: Any) -> bool:
    """Tell whether two parsed JSON values are the same, signs of zero included, but for how the largest float is written."""
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and theirs.keys() == ours.keys() and all(alike(theirs[k], ours[k]) for k in ours)
    if isinstance(theirs, list):
        return isinstance(ours, list) and len(theirs) == len(ours) and all(map(alike, theirs, ours))
    if isinstance(theirs, float) and isinstance(ours, (int, float)) and not isinstance(ours, bool):
        largest = abs(theirs) == 3.4028235e38 and abs(ours) == FLOAT_MAX
        return (theirs == ours or largest) and math.copysign(1, theirs) == math.copysign(1, ours)
    return type(theirs) is type(ours) and bool(theirs == ours)


class _RefusedError(Exception):
    """The text is not to be accepted."""


class _Reading:
    """Reads one text, and keeps the rows that it needs."""

    def __init__(self) -> None:
        self.rows: list[Difference] = []

    def text(self, text: bytes) -> Any:
        """Return the value that *text* spells, the last of equal keys in it."""
        try:
            decoded = text.decode()
        except UnicodeDecodeError:
            raise self._refused(BROKEN_TEXT) from None
        try:
            value = json.loads(
                decoded,
                object_pairs_hook=self._object,
                parse_constant=self._constant,
                parse_float=self._float,
                parse_int=_integer,
            )
        except (ValueError, OverflowError, RecursionError):
            raise _RefusedError from None
        self._check([value])
        if _depth(value) > DEEP:
            self.rows.append(TOO_DEEP)
        return value

    def message(self, descriptor: Any, value: Any) -> Any:
        """Return what json_format has to read instead of *value*, a message in JSON."""
        kind = message_kind(descriptor)
        if kind is Kind.WRAPPER:
            return self._value(field_kind(descriptor.fields_by_name["value"]), value)
        value = self._value(kind, value)
        if kind is not Kind.MESSAGE or not isinstance(value, dict):
            return value
        names = spellings(descriptor)
        last = {names[name].name if name in names else name: item for name, item in value.items()}
        if len(last) < len(value):
            self.rows.append(TWO_SPELLINGS)
        for oneof in descriptor.oneofs:
            members = [last[each.name] for each in oneof.fields if each.name in last and _sets(each, last[each.name])]
            if len(members) > 1 and None in members:
                raise self._refused(NULL_IN_A_ONEOF)
        fields = descriptor.fields_by_name
        return {name: self._field(fields[name], item) if name in fields else item for name, item in last.items()}

    def _field(self, field: Any, value: Any) -> Any:
        if value is None:
            if not field.is_repeated or field_kind(field) not in {Kind.VALUE, Kind.NULL}:
                return value
            self.rows.append(NULL_FOR_VALUES)
            return []
        if is_map(field):
            if not isinstance(value, dict):
                return value
            key = field_kind(field.message_type.fields_by_name["key"])
            entries = [(self._value(key, name), self._item(map_value(field), item)) for name, item in value.items()]
            return dict(entries)
        if field.is_repeated:
            return [self._item(field, item) for item in value] if isinstance(value, list) else value
        return self._item(field, value)

    def _item(self, field: Any, value: Any) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type, value)
        return self._value(field_kind(field), value)

    def _value(self, kind: Kind, value: Any) -> Any:
        for row in OF_VALUES:
            if row.applies(Place(kind=kind, value=value)):
                self.rows.append(row)
                value = row.instead(value)
                if value is REFUSED:
                    raise _RefusedError
        return value

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._check([text for pair in pairs for text in pair])
        last = dict(pairs)
        if len(last) < len(pairs):
            self.rows.append(DUPLICATE_KEYS)
        return last

    def _constant(self, _name: str) -> Any:
        raise self._refused(NAN)

    def _float(self, text: str) -> float:
        number = float(text)
        if math.isinf(number):
            raise self._refused(TOO_LARGE)
        return number

    def _refused(self, row: Difference) -> _RefusedError:
        self.rows.append(row)
        return _RefusedError()

    def _check(self, values: list[Any]) -> None:
        """Refuse half a surrogate pair: both do, but json_format does not look into what another key hides."""
        for value in values:
            if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
                raise _RefusedError
            if isinstance(value, list):
                self._check(value)


def _sets(field: Any, value: Any) -> bool:
    """Tell whether *value* sets a field that is not repeated."""
    return value is not None or field_kind(field) in {Kind.VALUE, Kind.NULL}


def _integer(text: str) -> int:
    """Return an integer; OverflowError for one that no double is near to: both refuse that, if not in what another key hides."""
    number = int(text)
    float(number)
    return number


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)
