"""
The ASGI application: HTTP requests in, calls of a servicer, JSON or a google.api.HttpBody out.

What refuses a request comes in this order: 404, 405, what `authorize` raises, what interceptors raise, 415, 413, 400, what the
servicer or a handler of an interceptor aborts with. Until a request is authorised nothing of its body is looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import code_pb2

from flagledger.transcoding import body as bodies
from flagledger.transcoding import status as statuses
from flagledger.transcoding.accept import prefers_events
from flagledger.transcoding.answers import Answers, OnResponse, Scope
from flagledger.transcoding.binding import Binding, BindingError, bindings
from flagledger.transcoding.call import Target, perform
from flagledger.transcoding.checks import check_names, checked
from flagledger.transcoding.codec import Codec, CodecError, CodecOptions
from flagledger.transcoding.context import Metadatum, TranscodedContext, metadata_value, timeout_seconds
from flagledger.transcoding.handlers import Interception, method_of
from flagledger.transcoding.incoming import Incoming
from flagledger.transcoding.payload import content_type, payload
from flagledger.transcoding.refusals import OnCodecError, Refusal, ToStatus, internal
from flagledger.transcoding.router import ANY_METHOD, Match, Router
from flagledger.transcoding.service_config import ServiceConfig, configured
from flagledger.transcoding.settings import Authorize, CallSettings
from flagledger.transcoding.stream import StreamedAnswer
from flagledger.transcoding.template import TemplateError

_logger = logging.getLogger(__name__)


class Route(NamedTuple):
    """One HTTP method and path template, and the rpc behind it (`/package.Service/Method`)."""

    http_method: str
    template: str
    full_method_name: str


class Transcoder:
    """
    Serves servicers to REST clients from their google.api.http annotations.

    Answers are JSON, or where the response (or its `response_body` field) is a google.api.HttpBody, its data as it is under
    its content type; its extensions go nowhere. A body that is a google.api.HttpBody is taken as it is, whatever its type.

    Of a server-streaming rpc the messages are sent as they come, each once the one before has been taken: as lines of JSON
    (application/x-ndjson), as events where the Accept header prefers text/event-stream, or as pieces of one body under the
    content type of the first. Until the first message nothing is sent, so that a failure is an error like any other, and initial
    metadata becomes headers. A failure after it breaks the answer off: the connection is closed without the last chunk, and what
    was received MUST NOT be taken for the whole; a stream of events ends, well or not, with an event `status` that holds the
    Status. Trailing metadata of a stream is not sent. HEAD runs a stream up to its first message.

    Of a client-streaming rpc every line of the body that is not blank is a message, or its body field; of a google.api.HttpBody
    every piece is, as the server hands it over, and an empty body is one empty message. Each is read and decoded when the
    servicer asks for it, and the answer may begin before the body has ended. Path and query are set in every message. Limits are
    those of one message: its size, the time that it takes once it has begun. Between two messages the client may take its time
    for as long as it is there: `Grpc-Timeout` or the servicer bounds that. A message that does not fit ends the call, with a 400
    or by breaking the answer off, and cancels the servicer, which has had all messages before it. That the client has gone
    cancels it too, at once unless more of the body has come in than it has asked for: then when it reads on, or writes.

    `Grpc-Timeout` bounds the whole call, its body and its answer included.

    Attributes:
        bindings: What is behind each route, in the order of `routes`.
        codec_options: How messages are read and written.

    Args:
        services: Pairs of a service descriptor and its servicer, an object with a method for every rpc that has an annotation or
            a rule; others are not served. As for grpc.aio it is a coroutine function, which may read and write streams by its
            context, or for a server-streaming rpc an async generator function, and of a client-streaming rpc its first argument
            is an async iterator. Synchronous methods are refused.
        service_config: Rules that take the place of annotations: a google.api.Http, or a parsed document as YAML and JSON
            files of a google.api.Service have it, of which only `http` is looked at.
        max_body_bytes: Most that a body, or one message of a stream, may hold, as sent and decompressed.
        max_depth: Levels of objects and arrays that a body may have.
        header_allow_list: Request headers that become invocation metadata, in any case; values of `-bin` headers are
            base64.
        authorize: Called with the full method name and the context once the route is known, before the body is looked
            at; raises to refuse.
        interceptors: Run for every call after `authorize` and before the body is read, as grpc.aio runs them: the first is the
            outermost. The (de)serializers of the handlers that they return are not used.
        to_status: Maps the application's own exceptions to a Status; None makes an UNKNOWN, which is logged and tells
            the client nothing.
        body_budget: What all bodies in flight may hold together; its `acquire` raises the application's own exception.
        body_timeout: Seconds that a body, or a message that has begun, may be behind 32 KiB a second, and so the most between two
            pieces; then 408.
        body_deadline: Seconds that a whole body, or one message of a stream, may take; then 408.
        reader_timeout: Seconds that the reader of a streamed answer may take nothing; then the answer is broken off.
        preserving_proto_field_name: See CodecOptions.
        always_print_primitive: See CodecOptions.
        int64_as_numbers: See CodecOptions.
        ignore_unknown_below: See CodecOptions; what was ignored stands in `context.ignored_fields`, of a stream from
            its beginning.
        max_elements: See CodecOptions.
        collect_errors_in: See CodecOptions; what was collected stands in `context.element_errors`, of a stream for
            the message that was read last.
        on_codec_error: Called with what does not fit the request's message, its path relative to the body, of which the messages
            of a stream are the elements (`[3].name`); returns the application's own exception for it, or None for a plain 400
            with the field violation.
        on_refusal: Called with the status of every answer that HTTP itself refuses with: 404, 405, 408, 413, 415.
        on_ignored: Called with each distinct path that was ignored, once a call.
        on_response: Called before every answer to a routed request; returns headers to add.

    Raises:
        BindingError: An annotation cannot be served, or a servicer lacks a method or has one of the wrong kind; the message
            names the rpc. Or nothing has a name that stands among the codec's options.
    """

    def __init__(
        self,
        services: Iterable[tuple[ServiceDescriptor, Any]],
        *,
        service_config: ServiceConfig | None = None,
        max_body_bytes: int = 4 << 20,
        max_depth: int = 40,
        header_allow_list: Collection[str] = ("authorization", "user-agent"),
        authorize: Authorize | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
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
        self.codec_options = codec.options
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
        if isinstance(header_allow_list, str):
            raise TypeError("header_allow_list has to be a collection of names, and not one text.")
        # ASGI servers give header names in lower case.
        self._allow_list = {name.lower().encode("latin-1"): name.lower() for name in header_allow_list}
        self._reader_timeout = reader_timeout
        self._interception = Interception(interceptors) if interceptors else None
        self._answers = Answers(on_refusal=on_refusal, on_response=on_response)
        mounted = checked(services)
        check_names(codec.options, (service for service, _ in mounted))
        config = configured(service_config, (service for service, _ in mounted))
        self._router = Router(fully_decode=config.fully_decode_reserved_expansion)
        self.bindings: list[Binding] = []
        for service, servicer in mounted:
            for binding in bindings(service, codec, config):
                self._add(binding, servicer)

    def _add(self, binding: Binding, servicer: Any) -> None:
        method = method_of(binding, servicer)
        if self._interception is not None:
            self._interception.add(binding, method)
        try:
            self._router.add(binding.http_method, binding.template, Target(binding, method, self._interception))
        except TemplateError as error:
            raise BindingError(f"{binding.place}{binding.full_method_name}: {error.message}.") from None
        self.bindings.append(binding)

    def routes(self) -> tuple[Route, ...]:
        """Return every route, in the order of the annotations."""
        return tuple(Route(each.http_method, each.template, each.full_method_name) for each in self.bindings)

    def match(self, http_method: str, raw_path: str) -> Match | None:
        """Return the match of a path, or None; HEAD is answered where GET is."""
        if http_method == "HEAD":
            # What a GET answers, without its body, goes before a rule for any method that this path reaches too.
            match = self._router.match("HEAD", raw_path)
            if match is None or match.target.binding.http_method == ANY_METHOD:
                return self._router.match("GET", raw_path) or match
            return match
        return self._router.match(http_method, raw_path)

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
            await self._answers.unrouted(scope, set(self._router.methods(raw_path)), receive, send)
            return
        headers, context = self._context(scope, match, raw_path)
        target: Target = match.target
        binding = target.binding
        incoming = Incoming(headers, scope["query_string"], match.variables, receive)
        answer = self._stream(binding, context, headers, http_method, send) if binding.streams else None
        try:
            response = await perform(target, self._settings, context, incoming, answer)
            content = b"" if binding.streams else payload(binding, response, context)
        except bodies.ClientGoneError:
            context.cancel()
            context.finish(statuses.http_status(code_pb2.CANCELLED))
        except Refusal as refusal:
            await self._fail(scope, incoming, refusal, context, answer, send)
        except asyncio.CancelledError:
            context.cancel()
            context.finish(statuses.http_status(code_pb2.CANCELLED))
            raise
        except Exception:
            _logger.exception("%s could not be carried out.", context.full_method_name)
            await self._fail(scope, incoming, internal("The call failed unexpectedly."), context, answer, send)
        else:
            if binding.streams:
                context.finish(context.http_status)
                return
            media_type = content_type(binding, response, context)
            await self._answers.succeed(scope, incoming, context, media_type, content, send)

    def _stream(
        self,
        binding: Binding,
        context: TranscodedContext,
        headers: dict[bytes, bytes],
        http_method: str,
        send: bodies.Send,
    ) -> StreamedAnswer:
        return StreamedAnswer(
            binding,
            context,
            as_events=binding.http_body is None and prefers_events(headers.get(b"accept", b"")),
            is_head=http_method == "HEAD",
            send=send,
            reader_timeout=self._reader_timeout,
            extra_headers=self._answers.extra_headers,
        )

    async def _fail(
        self,
        scope: Scope,
        incoming: Incoming,
        refusal: Refusal,
        context: TranscodedContext,
        answer: StreamedAnswer | None,
        send: bodies.Send,
    ) -> None:
        """End a call with *refusal*, or break its answer off where that has begun."""
        context.fail(refusal.status)
        if not context.http_status:
            await self._answers.refuse(scope, incoming.headers, refusal, context, incoming.receive, send)
            return
        if answer is not None:
            await answer.fail(refusal.status)
        # Without the last chunk: the server closes the connection then, so that nobody takes the answer for whole.
        context.finish(context.http_status)

    def _context(self, scope: Scope, match: Match, raw_path: str) -> tuple[dict[bytes, bytes], TranscodedContext]:
        headers: dict[bytes, bytes] = {}
        metadata: list[Metadatum] = []
        fault: CodecError | None = None
        deadline: float | None = None
        allow_list = self._allow_list
        for name, value in scope["headers"]:
            headers[name] = value
            key = allow_list.get(name)
            if key is not None:
                try:
                    metadata.append(Metadatum(key, metadata_value(key, value)))
                except CodecError as error:
                    # A 400, which comes last of all refusals: who asks is known by then from the other headers.
                    fault = error
        try:
            timeout = headers.get(b"grpc-timeout")
            if timeout is not None:
                deadline = asyncio.get_running_loop().time() + timeout_seconds(timeout.decode("latin-1"))
        except CodecError as error:
            fault = error
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


def _raw_path(scope: Scope) -> str:
    """Return the path as it came, below the root path of a parent application."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"], safe="/:@!$&'()*+,;=~") if raw is None else raw.decode("latin-1").partition("?")[0]
    root = scope.get("root_path")
    return path.removeprefix(quote(root, safe="/:@!$&'()*+,;=~")) if root else path


async def _lifespan(receive: bodies.Receive, send: bodies.Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
