"""Conformance cases of messages: oneofs, lists, maps, nulls, unknown fields, wrappers, and Any."""

from __future__ import annotations

from typing import Final

from google.protobuf import wrappers_pb2
from transcoding.conformance import (
    RECOMMENDED,
    Case,
    Lists,
    Maps,
    Oneofs,
    Part,
    joined,
    recommended,
    refused,
    required,
)
from transcoding.kitchen import Everything, Nested, Packed

MESSAGES: Final = [
    required("MessageField", '{"nested": {"size": 4321}}', Everything(nested=Nested(size=4321))),
    refused("OneofFieldDuplicate", '{"choiceInt": 2, "choiceString": "test"}'),
    required("OneofFieldNullFirst", '{"choiceInt": null, "choiceString": "test"}', Everything(choice_string="test")),
    required("OneofFieldNullSecond", '{"choiceString": "test", "choiceInt": null}', Everything(choice_string="test")),
    recommended("OneofZeroUint32", '{"aUint32": 0}', Oneofs(a_uint32=0)),
    recommended("OneofZeroMessage", '{"aMessage": {}}', Oneofs(a_message=Part())),
    recommended("OneofZeroString", '{"aString": ""}', Oneofs(a_string="")),
    recommended("OneofZeroBytes", '{"aBytes": ""}', Oneofs(a_bytes=b"")),
    recommended("OneofZeroBool", '{"aBool": false}', Oneofs(a_bool=False)),
    recommended("OneofZeroUint64", '{"aUint64": 0}', Oneofs(a_uint64=0)),
    recommended("OneofZeroFloat", '{"aFloat": 0.0}', Oneofs(a_float=0)),
    recommended("OneofZeroDouble", '{"aDouble": 0.0}', Oneofs(a_double=0)),
    recommended("OneofZeroEnum", '{"anEnum":"ALIASED_ZERO"}', Oneofs(an_enum=0)),
]

LISTS: Final = [
    required("PrimitiveRepeatedField", '{"int32s": [5, 6, 7]}', Everything(int32s=[5, 6, 7])),
    required("EnumRepeatedField", '{"colors": ["COLOR_RED", "COLOR_BLUE"]}', Everything(colors=[1, 2])),
    required("StringRepeatedField", '{"strings": ["soup", "tea"]}', Everything(strings=["soup", "tea"])),
    required("BytesRepeatedField", '{"blobs": ["AwQF", "AwQ="]}', Everything(blobs=[b"\x03\x04\x05", b"\x03\x04"])),
    required(
        "MessageRepeatedField",
        '{"nesteds": [{"size": 43}, {"size": 21}]}',
        Everything(nesteds=[Nested(size=43), Nested(size=21)]),
    ),
    refused("RepeatedFieldWrongElementTypeExpectingIntegersGotBool", '{"int32s": [5, true, 7]}'),
    refused("RepeatedFieldWrongElementTypeExpectingIntegersGotString", '{"int32s": [5, 6, "tea"]}'),
    refused("RepeatedFieldWrongElementTypeExpectingIntegersGotMessage", '{"int32s": [5, {"size": 6}]}'),
    refused("RepeatedFieldWrongElementTypeExpectingStringsGotInt", '{"strings": ["5", 6, "7"]}'),
    refused("RepeatedFieldWrongElementTypeExpectingStringsGotBool", '{"strings": ["5", false, "7"]}'),
    refused("RepeatedFieldWrongElementTypeExpectingStringsGotMessage", '{"strings": ["5", {"size": 6}]}'),
    refused("RepeatedFieldWrongElementTypeExpectingMessagesGotInt", '{"nesteds": [{"size": 5}, 6]}'),
    refused("RepeatedFieldWrongElementTypeExpectingMessagesGotBool", '{"nesteds": [{"size": 5}, true]}'),
    refused("RepeatedFieldWrongElementTypeExpectingMessagesGotString", '{"nesteds": [{"size": 5}, "6"]}'),
    refused("RepeatedFieldTrailingComma", '{"int32s": [5, 6,]}', level=RECOMMENDED),
    refused("RepeatedFieldTrailingCommaWithSpace", '{"int32s": [5, 6 ,]}', level=RECOMMENDED),
    refused("RepeatedFieldTrailingCommaWithSpaceCommaSpace", '{"int32s": [5, 6 , ]}', level=RECOMMENDED),
    refused("RepeatedFieldTrailingCommaWithNewlines", '{"int32s": [\n  5,\n  6,\n]}', level=RECOMMENDED),
    refused("RepeatedFieldPrimitiveElementIsNull", '{"int32s": [5, null, 7]}', level=RECOMMENDED),
    refused("RepeatedFieldMessageElementIsNull", '{"nesteds": [{"size":5}, null]}', level=RECOMMENDED),
]

MAPS: Final = [
    required("Int32MapField", '{"int32Int32": {"5": 6, "-7": 8}}', Maps(int32_int32={5: 6, -7: 8})),
    required("Uint32MapField", '{"uint32Uint32": {"5": 6, "7": 8}}', Maps(uint32_uint32={5: 6, 7: 8})),
    required("Int64MapField", '{"int64Int64": {"5": 6, "-7": 8}}', Maps(int64_int64={5: 6, -7: 8})),
    required("Uint64MapField", '{"uint64Uint64": {"5": 6, "7": 8}}', Maps(uint64_uint64={5: 6, 7: 8})),
    required(
        "BoolMapField", '{"boolBool": {"true": false, "false": true}}', Maps(bool_bool={True: False, False: True})
    ),
    required(
        "MessageMapField",
        '{"nestedMap": {"soup": {"size": 43}, "tea": {"size": 21}}}',
        Everything(nested_map={"soup": Nested(size=43), "tea": Nested(size=21)}),
    ),
    required("Int32MapEscapedKey", '{"int32Int32": {"\\u0035": 6}}', Maps(int32_int32={5: 6})),
    required("Int64MapEscapedKey", '{"int64Int64": {"\\u0035": 6}}', Maps(int64_int64={5: 6})),
    required("BoolMapEscapedKey", '{"boolBool": {"\\u0074rue": true}}', Maps(bool_bool={True: True})),
    refused("Int32MapFieldKeyNotQuoted", '{"int32Int32": {5: 6}}', Maps, RECOMMENDED),
    refused("Uint32MapFieldKeyNotQuoted", '{"uint32Uint32": {5: 6}}', Maps, RECOMMENDED),
    refused("Int64MapFieldKeyNotQuoted", '{"int64Int64": {5: 6}}', Maps, RECOMMENDED),
    refused("Uint64MapFieldKeyNotQuoted", '{"uint64Uint64": {5: 6}}', Maps, RECOMMENDED),
    refused("BoolMapFieldKeyNotQuoted", '{"boolBool": {true: true}}', Maps, RECOMMENDED),
    refused("MapFieldKeyIsNull", '{"int32Int32": {null: 6}}', Maps, RECOMMENDED),
    refused("MapFieldValueIsNull", '{"int32Int32": {"5": null}}', Maps, RECOMMENDED),
]

_WRAPPERS: Final = (
    # name, field, a value in JSON, the value, its default in JSON
    ("Bool", "bool", "true", True, "false"),
    ("Int32", "int32", "5", 5, "0"),
    ("Uint32", "uint32", "5", 5, "0"),
    ("Int64", "int64", '"5"', 5, "0"),
    ("Uint64", "uint64", '"5"', 5, "0"),
    ("Float", "float", "5", 5.0, "0"),
    ("Double", "double", "5", 5.0, "0"),
    ("String", "string", '"5"', "5", '""'),
    ("Bytes", "bytes", '"AwQ="', b"\x03\x04", '""'),
)


def _wrapper(field: str, value: object) -> object:
    kind = {"uint32": "UInt32", "uint64": "UInt64"}.get(field, field.capitalize())
    return getattr(wrappers_pb2, f"{kind}Value")(value=value)


WRAPPERS: Final = [
    *(
        required(
            f"Optional{name}Wrapper",
            f'{{"{field}Value": {zero}}}',
            Everything(**{f"{field}_value": _wrapper(field, type(value)())}),
        )
        for name, field, _, value, zero in _WRAPPERS
    ),
    *(
        required(
            f"Repeated{name}Wrapper",
            f'{{"{field}Wrappers": [{zero}, {text}]}}',
            Lists(**{f"{field}_wrappers": [_wrapper(field, type(value)()), _wrapper(field, value)]}),
        )
        for name, field, text, value, zero in _WRAPPERS
    ),
    required(
        "OptionalWrapperTypesWithNonDefaultValue",
        joined(f'"{field}Value": {text}' for _, field, text, _, _ in _WRAPPERS),
        Everything(**{f"{field}_value": _wrapper(field, value) for _, field, _, value, _ in _WRAPPERS}),
    ),
    required(
        "WrapperTypesWithNullValue",
        joined(f'"{field}Wrappers": null' for _, field, _, _, _ in _WRAPPERS),
        Lists(),
    ),
    required(
        "WrapperTypesWithNullValue",
        joined(f'"{field}Value": null' for _, field, _, _, _ in _WRAPPERS),
        Everything(),
    ),
]

# Of a Value null is a value, see `ValueAcceptNull`.
_NULLABLE: Final = [field.json_name for field in Everything.DESCRIPTOR.fields if field.name != "value"]

NULLS: Final = [
    required(
        "AllFieldAcceptNull",
        joined(f'"{name}": null' for name in _NULLABLE),
        Everything(),
        json_format="refused, for the list of Values",
    ),
    required(
        "AllFieldAcceptNull",
        joined(f'"{field.json_name}": null' for field in (*Maps.DESCRIPTOR.fields,)),
        Maps(),
    ),
    required(
        "AllFieldAcceptNull",
        joined(f'"{field.json_name}": null' for field in (*Lists.DESCRIPTOR.fields,)),
        Lists(),
        json_format="refused, for the list of NullValues",
    ),
]

UNKNOWN: Final = [
    required(f"IgnoreUnknownJson{kind}", f'{{"unknown": {text}}}', Everything(), ignores_unknown=True)
    for kind, text in (
        ("Number", "5"),
        ("String", '"soup"'),
        ("True", "true"),
        ("False", "false"),
        ("Null", "null"),
        ("Object", '{"size": 5}'),
    )
]

_WHY: Final = "an Any is not read: a client is not to choose what is built"
_TYPE: Final = "type.googleapis.com"

ANYS: Final = [
    *(
        refused(name, f'{{"any": {text}}}', Packed, departs=_WHY, json_format="read")
        for name, text in (
            ("Any", f'{{"@type": "{_TYPE}/kitchen.v1.Nested", "size": 5}}'),
            ("AnyUnorderedTypeTag", f'{{"size": 5, "@type": "{_TYPE}/kitchen.v1.Nested"}}'),
            (
                "AnyNested",
                f'{{"@type": "{_TYPE}/google.protobuf.Any", "value": {{"@type": "{_TYPE}/kitchen.v1.Nested", "size": 5}}}}',
            ),
            ("AnyWithInt32ValueWrapper", f'{{"@type": "{_TYPE}/google.protobuf.Int32Value", "value": 5}}'),
            ("AnyWithDuration", f'{{"@type": "{_TYPE}/google.protobuf.Duration", "value": "2.500s"}}'),
            ("AnyWithTimestamp", f'{{"@type": "{_TYPE}/google.protobuf.Timestamp", "value": "1970-01-01T00:00:05Z"}}'),
            ("AnyWithFieldMask", f'{{"@type": "{_TYPE}/google.protobuf.FieldMask", "value": "soup,greenTea"}}'),
            ("AnyWithStruct", f'{{"@type": "{_TYPE}/google.protobuf.Struct", "value": {{"soup": 5}}}}'),
            ("AnyWithValueForJsonObject", f'{{"@type": "{_TYPE}/google.protobuf.Value", "value": {{"soup": 5}}}}'),
            ("AnyWithValueForInteger", f'{{"@type": "{_TYPE}/google.protobuf.Value", "value": 5}}'),
            ("AnyEmpty", f'{{"@type": "{_TYPE}/google.protobuf.Empty"}}'),
            ("AnyWithNoType", "{}"),
        )
    ),
    refused("AnyWktRepresentationWithEmptyTypeAndValue", '{"any": {"@type": "", "value": ""}}', Packed),
    refused("AnyWktRepresentationWithBadType", '{"any": {"@type": "soup", "value": ""}}', Packed),
    required("AnyNull", '{"any": null}', Packed()),
]

WRITTEN_ANYS: Final[tuple[Case, ...]] = tuple(case for case in ANYS if case.departs)
"""What is not read and yet written: these texts come out of the messages that they spell."""

CASES: Final = (*MESSAGES, *LISTS, *MAPS, *WRAPPERS, *NULLS, *UNKNOWN, *ANYS)
