"""
Messages into JSON: one Python function compiled per message descriptor, which builds what orjson then writes.

A compiled function for `message Trait { string trait_key = 1; google.protobuf.Value trait_value = 2; }` reads

```python
def e1(m):
    o = {}
    v = m.trait_key
    if v: o["trait_key"] = v
    w = m.trait_value
    v = w.string_value or VALUE_WITHOUT_TEXT(w)
    if v is not None or has_Trait(m, "trait_value"): o["trait_value"] = v
    return o
```

where `m` is the message and `o` what is written. A call into upb costs more than anything else here, so that the fewest are made:
a value that is not zero is set, whether or not its field can tell, and a slice of a repeated field is a whole list in one call. A
message that holds no other, such as this one, is written where it stands: the function of the message around it has these
lines inside it, with `n` and `p` instead of `m` and `o`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from flagledger.transcoding.codec_dynamic import (
    list_value_to_json,
    struct_to_json,
    value_to_json,
    value_without_text,
)
from flagledger.transcoding.codec_fields import (
    SCALARS,
    Kind,
    attribute,
    enum_of,
    field_kind,
    indent,
    is_map,
    map_value,
    message_kind,
    message_of,
)
from flagledger.transcoding.codec_scalars import (
    bytes_to_json,
    double_to_json,
    duration_to_json,
    float_to_json,
    long_to_json,
    timestamp_to_json,
)

Encode = Callable[[Any], Any]

# What a field holds of these is written as it is.
_PLAIN: Final = frozenset({Kind.STRING, Kind.BOOL, Kind.INT32})


class EncoderCompiler:
    """
    Compiles encoders, each message descriptor once.

    Args:
        proto_names: Whether fields are written under their proto names instead of lowerCamelCase.
        always_print_primitive: Whether primitive fields without presence are written when they are zero, too.
        int64_as_numbers: Whether 64-bit integers up to 2^53 are written as numbers instead of strings.
    """

    def __init__(self, *, proto_names: bool, always_print_primitive: bool, int64_as_numbers: bool) -> None:
        self._proto_names = proto_names
        self._always = always_print_primitive
        self._names: dict[str, str] = {}
        self._globals: dict[str, Any] = {
            "VALUE": value_to_json,
            "VALUE_WITHOUT_TEXT": value_without_text,
            "STRUCT": struct_to_json,
            "LIST_VALUE": list_value_to_json,
            "TIMESTAMP": timestamp_to_json,
            "DURATION": duration_to_json,
            "FIELD_MASK": lambda message: message.ToJsonString(),
            "ANY": self._any,
            "BYTES": bytes_to_json,
            "DOUBLE": double_to_json,
            "FLOAT": float_to_json,
            "INT64": long_to_json if int64_as_numbers else str,
        }

    def encoder(self, descriptor: Descriptor) -> Encode:
        """Return the function that turns a message of *descriptor* into what orjson writes."""
        return self._globals[self._compile(descriptor)]  # type: ignore[no-any-return]

    def default(self, field: FieldDescriptor) -> Any:
        """Return the default of a scalar field as JSON."""
        return eval(self._expression(field, repr(field.default_value)), self._globals)  # noqa: S307  # our own text

    def _compile(self, descriptor: Descriptor) -> str:
        name = self._names.get(descriptor.full_name)
        if name is None:
            name = self._names[descriptor.full_name] = f"e{len(self._names)}"
            source = self._function(name, descriptor)
            exec(compile(source, f"<encoder of {descriptor.full_name}>", "exec"), self._globals)  # noqa: S102  # ours
        return name

    def _function(self, name: str, descriptor: Descriptor) -> str:
        kind = message_kind(descriptor)
        if kind is Kind.WRAPPER:
            inner = descriptor.fields_by_name["value"]
            return f"def {name}(m):\n    return {self._expression(inner, 'm.value')}"
        if kind is not Kind.MESSAGE:
            return f"def {name}(m):\n    return {kind.name}(m)"
        body = ["o = {}", *self._fields(descriptor, "m", "o"), "return o"]
        return "\n".join([f"def {name}(m):", *indent(body)])

    def _fields(self, descriptor: Descriptor, message: str, out: str) -> list[str]:
        """Return the statements that put what the variable *message* holds into the dict *out*."""
        return [line for field in descriptor.fields for line in self._field(field, message, out)]

    def _field(self, field: FieldDescriptor, message: str, out: str) -> list[str]:
        read = attribute(message, field.name)
        store = self._slot(field, out)
        is_set = f"{self._has(field)}({message}, {field.name!r})"
        kind = field_kind(field)
        if is_map(field):
            key = _map_key(message_of(field).fields_by_name["key"])
            value = self._expression(map_value(field), "v[k]")
            return [f"v = {read}", f"if v: {store} = {{{key}: {value} for k in v}}"]
        if field.is_repeated:
            return [f"v = {read}[:]", *self._list(field, kind, store)]
        if kind is Kind.VALUE:
            lines = [f"w = {read}", "v = w.string_value or VALUE_WITHOUT_TEXT(w)"]
            return [*lines, f"if v is not None or {is_set}: {store} = v"]
        if kind is Kind.MESSAGE and _is_leaf(message_of(field)):
            inner = [f"n = {read}", f"{store} = p = {{}}", *self._fields(message_of(field), "n", "p")]
            return [f"if {is_set}:", *indent(inner)]
        if field.message_type is not None:
            return [f"if {is_set}: {store} = {self._expression(field, read)}"]
        if self._always and not field.has_presence:
            return [f"{store} = {self._expression(field, read)}"]
        test = "v"
        if field.has_presence:
            # Of proto2: what is read of a field that is not set may be a default of its own.
            test = is_set if field.default_value else f"v or {is_set}"
        elif kind in {Kind.DOUBLE, Kind.FLOAT}:
            # Minus zero is a value that is set.
            test = "v or str(v) == '-0.0'"
        return [f"v = {read}", f"if {test}: {store} = {self._expression(field, 'v')}"]

    def _list(self, field: FieldDescriptor, kind: Kind, store: str) -> list[str]:
        """Return the statements that write the list `v` of a repeated field."""
        if kind in _PLAIN:
            return [f"if v: {store} = v"]
        if kind is Kind.MESSAGE and _is_leaf(message_of(field)):
            each = ["p = {}", *self._fields(message_of(field), "n", "p"), "l.append(p)"]
            return ["if v:", f"    {store} = l = []", "    for n in v:", *indent(each, 2)]
        return [f"if v: {store} = [{self._expression(field, 'x')} for x in v]"]

    def _has(self, field: FieldDescriptor) -> str:
        """Return the name of HasField of a field's message, which costs half when it is not looked up for every message."""
        holder = cast("Descriptor", field.containing_type)
        name = f"has_{holder.full_name.replace('.', '_')}"
        self._globals.setdefault(name, message_factory.GetMessageClass(holder).HasField)
        return name

    def _slot(self, field: FieldDescriptor, out: str) -> str:
        return f"{out}[{(field.name if self._proto_names else field.json_name)!r}]"

    def _expression(self, field: FieldDescriptor, value: str) -> str:
        """Return the expression that turns one value of *field* into JSON."""
        kind = field_kind(field)
        if kind in _PLAIN:
            return value
        if kind is Kind.NULL:
            return "None"
        if kind is Kind.ENUM:
            names = f"n_{enum_of(field).full_name.replace('.', '_')}"
            self._globals.setdefault(names, enum_names(enum_of(field)))
            return f"{names}({value}, {value})"
        if kind in SCALARS:
            return f"{kind.name}({value})"
        if kind in {Kind.MESSAGE, Kind.WRAPPER}:
            return f"{self._compile(message_of(field))}({value})"
        return f"{kind.name}({value})"

    def _any(self, message: Any) -> dict[str, Any]:
        """Return what an Any holds, with its type; ValueError where the type is not known to this process."""
        if not message.type_url and not message.value:
            return {}
        try:
            descriptor = descriptor_pool.Default().FindMessageTypeByName(message.type_url.rpartition("/")[2])
            inner = message_factory.GetMessageClass(descriptor).FromString(message.value)
        except (KeyError, DecodeError) as error:
            raise ValueError(f"An Any of the type {message.type_url!r} cannot be written as JSON.") from error
        content = self.encoder(descriptor)(inner)
        if message_kind(descriptor) is Kind.MESSAGE:
            return {"@type": message.type_url, **content}
        return {"@type": message.type_url, "value": content}


def enum_names(enum: EnumDescriptor) -> Callable[[int, int], str | int]:
    """Return `get(number, default)` over the names of *enum*; of two names for a number the first declared counts."""
    names: dict[int, str] = {}
    for value in enum.values:
        names.setdefault(value.number, value.name)
    return names.get


def _map_key(key: FieldDescriptor) -> str:
    kind = field_kind(key)
    if kind is Kind.STRING:
        return "k"
    return "'true' if k else 'false'" if kind is Kind.BOOL else "str(k)"


def _is_leaf(descriptor: Descriptor) -> bool:
    """Tell whether a message holds no other: such a one is written where it stands, without a call."""
    return all(field_kind(field) is not Kind.MESSAGE for field in descriptor.fields)
