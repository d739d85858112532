"""The body of a call of an older SDK, within the bounds of every body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.rpc import code_pb2

from flagledger.compat.answers import Dialect, RefusedError
from flagledger.transcoding import body as bodies

# As for a batch of the contract.
_SLACK_SECONDS: Final = 5.0
_TOTAL_SECONDS: Final = 30.0
_MAX_DIGITS: Final = 18


async def read(
    receive: bodies.Receive,
    headers: Mapping[bytes, bytes],
    dialect: Dialect,
    *,
    max_bytes: int,
    reservation: bodies.Reservation,
) -> bytes:
    """
    Return the body, decompressed.

    Args:
        receive: The ASGI channel that it comes from.
        headers: Those of the request, names in lower case.
        dialect: How refusals are worded.
        max_bytes: Most that it may hold, as sent and decompressed.
        reservation: Where its bytes are reserved; what that raises goes through.

    Raises:
        RefusedError: It is too large, too slow, or not what its headers say.
        bodies.ClientGoneError: Nobody is there to be answered.
    """
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding not in {b"", b"identity", b"gzip"}:
        raise _by_http(dialect, 415, code_pb2.INVALID_ARGUMENT, "The Content-Encoding has to be gzip or identity.")
    announced = headers.get(b"content-length", b"")
    if announced and not announced.isdigit():
        raise dialect.misfit(400, "The Content-Length is not a number.")
    try:
        data = await bodies.read(
            receive,
            content_length=int(announced[:_MAX_DIGITS]) if announced else None,
            max_bytes=max_bytes,
            slack_seconds=_SLACK_SECONDS,
            total_seconds=_TOTAL_SECONDS,
            reservation=reservation,
        )
        if encoding == b"gzip":
            return bodies.gunzip(data, max_bytes=max_bytes, reservation=reservation)
    except bodies.BodyTooLargeError:
        message = f"The body is larger than {max_bytes} bytes, as sent or decompressed. Send less at once."
        raise _by_http(dialect, 413, code_pb2.RESOURCE_EXHAUSTED, message) from None
    except bodies.BodyTimeoutError:
        raise _by_http(dialect, 408, code_pb2.DEADLINE_EXCEEDED, "The body came too slowly.") from None
    except bodies.BodyMalformedError:
        message = "The body is not gzip as a whole, though its Content-Encoding says so."
        raise dialect.misfit(400, message) from None
    return data


def may_be_large(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a body that was not read may be more than the server reads by itself before the next request."""
    announced = headers.get(b"content-length")
    if announced is None:
        return b"transfer-encoding" in headers
    return not announced.isdigit() or int(announced[:_MAX_DIGITS]) > bodies.SMALL_BODY


def _by_http(dialect: Dialect, http_status: int, code: int, message: str) -> RefusedError:
    return RefusedError(dialect.say(http_status, message, code=code), body_unread=True, by_http=True)
