"""One call: the body of an HTTP request read and decoded, the servicer run, its failure turned into a Status."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any, Final, NamedTuple

from google.rpc import code_pb2

from flagledger.transcoding import body as bodies
from flagledger.transcoding import status as statuses
from flagledger.transcoding.binding import Binding
from flagledger.transcoding.codec import CodecError, Report, load
from flagledger.transcoding.context import TranscodedContext
from flagledger.transcoding.handlers import Interception, Method, behavior
from flagledger.transcoding.incoming import NOT_GZIP, Incoming, body_encoding, check_type, media_type
from flagledger.transcoding.intake import Pump
from flagledger.transcoding.messages import MessageStream
from flagledger.transcoding.refusals import Refusal, from_exception, misfit, of_body
from flagledger.transcoding.running import DisconnectWatch, EnoughError, Running, raise_if_cancelled
from flagledger.transcoding.settings import CallSettings
from flagledger.transcoding.stream import StreamedAnswer

_DIGITS: Final = re.compile(rb"[0-9]{1,18}")


class Target(NamedTuple):
    """What a route leads to: how to bind the request, the servicer's method, and what stands around it, if anything."""

    binding: Binding
    method: Method
    interception: Interception | None


async def perform(
    target: Target,
    settings: CallSettings,
    context: TranscodedContext,
    incoming: Incoming,
    answer: StreamedAnswer | None,
) -> Any:
    """
    Run one call, and return the servicer's response message; of a stream nothing, which is sent by *answer*.

    Raises:
        Refusal: Anything but success.
        bodies.ClientGoneError: Nobody is there to be answered.
    """
    if context.deadline is None:
        return await _perform(target, settings, context, incoming, answer)
    try:
        async with asyncio.timeout_at(context.deadline):
            return await _perform(target, settings, context, incoming, answer)
    except TimeoutError:
        # What the servicer raises never gets here as it is.
        status = statuses.make(code_pb2.DEADLINE_EXCEEDED, "The call did not end within its Grpc-Timeout.")
        raise Refusal(504, status, body_unread=incoming.is_reading) from None


async def _perform(
    target: Target,
    settings: CallSettings,
    context: TranscodedContext,
    incoming: Incoming,
    answer: StreamedAnswer | None,
) -> Any:
    binding = target.binding
    method = target.method
    try:
        if settings.authorize is not None:
            await settings.authorize(context.full_method_name, context)
        if target.interception is not None:
            method = await _intercepted(target.interception, binding, context)
    except Refusal:
        raise
    except asyncio.CancelledError as error:
        raise_if_cancelled()
        raise from_exception(error, context, settings.to_status, body_unread=True) from None
    except Exception as error:  # noqa: BLE001  # whatever the application raises is mapped
        raise from_exception(error, context, settings.to_status, body_unread=True) from None
    reservation = bodies.Reservation(settings.body_budget)
    try:
        if binding.takes_stream:
            return await _take_stream(binding, method, settings, context, incoming, reservation, answer)
        request = await _request(binding, settings, context, incoming, reservation)
        running = DisconnectWatch(context, incoming.receive)
        if answer is not None:
            return await _stream(answer, running, method, request, settings, context)
        return await _run(running, method, request, settings, context)
    finally:
        reservation.release()


async def _intercepted(interception: Interception, binding: Binding, context: TranscodedContext) -> Method:
    handler = await interception.handler(binding, context)
    if handler is None:
        status = statuses.make(code_pb2.UNIMPLEMENTED, "The method is not served.")
        raise Refusal(statuses.http_status(status.code), status, body_unread=True)
    return behavior(handler, binding)


async def _take_stream(
    binding: Binding,
    method: Method,
    settings: CallSettings,
    context: TranscodedContext,
    incoming: Incoming,
    reservation: bodies.Reservation,
    answer: StreamedAnswer | None,
) -> Any:
    running = Running()
    pump = Pump(incoming.receive, running, context)
    try:
        stream = MessageStream(binding, settings, context, incoming, pump, running, reservation)
        context.attach(read=stream.read)
        if answer is not None:
            return await _stream(answer, running, method, stream, settings, context)
        return await _run(running, method, stream, settings, context)
    except Refusal as refusal:
        refusal.body_unread = not pump.ended
        raise
    finally:
        incoming.is_reading = not pump.ended
        pump.stop()


async def _stream(
    answer: StreamedAnswer,
    running: Running,
    method: Method,
    request: Any,
    settings: CallSettings,
    context: TranscodedContext,
) -> None:
    async def carry_out(request: Any, _context: TranscodedContext) -> None:
        await answer.carry_out(method, request, running)

    with suppress(EnoughError):
        await _run(running, carry_out, request, settings, context)
    await answer.finish()


async def _run(
    running: Running, method: Method, request: Any, settings: CallSettings, context: TranscodedContext
) -> Any:
    try:
        response = await method(request, context)
    except asyncio.CancelledError as error:
        if running.reason is not None:
            raise running.reason from None
        raise_if_cancelled()
        raise from_exception(error, context, settings.to_status) from None
    except (Refusal, bodies.ClientGoneError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever the servicer raises is mapped
        if running.reason is not None:
            raise running.reason from None
        raise from_exception(error, context, settings.to_status) from None
    finally:
        running.stop()
    if running.reason is not None:
        raise running.reason
    failure = context.failure()
    if failure is not None:
        raise Refusal(statuses.http_status(failure.code), failure)
    return response


async def _request(
    binding: Binding,
    settings: CallSettings,
    context: TranscodedContext,
    incoming: Incoming,
    reservation: bodies.Reservation,
) -> Any:
    report = Report()
    data = body = None
    try:
        if binding.has_body:
            data = await _body(binding, settings, context, incoming, reservation)
        if context.fault is not None:
            raise context.fault
        if data is not None:
            if binding.is_raw:
                kind = media_type(incoming.headers)
                return binding.raw_request(data, kind, incoming.variables, incoming.query)
            body = load(data)
        request = binding.request(body, incoming.variables, incoming.query, report)
    except CodecError as error:
        raise misfit(error, context, settings.on_codec_error, settings.to_status) from None
    if report.errors:
        context.element_errors = report.errors
    if report.ignored:
        context.ignored_fields = binding.ignored_paths(body)
        if settings.on_ignored is not None:
            for path in context.ignored_fields:
                settings.on_ignored(path)
    return request


async def _body(
    binding: Binding,
    settings: CallSettings,
    context: TranscodedContext,
    incoming: Incoming,
    reservation: bodies.Reservation,
) -> bytes:
    headers = incoming.headers
    if not binding.is_raw:
        check_type(headers, lines=False)
    encoding = body_encoding(headers)
    announced = headers.get(b"content-length")
    if announced is not None and not _DIGITS.fullmatch(announced):
        raise CodecError("The Content-Length is not a number.")
    try:
        incoming.is_reading = True
        data = await bodies.read(
            incoming.receive,
            content_length=None if announced is None else int(announced),
            max_bytes=settings.max_body_bytes,
            slack_seconds=settings.body_timeout,
            total_seconds=settings.body_deadline,
            reservation=reservation,
        )
        incoming.is_reading = False
        if encoding == b"gzip":
            return bodies.gunzip(data, max_bytes=settings.max_body_bytes, reservation=reservation)
    except bodies.BodyMalformedError:
        raise CodecError(NOT_GZIP) from None
    except bodies.ClientGoneError:
        raise
    except Exception as error:  # noqa: BLE001  # what the application's budget raises
        refusal = of_body(error, settings.max_body_bytes)
        raise refusal or from_exception(error, context, settings.to_status, body_unread=True) from None
    return data
