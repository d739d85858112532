"""Bodies to an InfluxDB over HTTP, one connection that is kept. What it answers is left to the sink."""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import orjson
import urllib3

from flagledger.store.influxdb.address import Address
from flagledger.store.sinks import SinkError

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0
MAX_RETRY_AFTER_SECONDS: Final = 300.0

_MAX_ANSWER_BYTES: Final = 64 << 10
_PIECE_BYTES: Final = 4 << 10
_COMPRESSION: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What the server said.

    Attributes:
        status: The status.
        error: What it says is wrong, where it speaks as an InfluxDB does; None where it says nothing, or speaks otherwise.
        retry_after: Seconds that it asks to wait; None where it does not.
    """

    status: int
    error: str | None
    retry_after: float | None


class Connection:
    """
    Posts to one address.

    Args:
        address: Where to.
        connect_seconds: Seconds to wait for a connection, and for what is sent to be taken.
        read_seconds: Seconds to wait for an answer, and for the rest of it.
    """

    def __init__(
        self, address: Address, *, connect_seconds: float = CONNECT_SECONDS, read_seconds: float = READ_SECONDS
    ) -> None:
        self._address = address
        self._read_seconds = read_seconds
        self._headers = {
            "User-Agent": f"flagledger/{metadata.version('flagledger')}",
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Encoding": "gzip",
            "Accept": "application/json",
        }
        if address.authorization is not None:
            self._headers["Authorization"] = address.authorization
        kind = urllib3.HTTPSConnectionPool if address.secure else urllib3.HTTPConnectionPool
        self._pool = kind(
            address.host,
            address.port,
            maxsize=1,
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            # Who sends the range again decides when.
            retries=False,
        )

    def post(self, body: bytes) -> Answer:
        """
        Post *body*, compressed, and return the answer.

        Raises:
            SinkError: There is none.
        """
        packed = gzip.compress(body, _COMPRESSION, mtime=0)
        try:
            response = self._pool.urlopen(
                "POST", self._address.path, body=packed, headers=self._headers, redirect=False, preload_content=False
            )
            try:
                said = self._read(response)
            finally:
                # One that was read to its end has given its connection back already; any other takes it along.
                response.close()
        except urllib3.exceptions.SSLError as error:
            raise SinkError(
                f"InfluxDB at {self._address.name} cannot be trusted, or does not speak TLS: {error}.", lasting=True
            ) from error
        except (urllib3.exceptions.HTTPError, OSError, UnicodeError) as error:
            raise SinkError(f"InfluxDB at {self._address.name} does not answer: {_why(error)}.") from error
        return Answer(status=response.status, error=_error(said), retry_after=_retry_after(response.headers))

    def close(self) -> None:
        """Close the connection, once nothing is being sent over it; nothing can be sent any more."""
        self._pool.close()

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """Return the body of *response*, as far as it is wanted; one that drips in is waited for no longer than any."""
        deadline = time.monotonic() + self._read_seconds
        said = bytearray()
        while piece := response.read1(_PIECE_BYTES):
            said += piece
            if len(said) > _MAX_ANSWER_BYTES:
                break
            if time.monotonic() > deadline:
                raise urllib3.exceptions.HTTPError("the answer does not end")
        return bytes(said)


def _error(said: bytes) -> str | None:
    """Return what an InfluxDB says is wrong: `error` in version 1, `message` from version 2 on."""
    try:
        body: Any = orjson.loads(said)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    text = body.get("error") or body.get("message")
    return text if isinstance(text, str) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    # As a number of seconds alone: the other form, a date, is not used for such short times.
    asked = headers.get("Retry-After", "").strip()
    return min(float(asked), MAX_RETRY_AFTER_SECONDS) if re.fullmatch(r"[0-9]{1,9}", asked) else None


def _why(error: Exception) -> str:
    """Return what went wrong on the way, without the library's names for it."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name is not known"
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "it cannot be reached"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "it takes too long"
    return str(error).rstrip(".")
