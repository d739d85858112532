from __future__ import annotations

import json

import grpc
import pytest
from flagledger.transcoding import http_status
from flagledger.transcoding import status as statuses
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

TABLE = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_http_status(code: grpc.StatusCode) -> None:
    """Every gRPC code has the HTTP status that grpc-gateway gives it."""
    assert TABLE[code.name] == http_status(code.value[0])


def test_unknown_code() -> None:
    """A code that does not exist is a 500."""
    assert (500, grpc.StatusCode.UNKNOWN) == (http_status(77), statuses.grpc_code(77))


def test_body() -> None:
    """A status with details of every google.rpc type becomes the JSON that json_format reads back as the same."""
    status = status_pb2.Status(code=3, message="é")
    for detail in (
        error_details_pb2.ErrorInfo(reason="A", domain="d", metadata={"a": "b"}),
        error_details_pb2.BadRequest(
            field_violations=[error_details_pb2.BadRequest.FieldViolation(field="a[0].b", description="is wrong")]
        ),
        error_details_pb2.Help(links=[error_details_pb2.Help.Link(description="x", url="https://example.com")]),
        error_details_pb2.LocalizedMessage(locale="de", message="falsch"),
    ):
        status.details.add().Pack(detail)
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    status.details.add().Pack(retry)
    body = statuses.body(status)

    assert status == json_format.Parse(body, status_pb2.Status())
    assert json.loads(body) == json_format.MessageToDict(status)


def test_body_prints_all_three() -> None:
    """Code, message and details are there even when they are empty."""
    assert {"code": 0, "message": "", "details": []} == json.loads(statuses.body(status_pb2.Status()))


def test_body_leaves_out_what_it_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    """A detail of an unknown type costs neither the answer nor the other details, and is logged."""
    status = status_pb2.Status(code=3, message="x")
    status.details.add().type_url = "type.googleapis.com/nobody.Knows"
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="A"))

    assert ["A"] == [detail["reason"] for detail in json.loads(statuses.body(status))["details"]]
    assert "nobody.Knows" in caplog.text


def test_fallback(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where even the error cannot be written a prepared one is sent."""
    monkeypatch.setattr(statuses.orjson, "dumps", lambda _: 1 / 0)

    assert 13 == json.loads(statuses.body(status_pb2.Status(code=3)))["code"]
    assert "could not be written" in caplog.text


@pytest.mark.parametrize(
    ("milliseconds", "expected"), [(0, b"1"), (1, b"1"), (1000, b"1"), (1001, b"2"), (59_500, b"60")]
)
def test_retry_after(milliseconds: int, expected: bytes) -> None:
    """A RetryInfo becomes whole seconds, rounded up, at least one."""
    status = status_pb2.Status(code=14)
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(milliseconds)
    status.details.add().Pack(retry)

    assert [(b"retry-after", expected)] == statuses.headers(status)


def test_headers() -> None:
    """Only a 401 carries a challenge, and nothing else anything."""
    assert [(b"www-authenticate", b"Bearer")] == statuses.headers(status_pb2.Status(code=16))
    assert [] == statuses.headers(status_pb2.Status(code=3))
