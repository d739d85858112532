"""A catalog's source as a remote one is, and a clock to look at a cache by."""

from __future__ import annotations

import asyncio

from flagledger.catalog.base import Environment, Grant, Token
from flagledger.errors import FlagledgerError, Reason


class Remote:
    """A source as a database is one: slow, sometimes down, and it does not say when it changed."""

    def __init__(self) -> None:
        self.keys: dict[str, Grant] = {}
        self.tokens: dict[str, Token] = {}
        self.asked: list[str] = []
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        """Answer, and note that it was asked."""
        self.asked.append(key + "!" if fresh else key)
        await self._answer()
        return self.keys.get(key)

    async def environments(self) -> dict[str, Environment]:
        """Answer, and note that it was asked."""
        self.asked.append("environments")
        await self._answer()
        return {grant.environment.name: grant.environment for grant in self.keys.values()}

    async def token(self, token: str) -> Token | None:
        """Answer, and note that it was asked."""
        self.asked.append(token)
        await self._answer()
        return self.tokens.get(token)

    def ready(self) -> bool:
        """Tell whether it is there."""
        return not self.down

    async def _answer(self) -> None:
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.down:
            raise FlagledgerError(Reason.CATALOG_UNREACHABLE, "The database does not answer.")


class Clock:
    """Monotonic seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def grant(*features: str, expires_at: float | None = None) -> Grant:
    """Return what a key permits."""
    environment = Environment(name="one", features=frozenset(features))
    return Grant(environment=environment, is_server=False, expires_at=expires_at)


async def settle() -> None:
    """Let what goes on in the background end."""
    for _ in range(10):
        await asyncio.sleep(0)
