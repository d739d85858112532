"""What a source answered, remembered by digest: when it is asked again, and by how many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from flagledger.catalog.budget import Budget, Leave, Unlimited
from flagledger.errors import FlagledgerError, Reason

T = TypeVar("T")
Ask = Callable[[str, bool], Awaitable[T | None]]

# The part of `refresh_seconds` after which a hit starts a look in the background; at its end a hit waits for one.
_EARLY: Final = 0.75

# A hit waits this long for a source that neither answers nor fails before it is served stale.
_PATIENCE_SECONDS: Final = 1.0

# What somebody with an unknown key is told to wait where the source may not be asked at the moment.
_REFUSED_SECONDS: Final = 2.0

UNLIMITED: Final = Unlimited()


class Owner(Protocol):
    """
    The cache that answers belong to.

    Attributes:
        refresh_seconds: Age by which what is known is asked about again.
        unknown_seconds: Time for which what is unknown is remembered.
        max_entries: What is held at most, of the known and of the unknown.
        paused_until: Time until which the source is left alone.
    """

    refresh_seconds: float
    unknown_seconds: float
    max_entries: int
    paused_until: float

    def clock(self) -> float:
        """Return monotonic seconds."""

    @property
    def source_generation(self) -> int:
        """Generation of the source."""

    def note_success(self) -> None:
        """Take note that the source answered."""

    def note_failure(self, error: BaseException) -> None:
        """Take note that it did not."""


class Entry(Generic[T]):
    """An answer, and from when on it is asked about again. Monotonic seconds."""

    __slots__ = ("asked_at", "due_at", "refresh_at", "used", "value")

    def __init__(self, value: T, asked_at: float, refresh_seconds: float) -> None:
        self.value = value
        self.asked_at = asked_at
        self.refresh_at = asked_at + refresh_seconds * _EARLY
        self.due_at = asked_at + refresh_seconds
        self.used = False


class Answers(Generic[T]):
    """What a source answered to texts of one kind: keys, or tokens."""

    def __init__(
        self,
        owner: Owner,
        ask: Ask[T],
        budget: Budget = UNLIMITED,
        on_lookup: Callable[[str], None] | None = None,
    ) -> None:
        self.known: dict[bytes, Entry[T]] = {}
        self.unknown: dict[bytes, float] = {}
        self.flights: dict[bytes, asyncio.Task[T | None]] = {}
        self._owner = owner
        self._ask = ask
        self._budget = budget
        self._on_lookup = on_lookup

    async def get(self, text: str, digest: bytes, now: float) -> T | None:
        """Return the answer to *text* in all cases but a hit that is still young."""
        entry = self.known.get(digest)
        if entry is None:
            if (until := self.unknown.get(digest)) is not None and now < until:
                return None
            return await asyncio.shield(self._first(text, digest, now))
        entry.used = True
        if now < entry.refresh_at or now < self._owner.paused_until:
            return entry.value
        flight = self._again(text, digest, now)
        if flight is None or now < entry.due_at:
            return entry.value
        return await self._or_stale(flight, entry, _PATIENCE_SECONDS)

    async def get_fresh(self, text: str, digest: bytes, now: float, interval: float) -> T | None:
        """Return what the source answers to *text* now, unless it was asked less than *interval* seconds ago."""
        entry = self.known.get(digest)
        if entry is not None and interval > 0 and (now < entry.asked_at + interval or now < self._owner.paused_until):
            entry.used = True
            return entry.value
        if entry is None:
            return await self.get(text, digest, now)
        flight = self._again(text, digest, now, fresh=True)
        return entry.value if flight is None else await self._or_stale(flight, entry, None)

    def keep(self, text: str, digest: bytes, now: float) -> None:
        """Ask again about *text* in the background if the answer was used and is no longer young."""
        entry = self.known.get(digest)
        if entry is not None and entry.used and now >= entry.refresh_at and now >= self._owner.paused_until:
            self._again(text, digest, now)

    async def _or_stale(self, flight: asyncio.Task[T | None], entry: Entry[T], patience: float | None) -> T | None:
        done, _ = await asyncio.wait({flight}, timeout=patience)
        if not done or flight.cancelled() or flight.exception() is not None:
            return entry.value
        return flight.result()

    def _first(self, text: str, digest: bytes, now: float) -> asyncio.Task[T | None]:
        """Return the lookup of *text*, about which nothing is known. Raises where the source may not be asked now."""
        flight = self.flights.get(digest)
        if flight is not None:
            return flight
        leave = self._budget.for_unknown(now, len(self.flights))
        if leave is None:
            self._note("refused")
            raise FlagledgerError(
                Reason.CATALOG_UNREACHABLE,
                "This key has not been seen lately, and too many such are being looked up at the moment; try again later.",
                retry_after=_REFUSED_SECONDS,
            )
        return self._fly(text, digest, digest, leave, fresh=False)

    def _again(self, text: str, digest: bytes, now: float, *, fresh: bool = False) -> asyncio.Task[T | None] | None:
        """Return the lookup of *text*, which is known; None where the source may not be asked now."""
        # A fresh look does not join one that may have been answered from what the source itself remembers.
        slot = digest + b"fresh" if fresh else digest
        flight = self.flights.get(slot)
        if flight is not None:
            return flight
        leave = self._budget.for_known(now, len(self.flights))
        return None if leave is None else self._fly(text, digest, slot, leave, fresh=fresh)

    def _fly(self, text: str, digest: bytes, slot: bytes, leave: Leave, *, fresh: bool) -> asyncio.Task[T | None]:
        flight = asyncio.create_task(self._look(text, digest, leave, fresh=fresh), name="catalog lookup")
        self.flights[slot] = flight
        flight.add_done_callback(lambda done: self._land(slot, done))
        return flight

    def _land(self, slot: bytes, flight: asyncio.Task[T | None]) -> None:
        del self.flights[slot]
        if not flight.cancelled() and (error := flight.exception()) is not None:
            self._note("failed")
            self._owner.note_failure(error)

    async def _look(self, text: str, digest: bytes, leave: Leave, *, fresh: bool) -> T | None:
        owner = self._owner
        generation, asked_at = owner.source_generation, owner.clock()
        leave.use(asked_at)
        value = await self._ask(text, fresh)
        owner.note_success()
        self._note("unknown" if value is None else "found")
        if generation == owner.source_generation:
            self._store(digest, value, asked_at)
        return value

    def _store(self, digest: bytes, value: T | None, asked_at: float) -> None:
        owner = self._owner
        if value is None:
            self.known.pop(digest, None)
            # Taken out first, so that the oldest stand at the front.
            self.unknown.pop(digest, None)
            self.unknown[digest] = asked_at + owner.unknown_seconds
            while len(self.unknown) > owner.max_entries:
                del self.unknown[next(iter(self.unknown))]
            return
        self.unknown.pop(digest, None)
        self.known[digest] = Entry(value, asked_at, owner.refresh_seconds)
        while len(self.known) > owner.max_entries:
            self._evict()

    def _evict(self) -> None:
        # Second chance: what was used since it last stood in front goes to the back once, so that a hit moves nothing.
        while True:
            oldest = next(iter(self.known))
            entry = self.known.pop(oldest)
            if not entry.used:
                return
            entry.used = False
            self.known[oldest] = entry

    def _note(self, outcome: str) -> None:
        if self._on_lookup is not None:
            self._on_lookup(outcome)

    def age(self, now: float) -> None:
        """
        Ask about everything again before it is next answered. What is known is not forgotten: it stands in where the source
        cannot be asked, or not so often.
        """
        self.unknown.clear()
        for entry in self.known.values():
            entry.refresh_at = min(entry.refresh_at, now)
            entry.due_at = min(entry.due_at, now)
