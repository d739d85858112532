"""What the dashboard answers itself: the page, its files, and signing in and out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from flagledger.catalog.base import Token
from flagledger.dashboard import assets, session
from flagledger.dashboard.assets import Asset
from flagledger.errors import FlagledgerError
from flagledger.telemetry.logging import get_logger

ROOT: Final = "/"
SESSION: Final = "/session"
TOKEN_PARAMETER: Final = "token"  # noqa: S105 - the name of a parameter
STATE_PARAMETER: Final = "state"

READING: Final = ("GET", "HEAD")
_SESSION_METHODS: Final = ("POST", "DELETE")
_ROLES: Final = frozenset({"read", "admin"})
# A token has 512 characters at most, and a state is an address.
_MAX_FORM_BYTES: Final = 16_384
_FORM_SECONDS: Final = 10.0

_SCRIPT_OF_CHARTS: Final = b"<!-- charts -->"
_NOTICE: Final = b"<!-- notice -->"

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notice:
    """Why the page is shown with something else than 200. The sentence is ours: nothing of the request is in it."""

    status: int
    sentence: str


_WRONG_TOKEN: Final = _Notice(
    status=401,
    sentence="That token does not read here. An environment key is none; the token is in the file read-token of the "
    "data directory.",
)
_FROM_ELSEWHERE: Final = _Notice(
    status=403, sentence="That request came from a page of another origin and was not looked at. Sign in on this page."
)
_TOO_LARGE: Final = _Notice(status=413, sentence="That is longer than any token. Paste the token alone.")
_TOO_SLOW: Final = _Notice(status=408, sentence="The form did not arrive in time. Send it again.")
_UNREACHABLE: Final = _Notice(
    status=503, sentence="The token cannot be looked up at the moment. Try again in a few seconds."
)


class Dashboard:
    """
    Answers for the dashboard's paths.

    Args:
        token: Returns what a reader's token permits, or None where it is unknown.
        charts: The charting library; None where it is not installed: the page then shows tables in place of charts.
    """

    def __init__(self, token: Callable[[str], Awaitable[Token | None]], charts: bytes | None) -> None:
        self._token = token
        own = assets.own()
        page = own.pop(assets.PAGE)
        if charts is None:
            get_logger().warning(
                "the dashboard shows tables in place of charts: the package that brings them is not installed",
                install="XStatic-D3",
            )
            page = page.replace(_SCRIPT_OF_CHARTS, b"")
        else:
            own[assets.CHARTS] = charts
            source = f"{assets.PREFIX}{assets.CHARTS}".removeprefix("/")
            page = page.replace(_SCRIPT_OF_CHARTS, f'<script src="{source}" defer></script>'.encode())
        self._page = page
        self._plain_page = assets.asset(assets.PAGE, page.replace(_NOTICE, b""))
        self._files = {assets.PREFIX + name: assets.asset(name, body) for name, body in own.items()}

    def methods(self, path: str) -> tuple[str, ...] | None:
        """Return the methods that *path* takes; None where it is none of the dashboard's."""
        if path == SESSION:
            return _SESSION_METHODS
        return READING if path == ROOT or path in self._files else None

    async def answer(self, request: Request) -> Response:
        """Answer *request*, whose path takes its method."""
        path = request.scope["path"]
        if path == SESSION:
            return await self._change_session(request)
        if path == ROOT:
            return await self._show(request)
        return _file(request.headers, self._files[path])

    async def _show(self, request: Request) -> Response:
        """Answer with the page; where the address brings a token, with the same address without it, and a cookie."""
        tokens = request.query_params.getlist(TOKEN_PARAMETER)
        if tokens:
            return await self._sign_in(request, tokens[-1], request.url.query)
        return _file(request.headers, self._plain_page, {"Content-Security-Policy": POLICY})

    async def _change_session(self, request: Request) -> Response:
        if session.from_elsewhere(request.headers):
            return self._notice(_FROM_ELSEWHERE)
        if request.method == "DELETE":
            response = Response(status_code=204, headers=HEADERS | {"Cache-Control": "no-store"})
            session.forget(response, secure=request.url.scheme == "https")
            return response
        try:
            async with asyncio.timeout(_FORM_SECONDS):
                form = await _form(request)
        except TimeoutError:
            return self._notice(_TOO_SLOW)
        if form is None:
            return self._notice(_TOO_LARGE)
        return await self._sign_in(request, form.get(TOKEN_PARAMETER, "").strip(), form.get(STATE_PARAMETER, ""))

    async def _sign_in(self, request: Request, token: str, state: str) -> Response:
        """Answer a *token* that somebody came with; *state* is the query of the address that they want to see."""
        try:
            permits = await self._token(token)
        except FlagledgerError:
            return self._notice(_UNREACHABLE)
        if permits is None or permits.role not in _ROLES:
            return self._notice(_WRONG_TOKEN)
        kept = [(name, value) for name, value in parse_qsl(state, keep_blank_values=True) if name != TOKEN_PARAMETER]
        # Relative, with a query at most: it cannot lead to another host, whatever the state was.
        response = RedirectResponse("./" + ("?" + urlencode(kept) if kept else ""), 303, HEADERS)
        response.headers["Cache-Control"] = "no-store"
        session.keep(response, token, secure=request.url.scheme == "https")
        return response

    def _notice(self, notice: _Notice) -> Response:
        """Answer with the page, and on it a sentence."""
        body = self._page.replace(_NOTICE, notice.sentence.encode())
        headers = HEADERS | {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        return Response(body, notice.status, headers, self._plain_page.content_type)


async def _form(request: Request) -> dict[str, str] | None:
    """Return the fields of a form; None where it is too long. A client that goes away has sent none."""
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > _MAX_FORM_BYTES:
                return None
    except ClientDisconnect:
        return {}
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _file(headers: Mapping[str, str], asset: Asset, more: Mapping[str, str] | None = None) -> Response:
    """Answer with *asset*, as short as the request's *headers* permit."""
    # Looked at each time: a page and scripts of two versions do not go together.
    sent = HEADERS | {"Cache-Control": "no-cache", "ETag": asset.etag, "Vary": "Accept-Encoding"} | dict(more or {})
    if asset.etag in headers.get("if-none-match", ""):
        return Response(status_code=304, headers=sent)
    if "gzip" in headers.get("accept-encoding", ""):
        return Response(asset.compressed, 200, sent | {"Content-Encoding": "gzip"}, asset.content_type)
    return Response(asset.body, 200, sent, asset.content_type)
