"""
Single questions to the API of a Flagsmith, and what its answers mean.

A Flagsmith refuses a key with 401 or 403 and JSON. The same status with anything else comes from something before it, and says
nothing of the key: it counts as no answer, as everything does that a Flagsmith would not say.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from http import HTTPStatus
from importlib import metadata
from typing import Any, Final

import aiohttp
import orjson

from flagledger.catalog.document import MAX_KEY_CHARACTERS
from flagledger.errors import FlagledgerError, Reason

_CONNECT_SECONDS: Final = 1.0
_TOTAL_SECONDS: Final = 5.0
_MAX_CONNECTIONS: Final = 64
_MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_MAX_REFUSAL_BYTES: Final = 64 * 1024

# What an HTTP header carries unchanged.
_KEY: Final = re.compile(rf"[!-~]{{1,{MAX_KEY_CHARACTERS}}}")

# `Last-Modified` counts whole seconds. What was changed so shortly before the answer may be changed again within that second,
# and nothing would ever tell.
_RACY_SECONDS: Final = 2.0

_STOPPED: Final = b"Organisation is disabled from serving flags"
_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class Refusal(Enum):
    """What keeps a key out."""

    UNKNOWN = auto()
    """There is no such key, or it may not ask this."""

    STOPPED = auto()
    """There is such a key, and its organisation is shut out."""


class NotFlagsmithError(FlagledgerError):
    """CATALOG_UNREACHABLE because what answers there is no Flagsmith, or is one at another address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """
    What an environment document says that matters here.

    Attributes:
        client_key: The client key of the environment, which is its identifier.
        display_name: What people call it: its project and its name.
        features: Names of all its features, whatever their state.
        stopped: Whether its organisation is shut out.
        last_modified: What to ask with next time, so that only a change is answered; None where that would be too early.
    """

    client_key: str
    display_name: str
    features: frozenset[str]
    stopped: bool
    last_modified: str | None


def can_be_carried(key: str) -> bool:
    """Tell whether a header can carry *key*."""
    return _KEY.fullmatch(key) is not None


class FlagsmithClient:
    """
    Asks one Flagsmith. What it cannot find out raises `FlagledgerError(CATALOG_UNREACHABLE)`, whose message names no key.

    Args:
        url: Where the API is, up to and including its version: `https://flagsmith.example.com/api/v1/`.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/"
        self._session: aiohttp.ClientSession | None = None

    async def document(self, server_key: str, *, since: str | None = None) -> Document | Refusal | None:
        """
        Return the document of the environment that *server_key* belongs to, or what keeps the key out.

        Args:
            server_key: A server key that a header can carry.
            since: `last_modified` of the document before it. Where that is still the newest, None is returned.

        Raises:
            FlagledgerError: Neither is known.
        """
        async with self._get("environment-document/", server_key, since) as response:
            if response.status == HTTPStatus.NOT_MODIFIED and since is not None:
                return None
            if refusal := await _refusal(response):
                return refusal
            return _document(await _body(response, _MAX_BODY_BYTES), _last_modified(response))

    async def prove(self, key: str) -> Refusal | None:
        """
        Return what keeps *key* out, or None where it counts. Which features there are is not told by that.

        Raises:
            FlagledgerError: It is not known.
        """
        # The body is left where it is: it hides features from client keys, and may be long.
        async with self._get("flags/", key) as response:
            return await _refusal(response)

    async def close(self) -> None:
        """Close the connections. The next question opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _get(self, path: str, key: str, since: str | None = None) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"X-Environment-Key": key, "Accept": "application/json"}
        if since is not None:
            headers["If-Modified-Since"] = since
        try:
            async with self._open().get(self._url + path, headers=headers, allow_redirects=False) as response:
                yield response
        except TimeoutError:
            raise _unreachable("did not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(_why(error)) from error

    def _open(self) -> aiohttp.ClientSession:
        # Made late: a session belongs to the loop that runs when it is made.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS),
                # What is answered to one key must not go along with another.
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"flagledger/{metadata.version('flagledger')}"},
                timeout=aiohttp.ClientTimeout(total=_TOTAL_SECONDS, sock_connect=_CONNECT_SECONDS),
            )
        return self._session


async def _refusal(response: aiohttp.ClientResponse) -> Refusal | None:
    """Return what the status says of the key; None where it counts."""
    status = response.status
    is_json = response.content_type.endswith("json")
    if status in _REFUSED and is_json:
        said = await _body(response, _MAX_REFUSAL_BYTES)
        if _STOPPED in said:
            return Refusal.STOPPED
        if _is_refusal(said):
            return Refusal.UNKNOWN
        # A gateway or a firewall before it says so, and nothing of the key.
        raise _not_flagsmith(f"answered with {status} and JSON that is not its own")
    if status == HTTPStatus.OK and is_json:
        return None
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise _unreachable(f"answered with {status}")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise _not_flagsmith(
            f"answered with a redirect ({status}), which is not followed: give the address it leads to"
        )
    kind = "HTML" if response.content_type == "text/html" else "JSON" if is_json else "neither JSON nor HTML"
    raise _not_flagsmith(f"answered with {status} and {kind}, which no Flagsmith does: look at the address")


def _is_refusal(said: bytes) -> bool:
    """Return whether *said* is how a Flagsmith, or its edge proxy, refuses a key."""
    try:
        body = orjson.loads(said)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and (isinstance(body.get("detail"), str) or body.get("status") == "unauthorized")


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body, unpacked, which may have *limit* bytes."""
    gathered = bytearray()
    async for piece in response.content.iter_any():
        gathered += piece
        if len(gathered) > limit:
            raise _unreachable(f"answered with more than {limit:,} bytes")
    return bytes(gathered)


def _document(body: bytes, last_modified: str | None) -> Document:
    try:
        whole: Any = orjson.loads(body)
        client_key, project = whole["api_key"], whole["project"]
        names = [state["feature"]["name"] for state in whole["feature_states"]]
        display_name = f"{project['name']} / {whole['name']}"
        stopped = project.get("organisation", {}).get("stop_serving_flags", False) is True
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _not_flagsmith("answered with something else than an environment document") from None
    if not (
        isinstance(client_key, str) and can_be_carried(client_key) and all(isinstance(name, str) for name in names)
    ):
        raise _not_flagsmith(
            "answered with an environment document that names no client key, or a feature without a name"
        )
    return Document(
        client_key=client_key,
        display_name=display_name,
        features=frozenset(names),
        stopped=stopped,
        last_modified=last_modified,
    )


def _last_modified(response: aiohttp.ClientResponse) -> str | None:
    """Return `Last-Modified`, unless it is so young by the server's clock that it proves nothing yet."""
    modified, date = response.headers.get("Last-Modified", ""), response.headers.get("Date", "")
    try:
        age = (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds()
    except (ValueError, TypeError):
        return None
    return modified if age >= _RACY_SECONDS else None


def _why(error: Exception) -> str:
    """Return what went wrong on the way, without what was sent or to whom."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "showed no certificate that can be trusted"
        case aiohttp.ClientConnectorDNSError():
            return "has a host name that is not found"
        case aiohttp.ClientConnectorError():
            return f"cannot be reached ({error.os_error.strerror or 'unknown fault'})"
        case _:
            return "broke off its answer, or gave one that is not HTTP"


def _unreachable(what: str) -> FlagledgerError:
    return FlagledgerError(Reason.CATALOG_UNREACHABLE, f"The API of the Flagsmith {what}. Try again later.")


def _not_flagsmith(what: str) -> NotFlagsmithError:
    return NotFlagsmithError(Reason.CATALOG_UNREACHABLE, f"The API of the Flagsmith {what}.")
