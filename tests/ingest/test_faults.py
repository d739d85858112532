from __future__ import annotations

import math
from typing import Any

import pytest
from flagledger.ingest.faults import Fault, find_fault
from flagledger.ingest.limits import Limits
from flagledger.v1.evaluation_pb2 import Evaluation, IdentityTrait
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from support.intake import MOMENT, NOW, valid_evaluation


def value(json: Any) -> Value:
    """Return *json* as a Value."""
    return json_format.ParseDict(json, Value())


def nested(levels: int, *, in_objects: bool = False) -> Any:
    """Return null inside *levels* of arrays, or of objects."""
    json = None
    for _ in range(levels):
        json = {"k": json} if in_objects else [json]
    return json


def struct(json: dict[str, Any]) -> Struct:
    """Return *json* as a Struct."""
    return json_format.ParseDict(json, Struct())


def trait(key: str = "plan", json: Any = "free") -> IdentityTrait:
    """Return a trait."""
    return IdentityTrait(trait_key=key, trait_value=value(json))


def at(seconds: float, nanos: int = 0) -> Timestamp:
    """Return a timestamp."""
    return Timestamp(seconds=int(seconds), nanos=nanos)


def value_of_bytes(size: int) -> Value:
    """Return a string value of exactly *size* bytes."""
    text = Value(string_value="x" * (size - 4))
    return Value(string_value="x" * (size - 4 + size - text.ByteSize()))


def struct_of_bytes(size: int) -> Struct:
    """Return metadata of exactly *size* bytes."""
    first = struct({"k": "x" * (size - 20)})
    return struct({"k": "x" * (size - 20 + size - first.ByteSize())})


def traits_of_bytes(size: int) -> list[IdentityTrait]:
    """Return traits of exactly *size* bytes together."""
    full = trait("full", "x" * 1900)
    count, left = divmod(size, full.ByteSize())
    last = trait("last", "x" * (left - 20))
    return [full] * count + [trait("last", "x" * (left - 20 + left - last.ByteSize()))]


def find(evaluation: Evaluation, *, is_server: bool = False) -> Fault | None:
    """Return the fault of the evaluation at index 3."""
    return find_fault(evaluation, index=3, limits=Limits(), now=NOW, is_server=is_server)


ACCEPTED = {
    "smallest": {},
    "name of 2,000 characters": {"feature_name": "ü" * 2000},
    "enabled false": {"enabled": False},
    "value null": {"value": value(None)},
    "value empty object": {"value": value({})},
    "value empty array": {"value": value([])},
    "value of 128 KiB": {"value": value_of_bytes(128 * 1024)},
    "value of 32 arrays": {"value": value(nested(32))},
    "value of 32 objects": {"value": value(nested(32, in_objects=True))},
    "timestamp just after 2020": {"evaluation_timestamp": at(1_577_836_800, 1)},
    "timestamp a day ahead": {"evaluation_timestamp": at(NOW + 86_400)},
    "last nanosecond": {"evaluation_timestamp": at(MOMENT, 999_999_999)},
    "identity of 2,000 characters": {"identity_identifier": "😀" * 2000},
    "empty identity": {"identity_identifier": ""},
    "trait key of 200 characters": {"identity_traits": [trait("ü" * 200)]},
    "trait string of 2,000 characters": {"identity_traits": [trait(json="ü" * 2000)]},
    "trait null": {"identity_traits": [trait(json=None)]},
    "trait object": {"identity_traits": [trait(json={"a": ["x" * 3000]})]},
    "trait of 32 arrays": {"identity_traits": [trait(json=nested(32))]},
    "traits of 32 KiB": {"identity_traits": traits_of_bytes(32 * 1024)},
    "segment of 2,000 characters": {"segment_names": ["ü" * 2000, ""]},
    "segments of 32 KiB": {"segment_names": ["x" * 1021] * 32},
    "labels of 2,000 characters": {"variant": "ü" * 2000, "reason": "ü" * 2000},
    "metadata of 8 KiB": {"metadata": struct_of_bytes(8 * 1024)},
    "metadata of 32 objects": {"metadata": struct({"k": nested(31, in_objects=True)})},
    "empty metadata": {"metadata": Struct()},
    "count 10,000": {"count": 10_000},
}

REJECTED = {
    "name of 2,001 characters": ("feature_name", {"feature_name": "x" * 2001}),
    "name with U+0000": ("feature_name", {"feature_name": "new\0dashboard"}),
    "value of no kind": ("value", {"value": Value()}),
    "value with no kind inside": ("value", {"value": Value(list_value={"values": [Value()]})}),
    "value NaN": ("value", {"value": Value(number_value=math.nan)}),
    "value infinity inside": ("value", {"value": Value(struct_value={"fields": {"k": Value(number_value=math.inf)}})}),
    "value with U+0000": ("value", {"value": value("a\0")}),
    "value with U+0000 in a key": ("value", {"value": value([{"a\0": 1}])}),
    "value over 128 KiB": ("value", {"value": value_of_bytes(128 * 1024 + 1)}),
    "value of 33 arrays": ("value", {"value": value(nested(33))}),
    "value of 33 objects": ("value", {"value": value(nested(33, in_objects=True))}),
    "timestamp at 2020": ("evaluation_timestamp", {"evaluation_timestamp": at(1_577_836_800)}),
    "timestamp of 0": ("evaluation_timestamp", {"evaluation_timestamp": at(-MOMENT)}),
    "timestamp over a day ahead": ("evaluation_timestamp", {"evaluation_timestamp": at(NOW + 86_400, 1000)}),
    "timestamp far ahead": ("evaluation_timestamp", {"evaluation_timestamp": at(1 << 62)}),
    "negative nanos": ("evaluation_timestamp", {"evaluation_timestamp": at(MOMENT, -1)}),
    "too many nanos": ("evaluation_timestamp", {"evaluation_timestamp": at(MOMENT, 1_000_000_000)}),
    "identity of 2,001 characters": ("identity_identifier", {"identity_identifier": "x" * 2001}),
    "identity with U+0000": ("identity_identifier", {"identity_identifier": "\0"}),
    "trait without key": ("identity_traits[0].trait_key", {"identity_traits": [trait("")]}),
    "trait key of 201 characters": ("identity_traits[1].trait_key", {"identity_traits": [trait(), trait("x" * 201)]}),
    "trait key with U+0000": ("identity_traits[0].trait_key", {"identity_traits": [trait("\0")]}),
    "trait without value": ("identity_traits[0].trait_value", {"identity_traits": [IdentityTrait(trait_key="k")]}),
    "trait value of no kind": (
        "identity_traits[0].trait_value",
        {"identity_traits": [IdentityTrait(trait_key="k", trait_value=Value())]},
    ),
    "trait string of 2,001 characters": (
        "identity_traits[0].trait_value",
        {"identity_traits": [trait(json="x" * 2001)]},
    ),
    "trait string with U+0000": ("identity_traits[0].trait_value", {"identity_traits": [trait(json="\0")]}),
    "trait with U+0000 inside": ("identity_traits[0].trait_value", {"identity_traits": [trait(json=["\0"])]}),
    "trait infinity": (
        "identity_traits[0].trait_value",
        {"identity_traits": [IdentityTrait(trait_key="k", trait_value=Value(number_value=-math.inf))]},
    ),
    "trait of 33 arrays": ("identity_traits[0].trait_value", {"identity_traits": [trait(json=nested(33))]}),
    "traits over 32 KiB": ("identity_traits", {"identity_traits": traits_of_bytes(32 * 1024 + 1)}),
    "segment of 2,001 characters": ("segment_names[1]", {"segment_names": ["a", "x" * 2001]}),
    "segments over 32 KiB": ("segment_names", {"segment_names": ["x" * 1021] * 31 + ["x" * 1022]}),
    "segment with U+0000": ("segment_names[0]", {"segment_names": ["\0"]}),
    "variant of 2,001 characters": ("variant", {"variant": "x" * 2001}),
    "variant with U+0000": ("variant", {"variant": "\0"}),
    "reason of 2,001 characters": ("reason", {"reason": "x" * 2001}),
    "reason with U+0000": ("reason", {"reason": "\0"}),
    "metadata over 8 KiB": ("metadata", {"metadata": struct_of_bytes(8 * 1024 + 1)}),
    "metadata of 33 objects": ("metadata", {"metadata": struct({"k": nested(32, in_objects=True)})}),
    "metadata with U+0000": ("metadata", {"metadata": struct({"k": ["\0"]})}),
    "metadata with U+0000 in a key": ("metadata", {"metadata": struct({"\0": 1})}),
    "metadata NaN": ("metadata", {"metadata": Struct(fields={"k": Value(number_value=math.nan)})}),
    "metadata of no kind": ("metadata", {"metadata": Struct(fields={"k": Value()})}),
    "count 10,001": ("count", {"count": 10_001}),
}


def with_fields(fields: dict[str, Any]) -> Evaluation:
    """Return a valid evaluation whose timestamp is replaced and whose other fields are set."""
    evaluation = valid_evaluation()
    if "evaluation_timestamp" in fields:
        evaluation.ClearField("evaluation_timestamp")
    evaluation.MergeFrom(Evaluation(**fields))
    return evaluation


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_contract_permits_is_valid(fields: dict[str, Any]) -> None:
    """An evaluation at a limit is valid."""
    assert find(with_fields(fields)) is None


@pytest.mark.parametrize(("field", "fields"), REJECTED.values(), ids=REJECTED)
def test_what_the_contract_forbids_is_found(field: str, fields: dict[str, Any]) -> None:
    """A fault names its evaluation and field by a path relative to the batch, and says in a sentence what is wrong."""
    fault = find(with_fields(fields))

    assert fault is not None
    assert (fault.index, fault.field) == (3, f"evaluations[3].{field}")
    assert fault.description.endswith(".")


@pytest.mark.parametrize("field", ["feature_name", "enabled", "evaluation_timestamp"])
def test_required_fields_are_required(field: str) -> None:
    """Absence of a required field is found, and told from a value."""
    evaluation = valid_evaluation()
    evaluation.ClearField(field)

    fault = find(evaluation)

    assert fault is not None
    assert fault.field == f"evaluations[3].{field}"
    assert fault.description.startswith("It is required")


def test_a_server_key_may_count_further() -> None:
    """Under a server key `count` goes to 1,000,000 and no further."""
    assert find(valid_evaluation(count=1_000_000), is_server=True) is None
    assert find(valid_evaluation(count=1_000_001), is_server=True) is not None


def test_of_two_faults_in_an_object_the_same_is_named() -> None:
    """A map has no order, but a fault has: that of the first key."""
    faulty = {"b": Value(string_value="\0"), "a": Value(), "c": Value(number_value=math.nan)}
    orders = [dict(sorted(faulty.items(), reverse=reverse)) for reverse in (False, True)]

    first, second = (find(valid_evaluation(value=Value(struct_value=Struct(fields=fields)))) for fields in orders)

    assert first is not None
    assert first == second
    assert "null" in first.description


def test_the_first_field_that_is_wrong_is_named() -> None:
    """Of several faults the one of the first field counts, so that both protocols name the same."""
    fault = find(Evaluation(reason="\0", count=1 << 31))

    assert fault is not None
    assert fault.field == "evaluations[3].feature_name"


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("evaluations[3].evaluation_timestamp", "evaluation_timestamp"),
        ("evaluations[3].identity_traits[12].trait_key", "identity_traits.trait_key"),
        ("evaluations[3].identity_traits[12].surprise", "identity_traits"),
        ("evaluations[3].segment_names[0]", "segment_names"),
        ("evaluations[3].metadata.made_up", "metadata"),
        ("evaluations[3].value[1].a", "value"),
        ("evaluations[3].surprise", ""),
        ("evaluations[3]", ""),
        ("", ""),
    ],
)
def test_kinds_of_faults_are_few(field: str, kind: str) -> None:
    """A kind names fields of the contract only, whatever the sender calls things: it labels metrics."""
    assert Fault(index=3, field=field, description="").kind == kind
