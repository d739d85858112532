"""How keys and tokens are held and compared: by their digests, so that no copy of them lies about and timing tells nothing."""

from __future__ import annotations

import hashlib


def digest(text: str) -> bytes:
    """Return SHA-256 of *text*, which may be any, lone surrogates included."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
