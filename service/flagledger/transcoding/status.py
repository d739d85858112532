"""
gRPC codes as HTTP statuses, and google.rpc.Status as the body of every HTTP error.

404, 405, 408, 413 and 415 arise in HTTP alone; every other error is a code.
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
from collections.abc import Iterable
from typing import Any, Final

import grpc
import orjson
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError

# Imported for the pool: details of these types are written out as JSON.
from google.rpc import code_pb2, error_details_pb2, status_pb2

from flagledger.transcoding.codec import Codec, CodecOptions

HTTP_STATUS: Final[dict[int, int]] = {
    code_pb2.OK: 200,
    code_pb2.CANCELLED: 499,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    # Not 412: that speaks of conditional requests.
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
    code_pb2.UNAUTHENTICATED: 401,
}

STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"

# What is sent where even the error cannot be written.
FALLBACK_BODY: Final = b'{"code":13,"message":"The error could not be written.","details":[]}'

_logger = logging.getLogger(__name__)
# Error bodies are proto3 JSON by the book, whatever the service's own messages are spelled like.
_codec: Final = Codec(CodecOptions())
_encode_any: Final = _codec.encoder(any_pb2.Any.DESCRIPTOR)
_codes: Final = {code.value[0]: code for code in grpc.StatusCode}


def http_status(code: int) -> int:
    """Return the HTTP status of a gRPC code; 500 for one that does not exist."""
    return HTTP_STATUS.get(code, 500)


def grpc_code(number: int) -> grpc.StatusCode:
    """Return the gRPC code of a number; UNKNOWN for one that does not exist."""
    return _codes.get(number, grpc.StatusCode.UNKNOWN)


def make(code: int, message: str, *, violations: Iterable[tuple[str, str]] = ()) -> status_pb2.Status:
    """Return a Status with a BadRequest for *violations*, pairs of field path and description."""
    status = status_pb2.Status(code=code, message=message)
    bad_request = error_details_pb2.BadRequest()
    for field, description in violations:
        bad_request.field_violations.add(field=field, description=description)
    if bad_request.field_violations:
        status.details.add().Pack(bad_request)
    return status


def body(status: status_pb2.Status) -> bytes:
    """Return *status* as JSON. A detail of a type that is not known here is left out and logged."""
    try:
        details: list[Any] = []
        for detail in status.details:
            try:
                details.append(_encode_any(detail))
            except ValueError:
                _logger.warning("A status detail of the type %r was left out: it cannot be written.", detail.type_url)
        return orjson.dumps({"code": status.code, "message": status.message, "details": details})
    except Exception:
        _logger.exception("An error could not be written as JSON.")
        return FALLBACK_BODY


def headers(status: status_pb2.Status) -> list[tuple[bytes, bytes]]:
    """Return the HTTP headers that *status* asks for: `Retry-After` of a RetryInfo, `WWW-Authenticate` of a 401."""
    found: list[tuple[bytes, bytes]] = []
    for detail in status.details:
        if detail.TypeName() == "google.rpc.RetryInfo":
            retry = error_details_pb2.RetryInfo()
            try:
                detail.Unpack(retry)
            except DecodeError:
                continue
            delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
            found.append((b"retry-after", b"%d" % max(1, math.ceil(delay))))
            break
    if status.code == code_pb2.UNAUTHENTICATED:
        found.append((b"www-authenticate", b"Bearer"))
    return found


def from_trailing_metadata(code: int, message: str, metadata: Iterable[tuple[str, str | bytes]]) -> status_pb2.Status:
    """Return the Status in `grpc-status-details-bin` where it is there and agrees with *code*, else a plain one."""
    for key, value in metadata:
        if key != STATUS_DETAILS_KEY:
            continue
        try:
            raw = value if isinstance(value, bytes) else base64.b64decode(value)
            rich = status_pb2.Status.FromString(raw)
        except (DecodeError, binascii.Error):
            break
        if rich.code == code:
            return rich
    return status_pb2.Status(code=code, message=message)
