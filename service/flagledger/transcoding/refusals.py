"""Answers other than the servicer's: what refuses a request, and in which words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import grpc
from google.rpc import code_pb2, status_pb2

from flagledger.transcoding import body as bodies
from flagledger.transcoding import status as statuses
from flagledger.transcoding.codec import CodecError
from flagledger.transcoding.context import TranscodedContext

ToStatus = Callable[[Exception], "status_pb2.Status | None"]
OnCodecError = Callable[[CodecError], "Exception | None"]
Headers = Iterable[tuple[bytes, bytes]]

_logger = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818  # it is an answer, not a fault of ours
    """
    An answer other than the servicer's.

    `body_unread` tells that the body may still be on its way; `by_http` that HTTP itself refuses, which no servicer knows of.
    """

    def __init__(
        self,
        http_status: int,
        status: status_pb2.Status,
        *,
        headers: Headers = (),
        body_unread: bool = False,
        by_http: bool = False,
    ) -> None:
        super().__init__(status.message)
        self.http_status = http_status
        self.status = status
        self.headers = headers
        self.body_unread = body_unread
        self.by_http = by_http


def by_http(http_status: int, code: int, message: str) -> Refusal:
    """Return what HTTP itself refuses a body with."""
    return Refusal(http_status, statuses.make(code, message), body_unread=True, by_http=True)


def internal(message: str) -> Refusal:
    """Return the answer to what is nobody's fault but the server's."""
    return Refusal(500, statuses.make(code_pb2.INTERNAL, message))


def from_exception(
    error: BaseException, context: TranscodedContext, to_status: ToStatus | None, *, body_unread: bool = False
) -> Refusal:
    """Return the answer for what a servicer, an interceptor, `authorize` or the budget raised."""
    status: status_pb2.Status | None = None
    try:
        if isinstance(error, grpc.aio.AbortError):
            status = context.failure()
        elif to_status is not None and isinstance(error, Exception):
            status = to_status(error)
        if status is None or status.code == code_pb2.OK:
            # A code that was set before raising counts, as it does for grpc.aio: so do generated servicers answer UNIMPLEMENTED.
            status = context.failure()
    except Exception:
        _logger.exception("An exception of %s could not be mapped to a status.", context.full_method_name)
    if status is None:
        _logger.error("%s failed.", context.full_method_name, exc_info=error)
        status = statuses.make(code_pb2.UNKNOWN, "The call failed unexpectedly.")
    return Refusal(statuses.http_status(status.code), status, body_unread=body_unread)


def misfit(
    error: CodecError, context: TranscodedContext, on_codec_error: OnCodecError | None, to_status: ToStatus | None
) -> Refusal:
    """Return the answer to a request that is not what it says: the application's own words where it has any."""
    raised = on_codec_error and on_codec_error(error)
    if raised:
        return from_exception(raised, context, to_status)
    violations = [(error.path, error.description)] if error.path else []
    return Refusal(400, statuses.make(code_pb2.INVALID_ARGUMENT, error.sentence, violations=violations))


def of_body(error: Exception, max_bytes: int, what: str = "The body") -> Refusal | None:
    """Return the answer to *what* is too large or came too slowly; None where *error* is something else."""
    if isinstance(error, bodies.BodyTooLargeError):
        message = f"{what} is larger than {max_bytes} bytes, as sent or decompressed. Send less at once."
        return by_http(413, code_pb2.RESOURCE_EXHAUSTED, message)
    if isinstance(error, bodies.BodyTimeoutError):
        return by_http(408, code_pb2.DEADLINE_EXCEEDED, f"{what} came too slowly.")
    return None
