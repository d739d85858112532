"""
Fixed pages beside an API, as an ASGI application around the API's own: its OpenAPI document at /openapi.json, and at
/docs a page to read the document and send requests with.

The page loads nothing but its own files and the document, all by relative addresses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import PurePath
from typing import Any, Final

import orjson
from google.rpc import code_pb2

from flagledger.transcoding import body as bodies
from flagledger.transcoding import status as statuses
from flagledger.transcoding.answers import Scope

OPENAPI_PATH: Final = "/openapi.json"
DOCS_PATH: Final = "/docs"

App = Callable[[Scope, bodies.Receive, bodies.Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# What a browser may do for the page at /docs: run its own scripts, and speak to its own host.
_DOCS_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}
_DOCS_FILE: Final = "page.html"
_CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

_ALLOW: Final = (b"allow", b"GET, HEAD, OPTIONS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """
    What a path answers with, the same for everybody.

    Attributes:
        content: Its bytes.
        content_type: Of them.
        headers: More headers, names in lower case.
        etag: Made of the content.
    """

    content: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "etag", f'"{hashlib.sha256(self.content).hexdigest()[:32]}"')

    async def send(self, scope: Scope, send: bodies.Send) -> None:
        """Answer a GET or HEAD: with 304 where the client has it already."""
        # Whoever keeps it asks whether it is still the one: that costs no more than this.
        found = [(b"etag", self.etag.encode()), (b"cache-control", b"no-cache")]
        found += [(name.encode(), text.encode()) for name, text in self.headers.items()]
        if _has(self.etag, scope):
            await _answer(send, 304, found, b"")
            return
        found += [
            (b"content-type", self.content_type.encode()),
            (b"content-length", b"%d" % len(self.content)),
            (b"x-content-type-options", b"nosniff"),
        ]
        await _answer(send, 200, found, b"" if scope["method"] == "HEAD" else self.content)


class Pages:
    """
    Answers for its own paths, and leaves every other to an application.

    Args:
        app: What answers for other paths, such as a Transcoder.
        document: Returns the OpenAPI document (`openapi.document`); called once, when it is first asked for.
        on_refusal: Called with the status of every answer that refuses: 405.
    """

    def __init__(
        self,
        app: App,
        document: Callable[[], Mapping[str, Any]],
        *,
        on_refusal: Callable[[int], None] | None = None,
    ) -> None:
        self._app = app
        self._on_refusal = on_refusal
        self._makers: dict[str, Callable[[], Page]] = {OPENAPI_PATH: lambda: openapi_page(document())}
        self._made: dict[str, Page] = docs_pages()

    def page(self, path: str) -> Page | None:
        """Return the page at *path*, or None where there is none."""
        made = self._made.get(path)
        if made is None and path in self._makers:
            made = self._made[path] = self._makers[path]()
        return made

    async def __call__(self, scope: Scope, receive: bodies.Receive, send: bodies.Send) -> None:
        """Serve one ASGI scope."""
        page = self.page(_path(scope)) if scope["type"] == "http" else None
        if page is None:
            await self._app(scope, receive, send)
        elif scope["method"] in {"GET", "HEAD"}:
            await page.send(scope, send)
        elif scope["method"] == "OPTIONS":
            await _answer(send, 204, [_ALLOW], b"")
        else:
            await self._refuse(send)

    async def _refuse(self, send: bodies.Send) -> None:
        if self._on_refusal is not None:
            self._on_refusal(405)
        status = statuses.make(code_pb2.UNIMPLEMENTED, f"This path takes {_ALLOW[1].decode()}.")
        content = statuses.body(status)
        found = [_ALLOW, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await _answer(send, 405, found, content)


def openapi_page(document: Mapping[str, Any]) -> Page:
    """Return the page of an OpenAPI document."""
    return Page(content=orjson.dumps(document), content_type="application/json")


def docs_pages() -> dict[str, Page]:
    """Return the page at /docs and the files that it loads, by path."""
    found: dict[str, Page] = {}
    for entry in (files(__package__) / "docs_static").iterdir():
        path = DOCS_PATH if entry.name == _DOCS_FILE else f"{DOCS_PATH}/{entry.name}"
        content_type = _CONTENT_TYPES[PurePath(entry.name).suffix]
        found[path] = Page(content=entry.read_bytes(), content_type=content_type, headers=_DOCS_HEADERS)
    return found


def _path(scope: Scope) -> str:
    """Return the path below the root path of a parent application."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _has(etag: str, scope: Scope) -> bool:
    """Tell whether the client of *scope* holds what *etag* stands for."""
    held = [text.decode("latin-1") for name, text in scope["headers"] if name == b"if-none-match"]
    tags = {tag.strip().removeprefix("W/") for tag in ",".join(held).split(",")}
    return etag in tags or "*" in tags


async def _answer(send: bodies.Send, status: int, headers: Headers, content: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
