"""An environment's policy: what may be kept of what is sent to it, and how much of it."""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from typing import Final, Literal

MAX_SAMPLE_EVERY: Final = 1_000

# 128 bits: no two of a billion identities meet, and nobody reads one back who lacks the secret.
_PSEUDONYM_BYTES: Final = 16
_PSEUDONYM_PREFIX: Final = "hmac:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    What an environment lets be kept.

    It acts before the journal, so that nothing else is ever on disk.

    Attributes:
        identity: `plain` keeps identities as sent, `hash` keeps a pseudonym of each, `drop` keeps none.
        traits: Keys of the traits that are kept; None for all.
        metadata: Keys of the metadata, at its top level, that are kept; None for all.
        rate: Evaluations (entries) a second that are taken, over all fronts together; None for no limit.
        origins: Origins of pages that may send; None for any, since a client key is no secret.
        sample_every: One of so many evaluations is kept, at random, and stands for all of them; 1 keeps each.
    """

    identity: Literal["plain", "hash", "drop"] = "plain"
    traits: frozenset[str] | None = None
    metadata: frozenset[str] | None = None
    rate: int | None = None
    origins: frozenset[str] | None = None
    sample_every: int = 1

    @property
    def rewrites(self) -> bool:
        """Whether evaluations are kept in another form than sent."""
        return self.hides or self.sample_every > 1

    @property
    def hides(self) -> bool:
        """Whether something personal is left out or replaced."""
        return self.identity != "plain" or self.traits is not None or self.metadata is not None


PLAIN: Final = Policy()
"""Everything is kept as it is sent."""


def pseudonym(secret: bytes, environment: str, identity_identifier: str) -> str:
    """
    Return what is kept of an identity under `identity = "hash"`: the same for the same secret, environment and identity.

    HMAC-SHA-256 (RFC 2104), cut to 128 bits, base64url, behind `hmac:`. Environments have pseudonyms of their own, so that
    two of them cannot be joined on it.
    """
    mac = hmac.digest(secret, f"{environment}\0{identity_identifier}".encode("utf-8", "surrogatepass"), "sha256")
    return _PSEUDONYM_PREFIX + base64.urlsafe_b64encode(mac[:_PSEUDONYM_BYTES]).rstrip(b"=").decode()
