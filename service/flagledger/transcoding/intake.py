"""The body of a request whose messages are taken one by one: its pieces as they come, decompressed, and never far ahead."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

import grpc

from flagledger.transcoding import body as bodies
from flagledger.transcoding.context import TranscodedContext
from flagledger.transcoding.running import WATCH_AFTER_SECONDS, Running

_STEP: Final = 256 * 1024
_GZIP_WINDOW: Final = 31
# Concatenated gzip members are legal, one a message even; a row of empty ones is an attack.
_MAX_EMPTY_MEMBERS: Final = 64


class Pump:
    """
    Takes the pieces of a body from the ASGI channel, one ahead of what is asked for.

    It is at the channel from the beginning to the end of the call, and so notices that the client has gone, except while a piece
    that nobody has asked for yet holds it up.

    Attributes:
        ended: Whether the body has come in whole.
    """

    def __init__(self, receive: bodies.Receive, running: Running, context: TranscodedContext) -> None:
        self._receive = receive
        self._running = running
        self._context = context
        self._piece: bytes | None = None
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._stopped = False
        self.ended = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def next(self, seconds: float | None) -> bytes | None:
        """
        Return the next piece, or None after the last.

        Raises:
            TimeoutError: None came within *seconds*.
            grpc.aio.UsageError: The call has ended.
        """
        if not self._arrived.is_set():
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        if self._stopped:
            raise grpc.aio.UsageError("The call has ended already.")
        piece, self._piece = self._piece, None
        if piece is not None:
            self._arrived.clear()
            self._room.set()
        return piece

    def stop(self) -> None:
        """Let go of the channel."""
        self._stopped = True
        self._arrived.set()
        self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._take_pieces()
            # The client may go before it is answered.
            await asyncio.sleep(WATCH_AFTER_SECONDS)
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._gone()
        except OSError:
            self._gone()
        except Exception as error:  # noqa: BLE001  # it belongs to the call, which knows what to do with it
            self._running.end(error)

    async def _take_pieces(self) -> None:
        while not self.ended:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            self.ended = not message.get("more_body", False)
            piece = message.get("body", b"")
            if piece:
                self._piece = piece
                self._arrived.set()
                await self._room.wait()
                self._room.clear()
        self._arrived.set()

    def _gone(self) -> None:
        self._context.cancel()
        self._running.end(bodies.ClientGoneError())


class Inflater:
    """gzip, undone as it comes and in small steps."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=_GZIP_WINDOW)
        self._input = b""
        self._is_full = False
        self._has_content = False
        self._empty_members = 0

    def feed(self, data: bytes) -> None:
        """Hand over what came next; what was handed over before has to be taken already."""
        self._input = data

    def take(self) -> bytes:
        """
        Return a part of what has been decompressed; nothing where more has to be fed.

        Raises:
            bodies.BodyMalformedError: It is not gzip.
        """
        while self._input or self._is_full:
            if self._member.eof:
                self._next_member()
            try:
                part = self._member.decompress(self._input, _STEP)
            except zlib.error:
                raise bodies.BodyMalformedError from None
            # What did not fit is inside, and comes out without further input.
            self._is_full = len(part) == _STEP and not self._member.eof
            self._input = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if part:
                self._has_content = True
                return part
        return b""

    def finish(self) -> None:
        """
        Take note that nothing follows.

        Raises:
            bodies.BodyMalformedError: It ends early.
        """
        if not self._member.eof:
            raise bodies.BodyMalformedError

    def _next_member(self) -> None:
        self._empty_members = 0 if self._has_content else self._empty_members + 1
        if self._empty_members == _MAX_EMPTY_MEMBERS:
            raise bodies.BodyMalformedError
        self._has_content = False
        self._member = zlib.decompressobj(wbits=_GZIP_WINDOW)


class Intake:
    """
    The content of a body, as it comes.

    Args:
        pump: Where its pieces come from.
        is_gzip: Whether they are compressed.
        slack_seconds: Seconds that the client may be behind MIN_BYTES_PER_SECOND in the midst of a message.
        total_seconds: Seconds that one message may take. The time in which nobody waits for it does not count.
    """

    def __init__(self, pump: Pump, *, is_gzip: bool, slack_seconds: float, total_seconds: float) -> None:
        self._pump = pump
        self._inflater = Inflater() if is_gzip else None
        self._slack_seconds = slack_seconds
        self._total_seconds = total_seconds
        self._slack = slack_seconds
        self._left = total_seconds

    async def more(self, *, midway: bool) -> bytes | None:
        """
        Return what comes next, or None after the last.

        Args:
            midway: Whether a message has begun; else the client may take its time.

        Raises:
            bodies.BodyTimeoutError: The client was too slow.
            bodies.BodyMalformedError: The body is not gzip.
        """
        inflater = self._inflater
        if inflater is None:
            return await self._piece(midway=midway)
        while True:
            # A few bytes make many parts: others get their turn in between.
            await asyncio.sleep(0)
            part = inflater.take()
            if part:
                return part
            piece = await self._piece(midway=midway)
            if piece is None:
                inflater.finish()
                return None
            inflater.feed(piece)

    async def _piece(self, *, midway: bool) -> bytes | None:
        if not midway:
            self._slack, self._left = self._slack_seconds, self._total_seconds
            return await self._pump.next(None)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            piece = await self._pump.next(max(0.0, min(self._slack, self._left)))
        except TimeoutError:
            raise bodies.BodyTimeoutError from None
        finally:
            waited = clock() - began
            self._slack -= waited
            self._left -= waited
        if piece is not None:
            self._slack = min(self._slack + len(piece) / bodies.MIN_BYTES_PER_SECOND, self._slack_seconds)
        return piece
