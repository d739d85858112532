"""
The answer of a server-streaming rpc: its messages as the pieces of one HTTP body.

Nothing goes out before the first message, so that what fails until then is an ordinary refusal. What fails later can only
break the answer off: the last chunk is not sent, upon which the server closes the connection. A stream of events ends with
one that says how, well or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

import grpc
from google.rpc import status_pb2

from flagledger.transcoding import body as bodies
from flagledger.transcoding.binding import Binding
from flagledger.transcoding.context import TranscodedContext
from flagledger.transcoding.payload import content_type, last_event, payload
from flagledger.transcoding.refusals import Headers
from flagledger.transcoding.running import EnoughError, Running, raise_if_cancelled

NO_CONTENT: Final = 204
_OK: Final = status_pb2.Status()
_NO_CACHE: Final = (b"cache-control", b"no-cache")


class StreamedAnswer:
    """
    Sends what a servicer's method yields or writes.

    Args:
        binding: The rpc.
        context: The call.
        as_events: Whether messages are sent as events instead of lines.
        is_head: Whether headers alone are asked for.
        send: The ASGI channel that the answer goes to.
        reader_timeout: Seconds that the reader may take nothing.
        extra_headers: Returns the application's headers.
    """

    def __init__(
        self,
        binding: Binding,
        context: TranscodedContext,
        *,
        as_events: bool,
        is_head: bool,
        send: bodies.Send,
        reader_timeout: float,
        extra_headers: Callable[[TranscodedContext], Headers],
    ) -> None:
        self._binding = binding
        self._context = context
        self._as_events = as_events
        self._is_bare = is_head
        self._channel = send
        self._reader_timeout = reader_timeout
        self._extra_headers = extra_headers
        self._running: Running | None = None
        self._is_writing = False
        self._is_sending = False

    async def carry_out(self, method: Callable[[Any, Any], Any], request: Any, running: Running) -> None:
        """
        Run the servicer's method, and send its messages as they come.

        Raises:
            Refusal: A message cannot be written.
            bodies.ClientGoneError: Nobody is there to be answered.
            Exception: Whatever the servicer raises.
        """
        self._running = running
        self._context.attach(write=self._write)
        result = method(request, self._context)
        if not hasattr(result, "__aiter__"):
            # It writes its messages; what it returns is for nobody.
            result = await result
        if hasattr(result, "__aiter__"):
            try:
                await self._pass_on(result)
            finally:
                # Closed here and not by the collector, so that what the servicer holds is let go when the call ends.
                if hasattr(result, "aclose"):
                    await result.aclose()
        raise_if_cancelled()

    async def finish(self) -> None:
        """
        End the answer of a call that has succeeded.

        Raises:
            bodies.ClientGoneError: Nobody is there to be answered.
        """
        if not self._context.http_status:
            await self._start(None)
        end = last_event(_OK) if self._as_events and not self._is_bare else b""
        await self._send({"type": "http.response.body", "body": end})

    async def fail(self, status: status_pb2.Status) -> None:
        """Say what an answer that has begun is broken off with, where there is a way to."""
        # A reader that has not taken what was sent before is not waited for again.
        if self._as_events and not self._is_bare and not self._is_sending:
            with suppress(bodies.ClientGoneError):
                await self._send({"type": "http.response.body", "body": last_event(status), "more_body": True})

    async def _pass_on(self, messages: AsyncIterator[Any]) -> None:
        async for message in messages:
            raise_if_cancelled()
            self._context.raise_for_termination()
            if not await self._put(message):
                return

    async def _write(self, message: Any) -> None:
        """Send what the servicer writes; what makes that impossible cancels it."""
        running = self._running
        if running is None or self._is_writing:
            raise grpc.aio.UsageError("Only one write may be going on at a time.")
        self._is_writing = True
        try:
            if running.reason is not None:
                await running.give_up(running.reason)
            raise_if_cancelled()
            if not await self._put(message):
                await running.give_up(EnoughError())
        except bodies.ClientGoneError as gone:
            await running.give_up(gone)
        finally:
            self._is_writing = False

    async def _put(self, message: Any) -> bool:
        """Send one message, and tell whether there is a use for more."""
        piece = payload(self._binding, message, self._context, as_events=self._as_events)
        if not self._context.http_status:
            await self._start(message)
        if self._is_bare:
            return False
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        # A server that need not wait does not: the loop, and with it whatever ends this call, gets its turn here.
        await asyncio.sleep(0)
        return True

    async def _start(self, first: Any) -> None:
        context = self._context
        status = context.success_status(initial_only=True)
        headers: list[tuple[bytes, bytes]] = []
        if status == NO_CONTENT:
            self._is_bare = True
        else:
            headers.append((b"content-type", content_type(self._binding, first, context, as_events=self._as_events)))
            if self._as_events:
                headers.append(_NO_CACHE)
        headers += context.response_headers(initial_only=True)
        # From here on the answer counts as begun; whatever can fail of it has been made.
        context.begin(status)
        headers += self._extra_headers(context)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send(self, message: bodies.Message) -> None:
        self._is_sending = True
        try:
            async with asyncio.timeout(self._reader_timeout):
                await self._channel(message)
        except OSError:
            # A reader that takes nothing any more is as good as gone: a TimeoutError is an OSError. So is what servers may raise
            # where they notice first that it has.
            raise bodies.ClientGoneError from None
        self._is_sending = False
