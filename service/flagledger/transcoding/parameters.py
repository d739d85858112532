"""Path variables and query parameters: texts into fields, by dotted paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote_plus

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from flagledger.transcoding.codec_fields import (
    SCALARS,
    Kind,
    field_kind,
    is_map,
    message_kind,
    message_of,
    real_oneof,
    spellings,
)
from flagledger.transcoding.codec_plan import scalar
from flagledger.transcoding.codec_scalars import CodecError
from flagledger.transcoding.codec_wire import duration_wire, field_mask_wire, timestamp_wire

_MALFORMED_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MAX_PARAMETERS: Final = 1_000
_MAX_LEVELS: Final = 32
_MAX_NAME_CHARACTERS: Final = 100
# Of a message that holds itself there are names without end, and who asks chooses them.
_MAX_KNOWN: Final = 1_000

# How the text of a message that JSON writes as a string is set.
_FROM_TEXT: Final[dict[Kind, Callable[[Any], str]]] = {
    Kind.TIMESTAMP: timestamp_wire,
    Kind.DURATION: duration_wire,
    Kind.FIELD_MASK: field_mask_wire,
}


class Parameter:
    """
    One field that a text can set, reached through singular message fields.

    Args:
        path: The fields from the request message to it.

    Raises:
        CodecError: The field cannot be set from a text; the description says why.
    """

    def __init__(self, path: tuple[FieldDescriptor, ...]) -> None:
        *outer, leaf = path
        for field in outer:
            if field.is_repeated:
                raise CodecError("lies inside a repeated field")
        if is_map(leaf):
            raise CodecError("is a map")
        kind = field_kind(leaf)
        settable = kind in SCALARS or kind is Kind.WRAPPER or kind in _FROM_TEXT
        if not settable or (leaf.is_repeated and kind not in SCALARS):
            raise CodecError(f"is of the type {message_of(leaf).full_name}, which no text can set")
        self.name = ".".join(field.name for field in path)
        self.repeated = leaf.is_repeated
        self.scalar = kind in SCALARS and not leaf.is_repeated
        # Two members of one oneof cannot both be set, at whatever level it is.
        self.oneofs = [
            (".".join(f.name for f in path[:level]), oneof, field.name)
            for level, field in enumerate(path)
            if (oneof := real_oneof(field)) is not None
        ]
        self._outer = [field.name for field in outer]
        self._leaf = leaf.name
        self._kind = kind
        value = message_of(leaf).fields_by_name["value"] if kind is Kind.WRAPPER else leaf
        self._is_bool = kind is Kind.BOOL or (kind is Kind.WRAPPER and field_kind(value) is Kind.BOOL)
        self._convert = None if kind in _FROM_TEXT else scalar(value)

    def set(self, message: Any, text: str) -> None:
        """Set, or append to, the field of *message*; CodecError where the text does not fit."""
        for name in self._outer:
            message = getattr(message, name)
        try:
            if self._convert is None:
                inner = getattr(message, self._leaf)
                inner.SetInParent()
                inner.MergeFromString(_FROM_TEXT[self._kind](text).encode("latin-1"))
                return
            value = self._convert(self._truth(text) if self._is_bool else text)
            if self.repeated:
                getattr(message, self._leaf).append(value)
            elif self._kind is Kind.WRAPPER:
                getattr(message, self._leaf).value = value
            else:
                setattr(message, self._leaf, value)
        except CodecError as error:
            raise error.within(self.name) from None
        except (ValueError, TypeError, OverflowError):
            raise CodecError("does not fit the field", self.name) from None

    @staticmethod
    def _truth(text: str) -> Any:
        return {"true": True, "false": False}.get(text, text)


def resolve(descriptor: Descriptor, name: str) -> tuple[FieldDescriptor, ...]:
    """
    Return the fields that a dotted *name* leads through, in either spelling.

    Raises:
        CodecError: There is no such field.
    """
    path: list[FieldDescriptor] = []
    current: Descriptor | None = descriptor
    parts = name.split(".")
    if len(parts) > _MAX_LEVELS:
        raise CodecError("is nested too deeply")
    for part in parts:
        field = None if current is None else spellings(current).get(part)
        if field is None:
            raise CodecError(f"is not a field of {descriptor.full_name}")
        path.append(field)
        inner = field.message_type
        current = inner if inner is not None and message_kind(inner) is Kind.MESSAGE and not is_map(field) else None
    return tuple(path)


class QueryBinder:
    """
    Sets the fields of a request message from a query string.

    Args:
        descriptor: The request message.
        taken: Field paths that the path or the body of the request sets; no parameter may name them.
        everything_taken: Whether the body is the whole message, so that no parameter is possible.
        oneofs: Which member of a oneof the path or the body sets: by the path of the message that it is in, and its name.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        *,
        taken: frozenset[str],
        everything_taken: bool,
        oneofs: Mapping[tuple[str, str], str] = MappingProxyType({}),
    ) -> None:
        self._descriptor = descriptor
        self._taken = taken
        self._everything_taken = everything_taken
        self._oneofs = oneofs
        self._known: dict[str, Parameter] = {}

    def bind(self, message: Any, query: bytes) -> None:
        """
        Set fields of *message* from *query*.

        Raises:
            CodecError: A parameter is unknown, not possible, repeated, or does not fit; the path names it.
        """
        seen: set[str] = set()
        oneofs = dict(self._oneofs)
        for name, text in _pairs(query):
            parameter = self._known.get(name) or self._resolve(name)
            if not parameter.repeated and parameter.name in seen:
                raise CodecError("is there more than once", parameter.name)
            seen.add(parameter.name)
            for holder, oneof, member in parameter.oneofs:
                if oneofs.setdefault((holder, oneof), member) != member:
                    raise CodecError(f"sets a second member of the oneof {oneof!r}", parameter.name)
            parameter.set(message, text)

    def _resolve(self, name: str) -> Parameter:
        shown = name[:_MAX_NAME_CHARACTERS]
        if self._everything_taken:
            raise CodecError("cannot be a query parameter: the body holds the whole request", shown)
        try:
            path = resolve(self._descriptor, name)
            parameter = Parameter(path)
        except CodecError as error:
            raise CodecError(error.description, shown) from None
        names = [field.name for field in path]
        if any(".".join(names[:level]) in self._taken for level in range(1, len(names) + 1)):
            raise CodecError("cannot be a query parameter: the path or the body sets it", shown)
        if len(self._known) < _MAX_KNOWN:
            self._known[name] = parameter
        return parameter


def _pairs(query: bytes) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for piece in query.split(b"&"):
        if not piece:
            continue
        if len(pairs) == _MAX_PARAMETERS:
            raise CodecError(f"The query has more than {_MAX_PARAMETERS} parameters.")
        try:
            text = piece.decode("ascii")
            if _MALFORMED_ESCAPE.search(text):
                raise CodecError("The query holds a '%' that starts no escape.")
            name, _, value = text.partition("=")
            if not name:
                raise CodecError("The query holds a parameter that has no name.")
            pairs.append((unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")))
        except UnicodeDecodeError:
            raise CodecError("The query is not percent-encoded UTF-8.") from None
    return pairs
