"""One call: the body of an HTTP request read and decoded, the servicer run, its failure turned into a Status."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import grpc
from google.rpc import code_pb2, status_pb2

from flagledger.transcoding import body as bodies
from flagledger.transcoding import status as statuses
from flagledger.transcoding.binding import Binding
from flagledger.transcoding.codec import CodecError, Report, load
from flagledger.transcoding.context import TranscodedContext

Authorize = Callable[[str, TranscodedContext], Awaitable[None]]
ToStatus = Callable[[Exception], "status_pb2.Status | None"]
OnCodecError = Callable[[CodecError], "Exception | None"]
Headers = Iterable[tuple[bytes, bytes]]

_logger = logging.getLogger(__name__)

_JSON_TYPE: Final = re.compile(rb"application/(?:[a-z0-9!#$&^_.-]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
# Quick calls are over before it would pay to watch for the client going away.
_WATCH_AFTER_SECONDS: Final = 0.05


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


class Target(NamedTuple):
    """What a route leads to: how to bind the request, and the servicer's method, which awaits or yields its answer."""

    binding: Binding
    method: Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """What all calls of a transcoder have in common; see Transcoder."""

    max_body_bytes: int
    body_timeout: float
    body_deadline: float
    body_budget: bodies.ByteBudget | None
    authorize: Authorize | None
    to_status: ToStatus | None
    on_codec_error: OnCodecError | None
    on_ignored: Callable[[str], None] | None


def from_exception(
    error: Exception, context: TranscodedContext, to_status: ToStatus | None, *, body_unread: bool = False
) -> Refusal:
    """Return the answer for what a servicer, `authorize` or the budget raised."""
    status: status_pb2.Status | None = None
    try:
        if isinstance(error, grpc.aio.AbortError):
            status = context.failure()
        elif to_status is not None:
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


async def perform(
    target: Target,
    settings: CallSettings,
    context: TranscodedContext,
    headers: dict[bytes, bytes],
    query: bytes,
    variables: dict[str, str],
    receive: bodies.Receive,
) -> Any:
    """
    Run one call, and return the servicer's response message.

    Raises:
        Refusal: Anything but success.
        bodies.ClientGoneError: Nobody is there to be answered.
    """
    if settings.authorize is not None:
        try:
            await settings.authorize(context.full_method_name, context)
        except Exception as error:  # noqa: BLE001  # whatever the application raises is mapped
            raise from_exception(error, context, settings.to_status, body_unread=True) from None
    reservation = bodies.Reservation(settings.body_budget)
    try:
        request = await _request(target.binding, settings, context, headers, query, variables, receive, reservation)
        return await _invoke(target, settings, context, request, receive)
    finally:
        reservation.release()


async def _request(
    binding: Binding,
    settings: CallSettings,
    context: TranscodedContext,
    headers: dict[bytes, bytes],
    query: bytes,
    variables: dict[str, str],
    receive: bodies.Receive,
    reservation: bodies.Reservation,
) -> Any:
    report = Report()
    data = body = None
    try:
        if binding.has_body:
            data = await _body(settings, context, headers, receive, reservation)
        if context.fault is not None:
            raise context.fault
        if data is not None:
            body = load(data)
        request = binding.request(body, variables, query, report)
    except CodecError as error:
        raise _misfit(error, settings, context) from None
    if report.errors:
        context.element_errors = report.errors
    if report.ignored:
        context.ignored_fields = binding.ignored_paths(body)
        if settings.on_ignored is not None:
            for path in context.ignored_fields:
                settings.on_ignored(path)
    return request


def _misfit(error: CodecError, settings: CallSettings, context: TranscodedContext) -> Refusal:
    """Return the answer to a request that is not what it says: the application's own words where it has any."""
    raised = settings.on_codec_error and settings.on_codec_error(error)
    if raised:
        return from_exception(raised, context, settings.to_status)
    violations = [(error.path, error.description)] if error.path else []
    return Refusal(400, statuses.make(code_pb2.INVALID_ARGUMENT, error.sentence, violations=violations))


async def _body(
    settings: CallSettings,
    context: TranscodedContext,
    headers: dict[bytes, bytes],
    receive: bodies.Receive,
    reservation: bodies.Reservation,
) -> bytes:
    content_type = headers.get(b"content-type")
    if content_type and content_type != b"application/json" and not _JSON_TYPE.fullmatch(content_type.strip()):
        raise _by_http(415, code_pb2.INVALID_ARGUMENT, "The body has to be application/json.")
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in {b"identity", b"gzip", b""}:
        raise _by_http(415, code_pb2.INVALID_ARGUMENT, "The Content-Encoding has to be gzip or identity.")
    announced = headers.get(b"content-length")
    if announced is not None and not _DIGITS.fullmatch(announced):
        raise CodecError("The Content-Length is not a number.")
    try:
        data = await bodies.read(
            receive,
            content_length=None if announced is None else int(announced),
            max_bytes=settings.max_body_bytes,
            slack_seconds=settings.body_timeout,
            total_seconds=settings.body_deadline,
            reservation=reservation,
        )
        if encoding == b"gzip":
            return bodies.gunzip(data, max_bytes=settings.max_body_bytes, reservation=reservation)
    except bodies.BodyTooLargeError:
        message = (
            f"The body is larger than {settings.max_body_bytes} bytes, as sent or decompressed. Send less at once."
        )
        raise _by_http(413, code_pb2.RESOURCE_EXHAUSTED, message) from None
    except bodies.BodyTimeoutError:
        raise _by_http(408, code_pb2.DEADLINE_EXCEEDED, "The body came too slowly.") from None
    except bodies.BodyMalformedError:
        raise CodecError("The body is not gzip as a whole, though its Content-Encoding says so.") from None
    except bodies.ClientGoneError:
        raise
    except Exception as error:  # noqa: BLE001  # what the application's budget raises
        raise from_exception(error, context, settings.to_status, body_unread=True) from None
    return data


def _by_http(http_status: int, code: int, message: str) -> Refusal:
    return Refusal(http_status, statuses.make(code, message), body_unread=True, by_http=True)


async def _invoke(
    target: Target, settings: CallSettings, context: TranscodedContext, request: Any, receive: bodies.Receive
) -> Any:
    watch = _DisconnectWatch(context, receive)
    try:
        if context.deadline is None:
            response = await target.method(request, context)
        else:
            async with asyncio.timeout_at(context.deadline) as limit:
                response = await target.method(request, context)
    except asyncio.CancelledError:
        if watch.fired:
            raise bodies.ClientGoneError from None
        raise
    except (Refusal, bodies.ClientGoneError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever the servicer raises is mapped
        if isinstance(error, TimeoutError) and context.deadline is not None and limit.expired():
            message = "The call did not end within its Grpc-Timeout."
            raise Refusal(504, statuses.make(code_pb2.DEADLINE_EXCEEDED, message)) from None
        raise from_exception(error, context, settings.to_status) from None
    finally:
        watch.stop()
    failure = context.failure()
    if failure is not None:
        raise Refusal(statuses.http_status(failure.code), failure)
    return response


class _DisconnectWatch:
    """Cancels the running call when its client goes; looks only at calls that take a while."""

    __slots__ = ("_context", "_receive", "_task", "_timer", "_watcher", "fired")

    def __init__(self, context: TranscodedContext, receive: bodies.Receive) -> None:
        self._context = context
        self._receive = receive
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, self._start)
        self.fired = False

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self.fired and self._task is not None:
            # The cancellation was ours, and has been dealt with.
            self._task.uncancel()

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                break
            # A body that nobody asked for may still come in: it is passed over.
            if not message.get("more_body", False):
                continue
        self.fired = True
        self._context.cancel()
        if self._task is not None:
            self._task.cancel()
