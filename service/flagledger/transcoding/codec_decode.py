r"""
JSON into messages: one Python function compiled per message descriptor.

A compiled function asks the parsed object for each field that the message has, writes what it finds in protobuf's wire format
(see codec_wire), and counts the keys it has used. Only when the count differs from the object's length are the keys looked at
one by one: an unknown name, a null, or the other spelling. Nothing is spent on paths until something fails; then the field and
the item that were at work say where.

What is spelled otherwise is decoded a second time in the known spelling. A message that holds others leaves that to the
outermost one, which starts over with the keys looked at first: else every level would double the time of those inside it.

A compiled function for `message Trait { string trait_key = 1; google.protobuf.Value trait_value = 2; }` reads

```python
def d1(js, r, d, LENGTHS=LENGTHS):
    f = ""
    x = None
    o = ""
    try:
        get = js.get
        n = 0
        v = get("trait_key")
        if v is not None:
            n += 1
            f = "trait_key"
            if not v.isascii(): v = UTF8(v)
            k = len(v)
            o += f"\x0a{LENGTHS[k] if k < 16384 else VARINT(k)}{v}"
        v = get("trait_value", MISSING)
        if v is not MISSING:
            n += 1
            f = "trait_value"
            if v.__class__ is str and len(v) < 126 and v.isascii():
                k = len(v)
                o += f"\x12{LENGTHS[k + 2]}\x1a{LENGTHS[k]}{v}"
            else:
                w = VALUE(v, d + 1)
                k = len(w)
                o += f"\x12{LENGTHS[k] if k < 16384 else VARINT(k)}{w}"
        if n != len(js):
            f = ""
            other = d1_plan.rest(js, r)
            if other is not None: return d1(other, r, d)
    except CodecError as e:
        other = d1_plan.respelled(js)
        if other is None: raise d1_plan.locate(e, js, f, x) from None
        return d1(other, r, d)
    except MISFIT:
        other = d1_plan.respelled(js)
        if other is None: raise d1_plan.explain(js, f, x) from None
        return d1(other, r, d)
    return o
```

where `js` is the parsed object, `r` the report of the call, `d` the level of nesting and `o` what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from flagledger.transcoding.codec_dynamic import TOO_DEEP, DynamicDecoder
from flagledger.transcoding.codec_fields import (
    SCALARS,
    Kind,
    fast_keys,
    field_kind,
    indent,
    is_map,
    map_value,
    message_kind,
    message_of,
    reachable,
    real_oneof,
    submessages,
)
from flagledger.transcoding.codec_maps import MapDecoder
from flagledger.transcoding.codec_plan import MISSING, MessagePlan, Report, RespelledError, any_from_json
from flagledger.transcoding.codec_scalars import CodecError, TooManyElementsError
from flagledger.transcoding.codec_wire import (
    LENGTHS,
    PLAIN_VARINTS,
    double,
    duration_wire,
    end_tag,
    field_mask_wire,
    is_group,
    scalar_wire,
    tag,
    timestamp_wire,
    utf8,
    varint,
)

Decode = Callable[[Any, Report, int], str]

# What Python raises where JSON of one kind meets a field of another.
MISFIT: Final = (TypeError, ValueError, OverflowError, AttributeError)

# Up to here the length of a string and that of a Value around it are one byte each.
_SHORT: Final = 126
_SIZE: Final = "{LENGTHS[k] if k < 16384 else VARINT(k)}"


class DecoderCompiler:
    """
    Compiles decoders, each message descriptor once.

    Args:
        proto_names: Whether error paths, and the spelling that is looked for first, are the proto names.
        max_depth: JSON levels allowed.
        ignore_unknown_below: Full names of messages inside which unknown fields are noted instead of refused.
        collect_errors_in: Full names of repeated message fields whose elements fail alone.
        max_elements: Elements allowed, by full name of a repeated field.
    """

    def __init__(
        self,
        *,
        proto_names: bool,
        max_depth: int,
        ignore_unknown_below: frozenset[str],
        collect_errors_in: frozenset[str],
        max_elements: Mapping[str, int],
    ) -> None:
        dynamic = DynamicDecoder(max_depth)
        self._proto_names = proto_names
        self._ignore_unknown_below = ignore_unknown_below
        self._collect_errors_in = collect_errors_in
        self._max_elements = max_elements
        self._names: dict[tuple[str, bool], str] = {}
        self._globals: dict[str, Any] = {
            "CodecError": CodecError,
            "TooManyElementsError": TooManyElementsError,
            "LENGTHS": LENGTHS,
            "MAX_DEPTH": max_depth,
            "MISFIT": MISFIT,
            "MISSING": MISSING,
            "RespelledError": RespelledError,
            "TOO_DEEP": TOO_DEEP,
            "UTF8": utf8,
            "VARINT": varint,
            "ANY": any_from_json,
            "DOUBLE": double,
            "DURATION": duration_wire,
            "FIELD_MASK": field_mask_wire,
            "LIST_VALUE": dynamic.list_value,
            "STRUCT": dynamic.struct,
            "TIMESTAMP": timestamp_wire,
            "VALUE": dynamic.value,
        }

    def decoder(self, descriptor: Descriptor) -> Decode:
        """Return the function that writes a message of *descriptor* from parsed JSON."""
        decode: Decode = self._globals[self._compile(descriptor, lenient=False)]
        if not any(submessages(descriptor)):
            return decode

        def whole(value: Any, report: Report, depth: int) -> str:
            before = report.state
            try:
                return decode(value, report, depth)
            except RespelledError:
                report.start_over(before)
                return decode(value, report, depth)

        return whole

    def _compile(self, descriptor: Descriptor, *, lenient: bool) -> str:
        lenient = lenient or descriptor.full_name in self._ignore_unknown_below
        key = (descriptor.full_name, lenient)
        if key in self._names:
            return self._names[key]
        # The name is taken before the body is written, since a message may hold itself.
        name = self._names[key] = f"d{len(self._names)}"
        self._globals[f"{name}_plan"] = MessagePlan(descriptor, proto_names=self._proto_names, lenient=lenient)
        source = self._function(name, descriptor, lenient=lenient)
        exec(compile(source, f"<decoder of {descriptor.full_name}>", "exec"), self._globals)  # noqa: S102  # ours
        return name

    def _function(self, name: str, descriptor: Descriptor, *, lenient: bool) -> str:
        kind = message_kind(descriptor)
        failed: list[str] = []
        if kind is Kind.MESSAGE:
            body = self._fields(name, descriptor, lenient=lenient)
            failed = self._failed(name, descriptor)
        else:
            # At the top an object or array of a Value stands at the level itself.
            body = [f"o = {self._content(kind, descriptor, 'js', 0, lenient=lenient)}"]
        return "\n".join(
            [
                f"def {name}(js, r, d, LENGTHS=LENGTHS):",
                "    f = ''",
                "    x = None",
                "    o = ''",
                "    try:",
                *indent(body, 2),
                "    except CodecError as e:",
                *indent([*failed, f"raise {name}_plan.locate(e, js, f, x) from None"], 2),
                "    except MISFIT:",
                *indent([*failed, f"raise {name}_plan.explain(js, f, x) from None"], 2),
                "    return o",
            ]
        )

    def _failed(self, name: str, descriptor: Descriptor) -> list[str]:
        """Return the statements that see whether what failed counts at all: it may be there in another spelling, later."""
        if self._collects(descriptor):
            return []
        if any(submessages(descriptor)):
            return [f"if not r.spelling_first and {name}_plan.respelled(js): raise RespelledError from None"]
        return [f"other = {name}_plan.respelled(js)", f"if other is not None: return {name}(other, r, d)"]

    def _fields(self, name: str, descriptor: Descriptor, *, lenient: bool) -> list[str]:
        body = []
        if descriptor.full_name in reachable(descriptor):
            body.append("if d > MAX_DEPTH: raise CodecError(TOO_DEEP, fatal=True)")
        collecting = self._collects(descriptor)
        spelling = f"js = {name}_plan.rest(js, r) or js"
        holds_others = any(submessages(descriptor))
        if collecting:
            # Decoding it twice would collect its errors twice: there the spelling is looked at first.
            body.append(spelling)
        elif holds_others:
            body.append(f"if r.spelling_first and not js.keys() <= {name}_plan.fast_keys: {spelling}")
        body += ["get = js.get"] if collecting else ["get = js.get", "n = 0"]
        body += [f"o_{oneof} = False" for oneof in dict.fromkeys(filter(None, map(real_oneof, descriptor.fields)))]
        keys = fast_keys(descriptor, proto_names=self._proto_names)
        for field in descriptor.fields:
            body += self._field(field, keys[field.name], lenient=lenient, counted=not collecting)
        if not collecting:
            body += [
                "if n != len(js):",
                "    f = ''",
                f"    other = {name}_plan.rest(js, r)",
                f"    if other is not None: {'raise RespelledError' if holds_others else f'return {name}(other, r, d)'}",
            ]
        return body

    def _field(self, field: FieldDescriptor, key: str, *, lenient: bool, counted: bool) -> list[str]:
        kind = field_kind(field)
        oneof = real_oneof(field)
        inner = ["n += 1"] if counted else []
        inner.append(f"f = {field.name!r}")
        if oneof is not None:
            text = f"sets a second member of the oneof {oneof!r}"
            inner += [f"if o_{oneof}: raise CodecError({text!r})", f"o_{oneof} = True"]
        if is_map(field):
            inner.append(self._map(field, lenient=lenient))
        elif field.is_repeated:
            inner += self._repeated(field, kind, lenient=lenient)
        else:
            inner += self._write(field, kind, "v", 1, lenient=lenient)
        if kind in {Kind.VALUE, Kind.NULL} and not field.is_repeated:
            # Null is a value there.
            return [f"v = get({key!r}, MISSING)", "if v is not MISSING:", *indent(inner, 1)]
        return [f"v = get({key!r})", "if v is not None:", *indent(inner, 1)]

    def _write(self, field: FieldDescriptor, kind: Kind, value: str, deeper: int, *, lenient: bool) -> list[str]:
        """
        Return the statements that write one value with its tag before it.

        Adding to a local string is done in place by Python, so that a long list takes time in proportion to its length.
        """
        mark = _text(tag(field))
        if kind is Kind.STRING:
            return [
                f"if not {value}.isascii(): {value} = UTF8({value})",
                f"k = len({value})",
                f'o += f"{mark}{_SIZE}{{{value}}}"',
            ]
        if kind is Kind.BOOL:
            return [
                f'if {value} is True: o += "{mark}{_text(chr(1))}"',
                f'elif {value} is False: o += "{mark}{_text(chr(0))}"',
                "else: raise TypeError",
            ]
        if kind in SCALARS:
            return [f'o += f"{mark}{{{self._scalar(field, value)}}}"']
        lines = [f"w = {self._content(kind, message_of(field), value, deeper, lenient=lenient)}"]
        if kind is Kind.VALUE:
            # Most values are short strings.
            text = _text(chr(0x1A))
            return [
                f"if {value}.__class__ is str and len({value}) < {_SHORT} and {value}.isascii():",
                f"    k = len({value})",
                f'    o += f"{mark}{{LENGTHS[k + 2]}}{text}{{LENGTHS[k]}}{{{value}}}"',
                "else:",
                f"    {lines[0]}",
                "    k = len(w)",
                f'    o += f"{mark}{_SIZE}{{w}}"',
            ]
        if self._collects(message_of(field)):
            index = "i" if field.is_repeated else "None"
            lines = [
                "c = len(r.errors)",
                *lines,
                f"if len(r.errors) != c: r.prefix(c, {self._display(field)!r}, {index})",
            ]
        if is_group(field):
            return [*lines, f'o += f"{mark}{{w}}{_text(end_tag(field))}"']
        return [*lines, "k = len(w)", f'o += f"{mark}{_SIZE}{{w}}"']

    def _content(self, kind: Kind, descriptor: Descriptor, value: str, deeper: int, *, lenient: bool) -> str:
        """Return the expression that writes the message in *value*, which stands *deeper* levels further in."""
        if kind is Kind.MESSAGE:
            return f"{self._compile(descriptor, lenient=lenient)}({value}, r, d + {deeper})"
        if kind is Kind.WRAPPER:
            inner = descriptor.fields_by_name["value"]
            return f"'{_text(tag(inner))}' + ({self._scalar(inner, value)})"
        if kind in {Kind.VALUE, Kind.STRUCT, Kind.LIST_VALUE}:
            return f"{kind.name}({value}, d + {deeper})"
        return f"{kind.name}({value})"

    def _scalar(self, field: FieldDescriptor, value: str) -> str:
        """Return the expression that writes one value of a scalar field, the common cases without a call."""
        name = f"s_{field.full_name.replace('.', '_')}"
        self._globals.setdefault(name, scalar_wire(field))
        if field.type in PLAIN_VARINTS:
            return f"LENGTHS[{value}] if {value}.__class__ is int and 0 <= {value} < 16384 else {name}({value})"
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            return f"DOUBLE({value}) if {value}.__class__ is float else {name}({value})"
        return f"{name}({value})"

    def _repeated(self, field: FieldDescriptor, kind: Kind, *, lenient: bool) -> list[str]:
        lines = ["if v.__class__ is not list: raise TypeError"]
        most = self._max_elements.get(field.full_name)
        if most is not None:
            # It is the list that is wrong, and no item of it: the path is complete as it is.
            error = f"TooManyElementsError({most}, {self._display(field)!r}, field={field.full_name!r})"
            lines += [f"if len(v) > {most}:", "    f = ''", f"    raise {error}"]
        write = self._write(field, kind, "x", 2, lenient=lenient)
        collecting = field.full_name in self._collect_errors_in
        inside = field.message_type is not None and self._collects(message_of(field))
        # Elsewhere the item that failed is found again by its identity.
        lines.append("for i, x in enumerate(v):" if collecting or inside else "for x in v:")
        if collecting:
            lines += [
                "    try:",
                *indent(write, 2),
                "    except CodecError as e:",
                "        if e.fatal: raise",
                f"        r.collect(e, {self._display(field)!r}, i)",
                f'        o += "{_text(tag(field))}{_text(chr(0))}"',
            ]
        else:
            lines += indent(write, 1)
        return lines

    def _map(self, field: FieldDescriptor, *, lenient: bool) -> str:
        value = map_value(field)
        decoder = None
        if value.message_type is not None:
            # It may be this very function, which is not there yet.
            decoder = partial(self._globals.__getitem__, self._compile(message_of(value), lenient=lenient))
        name = f"m_{field.full_name.replace('.', '_')}_{lenient}"
        self._globals[name] = MapDecoder(field, decoder, self._display(field))
        return f"o += {name}(v, r, d + 1)"

    def _collects(self, descriptor: Descriptor) -> bool:
        holders = {name.rpartition(".")[0] for name in self._collect_errors_in}
        return message_kind(descriptor) is Kind.MESSAGE and not holders.isdisjoint(
            reachable(descriptor) | {descriptor.full_name}
        )

    def _display(self, field: FieldDescriptor) -> str:
        return field.name if self._proto_names else field.json_name


def _text(raw: str) -> str:
    """Return characters below U+0100 as they are written inside quotes, so that none of them means anything there."""
    return "".join(f"\\x{ord(character):02x}" for character in raw)
