"""An identity as it stands in a journal entry that could not be read: its fields are looked for as bytes."""

from __future__ import annotations

from typing import Final

# Of flagledger.v1.Evaluation.identity_identifier and of flagledger.internal.v1.Envelope.environment.
_IDENTITY_TAG: Final = b"\x2a"
_ENVIRONMENT_TAG: Final = b"\x0a"
_SEVEN_BITS: Final = 0x7F


def fields_of(environment: str, identity_identifier: str) -> tuple[bytes, bytes]:
    """Return the fields that an entry which holds the identity in *environment* has both of, serialised."""
    return _field(_IDENTITY_TAG, identity_identifier), _field(_ENVIRONMENT_TAG, environment)


def _field(tag: bytes, text: str) -> bytes:
    """Return *text* as it stands in a serialised message, with its tag and its length before it."""
    content = text.encode()
    length, size = b"", len(content)
    while size > _SEVEN_BITS:
        length, size = length + bytes([size & _SEVEN_BITS | 0x80]), size >> 7
    return tag + length + bytes([size]) + content
