"""
The ASGI application: HTTP requests in, calls of a servicer, JSON or a google.api.HttpBody out.

What refuses a request comes in this order: 404, 405, what `authorize` raises, 415, 413, 400. Until a request is
authorised nothing of its body is looked at.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import code_pb2

from flagledger.transcoding import body as bodies
from flagledger.transcoding import status as statuses
from flagledger.transcoding.binding import Binding, BindingError, bindings
from flagledger.transcoding.call import (
    Authorize,
    CallSettings,
    Headers,
    OnCodecError,
    Refusal,
    Target,
    ToStatus,
    perform,
)
from flagledger.transcoding.codec import Codec, CodecError, CodecOptions
from flagledger.transcoding.context import Metadatum, TranscodedContext, metadata_value, timeout_seconds
from flagledger.transcoding.payload import JSON, content_type, payload
from flagledger.transcoding.router import ANY_METHOD, Match, Router
from flagledger.transcoding.stream import NO_CONTENT, StreamedAnswer
from flagledger.transcoding.template import TemplateError

Scope = MutableMapping[str, Any]
OnResponse = Callable[[TranscodedContext], Headers]

_logger = logging.getLogger(__name__)

_JSON: Final = (b"content-type", JSON)
_CLOSE: Final = (b"connection", b"close")


class Route(NamedTuple):
    """One HTTP method and path template, and the rpc behind it (`/package.Service/Method`)."""

    http_method: str
    template: str
    full_method_name: str


class Transcoder:
    """
    Serves servicers to REST clients from their google.api.http annotations.

    Answers are JSON, or where the response (or its `response_body` field) is a google.api.HttpBody, its data as it is under
    its content type; its extensions go nowhere.

    Of a server-streaming rpc the messages are sent as they come, each once the one before has been taken: as lines of JSON
    (application/x-ndjson), or as pieces of one body under the content type of the first. Until the first message nothing is
    sent, so that a failure is an error like any other, and initial metadata becomes headers. A failure after it breaks the
    answer off: the connection is closed without the last chunk, and what was received MUST NOT be taken for the whole. Trailing
    metadata of a stream is not sent. HEAD runs a stream up to its first message. `Grpc-Timeout` bounds the whole stream.

    Args:
        services: Pairs of a service descriptor and its servicer, an object with `async def Method(self, request,
            context)` for every annotated rpc: a coroutine function, or for a server-streaming rpc an async generator
            function (`context.write` is not served). An rpc without an annotation is not served.
        max_body_bytes: Most that a body may hold, as sent and decompressed.
        max_depth: Levels of objects and arrays that a body may have.
        header_allow_list: Request headers that become invocation metadata, in any case; values of `-bin` headers are
            base64.
        authorize: Called with the full method name and the context once the route is known, before the body is looked
            at; raises to refuse.
        to_status: Maps the application's own exceptions to a Status; None makes an UNKNOWN, which is logged and tells
            the client nothing.
        body_budget: What all bodies in flight may hold together; its `acquire` raises the application's own exception.
        body_timeout: Seconds that a body may be behind 32 KiB a second, and so the most between two pieces; then 408.
        body_deadline: Seconds that a whole body may take; then 408.
        reader_timeout: Seconds that the reader of a streamed answer may take nothing; then the answer is broken off.
        preserving_proto_field_name: See CodecOptions.
        always_print_primitive: See CodecOptions.
        int64_as_numbers: See CodecOptions.
        ignore_unknown_below: See CodecOptions; what was ignored stands in `context.ignored_fields`.
        max_elements: See CodecOptions.
        collect_errors_in: See CodecOptions; what was collected stands in `context.element_errors`.
        on_codec_error: Called with what does not fit the request's message, its path relative to the body; returns the
            application's own exception for it, or None for a plain 400 with the field violation.
        on_refusal: Called with the status of every answer that HTTP itself refuses with: 404, 405, 408, 413, 415.
        on_ignored: Called with each distinct path that was ignored, once a call.
        on_response: Called before every answer to a routed request; returns headers to add.

    Raises:
        BindingError: An annotation cannot be served (client-streaming rpcs cannot), or a servicer lacks a method or has one
            of the wrong kind; the message names the rpc.
    """

    def __init__(
        self,
        services: Iterable[tuple[ServiceDescriptor, Any]],
        *,
        max_body_bytes: int = 4 << 20,
        max_depth: int = 40,
        header_allow_list: Collection[str] = ("authorization", "user-agent"),
        authorize: Authorize | None = None,
        to_status: ToStatus | None = None,
        body_budget: bodies.ByteBudget | None = None,
        body_timeout: float = 5.0,
        body_deadline: float = 30.0,
        reader_timeout: float = 60.0,
        preserving_proto_field_name: bool = False,
        always_print_primitive: bool = False,
        int64_as_numbers: bool = False,
        ignore_unknown_below: Collection[str] = (),
        collect_errors_in: Collection[str] = (),
        max_elements: Mapping[str, int] | None = None,
        on_codec_error: OnCodecError | None = None,
        on_refusal: Callable[[int], None] | None = None,
        on_ignored: Callable[[str], None] | None = None,
        on_response: OnResponse | None = None,
    ) -> None:
        codec = Codec(
            CodecOptions(
                preserving_proto_field_name=preserving_proto_field_name,
                always_print_primitive=always_print_primitive,
                int64_as_numbers=int64_as_numbers,
                max_depth=max_depth,
                ignore_unknown_below=frozenset(ignore_unknown_below),
                collect_errors_in=frozenset(collect_errors_in),
                max_elements=max_elements or {},
            )
        )
        self._settings = CallSettings(
            max_body_bytes=max_body_bytes,
            body_timeout=body_timeout,
            body_deadline=body_deadline,
            body_budget=body_budget,
            authorize=authorize,
            to_status=to_status,
            on_codec_error=on_codec_error,
            on_ignored=on_ignored,
        )
        # ASGI servers give header names in lower case.
        self._allow_list = {name.lower().encode("latin-1"): name.lower() for name in header_allow_list}
        self._on_response = on_response
        self._reader_timeout = reader_timeout
        self._on_refusal = on_refusal
        self._router = Router()
        self._routes: list[Route] = []
        for service, servicer in services:
            for binding in bindings(service, codec):
                self._add(binding, servicer)

    def _add(self, binding: Binding, servicer: Any) -> None:
        method = getattr(servicer, binding.method_name, None)
        if method is None:
            raise BindingError(f"{binding.full_method_name}: the servicer has no method {binding.method_name}.")
        if binding.streams and not inspect.isasyncgenfunction(method):
            raise BindingError(
                f"{binding.full_method_name}: the servicer's {binding.method_name} has to be an async generator function that"
                " yields the messages; context.write is not served over HTTP."
            )
        try:
            self._router.add(binding.http_method, binding.template, Target(binding, method))
        except TemplateError as error:
            raise BindingError(f"{binding.full_method_name}: {error.message}.") from None
        self._routes.append(Route(binding.http_method, binding.template, binding.full_method_name))

    def routes(self) -> tuple[Route, ...]:
        """Return every route, in the order of the annotations."""
        return tuple(self._routes)

    def match(self, http_method: str, raw_path: str) -> Match | None:
        """Return the match of a path, or None; HEAD is answered where GET is."""
        match = self._router.match(http_method, raw_path)
        if match is None and http_method == "HEAD":
            return self._router.match("GET", raw_path)
        return match

    def owns(self, raw_path: str) -> bool:
        """Tell whether a path has a route under any HTTP method, so that its OPTIONS and 405 are answered here."""
        return bool(self._router.methods(raw_path))

    async def __call__(self, scope: Scope, receive: bodies.Receive, send: bodies.Send) -> None:
        """Serve one ASGI scope: http, or a lifespan that needs nothing."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await _lifespan(receive, send)
        else:
            raise ValueError(f"A scope of the type {kind!r} is not served.")

    async def _http(self, scope: Scope, receive: bodies.Receive, send: bodies.Send) -> None:
        http_method = scope["method"]
        raw_path = _raw_path(scope)
        match = self.match(http_method, raw_path)
        if match is None:
            await self._unrouted(scope, raw_path, receive, send)
            return
        headers, context = self._context(scope, match, raw_path)
        target: Target = match.target
        binding = target.binding
        is_head = http_method == "HEAD"
        if binding.streams:
            answer = StreamedAnswer(
                binding,
                target.method,
                is_head=is_head,
                send=send,
                reader_timeout=self._reader_timeout,
                extra_headers=self._extra_headers,
            )
            target = Target(binding, answer)
        try:
            response = await perform(
                target, self._settings, context, headers, scope["query_string"], match.variables, receive
            )
            content = b"" if binding.streams else payload(binding, response, context)
        except bodies.ClientGoneError:
            context.cancel()
            context.finish(statuses.http_status(code_pb2.CANCELLED))
            return
        except Refusal as refusal:
            await self._fail(scope, headers, refusal, context, receive, send)
            return
        except asyncio.CancelledError:
            context.cancel()
            context.finish(statuses.http_status(code_pb2.CANCELLED))
            raise
        except Exception:
            _logger.exception("%s could not be carried out.", context.full_method_name)
            unforeseen = Refusal(500, statuses.make(code_pb2.INTERNAL, "The call failed unexpectedly."))
            await self._fail(scope, headers, unforeseen, context, receive, send)
            return
        if binding.streams:
            context.finish(context.http_status)
            return
        status = context.success_status()
        context.finish(status)
        if status == NO_CONTENT:
            # It has none, nor a length.
            content = b""
            found = []
        else:
            found = [
                (b"content-type", content_type(binding, response, context)),
                (b"content-length", b"%d" % len(content)),
            ]
        found += context.response_headers()
        found += self._extra_headers(context)
        await send({"type": "http.response.start", "status": status, "headers": found})
        await send({"type": "http.response.body", "body": b"" if is_head else content})

    async def _unrouted(self, scope: Scope, raw_path: str, receive: bodies.Receive, send: bodies.Send) -> None:
        methods = self._router.methods(raw_path)
        headers = dict(scope["headers"])
        if not methods:
            status = statuses.make(code_pb2.NOT_FOUND, "There is nothing at this path.")
            await self._refuse(
                scope, headers, Refusal(404, status, body_unread=True, by_http=True), None, receive, send
            )
            return
        allowed = set(methods) - {ANY_METHOD} | {"OPTIONS"}
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
        await self._refuse(scope, headers, refusal, None, receive, send)

    def _context(self, scope: Scope, match: Match, raw_path: str) -> tuple[dict[bytes, bytes], TranscodedContext]:
        headers: dict[bytes, bytes] = {}
        metadata: list[Metadatum] = []
        fault: CodecError | None = None
        deadline: float | None = None
        allow_list = self._allow_list
        try:
            for name, value in scope["headers"]:
                headers[name] = value
                key = allow_list.get(name)
                if key is not None:
                    metadata.append(Metadatum(key, metadata_value(key, value)))
            timeout = headers.get(b"grpc-timeout")
            if timeout is not None:
                deadline = asyncio.get_running_loop().time() + timeout_seconds(timeout.decode("latin-1"))
        except CodecError as error:
            # A 400, which comes last of all refusals.
            fault = error
            headers = dict(scope["headers"])
        context = TranscodedContext(
            full_method_name=match.target.binding.full_method_name,
            http_method=scope["method"],
            http_path=raw_path,
            invocation_metadata=tuple(metadata),
            client=scope.get("client"),
            deadline=deadline,
            fault=fault,
        )
        return headers, context

    async def _fail(
        self,
        scope: Scope,
        headers: dict[bytes, bytes],
        refusal: Refusal,
        context: TranscodedContext,
        receive: bodies.Receive,
        send: bodies.Send,
    ) -> None:
        """End a call with *refusal*, or break its answer off where that has begun."""
        context.fail(refusal.status)
        if context.http_status:
            # Without the last chunk: the server closes the connection then, so that nobody takes the answer for whole.
            context.finish(context.http_status)
        else:
            await self._refuse(scope, headers, refusal, context, receive, send)

    async def _refuse(
        self,
        scope: Scope,
        headers: dict[bytes, bytes],
        refusal: Refusal,
        context: TranscodedContext | None,
        receive: bodies.Receive,
        send: bodies.Send,
    ) -> None:
        if refusal.by_http and self._on_refusal is not None:
            self._on_refusal(refusal.http_status)
        content = statuses.body(refusal.status)
        found = [_JSON, (b"content-length", b"%d" % len(content)), *refusal.headers, *statuses.headers(refusal.status)]
        if context is not None:
            context.finish(refusal.http_status)
            found += context.response_headers()
            found += self._extra_headers(context)
        unread = refusal.body_unread and _may_be_large(headers)
        if unread and scope.get("http_version", "1.1").startswith("1"):
            found.append(_CLOSE)
        await send({"type": "http.response.start", "status": refusal.http_status, "headers": found})
        answer = b"" if scope["method"] == "HEAD" else content
        if unread:
            # The answer goes out whole; a connection that closes on unread bytes would take it back.
            await send({"type": "http.response.body", "body": answer, "more_body": True})
            await bodies.drain(receive)
            answer = b""
        await send({"type": "http.response.body", "body": answer})

    def _extra_headers(self, context: TranscodedContext) -> list[tuple[bytes, bytes]]:
        if self._on_response is None:
            return []
        try:
            return list(self._on_response(context))
        except Exception:
            _logger.exception("Headers for the answer of %s could not be made.", context.full_method_name)
            return []


def _may_be_large(headers: dict[bytes, bytes]) -> bool:
    length = headers.get(b"content-length")
    if length is None:
        return b"transfer-encoding" in headers
    return not length.isdigit() or int(length[:18]) > bodies.SMALL_BODY


def _raw_path(scope: Scope) -> str:
    """Return the path as it came, below the root path of a parent application."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"], safe="/:@!$&'()*+,;=~") if raw is None else raw.decode("latin-1").partition("?")[0]
    root = quote(scope.get("root_path", ""), safe="/:@!$&'()*+,;=~")
    if root and path.startswith(root):
        return path[len(root) :]
    return path


async def _lifespan(receive: bodies.Receive, send: bodies.Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
