from __future__ import annotations

import json
from typing import Any

import pytest
from flagledger.cli.refusals import Refusal, read_refusal


def refusal(*violations: tuple[str, str], message: str = "It cannot be answered.") -> Refusal:
    """Return a refusal of fields."""
    return Refusal(message=message, reason="QUERY_INVALID", violations=violations)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("start_time", "--start"),
        ("page_size", "--limit"),
        ("series_limit", "--limit"),
        ("trait_value", "--trait"),
        ("group_by", "--by"),
        ("weights[1]", "--weight b=x"),
        ("weights[2]", "--weight"),
        ("environment[0]", "--environment"),
        ("page_token", "page_token"),
        ("start_time.seconds", "start_time.seconds"),
        ("", ""),
    ],
)
def test_a_field_is_named_as_its_option(field: str, expected: str) -> None:
    """Who set an option is told of that; one of several with what was given; of what no option sets by its name."""
    query = {"weights": ["a=1", "b=x"], "environment": "shop"}

    assert ["It cannot be answered.", f"  {expected}: is wrong"] == refusal((field, "is wrong")).sentences(query)


def test_a_field_in_a_sentence_is_named_as_its_option() -> None:
    """Names that can only be fields are replaced; words that may be words are not."""
    text = "must not lie before start_time, nor be a value without trait_key or page_token"

    assert refusal(("end_time", text)).sentences({})[1] == (
        "  --end: must not lie before --start, nor be a value without --trait or page_token"
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Not as it was asked: end_time, bucket.", "Not as it was asked:"),
        ("Not as it was asked: bucket.", "Not as it was asked: bucket."),
    ],
)
def test_no_field_is_named_twice(message: str, expected: str) -> None:
    """Where the sentence ends in the fields that are listed below it, it ends before them."""
    violations = (("end_time", "a"), ("bucket", "b"), ("end_time", "c"))

    assert refusal(*violations, message=message).sentences({}) == [
        expected, "  --end: a", "  --bucket: b", "  --end: c",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("details", "reason", "violations"),
    [
        ([], "", ()),
        ([{"reason": "A"}, {"reason": "B"}], "A", ()),
        ([{"fieldViolations": [{"field": "f", "description": "d"}]}], "", (("f", "d"),)),
        ([{"reason": 3, "field_violations": [{"field": 1, "description": None}]}], "", (("1", "None"),)),
    ],
)
def test_a_refusal_is_read(details: list[Any], reason: str, violations: tuple[tuple[str, str], ...]) -> None:
    """Reason and fields are there, whichever way they are written."""
    found = read_refusal(json.dumps({"message": "m", "details": details}).encode())

    assert Refusal(message="m", reason=reason, violations=violations) == found


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"message": ""}', b'{"message": "m", "details": [3]}', b'{"message": "m", "details": 3}', b"[" * 10**5,
     b'{"message": "m", "details": [{"field_violations": [{}]}]}'],
)  # fmt: skip
def test_something_else_is_no_refusal(content: bytes) -> None:
    """What another service answers is not read as one of ours."""
    assert read_refusal(content) is None
