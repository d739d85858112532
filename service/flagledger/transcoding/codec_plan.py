"""What a compiled decoder turns to when the fast path ends: other spellings, unknown names, and saying what was wrong where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from google.protobuf import field_mask_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from flagledger.transcoding.codec_fields import (
    Kind,
    enum_of,
    fast_keys,
    field_kind,
    is_map,
    message_kind,
    message_of,
    spellings,
)
from flagledger.transcoding.codec_scalars import (
    INTEGER,
    CodecError,
    bool_from_json,
    bytes_from_json,
    describe,
    double_from_json,
    float_from_json,
    integer_from_json,
)

MISSING: Final = object()

_MAX_NAME_CHARACTERS: Final = 100


class RespelledError(Exception):
    """A message that holds others has fields in another spelling than the one looked for, and has to be decoded anew."""


class ElementError(NamedTuple):
    """An element of a repeated field that could not be decoded: its index, the path of the offending field, a sentence."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a triple for
    path: str
    description: str


class Report:
    """
    What decoding one message found beside its content.

    `errors` are those collected per element; `ignored` tells whether unknown fields were passed over; `spelling_first` whether
    the keys of messages that hold others are looked at before anything is decoded.
    """

    __slots__ = ("errors", "ignored", "spelling_first")

    def __init__(self) -> None:
        self.errors: list[ElementError] = []
        self.ignored = False
        self.spelling_first = False

    @property
    def state(self) -> tuple[int, bool]:
        """What `start_over` goes back to."""
        return len(self.errors), self.ignored

    def start_over(self, state: tuple[int, bool]) -> None:
        """Forget what was found since *state*, and have spellings looked at first from now on."""
        count, self.ignored = state
        del self.errors[count:]
        self.spelling_first = True

    def collect(self, error: CodecError, name: str, index: int) -> None:
        """Note *error* of the element at *index* of the field *name*."""
        error.within(f"{name}[{index}]")
        self.errors.append(ElementError(index, error.path, error.description))

    def prefix(self, start: int, name: str, index: int | None) -> None:
        """Lengthen the paths of the errors from *start* on by the field that holds them."""
        outer = name if index is None else f"{name}[{index}]"
        self.errors[start:] = [error._replace(path=f"{outer}.{error.path}") for error in self.errors[start:]]


class MessagePlan:
    """
    The slow side of one compiled decoder.

    Attributes:
        fast_keys: The spellings that the fast path looks for.
    """

    def __init__(self, descriptor: Descriptor, *, proto_names: bool, lenient: bool) -> None:
        keys = fast_keys(descriptor, proto_names=proto_names)
        self._descriptor = descriptor
        self._keys = keys
        self.fast_keys = frozenset(keys.values())
        self._lenient = lenient
        self._canonical = {name: keys[field.name] for name, field in spellings(descriptor).items()}
        self._display = {field.name: field.name if proto_names else field.json_name for field in descriptor.fields}

    def rest(self, js: Any, report: Report) -> dict[str, Any] | None:
        """
        Look at all keys: refuse or note unknown ones.

        Returns:
            The object in the spelling that the fast path knows, or None where it is in that already, or is no object.

        Raises:
            CodecError: A name is not that of a field.
        """
        if js.__class__ is not dict:
            return None
        canonical = self._canonical
        if not js.keys() <= canonical.keys():
            if not self._lenient:
                unknown = next(key for key in js if key not in canonical)
                name = self._descriptor.full_name
                raise CodecError(f"is not a field of {name}", unknown[:_MAX_NAME_CHARACTERS])
            report.ignored = True
        return self.respelled(js)

    def respelled(self, js: Any) -> dict[str, Any] | None:
        """Return *js* in the spelling that the fast path knows, or None where it is in that already, or is no object."""
        if js.__class__ is not dict:
            return None
        names: dict[str, Any] = js
        known = self._canonical
        # Of two spellings of one field the last counts, as of two equal keys.
        other = {known.get(name, name): value for name, value in names.items()}
        return None if other.keys() == names.keys() else other

    def locate(self, error: CodecError, js: dict[str, Any], name: str, item: Any) -> CodecError:
        """Return *error* with the path from the object *js*, where the *item* of the field *name* was at work."""
        if not name:
            return error
        field = self._descriptor.fields_by_name[name]
        display = self._display[name]
        if not field.is_repeated or is_map(field):
            return error.within(display)
        return error.within(f"{display}[{_index(js[self._keys[name]], item)}]")

    def explain(self, js: Any, name: str, item: Any) -> CodecError:
        """Return the error for a value that did not fit the field *name*, or for an object that was none."""
        if not name:
            return CodecError(self._expectation(js))
        field = self._descriptor.fields_by_name[name]
        display = self._display[name]
        value = js[self._keys[name]]
        if is_map(field):
            return CodecError(f"has to be an object, not {describe(value)}", display)
        if field.is_repeated:
            if not isinstance(value, list):
                return CodecError(f"has to be an array, not {describe(value)}", display)
            return CodecError(_misfit(field, item), f"{display}[{_index(value, item)}]")
        return CodecError(_misfit(field, value), display)

    def _expectation(self, js: Any) -> str:
        if message_kind(self._descriptor) is Kind.WRAPPER:
            return _misfit(self._descriptor.fields_by_name["value"], js)
        return f"has to be an object, not {describe(js)}"


def _index(items: list[Any], item: Any) -> int:
    # By identity: of items that are one and the same the first is the one that failed.
    return next((at for at, other in enumerate(items) if other is item), 0)


def scalar(field: FieldDescriptor) -> Callable[[Any], Any]:
    """Return the strict conversion of one value of a scalar field."""
    kind = field_kind(field)
    if kind in {Kind.INT32, Kind.INT64}:
        number = field.type
        return lambda value: integer_from_json(value, number)
    if kind is Kind.ENUM:
        return _enum(enum_of(field))
    return {
        Kind.STRING: _string_from_json,
        Kind.BYTES: bytes_from_json,
        Kind.BOOL: bool_from_json,
        Kind.DOUBLE: double_from_json,
        Kind.FLOAT: float_from_json,
        Kind.NULL: _null_from_json,
    }[kind]


def _string_from_json(value: Any) -> str:
    if value.__class__ is not str:
        raise CodecError(f"has to be a string, not {describe(value)}")
    return str(value)


def _null_from_json(value: Any) -> int:
    if value is None or value == "NULL_VALUE" or (value.__class__ is int and value == 0):
        return 0
    raise CodecError(f"has to be null, not {describe(value)}")


def _enum(enum: EnumDescriptor) -> Callable[[Any], int]:
    numbers = {name: value.number for name, value in enum.values_by_name.items()}
    known = frozenset(numbers.values())

    def convert(value: Any) -> int:
        if value.__class__ is str and value in numbers:
            return numbers[value]
        try:
            if value.__class__ is str and not INTEGER.fullmatch(value):
                raise CodecError("is not an integer")
            number = integer_from_json(value, FieldDescriptor.TYPE_ENUM)
        except CodecError:
            raise CodecError(f"is not a value of {enum.full_name}") from None
        if enum.is_closed and number not in known:
            raise CodecError(f"is not a value of {enum.full_name}")
        return number

    return convert


def field_mask_from_json(value: Any) -> list[str]:
    """Return the paths of a FieldMask from comma-separated paths in lowerCamelCase."""
    if value.__class__ is not str:
        raise CodecError(f"has to be a field mask in a string, not {describe(value)}")
    mask = field_mask_pb2.FieldMask()
    try:
        mask.FromJsonString(value)
    except ValueError:
        raise CodecError("is not a field mask in lowerCamelCase") from None
    return list(mask.paths)


def any_from_json(_value: Any) -> str:
    """Refuse an Any: it could name any type that this process happens to know."""
    raise CodecError("is a google.protobuf.Any, which is not accepted")


def _misfit(field: FieldDescriptor, value: Any) -> str:
    """Return why *value* does not fit one value of *field*, in the words of its strict conversion."""
    inner = field
    if field_kind(field) is Kind.WRAPPER:
        inner = message_of(field).fields_by_name["value"]
    if inner.message_type is not None:
        return f"has to be an object, not {describe(value)}"
    try:
        scalar(inner)(value)
    except CodecError as error:
        return error.description
    except (TypeError, ValueError, OverflowError):
        pass
    return "is out of range"
