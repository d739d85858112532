"""Environments that readers know of because something was recorded for them, whatever the catalog says of them today."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from flagledger.catalog.base import Catalog, Environment, Grant, Token
from flagledger.catalog.policy import Policy
from flagledger.errors import FlagledgerError
from flagledger.store.base import Store
from flagledger.store.errors import StoreError

_AGAIN_SECONDS: Final = 2.0
_REFRESH_SECONDS: Final = 10.0


class RecordedEnvironments:
    """
    A catalog that has, besides those of another one, the environments of which the store holds evaluations.

    It is for readers of what comes from a Flagsmith: there the process that takes evaluations in learns environments from its
    senders, and another one answers questions; and what was recorded for an environment outlives it.

    Args:
        catalog: The other one.
        store_provider: Returns the store, or raises StoreError while there is none.
        policy_of: The policy of an environment by its name.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        catalog: Catalog,
        store_provider: Callable[[], Store],
        policy_of: Callable[[str], Policy],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._store_provider = store_provider
        self._policy_of = policy_of
        self._clock = clock
        self._recorded: tuple[str, ...] = ()
        self._due_at = clock()
        self._asking = asyncio.Lock()

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        """Return what the other catalog answers."""
        return await self._catalog.lookup(key, fresh=fresh)

    async def environments(self) -> dict[str, Environment]:
        """
        Return those of both, by name; one that the catalog lacks takes features of any name.

        Raises:
            FlagledgerError: CATALOG_UNREACHABLE, where the catalog cannot be asked and nothing is recorded.
        """
        names = await self._names()
        try:
            environments = await self._catalog.environments()
        except FlagledgerError:
            # What was recorded can be read without the catalog, since somebody knows the names.
            if not names:
                raise
            environments = {}
        lacking = [name for name in names if name not in environments]
        if not lacking:
            return environments
        found = {name: Environment(name=name, features=None, policy=self._policy_of(name)) for name in lacking}
        return {**environments, **found}

    async def token(self, token: str) -> Token | None:
        """Return what the other catalog answers."""
        return await self._catalog.token(token)

    def ready(self) -> bool:
        """Return what the other catalog answers."""
        return self._catalog.ready()

    async def _names(self) -> tuple[str, ...]:
        """Return the names that the store knew ten seconds ago or later; those before them while it cannot be asked."""
        async with self._asking:
            if self._clock() >= self._due_at:
                try:
                    self._recorded = await asyncio.to_thread(lambda: self._store_provider().environments())
                except StoreError:
                    # Those that wait are not to find out one after the other.
                    self._due_at = self._clock() + _AGAIN_SECONDS
                    return self._recorded
                self._due_at = self._clock() + _REFRESH_SECONDS
        return self._recorded
