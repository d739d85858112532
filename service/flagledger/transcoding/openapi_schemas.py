"""
JSON Schemas of messages, as the codec reads and writes them.

Reading and writing are two schemas of one message, `package.Message-input` and `package.Message`: a reader takes both
spellings of a name, null for what is absent, and numbers in strings. Messages that hold themselves are why each has a
place of its own among the components. No schema refuses what the codec takes; a few let more pass, since JSON Schema has
no word for it: bounds of numbers in strings, days that no calendar has, two members of one oneof.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor

from flagledger.transcoding.codec import CodecOptions, is_plain_message
from flagledger.transcoding.codec_encode import enum_names
from flagledger.transcoding.codec_fields import (
    SCALARS,
    Kind,
    enum_of,
    field_kind,
    is_map,
    map_value,
    message_kind,
    message_of,
    real_oneof,
    spellings,
)
from flagledger.transcoding.openapi_comments import Comments
from flagledger.transcoding.openapi_scalars import INTEGER, NEVER, NUMBER, TEXTS, Schema, Use, nullable, scalar

_DYNAMIC: Final[dict[Kind, Schema]] = {
    Kind.VALUE: {},
    Kind.STRUCT: {"type": "object", "additionalProperties": True},
    Kind.LIST_VALUE: {"type": "array", "items": {}},
}
_INT32: Final[Schema] = {"format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
_ENUM_SUFFIX: Final = {Use.REQUEST: "-input", Use.RESPONSE: "", Use.PARAMETER: "-parameter"}
# Text that is a number within the bounds of enums: up to nine digits, and no `2.0`, which integers may be.
_ENUM_TEXT: Final = r"-?(?:0|[1-9][0-9]{0,8})"
# What means something in a pattern; an escape of anything else is none in ECMA-262.
_SYNTAX: Final = re.compile(r"[\^$.*+?()\[\]{}|/\\]")


class Schemas:
    """
    Makes schemas, and keeps those that are referred to.

    Attributes:
        components: By name, what belongs under `components.schemas`.

    Args:
        options: Of the codec.
        comments: What becomes descriptions.
    """

    def __init__(self, options: CodecOptions, comments: Comments) -> None:
        self.components: dict[str, Schema] = {}
        self._options = options
        self._comments = comments

    def spelling(self, field: FieldDescriptor, use: Use = Use.REQUEST) -> str:
        """Return what a field is called; a request by that name where it is no other's JSON name, which would go before it."""
        if not self._options.preserving_proto_field_name:
            return str(field.json_name)
        ours = use is Use.RESPONSE or spellings(cast("Descriptor", field.containing_type))[field.name] is field
        return str(field.name if ours else field.json_name)

    def message(self, descriptor: Descriptor, use: Use, *, lenient: bool = False) -> Schema:
        """Return the schema of a message; *lenient* where unknown fields are ignored in what holds it."""
        kind = message_kind(descriptor)
        if kind is Kind.WRAPPER:
            return self.value(descriptor.fields_by_name["value"], use)
        if kind in TEXTS:
            return dict(TEXTS[kind])
        if kind is Kind.MESSAGE:
            return self._reference(descriptor, use, lenient=lenient)
        if kind is Kind.ANY:
            return _any(use)
        return dict(_DYNAMIC[kind])

    def value(self, field: FieldDescriptor, use: Use, *, lenient: bool = False) -> Schema:
        """Return the schema of one value of *field*: of an element where it is repeated."""
        kind = field_kind(field)
        if kind is Kind.ENUM:
            return self._enum(enum_of(field), use)
        if kind in SCALARS:
            return scalar(field, use, int64_as_numbers=self._options.int64_as_numbers)
        return self.message(message_of(field), use, lenient=lenient)

    def whole(self, field: FieldDescriptor, use: Use, *, lenient: bool = False) -> Schema:
        """Return the schema of all that *field* holds: an array or a map where it is one."""
        if is_map(field):
            return self._map(field, use, lenient=lenient)
        schema = self.value(field, use, lenient=lenient)
        if not field.is_repeated:
            return schema
        array: Schema = {"type": "array", "items": schema}
        most = self._options.max_elements.get(field.full_name)
        if use is Use.REQUEST and most is not None:
            array["maxItems"] = most
        return array

    def body(self, field: FieldDescriptor, use: Use) -> Schema:
        """Return the schema of a field that is the whole body."""
        schema = self.whole(field, use)
        if is_plain_message(field):
            return schema
        absent = use is Use.REQUEST or (field.message_type is not None and not field.is_repeated)
        return nullable(schema) if absent else schema

    def described(self, schema: Schema, full_name: str, *, deprecated: bool = False) -> Schema:
        """Return *schema* with the comment of what has this name."""
        found = dict(schema)
        text = self._comments.of(full_name)
        if text:
            found["description"] = text
        if deprecated:
            found["deprecated"] = True
        return found

    def _reference(self, descriptor: Descriptor, use: Use, *, lenient: bool) -> Schema:
        always = descriptor.full_name in self._options.ignore_unknown_below
        lenient = use is Use.REQUEST and (lenient or always)
        name = str(descriptor.full_name)
        if use is Use.REQUEST:
            # A hyphen is in no name of a message.
            name += "-input-lenient" if lenient and not always else "-input"
        if name not in self.components:
            # The place is taken before it is filled, since a message may hold itself.
            self.components[name] = {}
            self.components[name].update(self._object(descriptor, use, lenient=lenient))
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, descriptor: Descriptor, use: Use, *, lenient: bool) -> Schema:
        schema: Schema = {"type": "object"}
        description = "\n\n".join(
            filter(None, [self._comments.of(descriptor.full_name), *self._oneofs(descriptor, use)])
        )
        if description:
            schema["description"] = description
        if descriptor.GetOptions().deprecated:
            schema["deprecated"] = True
        properties = {
            self.spelling(field, use): self._property(field, use, lenient=lenient) for field in descriptor.fields
        }
        if properties:
            schema["properties"] = properties
        if use is Use.REQUEST:
            # For examples, of which JSON Schema could say it only at length.
            if oneofs := [[self.spelling(field) for field in oneof.fields] for oneof in _real_oneofs(descriptor)]:
                schema["x-oneofs"] = oneofs
            others = self._other_spellings(descriptor, properties)
            if others:
                schema["patternProperties"] = others
        elif required := [self.spelling(field, use) for field in descriptor.fields if self._always(field)]:
            schema["required"] = required
        schema["additionalProperties"] = lenient
        return schema

    def _property(self, field: FieldDescriptor, use: Use, *, lenient: bool) -> Schema:
        schema = self.whole(field, use, lenient=lenient)
        if use is Use.REQUEST:
            schema = nullable(schema)
        found = self.described(schema, field.full_name, deprecated=field.GetOptions().deprecated)
        if use is Use.REQUEST and field.full_name in self._options.collect_errors_in:
            note = "An element that does not fit costs itself alone."
            found["description"] = "\n\n".join(filter(None, [found.get("description"), note]))
        return found

    def _other_spellings(self, descriptor: Descriptor, properties: dict[str, Schema]) -> dict[str, Schema]:
        """Return, by pattern, what else a field may be called: in `properties` each field stands once."""
        others: dict[str, Schema] = {}
        for name, field in spellings(descriptor).items():
            if name not in properties:
                schema = {key: part for key, part in properties[self.spelling(field)].items() if key != "description"}
                others[f"^{_SYNTAX.sub(_escape, name)}$"] = schema
        return others

    def _always(self, field: FieldDescriptor) -> bool:
        return self._options.always_print_primitive and not field.is_repeated and not field.has_presence

    def _oneofs(self, descriptor: Descriptor, use: Use) -> list[str]:
        sentences = []
        for oneof in _real_oneofs(descriptor):
            names = _listed([self.spelling(field, use) for field in oneof.fields])
            text = f"At most one of {names} is set."
            sentences.append(" ".join(filter(None, [self._comments.of(oneof.full_name), text])))
        return sentences

    def _map(self, field: FieldDescriptor, use: Use, *, lenient: bool) -> Schema:
        schema: Schema = {"type": "object", "additionalProperties": self.value(map_value(field), use, lenient=lenient)}
        key = message_of(field).fields_by_name["key"]
        kind = field_kind(key)
        if kind is Kind.BOOL:
            schema["propertyNames"] = {"enum": ["true", "false"]}
        elif kind is not Kind.STRING:
            schema["propertyNames"] = {"pattern": f"^{NUMBER if use is Use.REQUEST else INTEGER}$"}
        return schema

    def _enum(self, enum: EnumDescriptor, use: Use) -> Schema:
        name = str(enum.full_name) + _ENUM_SUFFIX[use]
        if name not in self.components:
            self.components[name] = self._enum_schema(enum, use)
        return {"$ref": f"#/components/schemas/{name}"}

    def _enum_schema(self, enum: EnumDescriptor, use: Use) -> Schema:
        names = [value.name for value in enum.values]
        if use is Use.RESPONSE:
            written = enum_names(enum)
            names = [value.name for value in enum.values if written(value.number, value.number) == value.name]
        known: Schema = {"type": "string", "enum": names}
        schema: Schema = {"anyOf": [known, *_numbers(enum, use)]}
        if use is Use.RESPONSE and enum.is_closed:
            schema = known
        lines = []
        for value in enum.values:
            text = " ".join(self._comments.of(f"{enum.full_name}.{value.name}").split())
            text += " Deprecated." if value.GetOptions().deprecated else ""
            if value.name in names and text:
                lines.append(f"* `{value.name}`: {text.strip()}")
        description = "\n\n".join(filter(None, [self._comments.of(enum.full_name), "\n".join(lines)]))
        if description:
            schema["description"] = description
        if enum.GetOptions().deprecated:
            schema["deprecated"] = True
        return schema


def _numbers(enum: EnumDescriptor, use: Use) -> list[Schema]:
    """Return what an enum may be beside a name."""
    if use is Use.PARAMETER:
        return [{"type": "string", "pattern": f"^{_ENUM_TEXT}$"}]
    number: Schema = {"type": "integer"}
    number |= {"enum": sorted({value.number for value in enum.values})} if enum.is_closed else _INT32
    return [number, {"type": "string", "pattern": f"^{INTEGER}$"}] if use is Use.REQUEST else [number]


def _real_oneofs(descriptor: Descriptor) -> list[OneofDescriptor]:
    return [oneof for oneof in descriptor.oneofs if real_oneof(oneof.fields[0]) is not None]


def _escape(match: re.Match[str]) -> str:
    return f"\\{match.group()}"


def _any(use: Use) -> Schema:
    if use is not Use.RESPONSE:
        return NEVER
    return {"type": "object", "properties": {"@type": {"type": "string"}}, "additionalProperties": True}


def _listed(names: list[Any]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
