"""The catalog's seam: which keys and features exist, and who may read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from flagledger.catalog.policy import PLAIN, Policy

SERVER_KEY_PREFIX = "ser."


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """
    An environment as it stood when it was looked up.

    Attributes:
        name: Its identifier, which rows carry; unique in a catalog and stable. In a file the name given there; of a Flagsmith
            the client key, since names of environments collide across its projects.
        features: Exact names of its features, disabled and archived ones included; None where it takes any name.
        display_name: What people call it; empty where that is `name`. It may not be unique.
        policy: What may be kept of what is sent, and how much of it.
        stopped: Whether its organisation is shut out for now: nothing is taken for it, whatever the key.
    """

    name: str
    features: frozenset[str] | None
    display_name: str = ""
    policy: Policy = PLAIN
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """
    What an environment key permits: to write into one environment, until it expires.

    Attributes:
        environment: The environment that the key belongs to.
        is_server: Whether it is a server key (`ser.…`), which is kept secret; a client key is public.
        expires_at: Epoch seconds from which the key no longer counts; None for never.
    """

    environment: Environment
    is_server: bool
    expires_at: float | None = None

    def holds(self) -> bool:
        """Return whether the key has not expired by now."""
        return self.expires_at is None or time.time() < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """
    What a token permits.

    Attributes:
        role: `read`, or `admin`, which includes reading.
        environments: Names of the environments it reaches; None for all.
    """

    role: str
    environments: frozenset[str] | None = None


class Catalog(Protocol):
    """
    Where keys, features and tokens come from.

    `lookup` of a source that cannot be asked raises `FlagledgerError(CATALOG_UNREACHABLE)`; it never answers None then.
    """

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        """
        Return what *key* permits, or None where it is unknown, inactive or expired.

        Args:
            key: An environment key as sent; any text.
            fresh: Look again, past the cache, as far as the source's own limit on such looks allows. For an unknown feature.
        """

    async def environments(self) -> dict[str, Environment]:
        """Return every environment by its name, for the questions of readers."""

    async def token(self, token: str) -> Token | None:
        """Return what a reader's *token* permits, or None where it is unknown. Compares in constant time."""

    def ready(self) -> bool:
        """Return whether the catalog has been loaded."""
