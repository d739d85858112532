from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from flagledger.errors import FieldViolation, FlagledgerError, Reason
from flagledger.query import requests
from flagledger.store.intake import IntakeQuestion
from flagledger.store.questions import CountQuestion, ExposureQuestion, Filter, Group
from flagledger.v1.query_service_pb2 import (
    ORIGIN_SERVER,
    CountEvaluationsRequest,
    ExportEvaluationsRequest,
    GetIntakeRequest,
    ListEvaluationsRequest,
    ListExposuresRequest,
)
from google.protobuf import timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st
from support.querying import time_of
from support.records import START, texts

FILTERED = [ListEvaluationsRequest, CountEvaluationsRequest, ExportEvaluationsRequest]


def fields_of(violations: list[FieldViolation]) -> list[str]:
    """Return the fields that are wrong."""
    return [violation.field for violation in violations]


def filter_of(**fields: Any) -> tuple[Filter, list[str]]:
    """Return the filter of a request with *fields*, and those that are wrong."""
    violations: list[FieldViolation] = []
    return requests.filter_of(ListEvaluationsRequest(**fields), "production", violations), fields_of(violations)


@pytest.mark.parametrize("request_type", FILTERED)
def test_every_filter_of_a_request_is_one_of_the_store(request_type: type) -> None:
    """What is set must hold, whichever rpc it is set for."""
    violations: list[FieldViolation] = []
    request = request_type(
        environment="not looked at",
        feature_name="checkout",
        identity_identifier="u",
        segment_name="s",
        start_time=time_of(START),
        end_time=time_of(START + 1),
        value="true",
        variant="v",
        reason="r",
        enabled=False,
        trait_key="k",
        trait_value="12.0",
        sdk_name="n",
        sdk_version="1",
        origin=ORIGIN_SERVER,
    )

    assert Filter(
        environment="production",
        feature_name="checkout",
        identity_identifier="u",
        segment_name="s",
        start=START,
        end=START + 1,
        value="true",
        variant="v",
        reason="r",
        enabled=False,
        trait_key="k",
        trait_value="12",
        sdk_name="n",
        sdk_version="1",
        origin=2,
    ) == requests.filter_of(request, "production", violations)
    assert [] == violations
    assert Filter(environment="production") == requests.filter_of(request_type(), "production", violations)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("true", "true"),
        ("null", "null"),
        (" 12.0 ", "12"),
        ("1e3", "1000"),
        ("-0", "0"),
        ("-0.0", "-0.0"),
        ("0.1", "0.1"),
        ("9007199254740993", "9007199254740992"),
        ("9007199254740994", "9007199254740994.0"),
        ("123456789012345678901234567890", "1.2345678901234568e+29"),
        ('"on"', '"on"'),
        ('"\\u00e9"', '"é"'),
        ("on", '"on"'),
        ('say "on"', '"say \\"on\\""'),
        ("NaN", '"NaN"'),
        ("1e400", '"1e400"'),
        ("'on'", "\"'on'\""),
        ("\x00", '"\\u0000"'),
        ('{"b": 1.0, "a": [1, {}]}', '{"a":[1,{}],"b":1}'),
        ('{"a": 1, "a": 2}', '{"a":2}'),
        ("[" * 2000 + "]" * 2000, orjson.dumps("[" * 2000 + "]" * 2000).decode()),
        ("[" * 600 + "]" * 600, orjson.dumps("[" * 600 + "]" * 600).decode()),
    ],
)
def test_values_are_compared_as_they_are_kept(text: str, kept: str) -> None:
    """JSON is asked for however it is written; what is none, or holds what is never kept, is a string."""
    found, violations = filter_of(value=text, trait_key="k", trait_value=text)

    assert (kept, kept, []) == (found.value, found.trait_value, violations)


@given(texts)
def test_any_text_can_be_asked_for(text: str) -> None:
    """Whatever is sent as a value is a question, and none at all where it is empty."""
    found, violations = filter_of(value=text)

    assert [] == violations
    assert (found.value is None) == (text == "")
    if found.value is not None:
        orjson.loads(found.value)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"value": "x" * 4_094}, []),
        ({"value": "x" * 4_095}, ["value"]),
        ({"value": '"' * 2_048}, ["value"]),
        ({"trait_key": "k", "trait_value": "é" * 2_048}, ["trait_value"]),
        ({"value": " " * 5_000 + "1"}, []),
        ({"trait_key": "k"}, []),
        ({"trait_value": "1"}, ["trait_value"]),
        ({"origin": 3}, ["origin"]),
        ({"start_time": time_of(2), "end_time": time_of(1)}, ["end_time"]),
        ({"start_time": time_of(1), "end_time": time_of(1)}, []),
        ({"start_time": timestamp_pb2.Timestamp(seconds=1 << 40), "value": "x" * 5_000}, ["start_time", "value"]),
    ],
)
def test_filters_that_cannot_be(fields: dict[str, Any], wrong: list[str]) -> None:
    """Each filter that makes no sense is named."""
    assert wrong == filter_of(**fields)[1]


def count(**fields: Any) -> tuple[CountQuestion, list[FieldViolation]]:
    """Return the question for counts of a request with *fields*, and what is wrong."""
    violations: list[FieldViolation] = []
    return requests.count_question(CountEvaluationsRequest(**fields), "production", violations), violations


def test_counts_are_asked_for_as_they_stand() -> None:
    """Groups keep their order, and what is not said has its default."""
    found, violations = count(
        feature_name="checkout",
        bucket="week",
        time_zone="Europe/Zurich",
        group_by=["trait:a:b", "enabled", "trait:c", "sdk"],
        series_limit=7,
    )

    assert [] == violations
    assert found == CountQuestion(
        filter=Filter(environment="production", feature_name="checkout"),
        group_by=(
            Group(kind="trait", trait_key="a:b"),
            Group(kind="enabled"),
            Group(kind="trait", trait_key="c"),
            Group(kind="sdk"),
        ),
        bucket="week",
        time_zone="Europe/Zurich",
        series_limit=7,
    )
    assert CountQuestion(filter=Filter(environment="production")) == count()[0]
    assert (20, 100, 100) == tuple(count(series_limit=limit)[0].series_limit for limit in (0, 100, 101))


@pytest.mark.parametrize("name", ["feature", "enabled", "value", "variant", "segment", "reason", "sdk", "origin"])
def test_groups(name: str) -> None:
    """Everything that the contract names can be grouped by."""
    found, violations = count(group_by=[name])

    assert [] == violations
    assert name == found.group_by[0].kind


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"bucket": "hours"}, ["bucket"]),
        ({"bucket": "Hour"}, ["bucket"]),
        ({"time_zone": "Europe/Nowhere"}, ["time_zone"]),
        ({"time_zone": "europe/zurich"}, ["time_zone"]),
        ({"time_zone": "../../etc/passwd"}, ["time_zone"]),
        ({"time_zone": "UTC'; DROP TABLE evaluations; --"}, ["time_zone"]),
        ({"series_limit": -1}, ["series_limit"]),
        ({"group_by": ["feature", "identity"]}, ["group_by[1]"]),
        ({"group_by": ["trait:", "trait", ""]}, ["group_by[0]", "group_by[1]", "group_by[2]"]),
        ({"group_by": ["sdk", "trait:a", "sdk", "trait:a"]}, ["group_by[2]", "group_by[3]"]),
        ({"group_by": ["sdk", "value", "reason", "origin", "feature"]}, ["group_by"]),
        ({"value": "x" * 5_000, "group_by": ["x"], "bucket": "x", "time_zone": "x", "series_limit": -9}, [
            "value", "group_by[0]", "bucket", "time_zone", "series_limit",
        ]),
    ],
)  # fmt: skip
def test_counts_that_cannot_be(fields: dict[str, Any], wrong: list[str]) -> None:
    """Everything that is wrong with a question for counts is named, by index where it is one of several."""
    assert wrong == fields_of(count(**fields)[1])


def test_an_unknown_group_is_told_the_known_ones() -> None:
    """Who asks for a group that there is not hears which there are."""
    (violation,) = count(group_by=["identity"])[1]

    assert (
        "must be one of feature, enabled, value, variant, segment, reason, sdk, origin, or `trait:` and the key of a trait, "
        "of at most 200 characters" == violation.description
    )


@pytest.mark.parametrize("name", ["UTC", "Europe/Zurich", "Asia/Kathmandu", "America/St_Johns"])
def test_time_zones_are_those_of_iana(name: str) -> None:
    """A zone is called by its IANA name, in intake too."""
    violations: list[FieldViolation] = []
    intake = requests.intake_question(GetIntakeRequest(time_zone=name), "production", violations, now=5)

    assert IntakeQuestion(environment="production", time_zone=name, now=5) == intake
    assert name == count(time_zone=name)[0].time_zone
    assert [] == violations


def test_intake_is_asked_for_as_it_stands() -> None:
    """Intake has a period and buckets, which are checked as those of counts are."""
    violations: list[FieldViolation] = []
    request = GetIntakeRequest(start_time=time_of(1), end_time=time_of(2), bucket="minute")
    wrong = GetIntakeRequest(start_time=time_of(2), end_time=time_of(1), bucket="x", time_zone="x")

    assert IntakeQuestion(environment="production", start=1, end=2, bucket="minute", now=9) == requests.intake_question(
        request, "production", violations, now=9
    )
    assert [] == violations
    requests.intake_question(wrong, "production", violations, now=9)
    assert ["end_time", "bucket", "time_zone"] == fields_of(violations)


def weights(*texts_: str, feature_name: str = "checkout") -> tuple[dict[str, float], list[str]]:
    """Return the weights that *texts_* are, and what is wrong with them."""
    violations: list[FieldViolation] = []
    request = ListExposuresRequest(feature_name=feature_name, weights=texts_)
    return requests.weights(request, violations), fields_of(violations)


def test_weights_are_read() -> None:
    """A weight follows the last `=`, so that an arm may hold one; arms keep their order."""
    found, wrong = weights("treatment=1", "control=0.5", 'a="b"=2e1', "=.25", "1.=3.")

    assert [] == wrong
    assert [("treatment", 1), ("control", 0.5), ('a="b"', 20), ("", 0.25), ("1.", 3)] == list(found.items())


@pytest.mark.parametrize(
    "text",
    [
        "control", "control=", "control=0", "control=-1", "control=nan", "control=inf", "control=1e999", "control=1e-999",
        "control= 1", "control=1_0", "control=1,5", "control=0x1", "control=\u0661", "",
    ],
)  # fmt: skip
def test_a_weight_is_a_positive_number(text: str) -> None:
    """Anything else behind the last `=` is refused, by its index."""
    assert ({"treatment": 1.0}, ["weights[1]"]) == weights("treatment=1", text)


def test_weights_that_cannot_be() -> None:
    """An arm has one weight, there are at most 50, and they belong to a feature."""
    fifty = [f"a{i}=1" for i in range(50)]

    assert ["weights[2]"] == weights("a=1", "b=1", "a=2")[1]
    assert [] == weights(*fifty)[1]
    assert ["weights"] == weights(*fifty, "b=1")[1]
    assert ["weights"] == weights("a=1", feature_name="")[1]
    assert [] == weights(feature_name="")[1]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=4))
def test_weights_are_finite(texts_: list[str]) -> None:
    """Whatever is sent, what is taken for a weight is positive and finite."""
    found, _ = weights(*texts_)

    assert [True] * len(found) == [0 < weight < math.inf for weight in found.values()]


def test_exposures_are_asked_for_as_they_stand() -> None:
    """A question for exposures has the request's filters."""
    violations: list[FieldViolation] = []
    request = ListExposuresRequest(
        feature_name="f", identity_identifier="u", start_time=time_of(1), end_time=time_of(2)
    )

    assert ExposureQuestion(
        environment="production", feature_name="f", identity_identifier="u", start=1, end=2
    ) == requests.exposure_question(request, "production", violations)
    assert ExposureQuestion(environment="production") == requests.exposure_question(
        ListExposuresRequest(), "production", violations
    )
    assert [] == violations


@pytest.mark.parametrize(("size", "taken"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_page_sizes(size: int, taken: int) -> None:
    """A page has its default size, or that asked for up to the largest."""
    violations: list[FieldViolation] = []

    assert taken == requests.page_size(size, default=100, maximum=1000, violations=violations)
    assert [] == violations


def test_formats() -> None:
    """A format is called by its name, and is NDJSON unless said otherwise; who asks for another hears which there are."""
    violations: list[FieldViolation] = []

    assert [
        "application/x-ndjson",
        "application/x-ndjson",
        "text/csv; charset=utf-8",
        "application/vnd.apache.parquet",
        "application/vnd.apache.arrow.stream",
    ] == [requests.export_format(name, violations).content_type for name in ("", "ndjson", "csv", "parquet", "arrow")]
    assert [] == violations
    requests.export_format("CSV", violations)
    assert [("format", "must be one of ndjson, csv, parquet, arrow, or empty")] == [
        (violation.field, violation.description) for violation in violations
    ]


def test_all_that_is_wrong_is_told() -> None:
    """A refusal names each field once in its sentence, and each violation beside it."""
    violations = [FieldViolation(field=field, description="x") for field in ("a", "b", "a")]
    with pytest.raises(FlagledgerError, match=r": a, b\.$") as caught:
        requests.refuse(violations)

    assert (Reason.QUERY_INVALID, tuple(violations)) == (caught.value.reason, caught.value.violations)
    requests.refuse([])
