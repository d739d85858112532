"""
Alarms for what takes too long: one timer of the event loop for all of them.

Nearly every alarm is taken back before it goes off, and a timer of its own, with what `asyncio.timeout` does around it, would
cost a small request a good part of its time. So alarms lie in a set, which is looked through now and then while there are any.
They go off late by up to `LATE_SECONDS`, and never early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

LATE_SECONDS: Final = 0.05


class Alarm:
    """
    One alarm: *callback* is called once the running loop's clock has reached *when*, unless it is cancelled before.

    Attributes:
        when: May be set anew.
    """

    __slots__ = ("_alarms", "_callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self._callback: Callable[[], None] | None = callback
        self._alarms = _running()
        self._alarms.set(self)

    def cancel(self) -> None:
        """Take the alarm back; nothing happens where it has gone off."""
        self._alarms.waiting.discard(self)
        # It often belongs to whoever holds the alarm: left alone, the two would wait for the garbage collector.
        self._callback = None

    def go_off(self) -> None:
        """Do what the alarm is there for."""
        if self._callback is not None:
            self._callback()


class TimeLimit(Alarm):
    """
    `asyncio.timeout_at` by an alarm: a block that is not left in time is cancelled, and raises TimeoutError.

    Args:
        when: Moment of the loop's clock.
    """

    __slots__ = ("_cancelling", "_expired", "_task")

    def __init__(self, when: float) -> None:
        self.when = when
        self._callback = None
        self._expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A time limit has to stand inside a task.")
        self._task = task
        self._cancelling = task.cancelling()
        self._alarms = _running()
        self._alarms.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._alarms.waiting.discard(self)
        # Where others have cancelled the task as well, it is theirs.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def go_off(self) -> None:
        """Cancel the task."""
        self._expired = True
        self._task.cancel()


class _Alarms:
    """The alarms of one event loop, those that have not gone off."""

    __slots__ = ("_is_ticking", "loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: set[Alarm] = set()
        self._is_ticking = False

    def set(self, alarm: Alarm) -> None:
        self.waiting.add(alarm)
        if not self._is_ticking:
            self._is_ticking = True
            self.loop.call_later(LATE_SECONDS, self._tick)

    def _tick(self) -> None:
        now = self.loop.time()
        self._is_ticking = False
        try:
            for alarm in [alarm for alarm in self.waiting if alarm.when <= now]:
                self.waiting.discard(alarm)
                # One that went off before may have taken it back: then it does nothing.
                alarm.go_off()
        finally:
            if self.waiting and not self._is_ticking:
                self._is_ticking = True
                self.loop.call_later(LATE_SECONDS, self._tick)


_last: _Alarms | None = None


def _running() -> _Alarms:
    global _last  # noqa: PLW0603  # looking a loop up in a table costs as much as a timer of it
    loop = asyncio.get_running_loop()
    found = _last
    if found is None or found.loop is not loop:
        found = _last = _Alarms(loop)
    return found
