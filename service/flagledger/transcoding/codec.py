"""
The JSON mapping of proto3, both ways, compiled once per message descriptor.

Where `google.protobuf.json_format` is stricter or laxer than the mapping's own words, the words count: see the table
in the tests of this module. Of duplicate keys the last counts, and so it does of the two spellings of one field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from flagledger.transcoding.codec_decode import Decode, DecoderCompiler
from flagledger.transcoding.codec_encode import Encode, EncoderCompiler
from flagledger.transcoding.codec_fields import Kind, field_kind, is_map, map_value, message_kind, spellings
from flagledger.transcoding.codec_plan import ElementError, Report
from flagledger.transcoding.codec_scalars import CodecError, TooManyElementsError

__all__ = ["Codec", "CodecError", "CodecOptions", "ElementError", "Report", "TooManyElementsError"]

_M = TypeVar("_M", bound=Message)

MAX_IGNORED_PATHS: Final = 20
_MAX_PATH_CHARACTERS: Final = 200
_MOST_LEVELS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecOptions:
    """
    Choices that the JSON mapping leaves open, each off by default.

    Attributes:
        preserving_proto_field_name: Write proto names instead of lowerCamelCase, in error paths too. Both are always
            read.
        always_print_primitive: Write primitive fields without presence when they are zero, too.
        int64_as_numbers: Write 64-bit integers up to 2^53 as numbers; beyond, as strings, as all of them are otherwise.
        max_depth: Levels of objects and arrays that a body may have.
        ignore_unknown_below: Full names of messages inside which unknown fields are ignored and reported instead of
            refused.
        collect_errors_in: Full names of repeated message fields. An element that does not fit stays as an empty
            placeholder, and its error is reported, instead of failing the whole.
        max_elements: By full name of a repeated field, the elements it may have: asked before the first is looked at.
    """

    preserving_proto_field_name: bool = False
    always_print_primitive: bool = False
    int64_as_numbers: bool = False
    max_depth: int = 64
    ignore_unknown_below: frozenset[str] = field(default=frozenset())
    collect_errors_in: frozenset[str] = field(default=frozenset())
    max_elements: Mapping[str, int] = field(default_factory=dict)


class Codec:
    """JSON to message and message to JSON, under one set of options."""

    def __init__(self, options: CodecOptions | None = None) -> None:
        self.options = options or CodecOptions()
        self._decoders = DecoderCompiler(
            proto_names=self.options.preserving_proto_field_name,
            # No protobuf parser takes more than 100 messages in each other, which lists of them put two levels apart.
            max_depth=min(self.options.max_depth, _MOST_LEVELS),
            ignore_unknown_below=self.options.ignore_unknown_below,
            collect_errors_in=self.options.collect_errors_in,
            max_elements=self.options.max_elements,
        )
        self._encoders = EncoderCompiler(
            proto_names=self.options.preserving_proto_field_name,
            always_print_primitive=self.options.always_print_primitive,
            int64_as_numbers=self.options.int64_as_numbers,
        )

    def parse(self, data: bytes, message: _M, report: Report | None = None) -> _M:
        """
        Set the empty *message* from JSON text, and return it.

        Raises:
            CodecError: The text is not JSON, or does not fit the message; the path says where.
        """
        report = Report() if report is None else report
        return build(message, self.decoder(cast("Descriptor", message.DESCRIPTOR))(load(data), report, 1))

    def serialize(self, message: Message) -> bytes:
        """
        Return *message* as JSON text.

        Raises:
            ValueError: It holds something that JSON has no word for: NaN in a Value, a Timestamp out of range; or more levels
                than orjson writes, 254.
        """
        try:
            return orjson.dumps(self.encoder(cast("Descriptor", message.DESCRIPTOR))(message))
        except (orjson.JSONEncodeError, RecursionError):
            raise ValueError("The message is nested too deeply to be written as JSON.") from None

    def decoder(self, descriptor: Descriptor) -> Decode:
        """Return the compiled decoder: `decode(parsed_json, report, depth)` writes what `build` makes a message of."""
        return self._decoders.decoder(descriptor)

    def encoder(self, descriptor: Descriptor) -> Encode:
        """Return the compiled encoder: `encode(message)` gives what orjson writes."""
        return self._encoders.encoder(descriptor)

    def default(self, field: FieldDescriptor) -> Any:
        """Return what an unset field is in JSON where it has to be written: `[]`, `{}`, `null`, or the default of a scalar."""
        if is_map(field):
            return {}
        if field.is_repeated:
            return []
        if field.message_type is not None or field_kind(field) is Kind.NULL:
            return None
        return self._encoders.default(field)

    def ignored_paths(self, descriptor: Descriptor, parsed: Any) -> tuple[str, ...]:
        """Return the distinct paths of fields that *descriptor* does not know, indices left out (`items[].name`), at most 20."""
        paths: dict[str, None] = {}
        for path in _unknown(descriptor, parsed, ""):
            paths[path[:_MAX_PATH_CHARACTERS]] = None
            if len(paths) == MAX_IGNORED_PATHS:
                break
        return tuple(paths)


def load(data: bytes) -> Any:
    """
    Return the JSON value that *data* spells.

    Raises:
        CodecError: It is no JSON text in UTF-8.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if not data:
            raise CodecError("The body is empty; an empty message is {}.", fatal=True) from None
        raise CodecError(f"The body is not JSON: {error}.", fatal=True) from None


def build(message: _M, content: str) -> _M:
    """
    Set the empty *message* from what a decoder wrote, and return it.

    Raises:
        CodecError: It is nested too deeply for a protobuf parser: that is all that a decoder leaves to be found.
    """
    try:
        message.MergeFromString(content.encode("latin-1"))
    except DecodeError:
        raise CodecError("The body is nested too deeply for a protobuf message.", fatal=True) from None
    return message


def _unknown(descriptor: Descriptor, value: Any, prefix: str) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    names = spellings(descriptor)
    for key, item in value.items():
        known = names.get(key)
        if known is None:
            yield prefix + key
        elif known.message_type is not None:
            yield from _unknown_in_field(known, item, prefix + key)


def _unknown_in_field(known: FieldDescriptor, item: Any, path: str) -> Iterator[str]:
    inner = known.message_type
    items = [item]
    if is_map(known):
        inner = map_value(known).message_type
        items = list(item.values()) if isinstance(item, dict) else []
        path += "[]"
    elif known.is_repeated:
        items = item if isinstance(item, list) else []
        path += "[]"
    if inner is None or message_kind(inner) is not Kind.MESSAGE:
        return
    for one in items:
        yield from _unknown(inner, one, path + ".")


def is_plain_message(descriptor: FieldDescriptor) -> bool:
    """Tell whether a field holds one message that JSON writes as an object of its fields."""
    return not descriptor.is_repeated and field_kind(descriptor) is Kind.MESSAGE
