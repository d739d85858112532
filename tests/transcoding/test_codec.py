from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from flagledger.transcoding import Codec, CodecError, CodecOptions, ElementError, Report, TooManyElementsError
from google.protobuf import descriptor_pb2, json_format, struct_pb2, wrappers_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transcoding.conformance import Chain, Names
from transcoding.kitchen import Everything, Nested, Order, Packed, Tray
from transcoding.reference import wire
from transcoding.strategies import JSON, messages

PLAIN = Codec()
PROTO = Codec(CodecOptions(preserving_proto_field_name=True, always_print_primitive=True, int64_as_numbers=True))
NAMES = Codec(CodecOptions(preserving_proto_field_name=True))

COLLECTING = CodecOptions(preserving_proto_field_name=True, collect_errors_in=frozenset({"kitchen.v1.Tray.dishes"}))

thorough = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def verdict(message_class: Any, text: bytes) -> tuple[bool, bytes | str]:
    """Return whether the codec accepts *text*, with the message's bytes or the error."""
    try:
        return True, wire(PLAIN.parse(text, message_class()))
    except CodecError as error:
        return False, str(error)


def accepts(message_class: Any, value: Any) -> bool:
    """Tell whether the codec accepts *value*."""
    return verdict(message_class, orjson.dumps(value) if not isinstance(value, bytes) else value)[0]


def written(message: Any, **options: bool) -> Any:
    """Return what json_format makes of *message*, but the largest float so that it is within its range when read."""
    text = json.dumps(json_format.MessageToDict(message, **options))
    return json.loads(readable(text))


def readable(text: str) -> str:
    """Return what json_format wrote, with the largest float so that json_format itself can read it."""
    return text.replace("3.4028235e+38", "3.4028234663852886e+38")


def test_the_largest_float_comes_back() -> None:
    """The largest float is written with the digits that keep it within the range of its type."""
    message = Everything(float_field=3.4028234663852886e38)

    assert message == PLAIN.parse(PLAIN.serialize(message), Everything())


@thorough
@given(messages(Everything.DESCRIPTOR))
def test_writes_what_json_format_writes(message: Any) -> None:
    """A message becomes the JSON that json_format makes of it, in either spelling."""
    assert written(message) == PLAIN.encoder(Everything.DESCRIPTOR)(message)
    proto = written(message, preserving_proto_field_name=True)
    assert proto == NAMES.encoder(Everything.DESCRIPTOR)(message)
    assert proto == json.loads(NAMES.serialize(message))


@thorough
@given(message=messages(Everything.DESCRIPTOR), proto_names=st.booleans())
def test_reads_what_json_format_writes(message: Any, *, proto_names: bool) -> None:
    """A message comes back from its JSON, in either spelling, whatever the codec's own spelling is."""
    text = readable(json_format.MessageToJson(message, preserving_proto_field_name=proto_names)).encode()
    expected = wire(json_format.Parse(text, Everything()))

    assert expected == wire(PLAIN.parse(text, Everything()))
    assert expected == wire(NAMES.parse(text, Everything()))


@given(JSON)
def test_any_json_is_a_value(value: Any) -> None:
    """Every JSON value becomes the google.protobuf.Value that json_format makes of it, and comes back the same."""
    text = orjson.dumps(value)
    parsed = PLAIN.parse(text, struct_pb2.Value())

    assert json_format.Parse(text, struct_pb2.Value()) == parsed
    assert orjson.loads(text) == orjson.loads(PLAIN.serialize(parsed))


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u ', max_size=30).map(str.encode))
def test_nothing_but_codec_errors(text: bytes) -> None:
    """Whatever bytes come, they are a message or a CodecError."""
    verdict(Everything, text)
    verdict(struct_pb2.Value, text)


INTEGERS = [
    # field, value, expected (None: refused)
    ("int32_field", 5, 5),
    ("int32_field", "5", 5),
    ("int32_field", -5, -5),
    ("int32_field", "-5", -5),
    ("int32_field", 5.0, 5),
    ("int32_field", "5.0", 5),
    ("int32_field", 1e5, 100000),
    ("int32_field", "1e5", 100000),
    ("int32_field", "150e-1", 15),
    ("int32_field", 2**31 - 1, 2**31 - 1),
    ("int32_field", -(2**31), -(2**31)),
    ("int32_field", 2**31, None),
    ("int32_field", -(2**31) - 1, None),
    ("int32_field", 5.5, None),
    ("int32_field", "5.5", None),
    ("int32_field", True, None),
    ("int32_field", "", None),
    ("int32_field", " 5", None),
    ("int32_field", "5 ", None),
    ("int32_field", "5\n", None),
    ("int32_field", "+5", None),
    ("int32_field", "005", None),
    ("int32_field", "1_0", None),
    ("int32_field", "\u0661", None),
    ("int32_field", "0x5", None),
    ("int32_field", "1e999999999", None),
    ("int64_field", "1e9999999999999999999", None),
    ("int64_field", "1e-9999999999999999999", None),
    ("int64_field", "0e9999999999999999999", 0),
    ("int64_field", "-0.0E-9999999999999999999", 0),
    ("int64_field", "7." + "0" * 5000, 7),
    ("int64_field", "0." + "0" * 49 + "7e50", 7),
    ("int64_field", "0." + "9" * 50, None),
    ("int32_field", "9" * 5000, None),
    ("int32_field", [], None),
    ("int32_field", {}, None),
    ("uint32_field", 2**32 - 1, 2**32 - 1),
    ("uint32_field", 2**32, None),
    ("uint32_field", -1, None),
    ("uint32_field", "-0", 0),
    ("int64_field", "9223372036854775807", 2**63 - 1),
    ("int64_field", 9223372036854775807, 2**63 - 1),
    ("int64_field", "-9223372036854775808", -(2**63)),
    ("int64_field", -9223372036854775808, -(2**63)),
    ("int64_field", "9223372036854775808", None),
    ("int64_field", b"-9223372036854775809", None),
    ("int64_field", "-9223372036854775809", None),
    ("int64_field", b"1e18", 10**18),
    ("int64_field", "9007199254740993.0", 2**53 + 1),
    ("uint64_field", "18446744073709551615", 2**64 - 1),
    ("uint64_field", 18446744073709551615, 2**64 - 1),
    ("uint64_field", b"18446744073709551616", None),
    ("uint64_field", "18446744073709551616", None),
    ("sint64_field", -5, -5),
    ("fixed32_field", "7", 7),
    ("sfixed64_field", "-7", -7),
]


@pytest.mark.parametrize(("field", "value", "expected"), INTEGERS)
def test_integers(field: str, value: Any, expected: int | None) -> None:
    """Integers come as numbers or strings of JSON's own grammar, within their bounds, and in no other way."""
    spelled = value if isinstance(value, bytes) else orjson.dumps(value)
    text = b'{"%s":%s}' % (field.encode(), spelled)
    accepted, _ = verdict(Everything, text)

    assert (expected is not None) is accepted
    if expected is not None:
        assert expected == getattr(PLAIN.parse(text, Everything()), field)


@pytest.mark.parametrize(
    ("field", "text", "accepted"),
    [
        ("double_field", b"1.5", True),
        ("double_field", b"5", True),
        ("double_field", b'"1.5"', True),
        ("double_field", b'"-1.5e3"', True),
        ("double_field", b'"NaN"', True),
        ("double_field", b'"Infinity"', True),
        ("double_field", b'"-Infinity"', True),
        ("double_field", b'"nan"', False),
        ("double_field", b'"inf"', False),
        ("double_field", b'"+Infinity"', False),
        ("double_field", b'"1e400"', False),
        ("double_field", b"1e400", False),
        ("double_field", b"NaN", False),
        ("double_field", b'"1_0"', False),
        ("double_field", b'" 1"', False),
        ("double_field", b'".5"', False),
        ("double_field", b'"5."', False),
        ("double_field", b"true", False),
        ("double_field", b"1.7976931348623157e308", True),
        ("float_field", b"3.4028234663852886e38", True),
        ("float_field", b"3.5e38", False),
        ("float_field", b'"3.5e38"', False),
        ("float_field", b"-3.5e38", False),
        ("float_field", b'"NaN"', True),
        ("float_field", b"1e-60", True),
        ("color", b'"COLOR_RED"', True),
        ("color", b'"COLOR_AZURE"', True),
        ("color", b"1", True),
        ("color", b"1.0", True),
        ("color", b'"1"', True),
        ("color", b'"1.0"', False),
        ("color", b"4294967296", False),
        ("color", b"99", True),
        ("color", b"1.5", False),
        ("color", b"true", False),
        ("color", b'"color_red"', False),
        ("color", b'"COLOR_NONE"', False),
        ("color", b"2147483648", False),
        ("color", b"[]", False),
        ("bool_field", b"true", True),
        ("bool_field", b"1", False),
        ("bool_field", b'"true"', False),
        ("string_field", b'"x"', True),
        ("string_field", b'"\\u0000"', True),
        ("string_field", b'"\\ud83d\\ude00"', True),
        ("string_field", b'"\\ud83d"', False),
        ("string_field", b'"\xff"', False),
        ("string_field", b"5", False),
        ("string_field", b"[]", False),
        ("string_field", b"{}", False),
        ("bytes_field", b'"YWI="', True),
        ("bytes_field", b'"YWI"', True),
        ("bytes_field", b'"_-8"', True),
        ("bytes_field", b'"/+8="', True),
        ("bytes_field", b'""', True),
        ("bytes_field", b'"Y"', False),
        ("bytes_field", b'"YW=I"', False),
        ("bytes_field", b'"YW!I"', False),
        ("bytes_field", b'"YWJj!!!!"', False),
        ("bytes_field", b'"YWI=="', False),
        ("bytes_field", b'"YW I"', False),
        ("bytes_field", b"5", False),
        ("duration", b'"1s"', True),
        ("duration", b'"-1.5s"', True),
        ("duration", b'"-0.000000001s"', True),
        ("duration", b'"315576000000s"', True),
        ("duration", b'"315576000001s"', False),
        ("duration", b'"1.0000000001s"', False),
        ("duration", b'"1"', False),
        ("duration", b'"+1s"', False),
        ("duration", b'" 1s"', False),
        ("duration", b'"1_0s"', False),
        ("duration", b'".5s"', False),
        ("duration", b'"1.s"', False),
        ("duration", b"1", False),
        ("mask", b'"a.b,cD"', True),
        ("mask", b'""', True),
        ("mask", b'"a_b"', False),
        ("mask", b"[]", False),
        ("struct", b"{}", True),
        ("struct", b"[]", False),
        ("list", b"[]", True),
        ("list", b"{}", False),
        ("nested", b"{}", True),
        ("nested", b"[]", False),
        ("nested", b'""', False),
        ("nested", b"5", False),
        ("empty", b"{}", True),
        ("empty", b'{"a":1}', False),
        ("strings", b"[]", True),
        ("strings", b'"ab"', False),
        ("strings", b"{}", False),
        ("strings", b"[null]", False),
        ("nesteds", b"[null]", False),
        ("values", b"[null]", True),
        ("bools", b"[1]", False),
        ("string_map", b"[]", False),
        ("string_map", b'{"a":null}', False),
        ("value_map", b'{"a":null}', True),
        ("bool_map", b'{"true":1,"false":2}', True),
        ("bool_map", b'{"1":1}', False),
        ("bool_map", b'{"True":1}', False),
        ("int_map", b'{"1":"2"}', True),
        ("int_map", b'{"x":"2"}', False),
        ("int_map", b'{"2147483648":"2"}', False),
        ("null_field", b"null", True),
        ("null_field", b'"NULL_VALUE"', True),
        ("null_field", b"0", True),
        ("null_field", b'"x"', False),
        ("null_field", b"5", False),
        ("null_field", b"0.0", False),
        ("null_field", b"false", False),
        ("null_field", b'"0"', False),
        ("bool_value", b"true", True),
        ("bool_value", b"1", False),
        ("string_value", b"5", False),
        ("int64_value", b'"5"', True),
        ("class", b'{"name":"x"}', True),
        ("another", b'"x"', True),
        ("renamed", b'"x"', True),
    ],
)
def test_fields(field: str, text: bytes, *, accepted: bool) -> None:
    """Each kind of field takes the JSON of its kind and no other."""
    assert accepted is accepts(Everything, b'{"%s":%s}' % (field.encode(), text))


TIMESTAMPS = [
    ("2026-02-10T11:00:00Z", (1770721200, 0)),
    ("2026-02-10T11:00:00.5Z", (1770721200, 500_000_000)),
    ("2026-02-10T11:00:00.123456789Z", (1770721200, 123_456_789)),
    ("2026-02-10T11:00:00.000000001Z", (1770721200, 1)),
    ("2026-02-10T13:00:00+02:00", (1770721200, 0)),
    ("2026-02-10T05:30:00.5-05:30", (1770721200, 500_000_000)),
    ("2026-02-10T11:00:00+00:00", (1770721200, 0)),
    ("2026-02-10T11:00:00-00:00", (1770721200, 0)),
    ("2026-02-11T10:59:00+23:59", (1770721200, 0)),
    ("0001-01-01T00:00:00Z", (-62135596800, 0)),
    ("9999-12-31T23:59:59.999999999Z", (253402300799, 999_999_999)),
    ("2024-02-29T00:00:00Z", (1709164800, 0)),
    ("1969-12-31T23:59:59.5Z", (-1, 500_000_000)),
    ("0000-01-01T00:00:00Z", None),
    ("10000-01-01T00:00:00Z", None),
    ("0001-01-01T00:00:00+00:01", None),
    ("9999-12-31T23:59:59-00:01", None),
    ("2026-02-29T00:00:00Z", None),
    ("2026-02-10T24:00:00Z", None),
    ("2026-02-10T23:59:60Z", None),
    ("2026-02-10T11:60:00Z", None),
    ("2026-02-10 11:00:00Z", None),
    ("2026-02-10t11:00:00Z", None),
    ("2026-02-10T11:00:00z", None),
    ("2026-02-10T11:00:00", None),
    ("2026-02-10", None),
    ("2026-02-10T11:00Z", None),
    ("2026-02-10T11:00:00.Z", None),
    ("2026-02-10T11:00:00.1234567890Z", None),
    ("2026-02-10T11:00:00,5Z", None),
    ("2026-02-10T11:00:00+0200", None),
    ("2026-02-10T11:00:00+2:00", None),
    ("2026-02-10T11:00:00+99:99", None),
    ("2026-02-10T11:00:00+24:00", None),
    ("2026-02-10T11:00:00+02:60", None),
    ("2026-02-10T11:00:00ZZ", None),
    ("2026-02-10T11:00:00Z\n", None),
    (" 2026-02-10T11:00:00Z", None),
    ("2026-2-1T0:0:0Z", None),
    ("\u0662026-02-10T11:00:00Z", None),
    ("2026-02-10T11:00:00.\u0661Z", None),
    ("", None),
    (1770721200, None),
    (True, None),
    ([], None),
    ({}, None),
]


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(("value", "expected"), TIMESTAMPS)
def test_timestamps(value: Any, expected: tuple[int, int] | None, *, warm: bool) -> None:
    """RFC 3339 is read to the nanosecond, and what only resembles it is refused, also where its second is known already."""
    if warm:
        for known, _ in TIMESTAMPS:
            accepts(Everything, {"time": known})
    text = orjson.dumps({"time": value})
    accepted, _ = verdict(Everything, text)

    assert (expected is not None) is accepted
    if expected is not None:
        parsed = PLAIN.parse(text, Everything()).time
        assert expected == (parsed.seconds, parsed.nanos)


def test_timestamps_with_an_offset_teach_nothing_wrong() -> None:
    """A second that came with an offset is not taken for the same second in UTC afterwards."""
    shifted = PLAIN.parse(b'{"time":"2031-05-05T05:05:05+02:00"}', Everything()).time.seconds
    plain = PLAIN.parse(b'{"time":"2031-05-05T05:05:05Z"}', Everything()).time.seconds

    assert 7200 == plain - shifted


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"int32_field": "x"}, "int32_field"),
        ({"nested": {"inner": {"size": "x"}}}, "nested.inner.size"),
        ({"nesteds": [{}, {"children": [{"name": "a"}, {"size": []}]}]}, "nesteds[1].children[1].size"),
        ({"nesteds": [{}, 5]}, "nesteds[1]"),
        ({"strings": ["a", "b", 3]}, "strings[2]"),
        ({"bools": [True, 3]}, "bools[1]"),
        ({"uint64s": [1, 2, -1]}, "uint64s[2]"),
        ({"int32s": [1, 2**40]}, "int32s[1]"),
        ({"times": ["2026-02-10T11:00:00Z", "x"]}, "times[1]"),
        ({"stringValues": ["a", 5]}, "string_values[1]"),
        ({"string_map": {"a": "b", "c": 1}}, "string_map[c]"),
        ({"nestedMap": {"k": {"size": "x"}}}, "nested_map[k].size"),
        ({"string_map": []}, "string_map"),
        ({"nesteds": {}}, "nesteds"),
        ({"nope": 1}, "nope"),
        ({"nested": {"nope": 1}}, "nested.nope"),
        ({"choice_string": "a", "choice_int": 1}, "choice_int"),
        ({"time": "x"}, "time"),
        ({"class": {"size": "x"}}, "class.size"),
        ({"from": 5}, "from"),
        (5, ""),
        ([], ""),
        (None, ""),
    ],
)
def test_error_paths(value: Any, path: str) -> None:
    """An error names the field by its path from the message that was decoded."""
    with pytest.raises(CodecError) as caught:
        NAMES.parse(orjson.dumps(value), Everything())

    assert path == caught.value.path
    assert caught.value.description


def test_error_paths_in_lower_camel_case() -> None:
    """Error paths are spelled as the codec writes names."""
    with pytest.raises(CodecError) as caught:
        PLAIN.parse(b'{"string_values":[5]}', Everything())

    assert "stringValues[0]" == caught.value.path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"string_field":"a","string_field":"b"}', "b"),
        (b'{"string_field":"a","stringField":"b"}', "b"),
        (b'{"stringField":"a","string_field":"b"}', "b"),
        (b'{"stringField":"a","string_field":null}', ""),
        (b'{"stringField":null}', ""),
    ],
)
def test_last_one_counts(text: bytes, expected: str) -> None:
    """Of equal keys, and of the two spellings of one field, the last counts; null is as if it was not there."""
    assert expected == PLAIN.parse(text, Everything()).string_field


@pytest.mark.parametrize("codec", [PLAIN, NAMES], ids=["plain", "names"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"stringField":5,"string_field":"a"}', Everything(string_field="a")),
        ('{"string_field":5,"stringField":"a"}', Everything(string_field="a")),
        ('{"nope":1,"string_field":5,"stringField":"a"}', None),
        ('{"stringField":"a","string_field":5}', None),
        ('{"string_field":"a","stringField":5}', None),
        ('{"choiceInt":1,"choiceString":"a","choice_int":null}', Everything(choice_string="a")),
        ('{"choice_int":1,"choiceString":"a","choiceInt":null}', Everything(choice_string="a")),
        ('{"nesteds":[{"size":1}],"nestedMap":{"a":{}},"nested_map":{"b":{}}}', {"nested_map": {"b": {}}}),
        ('{"valueMap":{"a":1},"value_map":{"b":2},"time":"x","time":null}', {"value_map": {"b": 2}}),
    ],
)
def test_what_is_spelled_again_does_not_count(codec: Codec, text: str, expected: Any) -> None:
    """Of two spellings the first is as if it was not there, whatever it holds."""
    if isinstance(expected, dict):
        nesteds = [Nested(size=1)] if "nesteds" in text else []
        expected = json_format.ParseDict(expected, Everything(nesteds=nesteds))
    if expected is None:
        with pytest.raises(CodecError):
            codec.parse(text.encode(), Everything())
    else:
        assert expected == codec.parse(text.encode(), Everything())


@pytest.mark.parametrize("codec", [PLAIN, NAMES], ids=["plain", "names"])
@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("inner", ["%s", "[%s]", '{"k":%s}'])
@pytest.mark.parametrize("in_camel_case", [False, True])
def test_spellings_that_are_mixed_at_every_level(codec: Codec, inner: str, *, in_camel_case: bool, bad: bool) -> None:
    """A message whose spellings are mixed at every level takes no longer than one of a single spelling, fit or not."""
    snake = {"%s": "left_node", "[%s]": "node_list", '{"k":%s}': "node_map"}[inner]
    camel = snake.replace("_n", "N").replace("_l", "L").replace("_m", "M")
    holder, name = (camel, "node_name") if in_camel_case else (snake, "nodeName")
    text = '{"nodeName":5}' if bad else "{}"
    for level in range(30):
        text = f'{{"{holder}":{inner % text},"{name}":"{level}"}}'
    if bad:
        with pytest.raises(CodecError, match="has to be a string"):
            codec.parse(text.encode(), Chain())
    else:
        assert json_format.Parse(text, Chain()) == codec.parse(text.encode(), Chain())


@pytest.mark.parametrize("codec", [PLAIN, NAMES], ids=["plain", "names"])
@pytest.mark.parametrize("names", [("fieldName2", "field_name2"), ("field_name2", "fieldName2")])
def test_what_is_spelled_again_in_the_innermost(codec: Codec, names: tuple[str, str]) -> None:
    """The same holds in messages that hold no others, of which no path is left behind."""
    first, second = names

    assert Names(field_name2=7) == codec.parse(f'{{"{first}":"x","{second}":7,"fieldname1":null}}'.encode(), Names())
    with pytest.raises(CodecError) as caught:
        codec.parse(f'{{"{first}":7,"{second}":"x"}}'.encode(), Names())
    assert ("fieldName2" if codec is PLAIN else "field_name2") == caught.value.path


def test_reports_of_what_is_decoded_anew() -> None:
    """What was found before the spelling turned out to be another is found once."""
    codec = Codec(
        CodecOptions(
            ignore_unknown_below=frozenset({"kitchen.v1.Dish"}), collect_errors_in=COLLECTING.collect_errors_in
        )
    )
    report = Report()
    text = b'{"tray":{"dishes":[{"price":"much","nope":1}]},"trays":[{"dishes":[{"price":"much"}]}],"table":"1"}'
    codec.parse(text, Order(), report)

    assert ["tray.dishes[0].price", "trays[0].dishes[0].price"] == [error.path for error in report.errors]


def test_null_is_unset_except_for_values() -> None:
    """Null leaves a field unset; only a Value holds it."""
    names = [field.name for field in Everything.DESCRIPTOR.fields]
    parsed = PLAIN.parse(orjson.dumps(dict.fromkeys(names)), Everything())

    assert {"value": None} == json_format.MessageToDict(parsed, preserving_proto_field_name=True)


def test_presence_of_empty_messages() -> None:
    """An empty object sets its message, also in the other spelling."""
    parsed = PLAIN.parse(b'{"nested":{"inner":{}},"struct":{},"empty":{},"value":{},"choiceNested":{}}', Everything())

    assert parsed.nested.HasField("inner")
    assert parsed.HasField("struct")
    assert parsed.HasField("empty")
    assert "struct_value" == parsed.value.WhichOneof("kind")
    assert "choice_nested" == parsed.WhichOneof("choice")


def test_any_is_refused_inward() -> None:
    """An Any is not read, with a sentence that says so."""
    with pytest.raises(CodecError, match="not accepted"):
        PLAIN.parse(b'{"any":{"@type":"type.googleapis.com/kitchen.v1.Nested","name":"x"}}', Packed())


def test_any_is_written_outward() -> None:
    """An Any of a known type is written as json_format writes it, and one of an unknown type is an error."""
    packed = Packed()
    packed.any.Pack(Nested(name="x"))
    time = Packed()
    time.any.Pack(struct_pb2.Value(string_value="a"))

    assert json_format.MessageToDict(packed) == PLAIN.encoder(Packed.DESCRIPTOR)(packed)
    assert json_format.MessageToDict(time) == PLAIN.encoder(Packed.DESCRIPTOR)(time)
    packed.any.type_url = "type.googleapis.com/nobody.Knows"
    with pytest.raises(ValueError, match=r"nobody\.Knows"):
        PLAIN.serialize(packed)


def test_int64_as_numbers() -> None:
    """64-bit integers are numbers up to 2^53 and strings beyond, where that is asked for."""
    message = Everything(int64_field=2**53, uint64_field=2**53 + 1, sint64_field=-(2**53), sfixed64_field=-(2**53) - 1)
    written = PROTO.encoder(Everything.DESCRIPTOR)(message)

    assert (2**53, str(2**53 + 1)) == (written["int64_field"], written["uint64_field"])
    assert (-(2**53), str(-(2**53) - 1)) == (written["sint64_field"], written["sfixed64_field"])


def test_always_print_primitive() -> None:
    """Primitives without presence are printed at zero; optional, message, repeated and map fields are not."""
    written = PROTO.encoder(Everything.DESCRIPTOR)(Everything())
    primitive = {
        field.name for field in Everything.DESCRIPTOR.fields if not field.has_presence and not field.is_repeated
    }

    assert primitive == set(written)
    assert {"name": "", "size": 0} == PROTO.encoder(Nested.DESCRIPTOR)(Nested())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_values_without_a_word_in_json(number: float) -> None:
    """NaN and infinities in a Value are an error instead of something that is no JSON."""
    with pytest.raises(ValueError, match="NaN or an infinity"):
        PLAIN.serialize(struct_pb2.Value(number_value=number))


@pytest.mark.parametrize("field", ["time", "duration"])
def test_out_of_range_outward(field: str) -> None:
    """A Timestamp or Duration out of range is an error."""
    message = Everything()
    getattr(message, field).seconds = 2**60
    with pytest.raises(ValueError, match=r"range|years"):
        PLAIN.serialize(message)


def test_messages_too_deep_to_be_written() -> None:
    """More levels than can be written are a ValueError like all that has no JSON, however many they are."""
    for levels in (300, 3_000):
        message = innermost = Nested(name="outermost")
        for _ in range(levels):
            innermost = innermost.inner
        innermost.SetInParent()
        with pytest.raises(ValueError, match="nested too deeply"):
            PLAIN.serialize(message)


def test_no_depth_is_too_much() -> None:
    """A limit on depth beyond what any parser takes lets nothing through that one has to give up on."""
    codec = Codec(CodecOptions(max_depth=1_000_000))
    for levels in (90, 500, 1_000, 1_020, 100_000):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            with pytest.raises(CodecError):
                codec.parse(b'{"value":' + opening * levels + b"1" + closing * levels + b"}", Everything())
        with pytest.raises(CodecError):
            codec.parse(b'{"children":[' * levels * 2 + b"]}" * levels * 2, Nested())
    deep = codec.parse(b'{"children":[' * 90 + b"]}" * 90, Nested())
    assert deep == Nested.FromString(deep.SerializeToString())


@pytest.mark.parametrize("elements", [b"7,7,7,7", b'{"nope":1},{},{},{}', b"null,null,null,null"])
def test_elements_are_counted_first(elements: bytes) -> None:
    """A list that is too long is refused as a whole, before the first of its elements is looked at."""
    codec = Codec(
        CodecOptions(max_elements={"kitchen.v1.Tray.dishes": 3}, collect_errors_in=COLLECTING.collect_errors_in)
    )
    report = Report()
    with pytest.raises(TooManyElementsError) as caught:
        codec.parse(b'{"tray":{"dishes":[%b]}}' % elements, Order(), report)

    assert (3, "tray.dishes", "kitchen.v1.Tray.dishes") == (caught.value.most, caught.value.path, caught.value.field)
    assert [] == report.errors
    codec.parse(b'{"tray":{"dishes":[{},{},{}]}}', Order(), report)


def test_depth() -> None:
    """Nesting is bounded at the level that was set, for Values, lists and recursive messages, and far beyond by the parser."""
    codec = Codec(CodecOptions(max_depth=10))

    def levels(opening: bytes, closing: bytes, count: int) -> bytes:
        return b'{"value":' + opening * count + b"1" + closing * count + b"}"

    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        codec.parse(levels(opening, closing, 9), Everything())
        for count in (10, 99, 100, 900, 5_000, 100_000):
            with pytest.raises(CodecError) as caught:
                codec.parse(levels(opening, closing, count), Everything())
            assert caught.value.fatal
    nested = b'{"nested":' + b'{"inner":' * 8 + b"{}" + b"}" * 8 + b"}"
    codec.parse(nested, Everything())
    with pytest.raises(CodecError, match="too deeply"):
        codec.parse(b'{"nested":' + b'{"inner":' * 9 + b"{}" + b"}" * 9 + b"}", Everything())


@given(count=st.integers(1, 60), objects=st.booleans())
def test_what_is_accepted_can_be_parsed_again(*, count: int, objects: bool) -> None:
    """Whatever depth is allowed, an accepted message survives being serialised and parsed."""
    opening, closing = (b'{"a":', b"}") if objects else (b"[", b"]")
    codec = Codec(CodecOptions(max_depth=100))
    try:
        parsed = codec.parse(b'{"value":' + opening * count + b"1" + closing * count + b"}", Everything())
    except CodecError as error:
        refused = error.description
    else:
        refused = ""
        assert parsed == Everything.FromString(parsed.SerializeToString())

    assert ("too deeply" in refused) is bool(refused)
    assert not refused or count > 25


def test_collected_errors() -> None:
    """A bad element stays as an empty placeholder, with its index and the path of the field, and costs no neighbour."""
    codec = Codec(COLLECTING)
    report = Report()
    text = orjson.dumps(
        {
            "dishes": [
                {"name": "soup", "cooked": "2026-02-10T11:00:00Z"},
                {"name": "cake", "cooked": "yesterday"},
                {"name": "tea", "parts": [{}, {"size": "large"}]},
                7,
                None,
                {"name": "rice", "nope": 1},
                {"name": "fish", "extra": None},
            ],
            "label": "t",
        }
    )
    parsed = codec.parse(text, Tray(), report)

    assert ["soup", "", "", "", "", "", "fish"] == [dish.name for dish in parsed.dishes]
    assert not any(parsed.dishes[at].ListFields() for at in (1, 2, 3, 4, 5))
    assert [
        (1, "dishes[1].cooked"),
        (2, "dishes[2].parts[1].size"),
        (3, "dishes[3]"),
        (4, "dishes[4]"),
        (5, "dishes[5].nope"),
    ] == [(error.index, error.path) for error in report.errors]


def test_collected_errors_further_in() -> None:
    """Paths of collected errors start at the message that was decoded, through single and repeated holders."""
    codec = Codec(COLLECTING)
    bad = {"dishes": [{"price": "much"}]}
    report = Report()
    codec.parse(orjson.dumps({"tray": bad, "trays": [{}, bad]}), Order(), report)

    assert ["tray.dishes[0].price", "trays[1].dishes[0].price"] == [error.path for error in report.errors]


def test_collected_errors_in_maps() -> None:
    """Paths of collected errors name the key of a map, which is no reason to fail the others."""
    codec = Codec(CodecOptions(collect_errors_in=frozenset({"conformance.v1.Chain.node_list"})))
    report = Report()
    text = (
        b'{"nodeMap":{"a":{},"b":{"node_list":[{"nodeName":"x"},5]},"c":{"nodeMap":{"d":{"nodeList":[{"nope":1}]}}}}}'
    )
    parsed = codec.parse(text, Chain(), report)

    assert ["nodeMap[b].nodeList[1]", "nodeMap[c].nodeMap[d].nodeList[0].nope"] == [
        error.path for error in report.errors
    ]
    assert {"a", "b", "c"} == set(parsed.node_map)
    assert ["x", ""] == [node.node_name for node in parsed.node_map["b"].node_list]


@pytest.mark.parametrize(
    ("message_class", "text", "described"),
    [
        (wrappers_pb2.Int32Value, b"[]", "has to be an integer, not an array"),
        (wrappers_pb2.BoolValue, b"1", "has to be true or false, not a number"),
        (wrappers_pb2.StringValue, b"1", "has to be a string, not a number"),
        (struct_pb2.Struct, b"1", "has to be an object, not a number"),
        (struct_pb2.ListValue, b"{}", "has to be an array, not an object"),
        (
            descriptor_pb2.FileOptions,
            b'{"optimizeFor":99}',
            "is not a value of google.protobuf.FileOptions.OptimizeMode",
        ),
    ],
)
def test_other_messages_at_the_top(message_class: Any, text: bytes, described: str) -> None:
    """Messages with a JSON of their own, and closed enums, say what they take as their fields do."""
    with pytest.raises(CodecError) as caught:
        PLAIN.parse(text, message_class())

    assert described == caught.value.description


def test_collected_errors_stop_at_the_field() -> None:
    """The shape of the holder itself is not forgiven, nor is depth inside an element."""
    codec = Codec(COLLECTING)
    for text in (
        b'{"dishes":{}}',
        b'{"label":5}',
        b'{"nope":1}',
        b'{"dishes":[{"extra":' + b"[" * 200 + b"]" * 200 + b"}]}",
    ):
        with pytest.raises(CodecError):
            codec.parse(text, Tray(), Report())


def test_without_collecting() -> None:
    """Where nothing is collected the first bad element fails the whole."""
    with pytest.raises(CodecError) as caught:
        NAMES.parse(b'{"dishes":[{},{"price":"much"}]}', Tray())

    assert "dishes[1].price" == caught.value.path


LENIENT = CodecOptions(preserving_proto_field_name=True, ignore_unknown_below=frozenset({"kitchen.v1.Dish"}))


def test_ignored_unknown_fields() -> None:
    """Unknown fields inside the named message, at any depth, are passed over and reported without indices, each path once."""
    codec = Codec(LENIENT)
    report = Report()
    value = {
        "dishes": [{"name": "a", "spice": 1}, {"spice": 2, "parts": [{"glaze": 1, "name": "p"}], "extra": {"free": 1}}]
    }
    parsed = codec.parse(orjson.dumps(value), Tray(), report)

    assert ["a", ""] == [dish.name for dish in parsed.dishes]
    assert "p" == parsed.dishes[1].parts[0].name
    assert report.ignored
    assert ("dishes[].spice", "dishes[].parts[].glaze") == codec.ignored_paths(Tray.DESCRIPTOR, value)


def test_unknown_fields_elsewhere() -> None:
    """Outside the named message an unknown field is refused by name, also in a type that occurs inside it as well."""
    codec = Codec(LENIENT)
    with pytest.raises(CodecError) as caught:
        codec.parse(b'{"nope":1}', Tray(), Report())
    assert "nope" == caught.value.path
    with pytest.raises(CodecError):
        codec.parse(b'{"nope":1}', Nested(), Report())


def test_ignored_paths_are_bounded() -> None:
    """At most twenty distinct paths are reported, and each within 200 characters."""
    codec = Codec(LENIENT)
    value = {"dishes": [{f"unknown{at}": 1 for at in range(50)}, {"y" * 1000: 1}]}
    paths = codec.ignored_paths(Tray.DESCRIPTOR, value)

    assert 20 == len(paths)
    long = codec.ignored_paths(Tray.DESCRIPTOR, {"dishes": [{"y" * 1000: 1}]})
    assert 200 == len(long[0])


def test_reports_start_empty() -> None:
    """A report of a message without faults says so."""
    report = Report()
    PLAIN.parse(b"{}", Everything(), report)

    assert ([], False) == (report.errors, report.ignored)
    assert ElementError(1, "a", "b") == (1, "a", "b")
