"""The catalog's seam: which keys and features exist, and who may read."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from flagledger.catalog.policy import PLAIN, Policy

SERVER_KEY_PREFIX = "ser."

UNREACHABLE = "Keys cannot be looked up at the moment; try again later."
"""What senders and readers are told of a source that cannot be asked; why is for logs."""

_SHOWN = 4


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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFound:
    """
    A key as a source declares it, whether or not it counts.

    Attributes:
        text: The key. It is for comparing and for `masked`, and MUST NOT be shown.
        environment: Name of the environment that it belongs to.
        active: Whether it is switched on.
        expires_at: Epoch seconds from which it no longer counts; None for never.
    """

    text: str = field(repr=False)
    environment: str
    active: bool = True
    expires_at: float | None = None

    @property
    def masked(self) -> str:
        """The key as it may be shown: its kind and its first characters."""
        shown = len(SERVER_KEY_PREFIX) + _SHOWN if self.text.startswith(SERVER_KEY_PREFIX) else _SHOWN
        return f"{self.text[: min(shown, len(self.text) // 2)]}…"

    @property
    def is_server(self) -> bool:
        """Whether it is a server key."""
        return self.text.startswith(SERVER_KEY_PREFIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """
    Everything that a source knows, for people who check it.

    Attributes:
        environments: What there is, by name.
        keys: Their keys, those that do not count included.
        faults: What is wrong, a sentence each.
    """

    environments: tuple[Environment, ...]
    keys: tuple[KeyFound, ...]
    faults: tuple[str, ...] = ()


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


class Source(Catalog, Protocol):
    """A catalog that asks where things are kept, other than the cache before it."""

    async def inventory(self) -> Inventory:
        """
        Return everything that there is. It may take a while, and reads past every cache.

        Raises:
            FlagledgerError: CATALOG_UNREACHABLE, with a message for operators that says what failed and quotes no secret.
        """

    async def close(self) -> None:
        """Let go of connections."""
