"""
One bounded cache in front of any catalog.

A hit costs one digest and one dict lookup, and does not suspend. Only digests of keys and tokens are held.

What is known is asked about again in the background shortly before it is `refresh_seconds` old, and served stale only
while the source cannot be asked; so a key that was removed is refused within that time. What is unknown is remembered
for ten seconds. The known and the unknown are bounded apart: a flood of wrong keys pushes no right one out.

A remote source has a budget of lookups. Beyond it a known key is served as it was until there is room to ask again, and an
unknown one is refused with a delay: nobody has said that it is wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from flagledger.catalog.answers import UNLIMITED, Answers
from flagledger.catalog.base import Catalog, Environment, Grant, Token
from flagledger.catalog.budget import PerSecond
from flagledger.catalog.digest import digest as digest_of

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


@runtime_checkable
class Reachable(Protocol):
    """A catalog that is remote, and can be asked for less than all of its environments."""

    async def reach(self) -> None:
        """Ask it for a sign of life; raises `FlagledgerError(CATALOG_UNREACHABLE)` where there is none."""


class _Unrevised:
    """Stands in for a source that never says so."""

    generation = 0

    def poll(self) -> None:
        pass


class CachedCatalog:
    """
    A catalog that remembers what another one answered.

    Args:
        source: The catalog to ask. One that is `Revised` (the file is) outdates what is held when it changes.
        refresh_seconds: Age by which a known key or token is asked about again. While the source answers, nothing
            older is served.
        unknown_seconds: Time for which an unknown one is remembered.
        min_fresh_interval: Seconds between two `fresh` looks for one key, 5 for a remote source; 0: the source decides.
        max_lookups_per_second: Keys that the source is asked about at most, in any second; None: as often as there is cause.
        max_entries: Known keys, unknown keys, known tokens and unknown tokens that are held at most, of each.
        on_failure: Called with what the source raised, at most once in five seconds. Callers that are served stale, or
            that did not wait, are not told.
        on_lookup: Called with what came of each lookup of a key at the source, `found`, `unknown` or `failed`, and with
            `refused` for each caller whose key is unknown and could not be looked up within the budget.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        source: Catalog,
        *,
        refresh_seconds: float = 60.0,
        unknown_seconds: float = 10.0,
        min_fresh_interval: float = 0.0,
        max_lookups_per_second: float | None = None,
        max_entries: int = 100_000,
        on_failure: Callable[[BaseException], None] | None = None,
        on_lookup: Callable[[str], None] | None = None,
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
        budget = UNLIMITED if max_lookups_per_second is None else PerSecond(max_lookups_per_second)
        self._keys: Answers[Grant] = Answers(
            self, lambda key, fresh: source.lookup(key, fresh=fresh), budget, on_lookup
        )
        self._tokens: Answers[Token] = Answers(self, lambda token, _: source.token(token))
        self._all: Answers[dict[str, Environment]] = Answers(self, lambda _text, _fresh: source.environments())

    @property
    def source_generation(self) -> int:
        """Generation of the source; 0 for one that has none."""
        return self._revised.generation

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        """Return what *key* permits. See `Catalog`. A known key that has expired meanwhile is None at once."""
        now = self.clock()
        if now >= self._next_poll or self._revised.generation != self._generation:
            self._revise(now)
        digest = digest_of(key)
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
        digest = digest_of(token)
        return await self._tokens.get(token, digest, now)

    def ready(self) -> bool:
        """Return whether the source has been loaded."""
        return self._source.ready()

    async def watch(self) -> None:
        """
        Follow the source until cancelled, so that a change is seen without any lookup.

        One that is remote is asked for a sign of life until it has given one, and from then on for its environments, where
        somebody uses them, whenever they are `refresh_seconds` old.
        """
        while True:
            self._revise(self.clock())
            if not isinstance(self._source, Revised):
                await self._follow()
            await asyncio.sleep(_POLL_SECONDS)

    async def close(self) -> None:
        """End the lookups that are under way."""
        flights = [flight for answers in (self._keys, self._tokens, self._all) for flight in answers.flights.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _follow(self) -> None:
        if self._source.ready():
            self._all.keep("", b"", self.clock())
            return
        try:
            if isinstance(self._source, Reachable):
                await self._source.reach()
            else:
                await self.environments()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported, and the next look may succeed
            self.note_failure(error)

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
            self._keys.age(now)
            self._tokens.age(now)
            self._all.age(now)
