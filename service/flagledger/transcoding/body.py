"""Reading the body of a request: bounded in size, in time, and in what all requests together may hold."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

from flagledger.transcoding.alarms import TimeLimit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What a body has to keep up with. A client that falls behind may make up for it, and what it sends ahead buys it nothing:
# who could send most of a large body at once and then nothing would hold much of the budget for little.
MIN_BYTES_PER_SECOND: Final = 32 * 1024
_INFLATE_STEP: Final = 256 * 1024
# Concatenated gzip members are legal; thousands of empty ones are an attack.
_MAX_GZIP_MEMBERS: Final = 64
_GZIP_WINDOW: Final = 31

# What is read and thrown away after a refusal, so that the client gets to see it before the connection closes.
DRAIN_BYTES: Final = 1 << 20
DRAIN_SECONDS: Final = 2.0
# A body up to here is left to the server, which reads it before the next request.
SMALL_BODY: Final = 64 * 1024


class ByteBudget(Protocol):
    """What all requests in flight may hold together."""

    def acquire(self, n: int, /) -> None:
        """Reserve *n* bytes, or raise what the application answers with."""

    def release(self, n: int, /) -> None:
        """Give *n* bytes back."""


class BodyTooLargeError(Exception):
    """The body is larger than allowed, as sent or decompressed."""


class BodyTimeoutError(Exception):
    """The body came too slowly."""


class BodyMalformedError(Exception):
    """The body is not what its Content-Encoding says."""


class ClientGoneError(Exception):
    """The client closed the connection."""


class Reservation:
    """What one request has reserved of the budget; releases it all when left."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: ByteBudget | None) -> None:
        self._budget = budget
        self._held = 0

    def reserve(self, total: int) -> None:
        """Raise what is reserved to *total* bytes; raises what the budget raises."""
        if self._budget is not None and total > self._held:
            self._budget.acquire(total - self._held)
            self._held = total

    def lower(self, total: int) -> None:
        """Lower what is reserved to *total* bytes."""
        if self._budget is not None and total < self._held:
            given, self._held = self._held - total, total
            self._budget.release(given)

    def release(self) -> None:
        """Give everything back."""
        if self._budget is not None and self._held:
            held, self._held = self._held, 0
            self._budget.release(held)


async def read(
    receive: Receive,
    *,
    content_length: int | None,
    max_bytes: int,
    slack_seconds: float,
    total_seconds: float,
    reservation: Reservation,
) -> bytes:
    """
    Return the whole body.

    Args:
        receive: The ASGI channel that the body comes from.
        content_length: What the request announces, or None where it does not.
        max_bytes: Most that is accepted.
        slack_seconds: Seconds that the client may be behind MIN_BYTES_PER_SECOND, and so the most between two pieces.
        total_seconds: Seconds that the whole body may take.
        reservation: Where bytes are reserved as they arrive: an announcement costs a client nothing, so it gets nothing.

    Raises:
        BodyTooLargeError: More than *max_bytes*.
        BodyTimeoutError: The client was too slow.
        ClientGoneError: The client closed the connection.
    """
    if content_length is not None and content_length > max_bytes:
        raise BodyTooLargeError
    clock = asyncio.get_running_loop().time
    started = clock()
    deadline = started + slack_seconds
    last = started + total_seconds
    # One buffer and not a list of pieces: those of a few bytes each would take many times what they hold.
    buffer = bytearray()
    try:
        with TimeLimit(min(deadline, last)) as limit:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                piece: bytes = message.get("body", b"")
                size = len(buffer) + len(piece)
                if size > max_bytes:
                    raise BodyTooLargeError
                reservation.reserve(size)
                if not message.get("more_body", False):
                    return bytes(buffer) + piece if buffer else piece
                buffer += piece
                deadline = min(deadline + len(piece) / MIN_BYTES_PER_SECOND, clock() + slack_seconds)
                limit.when = min(deadline, last)
    except TimeoutError:
        raise BodyTimeoutError from None


def gunzip(data: bytes, *, max_bytes: int, reservation: Reservation) -> bytes:
    """
    Return *data* decompressed.

    Raises:
        BodyTooLargeError: It grows beyond *max_bytes*.
        BodyMalformedError: It is not gzip, ends early, or goes on after its end.
    """
    pieces: list[bytes] = []
    size = 0
    rest = data
    for _ in range(_MAX_GZIP_MEMBERS):
        inflater = zlib.decompressobj(wbits=_GZIP_WINDOW)
        while not inflater.eof:
            try:
                piece = inflater.decompress(rest, min(_INFLATE_STEP, max_bytes + 1 - size))
            except zlib.error:
                raise BodyMalformedError from None
            size += len(piece)
            if size > max_bytes:
                raise BodyTooLargeError
            reservation.reserve(len(data) + size)
            pieces.append(piece)
            rest = inflater.unconsumed_tail
            if not piece and not rest and not inflater.eof:
                raise BodyMalformedError
        rest = inflater.unused_data
        if not rest:
            return b"".join(pieces)
    raise BodyMalformedError


async def drain(receive: Receive) -> None:
    """Read on and throw away, within bounds, until the body ends or the client goes."""
    size = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while size < DRAIN_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
