from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from flagledger.catalog.base import Token
from flagledger.dashboard import assets, pages
from flagledger.dashboard.pages import Dashboard
from flagledger.errors import FlagledgerError, Reason
from starlette.requests import Request
from starlette.responses import Response

TOKENS = {"reader": Token(role="read"), "admin;1": Token(role="admin"), "writer": Token(role="write")}
CHARTS = b"d3 = {}"


async def permits(token: str) -> Token | None:
    """Return what *token* permits; one cannot be looked up."""
    if token == "unreachable":
        raise FlagledgerError(Reason.CATALOG_UNREACHABLE, "The catalog does not answer.")
    return TOKENS.get(token)


async def ask(
    path: str = "/",
    query: str = "",
    *,
    method: str = "GET",
    body: bytes = b"",
    scheme: str = "http",
    charts: bytes | None = CHARTS,
    **headers: str,
) -> Response:
    """Return the dashboard's answer."""
    raw = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "here:8080", **headers}.items()
    ]
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw, "scheme": scheme,
        "server": ("here", 8080), "root_path": "",
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return await Dashboard(permits, charts).answer(Request(scope, receive))


def text(response: Response) -> str:
    """Return the body as text."""
    return bytes(response.body).decode()


async def test_page() -> None:
    """The page is there without a token, under a policy that lets nothing in but our own files, and is looked at afresh."""
    page = await ask()

    assert 200 == page.status_code
    assert "text/html; charset=utf-8" == page.headers["content-type"]
    assert (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ) == page.headers["content-security-policy"]
    assert ("nosniff", "no-referrer", "no-cache") == tuple(
        page.headers[name] for name in ("x-content-type-options", "referrer-policy", "cache-control")
    )
    assert '<p id="notice" class="notice" role="alert"></p>' in text(page)


async def test_files() -> None:
    """Every file of the page is served with its type, under gzip where that is taken, and as 304 where it is known."""
    plain = await ask("/dashboard/views/intake.js")
    compressed = await ask("/dashboard/views/intake.js", accept_encoding="gzip, br")
    known = await ask("/dashboard/views/intake.js", if_none_match=plain.headers["etag"])
    changed = await ask("/dashboard/views/intake.js", if_none_match='W/"before"')

    assert assets.own()["views/intake.js"] == plain.body == gzip.decompress(compressed.body) == changed.body
    assert "text/javascript; charset=utf-8" == plain.headers["content-type"]
    assert ("gzip", "Accept-Encoding") == (compressed.headers["content-encoding"], compressed.headers["vary"])
    assert (304, b"", "no-cache") == (known.status_code, known.body, known.headers["cache-control"])


async def test_charts() -> None:
    """The charting library is served from where it is installed; without it the page does not ask for it."""
    page, library = await ask(), await ask("/dashboard/d3.js")
    without = Dashboard(permits, None)

    assert '<script src="dashboard/d3.js" defer></script>' in text(page)
    assert CHARTS == library.body
    assert "d3.js" not in text(await ask(charts=None))
    assert without.methods("/dashboard/d3.js") is None


def test_methods() -> None:
    """Each path says what it takes, and what is not the dashboard's is left to others."""
    dashboard = Dashboard(permits, CHARTS)

    assert ("GET", "HEAD") == dashboard.methods("/") == dashboard.methods("/dashboard/app.js")
    assert ("POST", "DELETE") == dashboard.methods("/session")
    assert [None] * 5 == [
        dashboard.methods(path)
        for path in ("", "/dashboard", "/dashboard/", "/dashboard/../app.js", "/dashboard/page.html")
    ]


@pytest.mark.parametrize(
    ("query", "token", "location"),
    [
        ("token=reader", "reader", "./"),
        ("token=admin%3B1", "admin%3B1", "./"),
        ("feature=a%26b&token=reader&period=7d&q=", "reader", "./?feature=a%26b&period=7d&q="),
        ("token=wrong&token=reader", "reader", "./"),
    ],
)
async def test_link(query: str, token: str, location: str) -> None:
    """A link with a token leads to the same address without it, and a cookie."""
    answer = await ask(query=query)

    assert (303, location, "no-store") == (
        answer.status_code,
        answer.headers["location"],
        answer.headers["cache-control"],
    )
    assert answer.headers["set-cookie"].startswith(f"flagledger-token={token};")
    assert "Secure" not in answer.headers["set-cookie"]
    assert "Secure" in (await ask(query=query, scheme="https")).headers["set-cookie"]


@pytest.mark.parametrize(
    ("token", "status"), [("wrong", 401), ("", 401), ("writer", 401), ("<b>é", 401), ("unreachable", 503)]
)
async def test_wrong_link(token: str, status: int) -> None:
    """A token that does not read gets the page, with a sentence and no cookie; the token itself is nowhere in it."""
    answer = await ask(query=f"token={token}")

    assert status == answer.status_code
    assert "set-cookie" not in answer.headers
    assert '<p id="notice" class="notice" role="alert"></p>' not in text(answer)
    assert not token or f">{token}" not in text(answer)
    assert ("no-store", pages.POLICY) == (answer.headers["cache-control"], answer.headers["content-security-policy"])


async def test_form() -> None:
    """A token that was pasted leads to what was looked for; a copied line break does not matter."""
    answer = await ask("/session", method="POST", body=b"token=%20reader%0A&state=feature%3Da%26token%3Dx")

    assert (303, "./?feature=a") == (answer.status_code, answer.headers["location"])
    assert answer.headers["set-cookie"].startswith("flagledger-token=reader;")


@pytest.mark.parametrize(
    "state", ["//evil.example", "https://evil.example/?a=b", "\\\\evil.example", "javascript:alert(1)"]
)
async def test_form_leads_nowhere_else(state: str) -> None:
    """Whatever the form says, the answer leads to this page."""
    answer = await ask("/session", method="POST", body=f"token=reader&state={state}".encode())

    assert answer.headers["location"].partition("?")[0] == "./"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 401),
        (b"token=wrong", 401),
        (b"token=%ff", 401),
        (b"token=unreachable", 503),
        (b"token=" + b"a" * 20_000, 413),
    ],
)
async def test_wrong_form(body: bytes, status: int) -> None:
    """A form without a token that reads gets the page, with a sentence."""
    answer = await ask("/session", method="POST", body=body)

    assert (status, False) == (answer.status_code, "set-cookie" in answer.headers)
    assert '<p id="notice" class="notice" role="alert"></p>' not in text(answer)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "http://here:9090"},
        {"origin": "null"},
    ],
)
async def test_session_of_others(method: str, headers: dict[str, str]) -> None:
    """A page of another origin signs nobody in or out."""
    answer = await ask("/session", method=method, body=b"token=reader", **headers)

    assert (403, False) == (answer.status_code, "set-cookie" in answer.headers)


@pytest.mark.parametrize("headers", [{"sec_fetch_site": "same-origin"}, {"origin": "http://here:8080"}, {}])
async def test_sign_out(headers: dict[str, str]) -> None:
    """Signing out takes the cookie away."""
    answer = await ask("/session", method="DELETE", **headers)

    assert (204, True) == (answer.status_code, "Max-Age=0" in answer.headers["set-cookie"])


async def test_slow_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that does not arrive is given up."""
    monkeypatch.setattr(pages, "_FORM_SECONDS", 0.01)
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/session", "query_string": b"", "headers": []}

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    answer = await Dashboard(permits, CHARTS).answer(Request(scope, receive))

    assert 408 == answer.status_code


async def test_form_breaks_off() -> None:
    """A client that goes away in the middle of the form has sent no token."""
    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/session", "query_string": b"", "headers": [], "scheme": "http",
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    answer = await Dashboard(permits, CHARTS).answer(Request(scope, receive))

    assert 401 == answer.status_code
