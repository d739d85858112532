from __future__ import annotations

import itertools

import batches
import pytest
from flagledger.v1 import evaluation_pb2, evaluation_service_pb2
from google.protobuf import json_format


def test_ids_are_never_sent_twice() -> None:
    """Every batch carries an id of its own, also beside another sender's: nothing measured is a duplicate."""
    sent = itertools.chain(
        itertools.islice(batches.protobuf_batches(1), 50), itertools.islice(batches.protobuf_batches(1), 50)
    )
    ids = {evaluation_service_pb2.RecordEvaluationsRequest.FromString(each).batch.batch_id for each in sent}

    assert len(ids) == 100
    assert {32} == {len(each) for each in ids}


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_both_protocols_carry_the_same(size: int) -> None:
    """JSON and protobuf hold the same evaluations, but for the moment at which the sample was made."""
    in_protobuf = evaluation_service_pb2.RecordEvaluationsRequest.FromString(next(batches.protobuf_batches(size))).batch
    in_json = json_format.Parse(next(batches.json_batches(size)), evaluation_pb2.EvaluationBatch())
    for batch in (in_protobuf, in_json):
        assert size == len(batch.evaluations)
        for evaluation in batch.evaluations:
            assert evaluation.HasField("evaluation_timestamp")
            assert len(evaluation.identity_traits) == 3
            assert len(evaluation.segment_names) == 2
            assert evaluation.feature_name in batches.FEATURES
            evaluation.ClearField("evaluation_timestamp")
        batch.ClearField("batch_id")

    assert in_protobuf == in_json


def test_http_requests_say_how_long_they_are() -> None:
    """The Content-Length of a request is that of its body, id included."""
    head, _, body = next(batches.http_requests(3, "127.0.0.1:80", "/path")).partition(b"\r\n\r\n")

    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
