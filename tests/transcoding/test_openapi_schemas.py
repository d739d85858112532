from __future__ import annotations

import functools
from typing import Any

import orjson
import pytest
from flagledger.transcoding import Codec, CodecError, CodecOptions, Report
from flagledger.transcoding.openapi_comments import Comments
from flagledger.transcoding.openapi_scalars import Use
from flagledger.transcoding.openapi_schemas import Schemas
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from transcoding.kitchen import Everything, Nested, Order, Packed, Sizes, Tray
from transcoding.strategies import JUNK, damaged, messages

OPTIONS = {
    "plain": CodecOptions(),
    "spelled out": CodecOptions(preserving_proto_field_name=True, always_print_primitive=True, int64_as_numbers=True),
}
BYTES = {"type": "string", "contentEncoding": "base64"}
NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
REFERENCE = "#/components/schemas/kitchen.v1"

thorough = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def schemas(options: CodecOptions | None = None) -> Schemas:
    """Return what makes schemas, without comments."""
    return Schemas(options or CodecOptions(), Comments())


@functools.cache
def validator(message_class: Any, use: Use, options: str) -> Any:
    """Return what tells whether JSON fits the schema of a message."""
    made = schemas(OPTIONS[options])
    schema = made.message(message_class.DESCRIPTOR, use)
    whole = {**schema, "components": {"schemas": made.components}}
    Draft202012Validator.check_schema(whole)
    return Draft202012Validator(whole)


def request_of(field: str, message_class: Any = Everything) -> Any:
    """Return the schema of a field as requests have it."""
    return schemas()._property(message_class.DESCRIPTOR.fields_by_name[field], Use.REQUEST, lenient=False)


def response_of(field: str, options: CodecOptions | None = None, message_class: Any = Everything) -> Any:
    """Return the schema of a field as answers have it."""
    return schemas(options)._property(message_class.DESCRIPTOR.fields_by_name[field], Use.RESPONSE, lenient=False)


@pytest.mark.parametrize(
    ("field", "response", "request_schema"),
    [
        ("string_field", {"type": "string"}, {"type": ["string", "null"]}),
        ("bool_field", {"type": "boolean"}, {"type": ["boolean", "null"]}),
        (
            "int32_field",
            {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
            {
                "type": ["integer", "string", "null"],
                "format": "int32",
                "minimum": -(2**31),
                "maximum": 2**31 - 1,
                "pattern": NUMBER,
            },
        ),
        (
            "uint64_field",
            {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"},
            {
                "type": ["integer", "string", "null"],
                "format": "uint64",
                "minimum": 0,
                "maximum": 2**64 - 1,
                "pattern": NUMBER,
            },
        ),
        (
            "double_field",
            {"type": ["number", "string"], "format": "double", "pattern": "^(?:NaN|-?Infinity)$"},
            {
                "type": ["number", "string", "null"],
                "format": "double",
                "pattern": f"^(?:{NUMBER[1:-1]}|NaN|-?Infinity)$",
            },
        ),
        ("color", {"$ref": f"{REFERENCE}.Color"}, {"anyOf": [{"$ref": f"{REFERENCE}.Color-input"}, {"type": "null"}]}),
        (
            "nested",
            {"$ref": f"{REFERENCE}.Nested"},
            {"anyOf": [{"$ref": f"{REFERENCE}.Nested-input"}, {"type": "null"}]},
        ),
        ("null_field", {"type": "null"}, {"enum": [None, "NULL_VALUE", 0]}),
        (
            "strings",
            {"type": "array", "items": {"type": "string"}},
            {"type": ["array", "null"], "items": {"type": "string"}},
        ),
        ("blobs", {"type": "array", "items": BYTES}, None),
        (
            "string_map",
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
        ),
        (
            "bool_map",
            {
                "type": "object",
                "additionalProperties": {
                    "type": ["number", "string"],
                    "format": "double",
                    "pattern": "^(?:NaN|-?Infinity)$",
                },
                "propertyNames": {"enum": ["true", "false"]},
            },
            None,
        ),
        ("struct", {"type": "object", "additionalProperties": True}, None),
        ("value", {}, {}),
        ("list", {"type": "array", "items": {}}, {"type": ["array", "null"], "items": {}}),
        ("bool_value", {"type": "boolean"}, {"type": ["boolean", "null"]}),
        ("bytes_value", BYTES, None),
        ("mask", {"type": "string", "pattern": "^[^_]*$", "examples": ["name,owner.displayName"]}, None),
    ],
)
def test_fields(field: str, response: Any, request_schema: Any) -> None:
    """A field of each kind has the schema of what is written, and of what is read."""
    assert response == response_of(field)
    if request_schema is not None:
        assert request_schema == request_of(field)


def test_int64_as_numbers() -> None:
    """Under that option 64-bit integers are numbers up to 2^53 and strings beyond."""
    numbers = CodecOptions(int64_as_numbers=True)

    assert {
        "type": ["integer", "string"],
        "format": "int64",
        "pattern": "^-?[0-9]+$",
        "minimum": -(2**53),
        "maximum": 2**53,
    } == response_of("int64_field", numbers)
    assert 0 == response_of("uint64_field", numbers)["minimum"]


def test_enum() -> None:
    """An enum is a name or a number; of two names for one number the first alone is written, and both are read."""
    made = schemas()
    color = Everything.DESCRIPTOR.fields_by_name["color"]
    for use in Use:
        made.value(color, use)
    names = {name: schema["anyOf"][0]["enum"] for name, schema in made.components.items()}
    every = ["COLOR_UNSPECIFIED", "COLOR_RED", "COLOR_BLUE", "COLOR_AZURE", "COLOR_NEGATIVE"]

    assert {
        "kitchen.v1.Color-input": every,
        "kitchen.v1.Color": [name for name in every if name != "COLOR_AZURE"],
        "kitchen.v1.Color-parameter": every,
    } == names


def test_any() -> None:
    """An Any is refused inward, but for its absence, and an object with a type outward."""
    assert {"type": "null"} == request_of("any", Packed)
    assert {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    } == response_of("any", message_class=Packed)


def test_names() -> None:
    """A request names each field once, takes the other spelling by pattern, and no other name; answers have one spelling."""
    made = schemas(CodecOptions(preserving_proto_field_name=True, always_print_primitive=True))
    for use in (Use.REQUEST, Use.RESPONSE):
        made.message(Everything.DESCRIPTOR, use)
    request, response = (made.components[f"kitchen.v1.Everything{suffix}"] for suffix in ("-input", ""))

    assert {field.name for field in Everything.DESCRIPTOR.fields} == set(request["properties"])
    assert set(response["properties"]) == set(request["properties"])
    assert {"^stringField$", "^another$"} <= set(request["patternProperties"])
    assert "^string_field$" not in request["patternProperties"]
    assert (False, False) == (request["additionalProperties"], response["additionalProperties"])
    assert "patternProperties" not in response


def test_names_that_cross() -> None:
    """Where one field's JSON name is another's proto name, requests are described with the names by which each is found."""
    file = descriptor_pb2.FileDescriptorProto(name="crossed.proto", package="crossed.v1", syntax="proto3")
    message = file.message_type.add(name="Crossed")
    for number, (name, json_name) in enumerate({"first": "second", "second": "third"}.items(), 1):
        message.field.add(name=name, json_name=json_name, number=number, type="TYPE_STRING", label="LABEL_OPTIONAL")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("crossed.v1.Crossed")
    options = CodecOptions(preserving_proto_field_name=True)
    made = schemas(options)
    for use in (Use.REQUEST, Use.RESPONSE):
        made.message(descriptor, use)
    written = Codec(options).serialize(message_factory.GetMessageClass(descriptor)(first="a", second="b"))

    assert ["first", "third"] == list(made.components["crossed.v1.Crossed-input"]["properties"])
    assert list(orjson.loads(written)) == list(made.components["crossed.v1.Crossed"]["properties"])


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("2026-02-10T11:00:00Z", True),
        ("2026-02-10T11:00:00.123456789+23:59", True),
        ("2026-02-10T11:00:00-00:59", True),
        ("2026-02-10T11:00:00.Z", False),
        ("2026-02-10T11:00:00.1234567890Z", False),
        ("2026-02-10T11:00:00+24:00", False),
        ("2026-02-10T11:00:00+30:00", False),
        ("2026-02-10T11:00:00+10:60", False),
        ("2026-02-10t11:00:00z", False),
        ("2026-02-10 11:00:00Z", False),
    ],
)
def test_moments(text: str, fits: bool) -> None:  # noqa: FBT001
    """A Timestamp is written as the codec reads it, which is narrower than RFC 3339."""
    value = {"time": text}

    assert fits == validator(Everything, Use.REQUEST, "plain").is_valid(value)
    assert fits == accepted(Codec(), Everything, value)


@pytest.mark.parametrize(
    ("number", "fits"),
    [(3.4028234663852886e38, True), (3.4028235e38, True), (-3.4028235e38, True), (3.4028236e38, False)],
)
def test_the_largest_float(number: float, fits: bool) -> None:  # noqa: FBT001
    """What is nearest to the largest float is read as that, and what lies beyond is not."""
    value = {"floatField": number}

    assert fits == validator(Everything, Use.REQUEST, "plain").is_valid(value)
    assert fits == accepted(Codec(), Everything, value)


def test_required() -> None:
    """What is always written is required of an answer: primitive fields without presence, under that option."""
    made = schemas(CodecOptions(always_print_primitive=True))
    made.message(Nested.DESCRIPTOR, Use.RESPONSE)
    made.message(Nested.DESCRIPTOR, Use.REQUEST)

    assert ["name", "size"] == made.components["kitchen.v1.Nested"]["required"]
    assert "required" not in made.components["kitchen.v1.Nested-input"]


def test_oneof() -> None:
    """A message says in words which of its fields exclude each other, and `optional` alone excludes nothing."""
    made = schemas()
    made.message(Everything.DESCRIPTOR, Use.RESPONSE)

    assert (
        "At most one of `choiceString`, `choiceInt`, `choiceNested` and `choiceBool` is set."
        == made.components["kitchen.v1.Everything"]["description"]
    )


def test_lenient() -> None:
    """Below a message whose unknown fields are ignored any name is taken, and the same message elsewhere is as strict as ever."""
    made = schemas(CodecOptions(ignore_unknown_below=frozenset({"kitchen.v1.Tray"})))
    made.message(Order.DESCRIPTOR, Use.REQUEST)
    made.message(Nested.DESCRIPTOR, Use.REQUEST)
    open_ones = {name for name, schema in made.components.items() if schema["additionalProperties"] is True}

    assert {"kitchen.v1.Tray-input", "kitchen.v1.Dish-input-lenient", "kitchen.v1.Nested-input-lenient"} == open_ones
    assert made.components["kitchen.v1.Nested-input"]["additionalProperties"] is False


def test_elements() -> None:
    """A limit of elements is one of the schema, of requests alone; elements that fail alone are said to."""
    dishes = Tray.DESCRIPTOR.fields_by_name["dishes"]
    options = CodecOptions(max_elements={dishes.full_name: 3}, collect_errors_in=frozenset({dishes.full_name}))
    made = schemas(options)

    assert 3 == made.whole(dishes, Use.REQUEST)["maxItems"]
    assert "maxItems" not in made.whole(dishes, Use.RESPONSE)
    assert "alone" in made._property(dishes, Use.REQUEST, lenient=False)["description"]


def test_body_of_one_field() -> None:
    """A body that is one field is what the field holds: null for an absent list, and for an unset message on its way out."""
    made = schemas()
    sizes = Sizes.DESCRIPTOR.fields_by_name["sizes"]
    time = Everything.DESCRIPTOR.fields_by_name["time"]

    assert ["array", "null"] == made.body(sizes, Use.REQUEST)["type"]
    assert "array" == made.body(sizes, Use.RESPONSE)["type"]
    assert ["string", "null"] == made.body(time, Use.RESPONSE)["type"]


def test_empty() -> None:
    """A message without fields is an object without any."""
    made = schemas()
    made.message(empty_pb2.Empty.DESCRIPTOR, Use.REQUEST)

    assert {"google.protobuf.Empty-input": {"type": "object", "additionalProperties": False}} == made.components


@thorough
@pytest.mark.parametrize("options", OPTIONS)
@given(message=messages(Everything.DESCRIPTOR))
def test_what_is_written_fits(options: str, message: Any) -> None:
    """What the codec writes fits the schema of answers, and that of requests, too."""
    written = orjson.loads(Codec(OPTIONS[options]).serialize(message))

    assert [] == [error.message for error in validator(Everything, Use.RESPONSE, options).iter_errors(written)]
    assert [] == [error.message for error in validator(Everything, Use.REQUEST, options).iter_errors(written)]


@thorough
@pytest.mark.parametrize("options", OPTIONS)
@given(data=st.data())
def test_what_is_read_fits(options: str, data: st.DataObject) -> None:
    """Whatever the codec reads fits the schema of requests."""
    codec = Codec(OPTIONS[options])
    other = Codec(OPTIONS["plain" if options == "spelled out" else "spelled out"])
    message = data.draw(messages(Everything.DESCRIPTOR))
    value = data.draw(damaged(orjson.loads(data.draw(st.sampled_from([codec, other])).serialize(message))))
    if accepted(codec, Everything, value):
        assert [] == [error.message for error in validator(Everything, Use.REQUEST, options).iter_errors(value)]


def accepted(codec: Codec, message_class: Any, value: Any) -> bool:
    """Tell whether *codec* reads *value*."""
    try:
        codec.parse(orjson.dumps(value), message_class(), Report())
    except CodecError:
        return False
    return True


def test_what_fits_is_read() -> None:
    """Of every field each kind of JSON is read where it fits the schema of requests, but for what no schema can say."""
    codec = Codec()
    fits = validator(Everything, Use.REQUEST, "plain").is_valid
    wrong: set[tuple[str, str]] = set()
    tried = 0
    for field in Everything.DESCRIPTOR.fields:
        for junk in [*JUNK, *([junk] for junk in JUNK)]:
            value = {field.json_name: junk}
            tried += fits(value)
            if fits(value) != accepted(codec, Everything, value):
                assert fits(value), value
                wrong.add((field.name, orjson.dumps(junk).decode()))
    numbers = {text for _, text in wrong} - {'"2026-13-10T11:00:00Z"', '["2026-13-10T11:00:00Z"]', "-0.0"}

    assert 500 < tried
    # Numbers in strings that are no integers or beyond their bounds, a month that is none, and zero with a sign for null.
    assert {'"1.5"', '["1.5"]', '"-5"', '["-5"]'} == numbers
    assert ("null_field", "-0.0") in wrong
