"""Cross-origin requests: which pages may send, as the environments say it together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from flagledger.catalog.base import Environment
from flagledger.errors import FlagledgerError

Environments = Callable[[], Awaitable[Mapping[str, Environment]]]

# A catalog that hangs holds up no page for longer.
_PATIENCE_SECONDS: Final = 1.0
_PREFLIGHT_SECONDS: Final = 86_400
# Headers are mirrored: whatever an SDK sends of itself, its browser may ask for.
_COMMON: Final[dict[str, Any]] = {
    "allow_methods": ["*"],
    "allow_headers": ["*"],
    "expose_headers": ["Retry-After", "X-Ignored-Fields", "X-Last-Position"],
    "max_age": _PREFLIGHT_SECONDS,
}


class CrossOrigin:
    """
    Tells browsers which pages may send, and read what they are answered.

    A preflight carries no key, so an origin passes that any environment takes; whether the key's own does, the servicer says.
    While every environment takes any origin, and while nobody has been able to tell, the answer is `*`, and the same for all.

    Args:
        app: What answers.
        environments: Returns every environment, from memory where that is fresh enough. Asked only where a request has an origin.
    """

    def __init__(self, app: ASGIApp, environments: Environments) -> None:
        self._environments = environments
        self._seen: Mapping[str, Environment] = {}
        self._any = CORSMiddleware(app, allow_origins=["*"], **_COMMON)
        self._listed = _Listed(app, **_COMMON)
        self._current: CORSMiddleware = self._any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"]):
            await self._refresh()
        await self._current(scope, receive, send)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                environments = await self._environments()
        except (FlagledgerError, TimeoutError):
            # What was known last stays in force: a catalog that is away stops no page that may send.
            return
        if environments is self._seen:
            return
        self._seen = environments
        lists = [environment.policy.origins for environment in environments.values()]
        listed = [origins for origins in lists if origins is not None]
        self._listed.origins = frozenset().union(*listed) if len(listed) == len(lists) else None
        self._current = self._listed if listed else self._any


class _Listed(CORSMiddleware):
    """
    Names the origin that it answers to.

    Attributes:
        origins: Those that pass; None for any.
    """

    origins: frozenset[str] | None = frozenset()

    def is_allowed_origin(self, origin: str) -> bool:
        """Return whether a page of *origin* may send."""
        return self.origins is None or origin in self.origins
