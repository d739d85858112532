"""Conformance cases of JSON itself, of field names and of scalars."""

from __future__ import annotations

import struct
from typing import Final

from transcoding.conformance import (
    RECOMMENDED,
    REQUIRED,
    Case,
    Lists,
    Names,
    Oneofs,
    joined,
    recommended,
    refused,
    required,
)
from transcoding.kitchen import Everything, Nested

_ALL_NAMES: Final = [field.name for field in Names.DESCRIPTOR.fields]
_TWO: Final = Everything(int32_field=3, int64_field=4)


def _numbers(*names: str) -> dict[str, int]:
    return {name: at for at, name in enumerate(_ALL_NAMES, 1) if name in names}


TEXTS: Final = [
    required("HelloWorld", '{"stringField":"Hello, kitchen!"}', Everything(string_field="Hello, kitchen!")),
    recommended("OneLineNoSpaces", '{"int32Field":3,"int64Field":4}', _TWO),
    recommended("OneLineWithSpaces", '{ "int32Field" : 3 , "int64Field" : 4 }', _TWO),
    recommended("MultilineNoSpaces", '{\n"int32Field"\n:\n3\n,\n"int64Field"\n:\n4\n}', _TWO),
    recommended("MultilineWithSpaces", '{\n  "int32Field"  :  3\n  ,\n  "int64Field"  :  4\n}\n', _TWO),
    refused("MissingCommaOneLine", '{ "int32Field": 3 "int64Field": 4 }', level=RECOMMENDED),
    refused("MissingCommaMultiline", '{\n  "int32Field": 3\n  "int64Field": 4\n}', level=RECOMMENDED),
    refused("StringEndsWithEscapeChar", '{"stringField": "soup\\', level=RECOMMENDED),
    refused("FieldNameNotQuoted", "{stringField: 3}", level=RECOMMENDED),
    refused("TrailingCommaInAnObject", '{"int32Field":3,}', level=RECOMMENDED),
    refused("TrailingCommaInAnObjectWithSpace", '{"int32Field":3 ,}', level=RECOMMENDED),
    refused("TrailingCommaInAnObjectWithSpaceCommaSpace", '{"int32Field":3 , }', level=RECOMMENDED),
    refused("TrailingCommaInAnObjectWithNewlines", '{\n  "int32Field":3,\n}', level=RECOMMENDED),
    refused("JsonWithComments", '{\n  // Three.\n  "int32Field": 3\n}', level=RECOMMENDED),
    refused("StringFieldSingleQuoteKey", "{'stringField': \"soup\"}", level=RECOMMENDED),
    refused("StringFieldSingleQuoteValue", "{\"stringField\": 'soup'}", level=RECOMMENDED),
    refused("StringFieldSingleQuoteBoth", "{'stringField': 'soup'}", level=RECOMMENDED),
    refused("RejectTopLevelNull", "null"),
]

NAMES: Final = [
    required(
        "FieldNameInSnakeCase",
        '{"fieldname1": 1, "fieldName2": 2, "FieldName3": 3, "fieldName4": 4}',
        Names(**_numbers(*_ALL_NAMES[:4])),
    ),
    required(
        "FieldNameInLowerCamelCase",
        '{"fieldname1": 1, "field_name2": 2, "_field_name3": 3, "field__name4_": 4}',
        Names(**_numbers(*_ALL_NAMES[:4])),
        json={"fieldname1": 1, "fieldName2": 2, "FieldName3": 3, "fieldName4": 4},
    ),
    required("FieldNameWithNumbers", '{"field0name5": 5, "field0Name6": 6}', Names(**_numbers(*_ALL_NAMES[4:6]))),
    required(
        "FieldNameWithNumbers",
        '{"field0name5": 5, "field_0_name6": 6}',
        Names(**_numbers(*_ALL_NAMES[4:6])),
        json={"field0name5": 5, "field0Name6": 6},
    ),
    required(
        "FieldNameWithMixedCases",
        '{"fieldName7": 7, "FieldName8": 8, "fieldName9": 9, "FieldName10": 10, "FIELDNAME11": 11, "FIELDName12": 12}',
        Names(**_numbers(*_ALL_NAMES[6:12])),
    ),
    required(
        "FieldNameWithMixedCases",
        '{"fieldName7": 7, "FieldName8": 8, "field_Name9": 9, "Field_Name10": 10, "FIELD_NAME11": 11, "FIELD_name12": 12}',
        Names(**_numbers(*_ALL_NAMES[6:12])),
        json={
            "fieldName7": 7,
            "FieldName8": 8,
            "fieldName9": 9,
            "FieldName10": 10,
            "FIELDNAME11": 11,
            "FIELDName12": 12,
        },
    ),
    recommended(
        "FieldNameWithDoubleUnderscores",
        '{"FieldName13": 13, "FieldName14": 14, "fieldName15": 15, "fieldName16": 16, "fieldName17": 17, "FieldName18": 18}',
        Names(**_numbers(*_ALL_NAMES[12:])),
    ),
    recommended(
        "FieldNameWithDoubleUnderscores",
        joined(f'"{name}": {number}' for name, number in _numbers(*_ALL_NAMES[12:]).items()),
        Names(**_numbers(*_ALL_NAMES[12:])),
        json={
            "FieldName13": 13,
            "FieldName14": 14,
            "fieldName15": 15,
            "fieldName16": 16,
            "fieldName17": 17,
            "FieldName18": 18,
        },
    ),
    required(
        "OriginalProtoFieldName",
        joined(f'"{name}": {number}' for name, number in _numbers(*_ALL_NAMES).items()),
        Names(**_numbers(*_ALL_NAMES)),
    ),
    required("FieldNameEscaped", '{"f\\u0069eldname1": 1}', Names(fieldname1=1)),
    required("SkipsDefaultPrimitive", '{"FieldName13": 0}', Names(), json={}),
    recommended(
        "FieldNameDuplicate",
        '{"nested": {"size": 1}, "nested": {}}',
        Everything(nested=Nested()),
        either=True,
        json_format="refused",
    ),
    recommended(
        "FieldNameDuplicateDifferentCasing1",
        '{"string_field": "a", "stringField": "b"}',
        Everything(string_field="b"),
        either=True,
    ),
    recommended(
        "FieldNameDuplicateDifferentCasing2",
        '{"stringField": "a", "string_field": "b"}',
        Everything(string_field="b"),
        either=True,
    ),
]

INTEGERS: Final = [
    required("Int32FieldMaxValue", '{"int32Field": 2147483647}', Everything(int32_field=2**31 - 1)),
    required("Int32FieldMinValue", '{"int32Field": -2147483648}', Everything(int32_field=-(2**31))),
    required("Uint32FieldMaxValue", '{"uint32Field": 4294967295}', Everything(uint32_field=2**32 - 1)),
    required("Int64FieldMaxValue", '{"int64Field": "9223372036854775807"}', Everything(int64_field=2**63 - 1)),
    required("Int64FieldMinValue", '{"int64Field": "-9223372036854775808"}', Everything(int64_field=-(2**63))),
    required("Uint64FieldMaxValue", '{"uint64Field": "18446744073709551615"}', Everything(uint64_field=2**64 - 1)),
    required(
        "Int64FieldMaxValueNotQuoted", '{"int64Field": 9223372036854774784}', Everything(int64_field=2**63 - 1024)
    ),
    required("Int64FieldMinValueNotQuoted", '{"int64Field": -9223372036854775808}', Everything(int64_field=-(2**63))),
    required(
        "Uint64FieldMaxValueNotQuoted", '{"uint64Field": 18446744073709549568}', Everything(uint64_field=2**64 - 2048)
    ),
    required("Int32FieldStringValue", '{"int32Field": "2147483647"}', Everything(int32_field=2**31 - 1)),
    required("Int32FieldStringValueEscaped", '{"int32Field": "\\u0032147483647"}', Everything(int32_field=2**31 - 1)),
    required("Int32FieldStringValueZero", '{"int32Field": "0"}', Everything()),
    required("Int32FieldQuotedExponentialValue", '{"int32Field": "3e4"}', Everything(int32_field=30_000)),
    required("Int32FieldFloatTrailingZero", '{"int32Field": 30000.00}', Everything(int32_field=30_000)),
    required("Int32FieldExponentialFormat", '{"int32Field": 3e4}', Everything(int32_field=30_000)),
    required("Int32FieldMaxFloatValue", '{"int32Field": 2.147483647e9}', Everything(int32_field=2**31 - 1)),
    required("Int32FieldMinFloatValue", '{"int32Field": -2.147483648e9}', Everything(int32_field=-(2**31))),
    required("Uint32FieldMaxFloatValue", '{"uint32Field": 4.294967295e9}', Everything(uint32_field=2**32 - 1)),
    recommended("Int64FieldBeString", '{"int64Field": 7}', Everything(int64_field=7), json={"int64Field": "7"}),
    recommended("Uint64FieldBeString", '{"uint64Field": 7}', Everything(uint64_field=7), json={"uint64Field": "7"}),
    refused("Int32FieldTooLarge", '{"int32Field": 2147483648}'),
    refused("Int32FieldTooSmall", '{"int32Field": -2147483649}'),
    refused("Uint32FieldTooLarge", '{"uint32Field": 4294967296}'),
    refused("Int64FieldTooLarge", '{"int64Field": "9223372036854775808"}'),
    refused("Int64FieldTooSmall", '{"int64Field": "-9223372036854775809"}'),
    refused("Uint64FieldTooLarge", '{"uint64Field": "18446744073709551616"}'),
    refused("Int32FieldNotInteger", '{"int32Field": 2.5}'),
    refused("Uint32FieldNotInteger", '{"uint32Field": 2.5}'),
    refused("Int64FieldNotInteger", '{"int64Field": "2.5"}'),
    refused("Uint64FieldNotInteger", '{"uint64Field": "2.5"}'),
    refused("Int32FieldNotNumber", '{"int32Field": "5x7"}'),
    refused("Uint32FieldNotNumber", '{"uint32Field": "5x7"}'),
    refused("Int64FieldNotNumber", '{"int64Field": "5x7"}'),
    refused("Uint64FieldNotNumber", '{"uint64Field": "5x7"}'),
    refused("Int32FieldStringValuePartiallyNumeric", '{"int32Field": "57soup"}'),
    refused("Int32FieldStringValuePartiallyNumericSpace", '{"int32Field": "5 7"}'),
    refused("Int32FieldStringValuePartiallyNumericComma", '{"int32Field": "5,7"}'),
    refused("Int32FieldStringValuePartiallyNumericUnicode", '{"int32Field": "5汤7"}'),
    refused("Int32FieldStringValueNonNumeric", '{"int32Field": "soup"}'),
    refused("Int32FieldEmptyString", '{"int32Field": ""}'),
    refused("Uint32FieldEmptyString", '{"uint32Field": ""}'),
    refused("Int64FieldEmptyString", '{"int64Field": ""}'),
    refused("Uint64FieldEmptyString", '{"uint64Field": ""}'),
    refused("Int32FieldPlusSign", '{"int32Field": +7}'),
    refused("Int32FieldLeadingZero", '{"int32Field": 07}'),
    refused("Int32FieldNegativeWithLeadingZero", '{"int32Field": -07}'),
    refused("Int32FieldLeadingSpace", '{"int32Field": " 7"}'),
    refused("Int32FieldTrailingSpace", '{"int32Field": "7 "}'),
]

BOOLS: Final = [
    required("BoolFieldTrue", '{"boolField":true}', Everything(bool_field=True)),
    required("BoolFieldFalse", '{"boolField":false}', Everything()),
    refused("BoolFieldIntegerZero", '{"boolField":0}', level=RECOMMENDED),
    refused("BoolFieldIntegerOne", '{"boolField":1}', level=RECOMMENDED),
    refused("BoolFieldCamelCaseTrue", '{"boolField":True}', level=RECOMMENDED),
    refused("BoolFieldCamelCaseFalse", '{"boolField":False}', level=RECOMMENDED),
    refused("BoolFieldAllCapitalTrue", '{"boolField":TRUE}', level=RECOMMENDED),
    refused("BoolFieldAllCapitalFalse", '{"boolField":FALSE}', level=RECOMMENDED),
    refused("BoolFieldDoubleQuotedTrue", '{"boolField":"true"}', level=RECOMMENDED),
    refused("BoolFieldDoubleQuotedFalse", '{"boolField":"false"}', level=RECOMMENDED),
]

_NAN: Final = float("nan")
_INFINITY: Final = float("inf")

FLOATS: Final = [
    required("FloatFieldMinPositiveValue", '{"floatField": 1.175494e-38}', Everything(float_field=1.175494e-38)),
    required("FloatFieldMaxNegativeValue", '{"floatField": -1.175494e-38}', Everything(float_field=-1.175494e-38)),
    required("FloatFieldMaxPositiveValue", '{"floatField": 3.402823e+38}', Everything(float_field=3.402823e38)),
    required("FloatFieldMinNegativeValue", '{"floatField": -3.402823e+38}', Everything(float_field=-3.402823e38)),
    required("FloatFieldQuotedValue", '{"floatField": "2"}', Everything(float_field=2)),
    required("FloatFieldQuotedExponentialValue", '{"floatField": "2.5e-1"}', Everything(float_field=0.25)),
    required("FloatFieldNan", '{"floatField": "NaN"}', Everything(float_field=_NAN)),
    required("FloatFieldInfinity", '{"floatField": "Infinity"}', Everything(float_field=_INFINITY)),
    required("FloatFieldNegativeInfinity", '{"floatField": "-Infinity"}', Everything(float_field=-_INFINITY)),
    refused("FloatFieldNanNotQuoted", '{"floatField": NaN}', level=RECOMMENDED),
    refused("FloatFieldInfinityNotQuoted", '{"floatField": Infinity}', level=RECOMMENDED),
    refused("FloatFieldNegativeInfinityNotQuoted", '{"floatField": -Infinity}', level=RECOMMENDED),
    refused("FloatFieldTooSmall", '{"floatField": -3.6e+38}'),
    refused("FloatFieldTooLarge", '{"floatField": 3.6e+38}'),
    refused("FloatFieldEmptyString", '{"floatField": ""}'),
    refused("FloatFieldStringValuePartiallyNumeric", '{"floatField": "57soup"}'),
    refused("FloatFieldStringValuePartiallyNumericSpace", '{"floatField": "5 7"}'),
    refused("FloatFieldStringValuePartiallyNumericComma", '{"floatField": "5,7"}'),
    refused("FloatFieldStringValuePartiallyNumericUnicode", '{"floatField": "5汤7"}'),
    refused("FloatFieldStringValueNonNumeric", '{"floatField": "soup"}'),
    refused("FloatFieldTrueValue", '{"floatField": true}', json_format="read as 1"),
    refused("FloatFieldFalseValue", '{"floatField": false}', json_format="read as 0"),
    required("DoubleFieldMinPositiveValue", '{"doubleField": 2.22507e-308}', Everything(double_field=2.22507e-308)),
    required("DoubleFieldMaxNegativeValue", '{"doubleField": -2.22507e-308}', Everything(double_field=-2.22507e-308)),
    required("DoubleFieldMaxPositiveValue", '{"doubleField": 1.79769e+308}', Everything(double_field=1.79769e308)),
    required("DoubleFieldMinNegativeValue", '{"doubleField": -1.79769e+308}', Everything(double_field=-1.79769e308)),
    required("DoubleFieldQuotedValue", '{"doubleField": "2"}', Everything(double_field=2)),
    required("DoubleFieldQuotedExponentialValue", '{"doubleField": "2.5e-1"}', Everything(double_field=0.25)),
    required("DoubleFieldNan", '{"doubleField": "NaN"}', Everything(double_field=_NAN)),
    required("DoubleFieldInfinity", '{"doubleField": "Infinity"}', Everything(double_field=_INFINITY)),
    required("DoubleFieldNegativeInfinity", '{"doubleField": "-Infinity"}', Everything(double_field=-_INFINITY)),
    refused("DoubleFieldNanNotQuoted", '{"doubleField": NaN}', level=RECOMMENDED),
    refused("DoubleFieldInfinityNotQuoted", '{"doubleField": Infinity}', level=RECOMMENDED),
    refused("DoubleFieldNegativeInfinityNotQuoted", '{"doubleField": -Infinity}', level=RECOMMENDED),
    refused("DoubleFieldTooSmall", '{"doubleField": -1.9e+308}'),
    refused("DoubleFieldTooLarge", '{"doubleField": 1.9e+308}'),
    refused("DoubleFieldEmptyString", '{"doubleField": ""}'),
    refused("DoubleFieldStringValuePartiallyNumeric", '{"doubleField": "57soup"}'),
    refused("DoubleFieldStringValueNonNumeric", '{"doubleField": "soup"}'),
    refused("DoubleFieldTrueValue", '{"doubleField": true}', json_format="read as 1"),
    refused("DoubleFieldFalseValue", '{"doubleField": false}', json_format="read as 0"),
    *(
        Case(level=REQUIRED, name=name, message=Everything.FromString(wire), json={field: "NaN"})
        for name, field, wire in (
            ("FloatFieldNormalizeQuietNan", "floatField", b"\x75" + struct.pack("<I", 0x7FC54321)),
            ("FloatFieldNormalizeSignalingNan", "floatField", b"\x75" + struct.pack("<I", 0xFFA12345)),
            ("DoubleFieldNormalizeQuietNan", "doubleField", b"\x79" + struct.pack("<Q", 0x7FFA987654321ABC)),
            ("DoubleFieldNormalizeSignalingNan", "doubleField", b"\x79" + struct.pack("<Q", 0xFFF3CBA123456789)),
        )
    ),
]

ENUMS: Final = [
    required("EnumField", '{"color": "COLOR_RED"}', Everything(color=1)),
    required("EnumFieldWithAlias", '{"anEnum": "ALIASED_TWO"}', Oneofs(an_enum=2)),
    required("EnumFieldWithAliasUseAlias", '{"anEnum": "ALIASED_SECOND"}', Oneofs(an_enum=2)),
    required("EnumFieldWithAliasLowerCase", '{"anEnum": "aliased_two"}', Oneofs(an_enum=2)),
    required("EnumFieldWithAliasDifferentCase", '{"anEnum": "aLiased_Two"}', Oneofs(an_enum=2)),
    refused("EnumFieldNotQuoted", '{"color": COLOR_RED}'),
    required("EnumFieldNumericValueZero", '{"color": 0}', Everything()),
    required("EnumFieldNumericValueNonZero", '{"color": 2}', Everything(color=2)),
    required("EnumFieldUnknownValue", '{"color": 123}', Everything(color=123), json={"color": 123}),
    refused("RejectUnknownEnumStringValueInOptionalField", '{"color": "COLOR_OF_MAGIC"}', level=RECOMMENDED),
    refused("RejectUnknownEnumStringValueInRepeatedField", '{"colors": ["COLOR_OF_MAGIC"]}', level=RECOMMENDED),
    refused("RejectUnknownEnumStringValueInMapValue", '{"colorMap": {"1": "COLOR_OF_MAGIC"}}', level=RECOMMENDED),
    *(
        refused(
            f"IgnoreUnknownEnumStringValueIn{where}",
            text,
            message_class,
            RECOMMENDED,
            ignores_unknown=True,
            departs="what is ignored are fields: a value that is lost would go unnoticed",
            json_format="left out",
        )
        for where, text, message_class in (
            ("OptionalField", '{"color": "COLOR_OF_MAGIC"}', Everything),
            ("RepeatedField", '{"colors": ["COLOR_OF_MAGIC"]}', Everything),
            ("RepeatedPart", '{"enums": ["ALIASED_ONE", "COLOR_OF_MAGIC", "ALIASED_TWO"]}', Lists),
            ("MapValue", '{"colorMap": {"1": "COLOR_OF_MAGIC"}}', Everything),
            ("MapPart", '{"colorMap": {"1": "COLOR_RED", "2": "COLOR_OF_MAGIC"}}', Everything),
        )
    ),
]

STRINGS: Final = [
    required("StringField", '{"stringField": "Soup of the day"}', Everything(string_field="Soup of the day")),
    required("StringFieldUnicode", '{"stringField": "汤"}', Everything(string_field="汤")),
    required(
        "StringFieldEscape",
        '{"stringField": "\\"\\\\\\/\\b\\f\\n\\r\\t"}',
        Everything(string_field='"\\/\b\f\n\r\t'),
    ),
    required("StringFieldUnicodeEscape", '{"stringField": "\\u6C64"}', Everything(string_field="汤")),
    required(
        "StringFieldUnicodeEscapeWithLowercaseHexLetters",
        '{"stringField": "\\u6c64"}',
        Everything(string_field="汤"),
    ),
    required("StringFieldSurrogatePair", '{"stringField": "\\uD83C\\uDF72"}', Everything(string_field="\U0001f372")),
    required("StringFieldEmbeddedNull", '{"stringField": "soup\\u0000tea"}', Everything(string_field="soup\0tea")),
    refused("StringFieldUppercaseEscapeLetter", '{"stringField": "\\U6C64"}', level=RECOMMENDED),
    refused("StringFieldInvalidEscape", '{"stringField": "\\uSOUP"}', level=RECOMMENDED),
    refused("StringFieldUnterminatedEscape", '{"stringField": "\\u6C6"}', level=RECOMMENDED),
    refused("StringFieldUnpairedHighSurrogate", '{"stringField": "\\uD83C"}', level=RECOMMENDED),
    refused("StringFieldUnpairedLowSurrogate", '{"stringField": "\\uDF72"}', level=RECOMMENDED),
    refused("StringFieldSurrogateInWrongOrder", '{"stringField": "\\uDF72\\uD83C"}', level=RECOMMENDED),
    refused("StringFieldNotAString", '{"stringField": 54321}'),
    required("BytesField", '{"bytesField": "AwQ="}', Everything(bytes_field=b"\x03\x04")),
    recommended("BytesFieldBase64Url", '{"bytesField": "_-8"}', Everything(bytes_field=b"\xff\xef")),
]

CASES: Final = (*TEXTS, *NAMES, *INTEGERS, *BOOLS, *FLOATS, *ENUMS, *STRINGS)
