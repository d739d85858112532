from __future__ import annotations

from typing import Any

import pytest
from flagledger.dashboard import session
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HOST = "flags.example:8080"
COOKIE = {"host": HOST, "cookie": "other=1; flagledger-token=a%20b%3Bc"}


async def seen(method: str = "GET", path: str = "/api/v2/x", **headers: str) -> list[str]:
    """Return the `Authorization` headers that the API behind the reader sees."""
    found: list[str] = []

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        found.extend(Headers(scope=scope).getlist("authorization"))

    raw = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": raw}
    before = list(raw)
    await session.CookieReader(api)(scope, None, None)  # type: ignore[arg-type]

    assert before == scope["headers"], "the request that others hold is left as it was"
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"origin": f"http://{HOST}"},
        {"sec_fetch_site": "same-origin", "origin": "https://behind.a.proxy"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_reading(method: str, headers: dict[str, str]) -> None:
    """The cookie stands in for the header where our own page reads, or somebody who typed the address."""
    assert ["Bearer a b;c"] == await seen(method, **COOKIE, **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://shop.example"},
        {"origin": "http://flags.example:9090"},
        {"origin": "null"},
    ],
)
async def test_pages_of_others(headers: dict[str, str]) -> None:
    """A page of another origin, another port of this host included, does not read under the cookie."""
    assert [] == await seen(**COOKIE, **headers)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "OPTIONS"])
async def test_nothing_is_changed(method: str) -> None:
    """The cookie counts for nothing that could change something: a browser sends it unasked."""
    assert [] == await seen(method, **COOKIE, sec_fetch_site="same-origin")


async def test_header_counts_first() -> None:
    """A request that brings its own `Authorization`, right or wrong, is taken at its word."""
    assert ["Bearer other"] == await seen(**COOKIE, authorization="Bearer other")
    assert [""] == await seen(**COOKIE, authorization="")


async def test_api_alone() -> None:
    """Other paths get no token."""
    assert [] == await seen(path="/metrics", **COOKIE)
    assert [] == await seen(path="/apis", **COOKIE)


@pytest.mark.parametrize(
    "cookie", ["", "other=1", "flagledger-token=", "flagledger-token=a%0d%0aX-A:b", "flagledger-token=%C3%A9"]
)
async def test_no_token(cookie: str) -> None:
    """Without a cookie, or with one that holds what no header may, nothing is added."""
    assert [] == await seen(host=HOST, cookie=cookie)


async def test_other_protocols() -> None:
    """What is no HTTP request is handed on as it is."""
    scopes: list[Scope] = []

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    scope: dict[str, Any] = {"type": "lifespan"}
    await session.CookieReader(api)(scope, None, None)  # type: ignore[arg-type]

    assert scope is scopes[0]


@pytest.mark.parametrize("secure", [False, True])
def test_cookie(secure: bool) -> None:  # noqa: FBT001
    """The cookie is for no script, no other site, and the session alone; over TLS it stays there."""
    response = Response()
    session.keep(response, 'a;b "c', secure=secure)
    name, *attributes = response.headers["set-cookie"].split("; ")

    assert "flagledger-token=a%3Bb%20%22c" == name
    assert {"HttpOnly", "Path=/", "SameSite=strict"} | ({"Secure"} if secure else set()) == set(attributes)


def test_forget() -> None:
    """Signing out replaces the cookie by one that has expired."""
    response = Response()
    session.forget(response, secure=False)

    assert response.headers["set-cookie"].startswith('flagledger-token="";')
    assert "Max-Age=0" in response.headers["set-cookie"]
