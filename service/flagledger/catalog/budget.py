"""How often a remote source may be asked: at most so many lookups in any second, and so many that are under way."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

# From one lookup to the one that may take its place. What is later on its way to the source than the next one would
# otherwise meet it there within a second.
_SECOND: Final = 1.05


class Leave(Protocol):
    """Leave for one lookup. It counts from when it was given, and for a second from when it is used."""

    def use(self, now: float) -> None:
        """Take the lookup as made at *now*."""


class Budget(Protocol):
    """Who may ask the source now."""

    def for_known(self, now: float, under_way: int) -> Leave | None:
        """Return leave to ask about a known key at *now*, with *under_way* others in the air; None where there is none."""

    def for_unknown(self, now: float, under_way: int) -> Leave | None:
        """Return the same for a key that is not known."""


class Unlimited:
    """The budget of a source that is near."""

    def for_known(self, now: float, under_way: int) -> Leave:
        """Return leave."""
        del now, under_way
        return _ALWAYS

    for_unknown = for_known


class PerSecond:
    """
    A budget of *rate* lookups in any second, in which known keys go first.

    A flood of wrong keys takes four fifths at most, and one tenth while known keys wait; known ones take nine tenths at
    most, so that a new key gets in however many there are. No more than a second's worth is under way: a source that
    hangs is not asked ever more. Of less than two a second, each kind has every other one.
    """

    def __init__(self, rate: float) -> None:
        most, seconds = (int(rate), _SECOND) if rate >= 2 else (1, _SECOND / rate)  # noqa: PLR2004 - one for each kind
        alternately = 2 if most == 1 else 1
        self._all = _Window(most, seconds)
        self._known = _Window(max(1, most - max(1, most // 10)), seconds * alternately)
        self._unknown = _Window(max(1, most - max(1, most // 5)), seconds * alternately)
        self._unknown_while_known_wait = _Window(max(1, most // 10), seconds * alternately)
        self._known_wait_until = 0.0

    def for_known(self, now: float, under_way: int) -> Leave | None:
        """Return leave to ask about a known key."""
        leave = _leave(now, under_way, self._known, self._all)
        if leave is None:
            self._known_wait_until = now + _SECOND
        return leave

    def for_unknown(self, now: float, under_way: int) -> Leave | None:
        """Return leave to ask about an unknown key."""
        if now < self._known_wait_until and not self._unknown_while_known_wait.has_room(now):
            return None
        return _leave(now, under_way, self._unknown, self._all, self._unknown_while_known_wait)


class _Window:
    """At most *most* in any *seconds*, whenever they begin."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.promised = 0
        self._seconds = seconds
        self._used: deque[float] = deque()

    def has_room(self, now: float) -> bool:
        while self._used and now - self._used[0] >= self._seconds:
            self._used.popleft()
        return len(self._used) + self.promised < self.most

    def use(self, now: float) -> None:
        self.promised -= 1
        self._used.append(now)


class _Promise:
    """Leave that counts in *windows*."""

    def __init__(self, windows: tuple[_Window, ...]) -> None:
        self._windows = windows
        for window in windows:
            window.promised += 1

    def use(self, now: float) -> None:
        for window in self._windows:
            window.use(now)


class _Always:
    """Leave that counts nowhere."""

    def use(self, now: float) -> None:
        del now


_ALWAYS: Final = _Always()


def _leave(now: float, under_way: int, share: _Window, whole: _Window, *others: _Window) -> Leave | None:
    if under_way >= share.most or not share.has_room(now) or not whole.has_room(now):
        return None
    return _Promise((share, whole, *others))
