"""The messages of an rpc that takes a stream: lines of JSON, or pieces of a raw body, each made when it is asked for."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, Self

import grpc

from flagledger.transcoding import body as bodies
from flagledger.transcoding.binding import Binding
from flagledger.transcoding.codec import MAX_IGNORED_PATHS, CodecError, Report, load
from flagledger.transcoding.context import TranscodedContext
from flagledger.transcoding.incoming import NOT_GZIP, Incoming, body_encoding, check_type, media_type
from flagledger.transcoding.intake import Intake, Pump
from flagledger.transcoding.refusals import Refusal, from_exception, misfit, of_body
from flagledger.transcoding.running import Running
from flagledger.transcoding.settings import CallSettings

_BLANK: Final = re.compile(rb"[ \t\r\n]*")


class MessageStream:
    """
    What a servicer iterates over, or reads by `context.read`.

    A message that cannot be had ends the call, and what the servicer sees of that is its cancellation. One that was being read
    when the read was cancelled is not lost.

    Raises:
        Refusal: The request's headers, its path or its query do not fit.
    """

    def __init__(
        self,
        binding: Binding,
        settings: CallSettings,
        context: TranscodedContext,
        incoming: Incoming,
        pump: Pump,
        running: Running,
        reservation: bodies.Reservation,
    ) -> None:
        self._binding = binding
        self._settings = settings
        self._context = context
        self._incoming = incoming
        self._running = running
        self._reservation = reservation
        self._is_reading = False
        self._next = self._next_piece if binding.is_raw else self._next_line
        # What has come of the lines that nobody has asked for yet, and how far it holds no end of one.
        self._buffer = bytearray()
        self._searched = 0
        self._index = 0
        self._media_type = media_type(incoming.headers)
        if not binding.is_raw:
            check_type(incoming.headers, lines=True)
        is_gzip = body_encoding(incoming.headers) == b"gzip"
        try:
            if context.fault is not None:
                raise context.fault
            binding.check_parameters(incoming.variables, incoming.query)
        except CodecError as error:
            raise misfit(error, context, settings.on_codec_error, settings.to_status) from None
        self._intake = Intake(
            pump, is_gzip=is_gzip, slack_seconds=settings.body_timeout, total_seconds=settings.body_deadline
        )

    def __aiter__(self) -> Self:
        """Iterate over the messages that nobody has read yet."""
        return self

    async def __anext__(self) -> Any:
        """Return the next message."""
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message

    async def read(self) -> Any:
        """
        Return the next message, or grpc.aio.EOF after the last.

        Raises:
            grpc.aio.UsageError: Somebody else is reading, or the call has ended.
        """
        if self._is_reading:
            raise grpc.aio.UsageError("Only one read may be going on at a time.")
        self._is_reading = True
        try:
            # What need not be waited for comes without a pause: others get their turn here.
            await asyncio.sleep(0)
            return await self._next()
        except grpc.aio.UsageError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is ends the call
            await self._running.give_up(self._refusal(error))
        finally:
            self._is_reading = False

    async def _next_line(self) -> Any:
        line = await self._line()
        if line is None:
            return grpc.aio.EOF
        binding = self._binding
        report = Report()
        body = load(line)
        message = binding.request(body, self._incoming.variables, self._incoming.query, report)
        self._context.element_errors = [error._replace(path=f"[{self._index}].{error.path}") for error in report.errors]
        if report.ignored:
            self._note(binding.ignored_paths(body))
        self._taken()
        return message

    async def _line(self) -> bytes | None:
        """Return the next line that is not blank, or None after the last."""
        most = self._settings.max_body_bytes
        buffer = self._buffer
        passed_over = 0
        while True:
            if not self._searched:
                blank = _blank(buffer)
                passed_over += blank
                del buffer[:blank]
                # They cost next to nothing to send, compressed, and are work all the same.
                if passed_over > most:
                    raise bodies.BodyTooLargeError
            end = buffer.find(b"\n", self._searched)
            if (len(buffer) if end < 0 else end) > most:
                raise bodies.BodyTooLargeError
            if end >= 0:
                self._searched = 0
                return _cut(buffer, end + 1)
            self._searched = len(buffer)
            self._reservation.reserve(len(buffer))
            part = await self._intake.more(midway=bool(buffer))
            if part is None:
                self._searched = 0
                return _cut(buffer, len(buffer)) if buffer else None
            buffer += part

    async def _next_piece(self) -> Any:
        data = await self._intake.more(midway=False)
        if data is None:
            if self._index:
                return grpc.aio.EOF
            # One message there is always, or what path and query say would be lost with an empty file.
            data = b""
        if len(data) > self._settings.max_body_bytes:
            raise bodies.BodyTooLargeError
        self._reservation.reserve(len(data))
        incoming = self._incoming
        message = self._binding.raw_request(data, self._media_type, incoming.variables, incoming.query)
        self._taken()
        return message

    def _taken(self) -> None:
        self._index += 1
        self._reservation.lower(len(self._buffer))

    def _note(self, paths: tuple[str, ...]) -> None:
        known = self._context.ignored_fields
        new = tuple(path for path in paths if path not in known)[: MAX_IGNORED_PATHS - len(known)]
        self._context.ignored_fields = known + new
        if self._settings.on_ignored is not None:
            for path in new:
                self._settings.on_ignored(path)

    def _refusal(self, error: Exception) -> Exception:
        settings = self._settings
        place = f"[{self._index}]"
        refusal = of_body(error, settings.max_body_bytes, f"Message {place} of the body")
        if refusal is not None:
            return refusal
        if isinstance(error, bodies.BodyMalformedError):
            error = CodecError(NOT_GZIP)
        elif isinstance(error, CodecError):
            if not error.path:
                error.description = error.description.removeprefix("The body ").removesuffix(".")
            error.within(place)
        if isinstance(error, CodecError):
            return misfit(error, self._context, settings.on_codec_error, settings.to_status)
        if isinstance(error, (Refusal, bodies.ClientGoneError)):
            return error
        return from_exception(error, self._context, settings.to_status)


def _blank(buffer: bytearray) -> int:
    """Return how much of the beginning is blank."""
    match = _BLANK.match(buffer)
    return 0 if match is None else match.end()


def _cut(buffer: bytearray, end: int) -> bytes:
    """Take the beginning out of *buffer*."""
    found = bytes(buffer[:end])
    del buffer[:end]
    return found
