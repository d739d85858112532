"""
One bounded cache in front of any catalog.

A hit costs one digest and one dict lookup, and does not suspend. Only digests of keys and tokens are held.

What is known is asked about again in the background shortly before it is `refresh_seconds` old, and served stale only
while the source cannot be asked; so a key that was removed is refused within that time. What is unknown is remembered
for ten seconds. The known and the unknown are bounded apart: a flood of wrong keys pushes no right one out.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar, runtime_checkable

from flagledger.catalog.base import Catalog, Environment, Grant, Token

T = TypeVar("T")
Ask = Callable[[str, bool], Awaitable[T | None]]

# The part of `refresh_seconds` after which a hit starts a look in the background; at its end a hit waits for one.
_EARLY: Final = 0.75

# A hit waits this long for a source that neither answers nor fails before it is served stale.
_PATIENCE_SECONDS: Final = 1.0

# After a failure the source is left alone for this long.
_PAUSE_SECONDS: Final = 5.0

_POLL_SECONDS: Final = 1.0


@runtime_checkable
class Revised(Protocol):
    """
    A catalog that knows when everything it said before is stale.

    Attributes:
        generation: Grows at each such moment.
    """

    generation: int

    def poll(self) -> None:
        """Look, cheaply and without waiting, whether such a moment has come."""


class _Unrevised:
    """Stands in for a source that never says so."""

    generation = 0

    def poll(self) -> None:
        pass


class _Entry(Generic[T]):
    """An answer, and from when on it is asked about again. Monotonic seconds."""

    __slots__ = ("asked_at", "due_at", "refresh_at", "used", "value")

    def __init__(self, value: T, asked_at: float, refresh_seconds: float) -> None:
        self.value = value
        self.asked_at = asked_at
        self.refresh_at = asked_at + refresh_seconds * _EARLY
        self.due_at = asked_at + refresh_seconds
        self.used = False


class _Answers(Generic[T]):
    """What a source answered to texts of one kind: keys, or tokens."""

    def __init__(self, owner: CachedCatalog, ask: Ask[T]) -> None:
        self.known: dict[bytes, _Entry[T]] = {}
        self.unknown: dict[bytes, float] = {}
        self.flights: dict[bytes, asyncio.Task[T | None]] = {}
        self._owner = owner
        self._ask = ask

    async def get(self, text: str, digest: bytes, now: float) -> T | None:
        """Return the answer to *text* in all cases but a hit that is still young."""
        entry = self.known.get(digest)
        if entry is None:
            if (until := self.unknown.get(digest)) is not None and now < until:
                return None
            return await asyncio.shield(self._fly(text, digest))
        entry.used = True
        if now < entry.refresh_at or now < self._owner.paused_until:
            return entry.value
        flight = self._fly(text, digest)
        if now < entry.due_at:
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
        return await self._or_stale(self._fly(text, digest, fresh=True), entry, None)

    async def _or_stale(self, flight: asyncio.Task[T | None], entry: _Entry[T], patience: float | None) -> T | None:
        done, _ = await asyncio.wait({flight}, timeout=patience)
        if not done or flight.cancelled() or flight.exception() is not None:
            return entry.value
        return flight.result()

    def _fly(self, text: str, digest: bytes, *, fresh: bool = False) -> asyncio.Task[T | None]:
        """Return the one lookup of *text* that is under way, started now where there was none."""
        # A fresh look does not join one that may have been answered from what the source itself remembers.
        slot = digest + b"fresh" if fresh else digest
        flight = self.flights.get(slot)
        if flight is None:
            flight = asyncio.create_task(self._look(text, digest, fresh), name="catalog lookup")
            self.flights[slot] = flight
            flight.add_done_callback(lambda done: self._land(slot, done))
        return flight

    def _land(self, slot: bytes, flight: asyncio.Task[T | None]) -> None:
        del self.flights[slot]
        if not flight.cancelled() and (error := flight.exception()) is not None:
            self._owner.note_failure(error)

    async def _look(self, text: str, digest: bytes, fresh: bool) -> T | None:  # noqa: FBT001 - private, and one call
        owner = self._owner
        generation, asked_at = owner.source_generation, owner.clock()
        value = await self._ask(text, fresh)
        owner.note_success()
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
        self.known[digest] = _Entry(value, asked_at, owner.refresh_seconds)
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

    def clear(self) -> None:
        self.known.clear()
        self.unknown.clear()


class CachedCatalog:
    """
    A catalog that remembers what another one answered.

    Args:
        source: The catalog to ask. One that is `Revised` (the file is) empties the cache when it changes.
        refresh_seconds: Age by which a known key or token is asked about again. While the source answers, nothing
            older is served.
        unknown_seconds: Time for which an unknown one is remembered.
        min_fresh_interval: Seconds between two `fresh` looks for one key, 5 for a remote source; 0: the source decides.
        max_entries: Known keys, unknown keys, known tokens and unknown tokens that are held at most, of each.
        on_failure: Called with what the source raised, at most once in five seconds. Callers that are served stale, or
            that did not wait, are not told.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        source: Catalog,
        *,
        refresh_seconds: float = 60.0,
        unknown_seconds: float = 10.0,
        min_fresh_interval: float = 0.0,
        max_entries: int = 100_000,
        on_failure: Callable[[BaseException], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refresh_seconds = refresh_seconds
        self.unknown_seconds = unknown_seconds
        self.max_entries = max_entries
        self.clock = clock
        self.paused_until = 0.0
        self._source = source
        self._looks_itself = isinstance(source, Revised) and min_fresh_interval == 0
        self._revised: Revised = source if isinstance(source, Revised) else _Unrevised()
        self._generation = self._revised.generation
        self._next_poll = 0.0
        self._min_fresh_interval = min_fresh_interval
        self._on_failure = on_failure
        self._keys: _Answers[Grant] = _Answers(self, lambda key, fresh: source.lookup(key, fresh=fresh))
        self._tokens: _Answers[Token] = _Answers(self, lambda token, _: source.token(token))
        self._all: _Answers[dict[str, Environment]] = _Answers(self, lambda _text, _fresh: source.environments())

    @property
    def source_generation(self) -> int:
        """Generation of the source; 0 for one that has none."""
        return self._revised.generation

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        """Return what *key* permits. See `Catalog`. A known key that has expired meanwhile is None at once."""
        now = self.clock()
        if now >= self._next_poll or self._revised.generation != self._generation:
            self._revise(now)
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        entry = self._keys.known.get(digest)
        grant: Grant | None
        if entry is not None and now < entry.refresh_at and not fresh:
            entry.used = True
            grant = entry.value
        elif not fresh:
            grant = await self._keys.get(key, digest, now)
        elif self._looks_itself:
            # A file answers from memory and looks once however many ask: no task, no waiting.
            return await self._source.lookup(key, fresh=True)
        else:
            grant = await self._keys.get_fresh(key, digest, now, self._min_fresh_interval)
        if grant is None or grant.expires_at is None or grant.holds():
            return grant
        return None

    async def environments(self) -> dict[str, Environment]:
        """Return every environment by its name. The caller MUST NOT change the answer."""
        now = self.clock()
        if now >= self._next_poll or self._revised.generation != self._generation:
            self._revise(now)
        found = await self._all.get("", b"", now)
        return found if found is not None else {}

    async def token(self, token: str) -> Token | None:
        """Return what *token* permits. Only digests are compared, so that timing tells nothing of a token."""
        now = self.clock()
        if now >= self._next_poll or self._revised.generation != self._generation:
            self._revise(now)
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        return await self._tokens.get(token, digest, now)

    def ready(self) -> bool:
        """Return whether the source has been loaded."""
        return self._source.ready()

    async def watch(self) -> None:
        """Follow a source that changes until cancelled, so that a change is seen without any lookup."""
        while True:
            self._revise(self.clock())
            await asyncio.sleep(_POLL_SECONDS)

    async def close(self) -> None:
        """End the lookups that are under way."""
        flights = [flight for answers in (self._keys, self._tokens, self._all) for flight in answers.flights.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def note_success(self) -> None:
        """Take the source as being there again."""
        self.paused_until = 0.0

    def note_failure(self, error: BaseException) -> None:
        """Leave the source alone for a while after *error*, and report the first error of each such pause."""
        now = self.clock()
        if now < self.paused_until:
            return
        self.paused_until = now + _PAUSE_SECONDS
        if self._on_failure is not None:
            self._on_failure(error)

    def _revise(self, now: float) -> None:
        if now >= self._next_poll:
            self._next_poll = now + _POLL_SECONDS
            self._revised.poll()
        if self._revised.generation != self._generation:
            self._generation = self._revised.generation
            self._keys.clear()
            self._tokens.clear()
            self._all.clear()
