"""Conformance cases that start from the wire: what is written of every kind of scalar, of maps and of oneofs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from transcoding.conformance import REQUIRED, Case, Maps, Oneofs, Part
from transcoding.kitchen import Everything, Nested

_SCALARS: Final = (
    # kind, field, index in the suite, value, its JSON: None where the field is left out
    ("DOUBLE", "double_field", 0, 0.0, None),
    ("DOUBLE", "double_field", 1, 0.3, 0.3),
    ("DOUBLE", "double_field", 2, 1.5e308, 1.5e308),
    ("DOUBLE", "double_field", 3, 3.5e-308, 3.5e-308),
    ("FLOAT", "float_field", 0, 0.0, None),
    ("FLOAT", "float_field", 1, 0.3, 0.3),
    ("FLOAT", "float_field", 2, 3.0000013e-36, 3.0000013e-36),
    ("FLOAT", "float_field", 3, 3.4e38, 3.4e38),
    ("FLOAT", "float_field", 4, 1.5e-38, 1.5e-38),
    ("INT64", "int64_field", 0, 0, None),
    ("INT64", "int64_field", 1, 54321, "54321"),
    ("INT64", "int64_field", 2, 2**63 - 1, "9223372036854775807"),
    ("INT64", "int64_field", 3, -(2**63), "-9223372036854775808"),
    ("UINT64", "uint64_field", 0, 0, None),
    ("UINT64", "uint64_field", 1, 54321, "54321"),
    ("UINT64", "uint64_field", 2, 2**64 - 1, "18446744073709551615"),
    ("INT32", "int32_field", 0, 0, None),
    ("INT32", "int32_field", 1, 54321, 54321),
    ("INT32", "int32_field", 4, 2**31 - 1, 2147483647),
    ("INT32", "int32_field", 5, -(2**31), -2147483648),
    ("UINT32", "uint32_field", 0, 0, None),
    ("UINT32", "uint32_field", 1, 54321, 54321),
    ("UINT32", "uint32_field", 4, 2**32 - 1, 4294967295),
    ("FIXED64", "fixed64_field", 0, 0, None),
    ("FIXED64", "fixed64_field", 1, 54321, "54321"),
    ("FIXED64", "fixed64_field", 2, 2**64 - 1, "18446744073709551615"),
    ("FIXED32", "fixed32_field", 0, 0, None),
    ("FIXED32", "fixed32_field", 1, 54321, 54321),
    ("FIXED32", "fixed32_field", 2, 2**32 - 1, 4294967295),
    ("SFIXED64", "sfixed64_field", 0, 0, None),
    ("SFIXED64", "sfixed64_field", 1, 54321, "54321"),
    ("SFIXED64", "sfixed64_field", 2, 2**63 - 1, "9223372036854775807"),
    ("SFIXED64", "sfixed64_field", 3, -(2**63), "-9223372036854775808"),
    ("SFIXED32", "sfixed32_field", 0, 0, None),
    ("SFIXED32", "sfixed32_field", 1, 54321, 54321),
    ("SFIXED32", "sfixed32_field", 2, 2**31 - 1, 2147483647),
    ("SFIXED32", "sfixed32_field", 3, -(2**31), -2147483648),
    ("BOOL", "bool_field", 0, False, None),
    ("BOOL", "bool_field", 1, True, True),
    ("SINT32", "sint32_field", 0, 0, None),
    ("SINT32", "sint32_field", 1, 54321, 54321),
    ("SINT32", "sint32_field", 2, 2**31 - 1, 2147483647),
    ("SINT32", "sint32_field", 3, -(2**31), -2147483648),
    ("SINT64", "sint64_field", 0, 0, None),
    ("SINT64", "sint64_field", 1, 54321, "54321"),
    ("SINT64", "sint64_field", 2, 2**63 - 1, "9223372036854775807"),
    ("SINT64", "sint64_field", 3, -(2**63), "-9223372036854775808"),
    ("STRING", "string_field", 0, "", None),
    ("STRING", "string_field", 1, "Soup", "Soup"),
    ("STRING", "string_field", 2, "'\"\\\b\f\n\r\t\v", "'\"\\\b\f\n\r\t\v"),
    ("STRING", "string_field", 3, "汤", "汤"),
    ("STRING", "string_field", 6, "\U0001f372", "\U0001f372"),
    ("BYTES", "bytes_field", 0, b"", None),
    ("BYTES", "bytes_field", 1, b"Soup", "U291cA=="),
    ("BYTES", "bytes_field", 2, b"\x03\x04", "AwQ="),
    ("BYTES", "bytes_field", 3, b"\xfb", "+w=="),
    ("ENUM", "color", 0, 0, None),
    ("ENUM", "color", 1, 1, "COLOR_RED"),
    ("ENUM", "color", 2, 2, "COLOR_BLUE"),
    ("ENUM", "color", 3, -1, "COLOR_NEGATIVE"),
    ("MESSAGE", "nested", 0, Nested(), {}),
    ("MESSAGE", "nested", 1, Nested(size=4321), {"size": 4321}),
)

_MAPS: Final = (
    # kinds, field, its entry of defaults, the JSON of that; another one, the JSON of that
    ("INT32.INT32", "int32_int32", {0: 0}, {"0": 0}, {-5: 6}, {"-5": 6}),
    ("INT64.INT64", "int64_int64", {0: 0}, {"0": "0"}, {-5: 6}, {"-5": "6"}),
    ("UINT32.UINT32", "uint32_uint32", {0: 0}, {"0": 0}, {5: 6}, {"5": 6}),
    ("UINT64.UINT64", "uint64_uint64", {0: 0}, {"0": "0"}, {5: 6}, {"5": "6"}),
    ("SINT32.SINT32", "sint32_sint32", {0: 0}, {"0": 0}, {-5: 6}, {"-5": 6}),
    ("SINT64.SINT64", "sint64_sint64", {0: 0}, {"0": "0"}, {-5: 6}, {"-5": "6"}),
    ("FIXED32.FIXED32", "fixed32_fixed32", {0: 0}, {"0": 0}, {5: 6}, {"5": 6}),
    ("FIXED64.FIXED64", "fixed64_fixed64", {0: 0}, {"0": "0"}, {5: 6}, {"5": "6"}),
    ("SFIXED32.SFIXED32", "sfixed32_sfixed32", {0: 0}, {"0": 0}, {-5: 6}, {"-5": 6}),
    ("SFIXED64.SFIXED64", "sfixed64_sfixed64", {0: 0}, {"0": "0"}, {-5: 6}, {"-5": "6"}),
    ("INT32.FLOAT", "int32_float", {0: 0.0}, {"0": 0.0}, {5: 0.3}, {"5": 0.3}),
    ("INT32.DOUBLE", "int32_double", {0: 0.0}, {"0": 0.0}, {5: 0.3}, {"5": 0.3}),
    ("BOOL.BOOL", "bool_bool", {False: False}, {"false": False}, {True: True}, {"true": True}),
    ("STRING.STRING", "string_string", {"": ""}, {"": ""}, {"a": "b"}, {"a": "b"}),
    ("STRING.BYTES", "string_bytes", {"": b""}, {"": ""}, {"a": b"\x03\x04"}, {"a": "AwQ="}),
    ("STRING.ENUM", "string_enum", {"": 0}, {"": "ALIASED_ZERO"}, {"a": 1}, {"a": "ALIASED_ONE"}),
    ("STRING.MESSAGE", "string_message", {"": Part()}, {"": {}}, {"a": Part(a=5)}, {"a": {"a": 5}}),
)

_ONEOFS: Final = (
    # kind, field, JSON name, its default, the JSON of that; another value, the JSON of that
    ("UINT32", "a_uint32", "aUint32", 0, 0, 5, 5),
    ("BOOL", "a_bool", "aBool", False, False, True, True),
    ("UINT64", "a_uint64", "aUint64", 0, "0", 5, "5"),
    ("FLOAT", "a_float", "aFloat", 0.0, 0.0, 0.3, 0.3),
    ("DOUBLE", "a_double", "aDouble", 0.0, 0.0, 0.3, 0.3),
    ("STRING", "a_string", "aString", "", "", "a", "a"),
    ("BYTES", "a_bytes", "aBytes", b"", "", b"\x03\x04", "AwQ="),
    ("ENUM", "an_enum", "anEnum", 0, "ALIASED_ZERO", 1, "ALIASED_ONE"),
    ("MESSAGE", "a_message", "aMessage", Part(), {}, Part(a=5), {"a": 5}),
)


def _written(name: str, message: Any, json: Any) -> Case:
    return Case(level=REQUIRED, name=name, message=message, message_class=type(message), json=json)


def _scalars() -> Iterator[Case]:
    for kind, field, index, value, json in _SCALARS:
        key = Everything.DESCRIPTOR.fields_by_name[field].json_name
        yield _written(
            f"ValidDataScalar.{kind}[{index}]", Everything(**{field: value}), {} if json is None else {key: json}
        )


def _maps() -> Iterator[Case]:
    for kinds, field, default, default_json, other, other_json in _MAPS:
        key = Maps.DESCRIPTOR.fields_by_name[field].json_name
        yield _written(f"ValidDataMap.{kinds}.Default", Maps(**{field: default}), {key: default_json})
        yield _written(f"ValidDataMap.{kinds}.NonDefault", Maps(**{field: other}), {key: other_json})


def _oneofs() -> Iterator[Case]:
    for kind, field, key, default, default_json, other, other_json in _ONEOFS:
        yield _written(f"ValidDataOneof.{kind}.DefaultValue", Oneofs(**{field: default}), {key: default_json})
        yield _written(f"ValidDataOneof.{kind}.NonDefaultValue", Oneofs(**{field: other}), {key: other_json})


CASES: Final = (*_scalars(), *_maps(), *_oneofs())
