"""Answers of the transcoder that are sent at once: a servicer's message, a refusal, and what a path without a route gets."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from google.rpc import code_pb2

from flagledger.transcoding import body as bodies
from flagledger.transcoding import status as statuses
from flagledger.transcoding.context import TranscodedContext
from flagledger.transcoding.incoming import Incoming
from flagledger.transcoding.payload import JSON
from flagledger.transcoding.refusals import Headers, Refusal
from flagledger.transcoding.router import ANY_METHOD
from flagledger.transcoding.stream import NO_CONTENT

Scope = MutableMapping[str, Any]
OnResponse = Callable[[TranscodedContext], Headers]

_logger = logging.getLogger(__name__)

_JSON: Final = (b"content-type", JSON)
_CLOSE: Final = (b"connection", b"close")


class Answers:
    """
    Sends answers with the application's headers.

    Args:
        on_refusal: See Transcoder.
        on_response: See Transcoder.
    """

    def __init__(self, *, on_refusal: Callable[[int], None] | None, on_response: OnResponse | None) -> None:
        self._on_refusal = on_refusal
        self._on_response = on_response

    async def succeed(
        self,
        scope: Scope,
        incoming: Incoming,
        context: TranscodedContext,
        media_type: bytes,
        content: bytes,
        send: bodies.Send,
    ) -> None:
        """Send what a servicer has returned."""
        status = context.success_status()
        context.finish(status)
        if status == NO_CONTENT:
            # It has none, nor a length.
            content = b""
            found = []
        else:
            found = [(b"content-type", media_type), (b"content-length", b"%d" % len(content))]
        found += context.response_headers()
        found += self.extra_headers(context)
        unread = incoming.is_reading and _may_be_large(incoming.headers)
        await _send(scope, status, found, content, incoming.receive, send, unread=unread)

    async def refuse(
        self,
        scope: Scope,
        headers: dict[bytes, bytes],
        refusal: Refusal,
        context: TranscodedContext | None,
        receive: bodies.Receive,
        send: bodies.Send,
    ) -> None:
        """Send a refusal; *context* is None where there is no call."""
        if refusal.by_http and self._on_refusal is not None:
            self._on_refusal(refusal.http_status)
        content = statuses.body(refusal.status)
        found = [_JSON, (b"content-length", b"%d" % len(content)), *refusal.headers, *statuses.headers(refusal.status)]
        if context is not None:
            context.finish(refusal.http_status)
            found += context.response_headers()
            found += self.extra_headers(context)
        unread = refusal.body_unread and _may_be_large(headers)
        await _send(scope, refusal.http_status, found, content, receive, send, unread=unread)

    async def unrouted(self, scope: Scope, methods: set[str], receive: bodies.Receive, send: bodies.Send) -> None:
        """Answer a request that has no route; *methods* are those that its path has one under."""
        headers = dict(scope["headers"])
        if not methods:
            status = statuses.make(code_pb2.NOT_FOUND, "There is nothing at this path.")
            refusal = Refusal(404, status, body_unread=True, by_http=True)
            await self.refuse(scope, headers, refusal, None, receive, send)
            return
        allowed = methods - {ANY_METHOD} | {"OPTIONS"}
        if "GET" in allowed:
            allowed.add("HEAD")
        listed = ", ".join(sorted(allowed))
        allow = (b"allow", listed.encode())
        if scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": [allow]})
            await send({"type": "http.response.body", "body": b""})
            return
        status = statuses.make(code_pb2.UNIMPLEMENTED, f"This path takes {listed}.")
        refusal = Refusal(405, status, headers=[allow], body_unread=True, by_http=True)
        await self.refuse(scope, headers, refusal, None, receive, send)

    def extra_headers(self, context: TranscodedContext) -> list[tuple[bytes, bytes]]:
        """Return the application's headers."""
        if self._on_response is None:
            return []
        try:
            return list(self._on_response(context))
        except Exception:
            _logger.exception("Headers for the answer of %s could not be made.", context.full_method_name)
            return []


async def _send(
    scope: Scope,
    status: int,
    found: list[tuple[bytes, bytes]],
    content: bytes,
    receive: bodies.Receive,
    send: bodies.Send,
    *,
    unread: bool,
) -> None:
    """Send an answer; *unread* tells that much of the request's body may still be on its way."""
    if unread and scope.get("http_version", "1.1").startswith("1"):
        found.append(_CLOSE)
    await send({"type": "http.response.start", "status": status, "headers": found})
    answer = b"" if scope["method"] == "HEAD" else content
    if unread:
        # The answer goes out whole; a connection that closes on unread bytes would take it back.
        await send({"type": "http.response.body", "body": answer, "more_body": True})
        await bodies.drain(receive)
        answer = b""
    await send({"type": "http.response.body", "body": answer})


def _may_be_large(headers: dict[bytes, bytes]) -> bool:
    length = headers.get(b"content-length")
    if length is None:
        return b"transfer-encoding" in headers
    return not length.isdigit() or int(length[:18]) > bodies.SMALL_BODY
