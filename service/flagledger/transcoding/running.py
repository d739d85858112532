"""The task of a running call, and what may end it from elsewhere: the client's going, or a message that does not fit."""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

from flagledger.transcoding import body as bodies
from flagledger.transcoding.alarms import Alarm
from flagledger.transcoding.context import TranscodedContext

# Quick calls are over before it would pay to watch for the client going away.
WATCH_AFTER_SECONDS: Final = 0.05


class EnoughError(Exception):
    """What ends a call whose answer is whole, though the servicer has more to say."""


def raise_if_cancelled() -> None:
    """
    Raise the cancellation of this call where there was one, even one that a servicer has swallowed.

    A CancelledError that is none of the call's, of something of the application's own that it waited for, is no cancellation.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Running:
    """
    The task that a servicer runs in.

    Attributes:
        reason: What the call was ended with, whatever the servicer makes of being cancelled; None where it was not.
    """

    __slots__ = ("_has_ended", "_task", "reason")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self.reason: Exception | None = None
        self._has_ended = False

    def end(self, reason: Exception) -> None:
        """Cancel the servicer; the first reason counts."""
        if self.reason is None and not self._has_ended:
            self.reason = reason
            if self._task is not None:
                self._task.cancel()

    async def give_up(self, reason: Exception) -> NoReturn:
        """End the call out of what the servicer has called, in whichever task it did: the servicer sees a cancellation."""
        self.end(reason)
        if asyncio.current_task() is self._task:
            # The cancellation arrives here, and is not left over for what the servicer awaits when it cleans up.
            await asyncio.sleep(0)
        raise asyncio.CancelledError

    def stop(self) -> None:
        """Take note that the servicer has ended: from here on nothing cancels the task."""
        self._has_ended = True
        if self.reason is not None and self._task is not None:
            # The cancellation was ours, and has been dealt with.
            self._task.uncancel()


class DisconnectWatch(Running):
    """Ends the running call when its client goes; looks only at calls that take a while."""

    __slots__ = ("_alarm", "_context", "_receive", "_watcher")

    def __init__(self, context: TranscodedContext, receive: bodies.Receive) -> None:
        super().__init__()
        self._context = context
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._alarm = Alarm(asyncio.get_running_loop().time() + WATCH_AFTER_SECONDS, self._start)

    def stop(self) -> None:
        """Stop watching."""
        self._alarm.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        super().stop()

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                break
            # A body that nobody asked for may still come in: it is passed over.
        self._context.cancel()
        self.end(bodies.ClientGoneError())
