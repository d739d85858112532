from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from flagledger.transcoding import BindingError, Transcoder
from google.protobuf import wrappers_pb2
from google.rpc import code_pb2, status_pb2
from transcoding.conversation import Conversation, exchange
from transcoding.kitchen import Everything, GetRequest, HttpBody, KitchenServicer, service
from transcoding.test_messages import LINES, RelayServicer

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
Intercept = Callable[[Continuation, Any], Awaitable[Any]]


class Interceptor(grpc.aio.ServerInterceptor):
    """Does what the test says."""

    def __init__(self, act: Intercept) -> None:
        self.act = act

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Do it."""
        return await self.act(continuation, handler_call_details)


class FailureError(Exception):
    """What an interceptor raises."""


def to_status(error: Exception) -> status_pb2.Status | None:
    """Map the application's own exception."""
    return status_pb2.Status(code=code_pb2.UNAUTHENTICATED, message="Who?") if isinstance(error, FailureError) else None


class Servicer(RelayServicer):
    """Has both styles of stream, and answers with what it finds in the variable."""

    async def Watch(self, request: Any, context: Any) -> None:
        """Write two messages."""
        self.begin(context)
        await context.write(Everything(int32_field=1))
        await context.write(Everything(string_field=VARIABLE.get("")))


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def mount(servicer: Any, *acts: Intercept, **options: Any) -> Transcoder:
    """Return an application around *servicer* with an interceptor for each act."""
    interceptors = [Interceptor(act) for act in acts]
    return Transcoder([(service("Relay"), servicer)], interceptors=interceptors, to_status=to_status, **options)


async def test_order_and_details() -> None:
    """Interceptors run in order, once a call, and are told the rpc and its metadata."""
    told: list[Any] = []

    async def first(continuation: Continuation, details: Any) -> Any:
        told.append(
            ("first", details.method, details.invocation_metadata, isinstance(details, grpc.HandlerCallDetails))
        )
        handler = await continuation(details)
        told.append(("back", handler.request_streaming, handler.response_streaming))
        return handler

    async def second(continuation: Continuation, details: Any) -> Any:
        told.append("second")
        return await continuation(details)

    servicer = RelayServicer()
    answer = await exchange(mount(servicer, first, second), "POST", "/v1/raw/bytes", b"x", {"user-agent": "curl"})

    assert (200, b"x") == (answer.status, answer.body)
    assert [
        ("first", "/kitchen.v1.Relay/Raw", (("user-agent", "curl"),), True),
        "second",
        ("back", False, False),
    ] == told


@pytest.mark.parametrize(
    ("target", "body", "kinds"),
    [
        ("POST /v1/raw/bytes", b"x", (False, False)),
        ("GET /v1/relay/watch", b"", (False, True)),
        ("POST /v1/relay", b"{}\n", (True, False)),
        ("POST /v1/talk", b"{}\n", (True, True)),
    ],
)
async def test_handler_of_every_kind(target: str, body: bytes, kinds: tuple[bool, bool]) -> None:
    """The handler is what generated code registers with grpc.aio: its kind, its method, its (de)serializers."""
    found: list[Any] = []

    async def act(continuation: Continuation, details: Any) -> Any:
        found.append(await continuation(details))
        return found[-1]

    app = mount(Servicer(), act)
    for _ in range(2):
        await exchange(app, *target.split(), body, LINES)

    (handler, again) = found
    behaviors = [handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream]
    assert kinds == (handler.request_streaming, handler.response_streaming)
    assert [at == 2 * kinds[0] + kinds[1] for at in range(4)] == [behavior is not None for behavior in behaviors]
    assert handler is again
    request = handler.request_deserializer(b"")
    assert b"" == type(request).SerializeToString(request)
    assert callable(handler.response_serializer)


async def test_context_variables() -> None:
    """What an interceptor sets is seen by the servicer, and by no other call."""

    async def act(continuation: Continuation, details: Any) -> Any:
        VARIABLE.set(VARIABLE.get("") + dict(details.invocation_metadata)["user-agent"])
        return await continuation(details)

    app = mount(Servicer(), act)
    async with Conversation(app, "/v1/relay/watch", {"user-agent": "a"}, "GET") as conversation:
        first = await conversation.answer()
    async with Conversation(app, "/v1/relay/watch", {"user-agent": "b"}, "GET") as conversation:
        second = await conversation.answer()

    assert b'{"int32Field":1}\n{"stringField":"a"}\n' == first.body
    assert b'{"int32Field":1}\n{"stringField":"b"}\n' == second.body


class Recorded:
    """A context that notes how a call ends, around the real one, as tracing libraries have it."""

    def __init__(self, context: Any, notes: list[Any]) -> None:
        self._context = context
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        """Leave the rest to the real one."""
        return getattr(self._context, name)

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> None:
        """Note the code."""
        self._notes.append(code)
        await self._context.abort(code, details, trailing_metadata)


def tracing(notes: list[Any]) -> Intercept:
    """Return an interceptor that wraps the method of every kind of handler, as tracing libraries do."""

    def wrapped(behavior: Any, method: str, *, streams: bool) -> Any:
        async def unary(request: Any, context: Any) -> Any:
            notes.append(f"{method} begins")
            try:
                return await behavior(request, Recorded(context, notes))
            finally:
                notes.append(f"{method} ends")

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            notes.append(f"{method} begins")
            try:
                async for message in behavior(request, Recorded(context, notes)):
                    yield message
            finally:
                notes.append(f"{method} ends")

        return stream if streams else unary

    async def act(continuation: Continuation, details: Any) -> Any:
        handler = await continuation(details)
        kinds = ("stream" if each else "unary" for each in (handler.request_streaming, handler.response_streaming))
        name = "_".join(kinds)
        make = getattr(grpc, f"{name}_rpc_method_handler")
        behavior = wrapped(getattr(handler, name), details.method, streams=handler.response_streaming)
        return make(behavior, handler.request_deserializer, handler.response_serializer)

    return act


async def test_tracing() -> None:
    """An interceptor that puts its own method and context around those of the handler works for every kind of rpc."""
    notes: list[Any] = []

    class No(RelayServicer):
        async def Raw(self, request: Any, context: Any) -> Any:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Not here.")

        async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
            yield Everything(int32_field=1)

    app = mount(No(), tracing(notes))
    refused = await exchange(app, "POST", "/v1/raw/bytes", b"x")
    found = [
        (await exchange(app, "POST", "/v1/relay", b"{}\n", LINES)).body,
        (await exchange(app, "POST", "/v1/talk", b'{"name":"a"}\n', LINES)).body,
        (await exchange(app, "GET", "/v1/relay/watch")).body,
    ]

    assert (404, "Not here.") == (refused.status, refused.json["message"])
    assert [b'{"int32Field":1}', b'{"name":"a"}\n', b'{"int32Field":1}\n'] == found
    raw, gather, talk, watch = (f"/kitchen.v1.Relay/{name}" for name in ("Raw", "Gather", "Talk", "Watch"))
    assert [f"{raw} begins", grpc.StatusCode.NOT_FOUND, f"{raw} ends"] == notes[:3]
    assert [f"{name} {what}" for name in (gather, talk, watch) for what in ("begins", "ends")] == notes[3:]


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("POST /v1/raw/bytes", b"x"),
        ("GET /v1/relay/watch", b""),
        ("POST /v1/relay", b"{}\n"),
        ("POST /v1/talk", b"{}\n"),
    ],
)
async def test_refusing_handler(target: str, body: bytes) -> None:
    """A handler of a single message that aborts refuses an rpc of any kind, and the servicer does not run."""

    async def abort(request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Who are you?")

    async def act(continuation: Continuation, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(abort)

    servicer = Servicer()
    answer = await exchange(mount(servicer, act), *target.split(), body, LINES)

    assert (401, "Who are you?", None) == (answer.status, answer.json["message"], servicer.context)
    assert "Bearer" == answer.headers["www-authenticate"]


@pytest.mark.parametrize("target", ["POST /v1/raw/bytes", "POST /v1/talk"])
async def test_synchronous_handler(target: str) -> None:
    """A synchronous handler refuses, as under grpc.aio, in a thread and with the context variables of the call."""
    seen = []

    def deny(request: Any, context: Any) -> None:
        seen.append((VARIABLE.get(), context.invocation_metadata()))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "Not today.")

    async def act(continuation: Continuation, details: Any) -> Any:
        VARIABLE.set("here")
        return grpc.unary_unary_rpc_method_handler(deny)

    servicer = Servicer()
    answer = await exchange(mount(servicer, act), *target.split(), b"{}\n", LINES)

    assert (403, "Not today.", None) == (answer.status, answer.json["message"], servicer.context)
    assert [("here", ())] == seen


class Denier:
    """Refuses in every form that a handler may have."""

    def __call__(self, request: Any, context: Any) -> None:
        """Refuse as an object."""
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "Not today.")

    def deny(self, request: Any, context: Any) -> None:
        """Refuse as a method."""
        self(request, context)

    async def abort(self, request: Any, context: Any) -> None:
        """Refuse in the loop."""
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "Not today.")

    def hand_on(self, request: Any, context: Any) -> Awaitable[None]:
        """Leave it to a coroutine."""
        return self.abort(request, context)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("form", ["object", "method", "partial", "hands on"])
async def test_forms_of_synchronous_handlers(form: str) -> None:
    """A method, an object and what hands on to a coroutine refuse as a function does, and the loop goes on."""
    denier = Denier()
    deny: Any = {
        "object": denier,
        "method": denier.deny,
        "partial": functools.partial(denier.deny),
        "hands on": denier.hand_on,
    }[form]

    async def act(continuation: Continuation, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(deny)

    answer = await exchange(mount(Servicer(), act), "POST", "/v1/raw/bytes", b"{}", {})

    assert (403, "Not today.") == (answer.status, answer.json["message"])


async def test_answering_handler() -> None:
    """A handler of a single message answers for a stream of one, and needs a message where the rpc takes them."""

    async def answer_at_once(request: Any, context: Any) -> Any:
        return GetRequest(name=f"not {request.name}")

    async def answer_twice(request: Any, context: Any) -> AsyncIterator[Any]:
        yield request
        yield request

    async def act(continuation: Continuation, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(answer_at_once)

    async def stream(continuation: Continuation, details: Any) -> Any:
        return grpc.unary_stream_rpc_method_handler(answer_twice)

    async def set_code(request: Any, context: Any) -> Any:
        context.set_code(grpc.StatusCode.PERMISSION_DENIED)
        return Everything()

    async def refuse(continuation: Continuation, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(set_code)

    refused = await exchange(mount(Servicer(), refuse), "GET", "/v1/relay/watch")
    one = await exchange(mount(Servicer(), act), "POST", "/v1/talk", b'{"name":"a"}\n{}\n', LINES)
    none = await exchange(mount(Servicer(), act), "POST", "/v1/talk", b"", LINES)
    two = await exchange(mount(Servicer(), stream), "POST", "/v1/talk", b'{"name":"a"}\n', LINES)

    assert 403 == refused.status
    assert (200, b'{"name":"not a"}\n') == (one.status, one.body)
    assert (400, 3) == (none.status, none.json["code"])
    assert b'{"name":"a"}\n{"name":"a"}\n' == two.body


async def test_handler_of_streams() -> None:
    """A handler of streams where the rpc has none is an error of the server."""

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield request

    async def act(continuation: Continuation, details: Any) -> Any:
        return grpc.unary_stream_rpc_method_handler(stream)

    answer = await exchange(mount(Servicer(), act), "POST", "/v1/raw/bytes", b"x")

    assert (500, 13) == (answer.status, answer.json["code"])


async def test_no_handler() -> None:
    """An interceptor that returns no handler leaves nothing to be called, as in grpc.aio."""

    async def act(continuation: Continuation, details: Any) -> Any:
        return None

    answer = await exchange(mount(Servicer(), act), "POST", "/v1/raw/bytes", b"x")

    assert (501, 12) == (answer.status, answer.json["code"])


async def test_interceptor_that_raises() -> None:
    """What an interceptor raises is mapped as what a servicer raises is, before anything of the body is read."""

    async def act(continuation: Continuation, details: Any) -> Any:
        raise FailureError

    async def fail(continuation: Continuation, details: Any) -> Any:
        raise KeyError("x")

    async with Conversation(mount(Servicer(), act), "/v1/raw/bytes") as conversation:
        heard = await conversation.hear()
        taken = conversation.taken
        conversation.finish()
        answer = await conversation.answer()
    unmapped = await exchange(mount(Servicer(), fail), "POST", "/v1/raw/bytes", b"x")

    assert (401, True, 0, "close") == (answer.status, b"Who?" in heard, taken, answer.headers["connection"])
    assert (500, 2) == (unmapped.status, unmapped.json["code"])


async def test_authorize_comes_first() -> None:
    """Who is not authorised gets no further than to `authorize`."""
    told: list[str] = []

    async def act(continuation: Continuation, details: Any) -> Any:
        told.append("interceptor")
        return await continuation(details)

    async def authorize(method: str, context: Any) -> None:
        told.append("authorize")
        if len(told) > 2:
            raise FailureError

    app = mount(Servicer(), act, authorize=authorize)
    answers = [await exchange(app, "POST", "/v1/raw/bytes", b"x") for _ in range(2)]

    assert [200, 401] == [answer.status for answer in answers]
    assert ["authorize", "interceptor", "authorize"] == told


async def test_before_the_body() -> None:
    """Interceptors run for a body that is refused afterwards, as they do for a message that grpc.aio cannot parse."""
    told: list[str] = []

    async def act(continuation: Continuation, details: Any) -> Any:
        told.append(details.method)
        return await continuation(details)

    app = Transcoder([(service("Kitchen"), KitchenServicer())], interceptors=[Interceptor(act)])
    answers = [
        await exchange(app, "POST", "/v1/everything", b"x"),
        await exchange(app, "POST", "/v1/everything", b"{}", {"content-type": "text/plain"}),
        await exchange(app, "POST", "/nowhere", b"{}"),
    ]

    assert [400, 415, 404] == [answer.status for answer in answers]
    assert ["/kitchen.v1.Kitchen/Echo"] * 2 == told


async def test_changed_details() -> None:
    """The details that go on may name another rpc of the same messages; one of others, or unknown, is not served."""

    def led_to(name: str) -> Intercept:
        async def act(continuation: Continuation, details: Any) -> Any:
            return await continuation(details._replace(method=name))

        return act

    class Two(KitchenServicer):
        async def Place(self, request: Any, context: Any) -> Any:
            raise AssertionError

    class Copies(RelayServicer):
        async def Raw(self, request: Any, context: Any) -> Any:
            return HttpBody(data=b"raw")

    same = Transcoder(
        [(service("Relay"), Copies()), (service("Kitchen"), Two())],
        interceptors=[Interceptor(led_to("/kitchen.v1.Relay/Raw"))],
    )
    found = [
        await exchange(same, "POST", "/v1/raw/bytes", b"x"),
        await exchange(same, "POST", "/v1/everything", b"{}"),
        await exchange(mount(Servicer(), led_to("/nobody/knows")), "POST", "/v1/raw/bytes", b"x"),
    ]

    assert [200, 501, 501] == [answer.status for answer in found]
    assert b"raw" == found[0].body


async def test_deadline_of_interceptors() -> None:
    """`Grpc-Timeout` bounds interceptors too."""

    async def act(continuation: Continuation, details: Any) -> Any:
        await asyncio.sleep(10)

    answer = await exchange(mount(Servicer(), act), "POST", "/v1/raw/bytes", b"x", {"grpc-timeout": "50m"})

    assert 504 == answer.status


class _Kinds:
    """Methods of kinds that are not served."""

    def synchronous(self, request: Any, context: Any) -> Any:
        """Return."""

    def generator(self, request: Any, context: Any) -> Any:
        """Yield."""
        yield request

    async def asynchronous(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Yield, too."""
        yield request


@pytest.mark.parametrize(
    ("name", "method", "words"),
    [
        ("Raw", _Kinds.synchronous, ["is synchronous", "a coroutine function (`async def`)"]),
        ("Watch", _Kinds.synchronous, ["is synchronous", "async generator function"]),
        ("Watch", _Kinds.generator, ["is synchronous", "async generator function"]),
        ("Gather", _Kinds.generator, ["is synchronous"]),
        ("Gather", _Kinds.asynchronous, ["yields", "one message"]),
        ("Talk", None, ["has no method Talk"]),
    ],
)
def test_kinds_of_methods(name: str, method: Any, words: list[str]) -> None:
    """Synchronous methods, and those that yield where one message is the answer, refuse to start."""
    servicer = type("Odd", (Servicer,), {name: method})()

    with pytest.raises(BindingError) as caught:
        Transcoder([(service("Relay"), servicer)])

    assert [] == [word for word in [f"kitchen.v1.Relay/{name}", *words] if word not in str(caught.value)]


async def test_other_callables() -> None:
    """A method may be a partial function, or an object that is called."""

    async def raw(suffix: bytes, request: Any, context: Any) -> Any:
        return HttpBody(data=request.data + suffix)

    class Called:
        async def __call__(self, request: Any, context: Any) -> AsyncIterator[Any]:
            yield Everything(int32_value=wrappers_pb2.Int32Value(value=5))

    servicer = Servicer()
    servicer.Raw = functools.partial(raw, b"!")
    servicer.Watch = Called()
    app = mount(servicer)

    assert b"x!" == (await exchange(app, "POST", "/v1/raw/bytes", b"x")).body
    assert b'{"int32Value":5}\n' == (await exchange(app, "GET", "/v1/relay/watch")).body
