"""The replayer itself: a wrong answer is seen, whichever part of it is wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from conformance.replay import Kit, Replay
from flagledger.errors import FieldViolation, FlagledgerError, Reason, to_status
from flagledger.v1 import evaluation_service_pb2

KIT = Kit.load()
ROW = {"id": "row", "batch": {"evaluations": [{"$evaluation": {}}]}}


class Handler(BaseHTTPRequestHandler):
    """Answers every POST with what the server was told to say."""

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, body = self.server.said  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def http_says() -> Iterator[Callable[..., list[str]]]:
    """Return a function: the differences between an HTTP answer (status, body, headers) and an expectation."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    replay = Replay(KIT, f"http://127.0.0.1:{server.server_port}", "127.0.0.1:1")

    def says(expect: dict[str, Any], status: int, body: str, **headers: str) -> list[str]:
        server.said = (status, {n.replace("_", "-"): v for n, v in headers.items()}, body.encode())  # type: ignore[attr-defined]
        return [line.partition(": ")[2] for line in replay.run({**ROW, "expect": expect}, "http")[1]]

    yield says
    replay.close()
    server.shutdown()
    server.server_close()
    thread.join()


COUNTS = '{"accepted_count":1,"filtered_count":0,"rejected_count":0,"duplicate":false}'


def test_a_right_answer_has_no_difference(http_says: Callable[..., list[str]]) -> None:
    """What is expected is no difference."""
    assert http_says({"code": "OK", "accepted": 1}, 202, COUNTS) == []


@pytest.mark.parametrize(
    ("expect", "status", "body", "headers", "difference"),
    [
        ({"code": "OK", "accepted": 2}, 202, COUNTS, {}, "accepted_count 1, expected 2"),
        ({"code": "OK", "accepted": 1}, 200, COUNTS, {}, "HTTP status 200, expected 202"),
        ({"code": "OK", "accepted": 1, "duplicate": True}, 202, COUNTS, {}, "duplicate False, expected True"),
        (
            {"code": "OK", "accepted": 1},
            202,
            COUNTS[:-1] + ',"rejected_evaluations":[{"index":0,"field":"a","description":"b"}]}',
            {},
            "rejected_evaluations [{'index': 0, 'field': 'a', 'description': 'b'}], expected []",
        ),
        (
            {"code": "OK", "accepted": 1, "json": {"accepted_count": 1}},
            202,
            COUNTS,
            {},
            f"body {json.loads(COUNTS)}, expected {{'accepted_count': 1}}",
        ),
        (
            {"code": "OK", "accepted": 1},
            202,
            COUNTS,
            {"X_Ignored_Fields": "a, b"},
            "X-Ignored-Fields ['a', 'b'], expected []",
        ),
        ({"code": "OK", "accepted": 1}, 202, COUNTS, {"Retry_After": "1"}, "Retry-After given: True, expected False"),
        (
            {"code": "OK", "accepted": 1},
            202,
            COUNTS,
            {"Content_Type": "text/plain"},
            "content type 'text/plain', expected 'application/json'",
        ),
        (
            {"code": "OK", "accepted": 1},
            400,
            '{"code":3,"message":"No."}',
            {},
            "code INVALID_ARGUMENT ('No.'), expected OK",
        ),
        (
            {"http": 405, "allow": ["POST"]},
            405,
            '{"code":12,"message":"No."}',
            {"Allow": "GET"},
            "Allow lacks ['POST']",
        ),
        ({"http": 404}, 405, '{"code":12,"message":"No."}', {}, "HTTP status 405, expected 404"),
        (
            {"code": "INVALID_ARGUMENT", "reason": "NOTHING_VALID"},
            400,
            '{"code":3,"message":"No."}',
            {},
            "reason None, expected NOTHING_VALID",
        ),
        ({"code": "INVALID_ARGUMENT"}, 400, '{"code":3,"message":""}', {}, "no message, expected a sentence"),
    ],
)
def test_differences_over_http(
    http_says: Callable[..., list[str]],
    expect: dict[str, Any],
    status: int,
    body: str,
    headers: dict[str, str],
    difference: str,
) -> None:
    """A wrong status, header, count, list or body is named."""
    assert [difference] == http_says(expect, status, body, **headers)


@pytest.fixture
def grpc_says() -> Iterator[Callable[..., list[str]]]:
    """Return a function: the differences between a refusal over gRPC and an expectation."""
    told: list[FlagledgerError] = []

    def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
        status = to_status(told[-1])
        code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, status.message)
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(1))
    service = "flagledger.v1.EvaluationService"
    handlers = {"RecordEvaluations": grpc.unary_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    replay = Replay(KIT, "http://127.0.0.1:1", f"127.0.0.1:{port}")

    def says(expect: dict[str, Any], error: FlagledgerError) -> list[str]:
        told.append(error)
        return [line.partition(": ")[2] for line in replay.run({**ROW, "expect": expect}, "grpc")[1]]

    yield says
    replay.close()
    server.stop(None).wait()


def test_differences_over_grpc(grpc_says: Callable[..., list[str]]) -> None:
    """A wrong code, reason, violation or delay is named; the right ones are no difference."""
    violations = (FieldViolation(field="evaluations[0].enabled", description="It is required."),)
    invalid = FlagledgerError(Reason.NOTHING_VALID, "Not one is valid.", violations=violations)
    busy = FlagledgerError(Reason.CALLS_IN_FLIGHT, "Too many calls.")
    expected = {"code": "INVALID_ARGUMENT", "reason": "NOTHING_VALID", "violations": ["evaluations[0].enabled"]}

    assert grpc_says(expected, invalid) == []
    assert grpc_says({**expected, "violations": []}, invalid) == ["violations ['evaluations[0].enabled'], expected []"]
    assert grpc_says({**expected, "reason": "MALFORMED"}, invalid) == ["reason NOTHING_VALID, expected MALFORMED"]
    assert grpc_says(expected, busy) == ["code RESOURCE_EXHAUSTED ('Too many calls.'), expected INVALID_ARGUMENT"]
    assert grpc_says({"code": "RESOURCE_EXHAUSTED", "retry": True}, busy) == []
    assert grpc_says({"code": "RESOURCE_EXHAUSTED"}, busy) == ["RetryInfo given: True, expected False"]


def test_stream_request_has_the_same_bytes() -> None:
    """A request of the unary call is, byte for byte, one of the stream: the replayer relies on it."""
    unary = evaluation_service_pb2.RecordEvaluationsRequest.DESCRIPTOR.fields_by_name["batch"]
    stream = evaluation_service_pb2.StreamEvaluationsRequest.DESCRIPTOR.fields_by_name["batch"]

    assert (unary.number, unary.message_type) == (stream.number, stream.message_type)
