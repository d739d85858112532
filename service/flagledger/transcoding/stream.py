"""
The answer of a server-streaming rpc: its messages as the pieces of one HTTP body.

Nothing goes out before the first message, so that what fails until then is an ordinary refusal. What fails later can only
break the answer off: the last chunk is not sent, upon which the server closes the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

from flagledger.transcoding import body as bodies
from flagledger.transcoding.binding import Binding
from flagledger.transcoding.call import Headers
from flagledger.transcoding.context import TranscodedContext
from flagledger.transcoding.payload import content_type, payload

NO_CONTENT: Final = 204

Stream = Callable[[Any, TranscodedContext], AsyncGenerator[Any, None]]


class StreamedAnswer:
    """
    Sends what a servicer's method yields.

    Args:
        binding: The rpc.
        stream: The servicer's method.
        is_head: Whether headers alone are asked for.
        send: The ASGI channel that the answer goes to.
        reader_timeout: Seconds that the reader may take nothing.
        extra_headers: Returns the application's headers.
    """

    def __init__(
        self,
        binding: Binding,
        stream: Stream,
        *,
        is_head: bool,
        send: bodies.Send,
        reader_timeout: float,
        extra_headers: Callable[[TranscodedContext], Headers],
    ) -> None:
        self._binding = binding
        self._stream = stream
        self._is_bare = is_head
        self._channel = send
        self._reader_timeout = reader_timeout
        self._extra_headers = extra_headers

    async def __call__(self, request: Any, context: TranscodedContext) -> None:
        """
        Run the stream to its end as a call that returns nothing; one that fails leaves the answer open.

        Raises:
            Refusal: A message cannot be written.
            bodies.ClientGoneError: Nobody is there to be answered.
            Exception: Whatever the servicer raises.
        """
        # Closed here and not by the collector, so that what the servicer holds is let go when the call ends.
        async with aclosing(self._stream(request, context)) as messages:
            await self._pass_on(messages, context)
        if context.failure() is not None:
            return
        if not context.http_status:
            await self._start(None, context)
        await self._send({"type": "http.response.body", "body": b""})

    async def _pass_on(self, messages: AsyncGenerator[Any, None], context: TranscodedContext) -> None:
        async for message in messages:
            _raise_if_cancelled()
            piece = payload(self._binding, message, context)
            if not context.http_status:
                await self._start(message, context)
            if self._is_bare:
                return
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            # A server that need not wait does not: the loop, and with it whatever ends this call, gets its turn here.
            await asyncio.sleep(0)
        _raise_if_cancelled()

    async def _start(self, first: Any, context: TranscodedContext) -> None:
        status = context.success_status(initial_only=True)
        context.begin(status)
        headers: list[tuple[bytes, bytes]] = []
        if status == NO_CONTENT:
            self._is_bare = True
        else:
            headers.append((b"content-type", content_type(self._binding, first, context)))
        headers += context.response_headers(initial_only=True)
        headers += self._extra_headers(context)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send(self, message: bodies.Message) -> None:
        try:
            async with asyncio.timeout(self._reader_timeout):
                await self._channel(message)
        except OSError:
            # A reader that takes nothing any more is as good as gone: a TimeoutError is an OSError. So is what servers may raise
            # where they notice first that it has.
            raise bodies.ClientGoneError from None


def _raise_if_cancelled() -> None:
    """Raise the cancellation that a servicer has swallowed: what it yields after that is not the whole."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
