"""
Page tokens: where the next page begins, and which question it belongs to.

```text
version 1 byte │ fingerprint of the question 8 bytes │ evaluation time 8 bytes │ position 8 bytes     big endian, then
base64url
```
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import Final

from flagledger.store.base import Cursor, Filter

_VERSION: Final = 1
_FORM: Final = struct.Struct(">B8sqq")


def encode(question: Filter, cursor: Cursor) -> str:
    """Return the token of the page of *question* that begins behind *cursor*."""
    packed = _FORM.pack(_VERSION, _fingerprint(question), cursor.evaluation_time, cursor.position)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(token: str, question: Filter) -> Cursor:
    """
    Return where the page that *token* names begins.

    Raises:
        ValueError: The token is none of ours, or belongs to another question; the message is a sentence about it.
    """
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        version, fingerprint, evaluation_time, position = _FORM.unpack(packed)
    except (binascii.Error, struct.error, ValueError) as error:
        raise ValueError("is no next_page_token of this server; begin again without one") from error
    if version != _VERSION:
        raise ValueError("comes from another version of the server; begin again without one")
    if fingerprint != _fingerprint(question):
        raise ValueError("belongs to another question; send it with the fields of the request that it came from")
    return Cursor(evaluation_time=evaluation_time, position=position)


def _fingerprint(question: Filter) -> bytes:
    parts = (
        question.environment,
        question.feature_name,
        question.identity_identifier,
        question.segment_name,
        question.start,
        question.end,
    )
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
