"""The kit itself: that it is whole, and that its placeholders become what its README says."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conformance.replay import Expansion, Kit
from flagledger.errors import Reason
from flagledger.v1 import evaluation_pb2, evaluation_service_pb2
from google.protobuf import json_format
from google.rpc import code_pb2
from support.server import KIT_ENVIRONMENTS

KIT = Kit.load()
STEPS = [(row, step) for row in KIT.rows for step in KIT.steps(row)]
ROW_FIELDS = {"id", "title", "protocols", "server", "key", "steps", "while_streaming"}
STEP_FIELDS = {
    "key",
    "over",
    "headers",
    "batch",
    "body",
    "body_base64",
    "message_base64",
    "gzip",
    "method",
    "path",
    "content_type",
    "content_encoding",
    "expect",
}
EXPECT_FIELDS = {
    "code",
    "http",
    "accepted",
    "filtered",
    "rejected",
    "duplicate",
    "rejected_evaluations",
    "unknown_feature_names",
    "reason",
    "violations",
    "retry",
    "same_answer",
    "json",
    "ignored_fields",
    "allow",
}


@pytest.fixture
def expand() -> Expansion:
    """Return what fills in the placeholders of one run."""
    return Expansion(KIT.content["evaluation"])


def test_ids_are_unique() -> None:
    """Every row has an id of its own, and a title."""
    ids = [row["id"] for row in KIT.rows]

    assert len(set(ids)) == len(ids)
    assert [row["id"] for row in KIT.rows if not row["title"]] == []


def test_fields_are_known() -> None:
    """A row holds only what the README describes: a misspelt expectation would expect nothing."""
    for row, step in STEPS:
        assert set(row) - ROW_FIELDS - STEP_FIELDS == set(), row["id"]
        assert set(step) - STEP_FIELDS - ROW_FIELDS == set(), row["id"]
        assert set(step["expect"]) - EXPECT_FIELDS == set(), row["id"]
        assert len({"batch", "body", "body_base64", "message_base64"} & set(step)) == 1, row["id"]


def test_http_only_and_grpc_only() -> None:
    """A row that one protocol alone can carry says so."""
    for row, step in STEPS:
        if {"body", "body_base64", "method", "path", "content_type", "content_encoding"} & set(step):
            assert row["protocols"] == ["http"], row["id"]
        if "message_base64" in step:
            assert row["protocols"] == ["grpc"], row["id"]
        if row.get("protocols") is None:
            assert "code" in step["expect"], row["id"]


def test_codes_and_reasons_exist() -> None:
    """Every code is one of gRPC's, every reason one of ours, and the two belong together."""
    for row, step in STEPS:
        expected = step["expect"]
        if "code" in expected:
            code_pb2.Code.Value(expected["code"])
        if "reason" in expected:
            reason = Reason[expected["reason"]]
            assert code_pb2.Code.Value(expected["code"]) == reason.code, row["id"]
            assert expected.get("retry", False) == (reason.retry_after is not None), row["id"]


def test_counts_add_up(expand: Expansion) -> None:
    """Accepted, filtered and rejected of an OK are as many as the evaluations sent."""
    for row, step in STEPS:
        expected = step["expect"]
        if expected.get("code") == "OK" and "batch" in step:
            counted = expected["accepted"] + expected.get("filtered", 0) + expected.get("rejected", 0)
            assert len(expand(step["batch"]).get("evaluations") or []) == counted, row["id"]


def test_every_field_has_a_row_that_rejects_it() -> None:
    """No rule of a field goes without a row: each field of an evaluation is rejected somewhere, and each accepted."""
    text = json.dumps(KIT.content["requests"])
    rejected = set(re.findall(r'"evaluations\[\d+\]\.([a-z_]+)', text))

    assert set(evaluation_pb2.Evaluation.DESCRIPTOR.fields_by_name) == rejected - {"flavour"}


def test_batches_are_of_the_contract(expand: Expansion) -> None:
    """What goes over both protocols parses as the contract's message, and loses nothing by it."""
    for row, step in STEPS:
        if "batch" in step and row.get("protocols", ["grpc", "http"]) == ["grpc", "http"]:
            json_format.ParseDict(expand(step["batch"]), evaluation_pb2.EvaluationBatch())


def test_messages_hold_what_they_say() -> None:
    """A message given as bytes is the contract's, but where its row says that it is malformed."""
    for row, step in STEPS:
        if "message_base64" in step and step["expect"]["code"] == "OK":
            message = evaluation_service_pb2.RecordEvaluationsRequest.FromString(
                base64.b64decode(step["message_base64"])
            )
            counted = step["expect"]["accepted"] + step["expect"].get("rejected", 0)
            assert counted == len(message.batch.evaluations), row["id"]


def test_environments_file_has_the_keys() -> None:
    """Every key that ought to be known stands in the kit's environments file, and no other."""
    text = KIT_ENVIRONMENTS.read_text(encoding="utf-8")
    keys: dict[str, str] = KIT.content["keys"]

    assert {name for name, key in keys.items() if f'"{key}"' in text} == set(keys) - {"unknown", "empty"}


def test_times(expand: Expansion) -> None:
    """A time relative to now becomes RFC 3339 in UTC."""
    before = datetime.now(tz=UTC)
    later = datetime.fromisoformat(expand("$now+25h"))
    earlier = datetime.fromisoformat(expand("$now-2d"))

    assert timedelta(hours=24, minutes=59) < later - before < timedelta(hours=25, minutes=1)
    assert timedelta(hours=73) == later - earlier


def test_ids_differ_between_runs(expand: Expansion) -> None:
    """Ids are the same within a run, and others in the next."""
    again = Expansion(KIT.content["evaluation"])

    assert expand("$id") == expand("$id")
    assert expand("$id") != expand("$other_id")
    assert expand("$id") != again("$id")
    assert len(expand({"$id": 128})) == 128
    assert expand({"$id": 128}).startswith(expand("$id"))


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ({"$repeat": ["ab", 3]}, "ababab"),
        ({"$list": ["n-$i", 2]}, ["n-0", "n-1"]),
        (
            {"$list": [{"index": "$i", "path": "e[$i].x"}, 2]},
            [{"index": 0, "path": "e[0].x"}, {"index": 1, "path": "e[1].x"}],
        ),
        ({"$list": [{"a": 1}, 2]}, [{"a": 1}, {"a": 1}]),
        ({"$concat": [{"$list": ["$i", 1]}, ["z"]]}, [0, "z"]),
        ({"$nest": 1}, []),
        ({"$nest": 3}, [[[]]]),
        ({"price": "$5", "$": 1}, {"price": "$5", "$": 1}),
    ],
)
def test_generators(expand: Expansion, given: Any, filled: Any) -> None:
    """A generator becomes what the README says; text that is no placeholder stays."""
    assert filled == expand(given)


def test_evaluation_with_overrides(expand: Expansion) -> None:
    """`$evaluation` takes the kit's evaluation, changes what is given, and leaves out what is `$absent`."""
    base = KIT.content["evaluation"]

    assert base == expand({"$evaluation": {}})
    assert {**base, "count": 5} == expand({"$evaluation": {"count": 5}})
    assert {name: value for name, value in base.items() if name != "enabled"} == expand(
        {"$evaluation": {"enabled": "$absent"}}
    )
