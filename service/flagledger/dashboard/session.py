"""
A reader's token as a cookie, the way notebook servers do it: a link or a form brings it, and no script can read it.

The cookie stands in for `Authorization` where a page of this very server reads, and nowhere else. It is never looked at for
what changes something: a browser sends it by itself, so that its presence alone says nothing of what somebody wants.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE: Final = "flagledger-token"

_API: Final = "/api/"
_READING: Final = frozenset({"GET", "HEAD"})
# What browsers say of requests that a page of the same origin makes, and of an address that somebody typed.
_OUR_OWN: Final = frozenset({"same-origin", "none"})


def from_elsewhere(headers: Headers) -> bool:
    """
    Return whether a browser says that a page of another origin makes this request. Another port is another origin.

    Over plain HTTP to another machine browsers leave `Sec-Fetch-Site` out; there `Origin` tells, which every request that
    such a page could read the answer of carries. Programs send neither.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in _OUR_OWN
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def keep(response: Response, token: str, *, secure: bool) -> None:
    """
    Have the browser keep *token* until it is closed.

    Args:
        response: What carries the cookie.
        token: A token that was checked.
        secure: Whether the request came over TLS, so that the cookie must not leave it.
    """
    # A token may hold what ends a cookie.
    response.set_cookie(COOKIE, quote(token, safe=""), path="/", secure=secure, httponly=True, samesite="strict")


def forget(response: Response, *, secure: bool) -> None:
    """Have the browser forget the token; *secure* as it was when it was kept."""
    response.delete_cookie(COOKIE, path="/", secure=secure, httponly=True, samesite="strict")


class CookieReader:
    """
    Puts the token of the cookie where the API looks for one: `Authorization`, of requests that read.

    Args:
        app: The API.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, with the token where the cookie counts."""
        token = _token(scope)
        if token is not None:
            header = (b"authorization", f"Bearer {token}".encode())
            scope = {**scope, "headers": [*scope["headers"], header]}
        await self._app(scope, receive, send)


def _token(scope: Scope) -> str | None:
    """Return the token that stands in for the header which *scope* lacks; None where nothing may."""
    if scope["type"] != "http" or scope["method"] not in _READING or not scope["path"].startswith(_API):
        return None
    connection = HTTPConnection(scope)
    if "authorization" in connection.headers or from_elsewhere(connection.headers):
        return None
    token = unquote(connection.cookies.get(COOKIE, ""))
    # A header holds nothing else, and no token does.
    return token if token.isascii() and token.isprintable() and token else None
