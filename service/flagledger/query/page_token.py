"""
Page tokens: where the next page begins, and which question it belongs to.

```text
version 1 byte │ kind of place 1 byte │ fingerprint of the question 8 bytes │ place     then base64url

places, by kind
T  evaluation time 8 bytes │ position 8 bytes, both signed
N  name of a feature
E  length of the feature's name 4 bytes │ its name │ identifier of the identity

numbers big endian, texts UTF-8
```
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Callable
from typing import Final, TypeVar

from flagledger.store.questions import MAX_TIME, MIN_TIME, Cursor, ExposureCursor

_VERSION: Final = 2
_HEAD: Final = struct.Struct(">Bc8s")
_TIME_AND_POSITION: Final = struct.Struct(">qq")
_LENGTH: Final = struct.Struct(">I")

Place = Cursor | ExposureCursor | str
"""Where a page begins: behind an evaluation, behind an exposure, or behind the name of a feature."""

_P = TypeVar("_P", Cursor, ExposureCursor, str)


def encode(question: object, place: Place) -> str:
    """
    Return the token of the page of *question* that begins behind *place*.

    Args:
        question: All that a page token goes with: a value whose `repr` tells it from every other.
        place: The last of the page before.
    """
    kind, packed = _packed(place)
    whole = _HEAD.pack(_VERSION, kind, _fingerprint(question)) + packed
    return base64.urlsafe_b64encode(whole).rstrip(b"=").decode()


def decode(token: str, question: object, kind: type[_P]) -> _P:
    """
    Return where the page of *question* that *token* names begins, as a place of *kind*.

    Raises:
        ValueError: The token is none of ours, or belongs to another question; the message is a sentence about it.
    """
    try:
        whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        version, letter, fingerprint = _HEAD.unpack_from(whole)
    except (binascii.Error, struct.error, ValueError) as error:
        raise ValueError("is no next_page_token of this server; begin again without one") from error
    if version != _VERSION:
        raise ValueError("comes from another version of the server; begin again without one")
    if letter != _LETTERS[kind] or fingerprint != _fingerprint(question):
        raise ValueError("belongs to another question; send it with the fields of the request that it came from")
    try:
        place = _UNPACK[kind](whole[_HEAD.size :])
    except (struct.error, ValueError) as error:
        raise ValueError("is no next_page_token of this server; begin again without one") from error
    assert isinstance(place, kind)  # noqa: S101  # the tables below say so
    return place


def _packed(place: Place) -> tuple[bytes, bytes]:
    match place:
        case Cursor():
            return _LETTERS[Cursor], _TIME_AND_POSITION.pack(place.evaluation_time, place.position)
        case ExposureCursor():
            name = place.feature_name.encode()
            return _LETTERS[ExposureCursor], _LENGTH.pack(len(name)) + name + place.identity_identifier.encode()
        case str():
            return _LETTERS[str], place.encode()


def _cursor(packed: bytes) -> Cursor:
    evaluation_time, position = _TIME_AND_POSITION.unpack(packed)
    if not (MIN_TIME <= evaluation_time <= MAX_TIME and position >= 0):
        raise ValueError("No evaluation can have this place.")
    return Cursor(evaluation_time=evaluation_time, position=position)


def _exposure_cursor(packed: bytes) -> ExposureCursor:
    (length,) = _LENGTH.unpack_from(packed)
    name, identity = packed[_LENGTH.size :][:length], packed[_LENGTH.size :][length:]
    return ExposureCursor(feature_name=name.decode(), identity_identifier=identity.decode())


_LETTERS: Final[dict[type, bytes]] = {Cursor: b"T", ExposureCursor: b"E", str: b"N"}
_UNPACK: Final[dict[type, Callable[[bytes], Place]]] = {
    Cursor: _cursor,
    ExposureCursor: _exposure_cursor,
    str: bytes.decode,
}


def _fingerprint(question: object) -> bytes:
    return hashlib.blake2b(repr(question).encode("utf-8", "surrogatepass"), digest_size=8).digest()
