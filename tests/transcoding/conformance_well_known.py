"""Conformance cases of Timestamp, Duration, FieldMask, Struct, Value and ListValue, and of how deep they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf import duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2
from transcoding.conformance import RECOMMENDED, Lists, Oneofs, recommended, refused, required, unwritable
from transcoding.kitchen import Everything

_NULL: Final = struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)


def _time(seconds: int, nanos: int = 0) -> Any:
    return Everything(time=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos))


def _duration(seconds: int, nanos: int = 0) -> Any:
    return Everything(duration=duration_pb2.Duration(seconds=seconds, nanos=nanos))


def _mask(*paths: str) -> Any:
    return Everything(mask=field_mask_pb2.FieldMask(paths=paths))


def _number(number: float) -> Any:
    return struct_pb2.Value(number_value=number)


def _text(text: str) -> Any:
    return struct_pb2.Value(string_value=text)


def _list(*values: Any) -> Any:
    return struct_pb2.ListValue(values=values)


DURATIONS: Final = [
    required("DurationMinValue", '{"duration": "-315576000000.999999999s"}', _duration(-315576000000, -999999999)),
    required("DurationMaxValue", '{"duration": "315576000000.999999999s"}', _duration(315576000000, 999999999)),
    required(
        "DurationRepeatedValue",
        '{"durations": ["2.5s", "-2.5s"]}',
        Lists(
            durations=[
                duration_pb2.Duration(seconds=2, nanos=5 * 10**8),
                duration_pb2.Duration(seconds=-2, nanos=-5 * 10**8),
            ]
        ),
    ),
    required("DurationNull", '{"duration": null}', Everything()),
    required("DurationNegativeSeconds", '{"duration": "-7s"}', _duration(-7)),
    required("DurationNegativeNanos", '{"duration": "-0.7s"}', _duration(0, -700_000_000)),
    refused("DurationMissingS", '{"duration": "7"}'),
    refused("DurationJsonInputTooSmall", '{"duration": "-315576000001.000000000s"}'),
    refused("DurationJsonInputTooLarge", '{"duration": "315576000001.000000000s"}'),
    unwritable("DurationProtoInputTooSmall", _duration(-315576000001)),
    unwritable("DurationProtoInputTooLarge", _duration(315576000001)),
    unwritable("DurationProtoNanosTooSmall", _duration(0, -1_000_000_000)),
    unwritable("DurationProtoNanosTooLarge", _duration(0, 1_000_000_000)),
    unwritable("DurationProtoNanosWrongSign", _duration(7, -1)),
    unwritable("DurationProtoNanosWrongSignNegativeSecs", _duration(-7, 1)),
    recommended(
        "DurationHasZeroFractionalDigit", '{"duration": "7.000000000s"}', _duration(7), json={"duration": "7s"}
    ),
    recommended(
        "DurationHas3FractionalDigits",
        '{"duration": "7.020000000s"}',
        _duration(7, 20_000_000),
        json={"duration": "7.020s"},
    ),
    recommended(
        "DurationHas6FractionalDigits",
        '{"duration": "7.000020000s"}',
        _duration(7, 20_000),
        json={"duration": "7.000020s"},
    ),
    recommended(
        "DurationHas9FractionalDigits",
        '{"duration": "7.000000020s"}',
        _duration(7, 20),
        json={"duration": "7.000000020s"},
    ),
]

TIMESTAMPS: Final = [
    *(
        required(f"Timestamp{name}", f'{{"time": "{text}"}}', _time(seconds, nanos))
        for name, text, seconds, nanos in (
            ("MinValue", "0001-01-01T00:00:00Z", -62135596800, 0),
            ("MaxValue", "9999-12-31T23:59:59.999999999Z", 253402300799, 999999999),
            ("EpochValue", "1970-01-01T00:00:00Z", 0, 0),
            ("LittleAfterEpochlValue", "1970-01-01T00:00:00.000000007Z", 0, 7),
            ("LittleBeforeEpochValue", "1969-12-31T23:59:59.999999993Z", -1, 999999993),
            ("NanoAfterEpochlValue", "1970-01-01T00:00:00.000000001Z", 0, 1),
            ("NanoBeforeEpochValue", "1969-12-31T23:59:59.999999999Z", -1, 999999999),
            ("TenAndHalfSecondsAfterEpochValue", "1970-01-01T00:00:10.500Z", 10, 500_000_000),
            ("TenAndHalfSecondsBeforeEpochValue", "1969-12-31T23:59:49.500Z", -11, 500_000_000),
            ("Leap", "1993-06-30T23:59:59.000Z", 741484799, 0),
            ("WithPositiveOffset", "1970-01-01T02:00:07+02:00", 7, 0),
            ("WithNegativeOffset", "1969-12-31T22:00:07-02:00", 7, 0),
            ("WithComplexOffset", "1970-01-01T00:00:00-09:30", 34200, 0),
            ("WithOffsetShiftsDay", "1970-01-02T00:30:00+01:00", 84600, 0),
            ("WithOffsetBoundaryInBoundsMin", "0001-01-01T00:00:00-00:01", -62135596740, 0),
            ("WithOffsetBoundaryInBoundsMax", "9999-12-31T23:59:59+00:01", 253402300739, 0),
            ("JsonInputLeapFeb29", "2000-02-29T00:00:00Z", 951782400, 0),
        )
    ),
    required(
        "TimestampRepeatedValue",
        '{"times": ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"]}',
        Everything(
            times=[
                timestamp_pb2.Timestamp(seconds=-62135596800),
                timestamp_pb2.Timestamp(seconds=253402300799, nanos=999999999),
            ]
        ),
    ),
    required("TimestampNull", '{"time": null}', Everything()),
    refused("TimestampWithMissingColonInOffset", '{"time": "1970-01-01T02:00:07+0200"}'),
    *(
        refused(f"TimestampJsonInput{name}", f'{{"time": "{text}"}}')
        for name, text in (
            ("TooSmall", "0000-12-31T23:59:59Z"),
            ("TooLarge", "10000-01-01T00:00:00Z"),
            ("MissingZ", "2001-02-03T04:05:06"),
            ("MissingT", "2001-02-03 04:05:06Z"),
            ("LowercaseZ", "2001-02-03T04:05:06z"),
            ("LowercaseT", "2001-02-03t04:05:06Z"),
            ("MonthTooLarge", "2001-13-03T04:05:06Z"),
            ("MonthZero", "2001-00-03T04:05:06Z"),
            ("DayTooLarge", "2001-02-30T04:05:06Z"),
            ("DayZero", "2001-02-00T04:05:06Z"),
            ("HourTooLarge", "2001-02-03T24:00:00Z"),
            ("HourTooLarge25", "2001-02-03T25:05:06Z"),
            ("MinuteTooLarge", "2001-02-03T04:60:06Z"),
            ("SecondTooLarge", "2001-02-03T04:05:60Z"),
            ("OffsetBoundaryUnderflow", "0001-01-01T00:00:00+00:01"),
            ("OffsetBoundaryOverflow", "9999-12-31T23:59:59-00:01"),
            ("InvalidNanos", "2001-02-03T04:05:06.0123456789Z"),
            ("InvalidCharsInNanos", "2001-02-03T04:05:06.01x2Z"),
            ("YearTooShort", "201-02-03T04:05:06Z"),
            ("YearTooLong", "02001-02-03T04:05:06Z"),
            ("NonLeapFeb29", "1900-02-29T04:05:06Z"),
        )
    ),
    *(
        refused(f"TimestampJsonInput{name}", f'{{"time": "{text}"}}', json_format="accepted")
        for name, text in (
            ("InvalidOffsetHour", "2001-02-03T04:05:06+24:00"),
            ("InvalidOffsetMinute", "2001-02-03T04:05:06+00:60"),
            ("MonthTooShort", "2001-2-03T04:05:06Z"),
            ("DayTooShort", "2001-02-3T04:05:06Z"),
        )
    ),
    unwritable("TimestampProtoInputTooSmall", _time(-62135596801)),
    unwritable("TimestampProtoInputTooLarge", _time(253402300800)),
    unwritable("TimestampProtoNegativeNanos", _time(7, -1)),
    unwritable("TimestampProtoNanoTooLarge", _time(7, 1_000_000_000)),
    recommended(
        "TimestampZeroNormalized",
        '{"time": "1969-12-31T22:00:07-02:00"}',
        _time(7),
        json={"time": "1970-01-01T00:00:07Z"},
    ),
    *(
        recommended(
            f"TimestampHas{name}",
            f'{{"time": "1970-01-01T00:00:07.{fraction}Z"}}',
            _time(7, int(fraction)),
            json={"time": f"1970-01-01T00:00:07{written}Z"},
        )
        for name, fraction, written in (
            ("ZeroFractionalDigit", "000000000", ""),
            ("3FractionalDigits", "020000000", ".020"),
            ("6FractionalDigits", "000020000", ".000020"),
            ("9FractionalDigits", "000000020", ".000000020"),
        )
    ),
]

MASKS: Final = [
    required("FieldMask", '{"mask": "soup,greenTea"}', _mask("soup", "green_tea")),
    required("EmptyFieldMask", '{"mask": ""}', _mask()),
    refused("FieldMaskInvalidCharacter", '{"mask": "soup,green_tea"}', level=RECOMMENDED),
    unwritable("FieldMaskPathsDontRoundTrip", _mask("greenTea"), RECOMMENDED),
    unwritable("FieldMaskNumbersDontRoundTrip", _mask("tea_4_two"), RECOMMENDED),
    unwritable("FieldMaskTooManyUnderscore", _mask("green__tea"), RECOMMENDED),
]

STRUCTS: Final = [
    required(
        "Struct",
        '{"struct": {"null": null, "int": 4321, "bool": true, "double": 87.65, "string": "soup", "list": [43, "21"],'
        ' "object": {"size": 0}}}',
        Everything(
            struct=struct_pb2.Struct(
                fields={
                    "null": _NULL,
                    "int": _number(4321),
                    "bool": struct_pb2.Value(bool_value=True),
                    "double": _number(87.65),
                    "string": _text("soup"),
                    "list": struct_pb2.Value(list_value=_list(_number(43), _text("21"))),
                    "object": struct_pb2.Value(struct_value=struct_pb2.Struct(fields={"size": _number(0)})),
                }
            )
        ),
    ),
    required(
        "StructWithEmptyListValue",
        '{"struct": {"list": []}}',
        Everything(struct=struct_pb2.Struct(fields={"list": struct_pb2.Value(list_value=_list())})),
    ),
    required("ValueAcceptInteger", '{"value": 7}', Everything(value=_number(7))),
    required("ValueAcceptFloat", '{"value": 7.5}', Everything(value=_number(7.5))),
    required("ValueAcceptBool", '{"value": false}', Everything(value=struct_pb2.Value(bool_value=False))),
    required("ValueAcceptNull", '{"value": null}', Everything(value=_NULL)),
    required("ValueAcceptString", '{"value": "soup"}', Everything(value=_text("soup"))),
    required(
        "ValueAcceptList",
        '{"value": [0, "soup"]}',
        Everything(value=struct_pb2.Value(list_value=_list(_number(0), _text("soup")))),
    ),
    required(
        "ValueAcceptObject",
        '{"value": {"size": 7}}',
        Everything(value=struct_pb2.Value(struct_value=struct_pb2.Struct(fields={"size": _number(7)}))),
    ),
    required(
        "RepeatedValue",
        '{"values": [["soup"]]}',
        Everything(values=[struct_pb2.Value(list_value=_list(_text("soup")))]),
    ),
    required("RepeatedListValue", '{"lists": [["soup"]]}', Lists(lists=[_list(_text("soup"))])),
    recommended(
        "NullValueInOtherOneofOldFormat",
        '{"aNull": "NULL_VALUE"}',
        Oneofs(a_null=struct_pb2.NULL_VALUE),
        json={"aNull": None},
    ),
    recommended(
        "NullValueInOtherOneofNewFormat", '{"aNull": null}', Oneofs(a_null=struct_pb2.NULL_VALUE), json={"aNull": None}
    ),
    recommended("NullValueInNormalMessage", '{"nullField": null}', Everything(), json={}),
    unwritable("ValueRejectNanNumberValue", Everything(value=_number(float("nan"))), RECOMMENDED),
    unwritable("ValueRejectInfNumberValue", Everything(value=_number(float("inf"))), RECOMMENDED),
]


def _nested(levels: int, opening: str, closing: str) -> str:
    return '{"value": ' + opening * levels + "7" + closing * levels + "}"


def _holding(levels: int, hold: Callable[[Any], Any]) -> Any:
    value = _number(7)
    for _ in range(levels):
        value = hold(value)
    return Everything(value=value)


def _in_list(value: Any) -> Any:
    return struct_pb2.Value(list_value=_list(value))


def _in_object(value: Any) -> Any:
    return struct_pb2.Value(struct_value=struct_pb2.Struct(fields={"in": value}))


DEPTHS: Final = [
    recommended("ListValueDeepNesting25", _nested(25, "[", "]"), _holding(25, _in_list)),
    refused("ListValueDeepNesting200", _nested(200, "[", "]"), level=RECOMMENDED),
    recommended("ValueDeepNesting25", _nested(26, '{"in": ', "}"), _holding(26, _in_object)),
    refused("ValueDeepNesting200", _nested(201, '{"in": ', "}"), level=RECOMMENDED),
]

CASES: Final = (*DURATIONS, *TIMESTAMPS, *MASKS, *STRUCTS, *DEPTHS)
