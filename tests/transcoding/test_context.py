from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from flagledger.transcoding import Transcoder
from grpc_health.v1 import health_pb2
from transcoding.conversation import Conversation
from transcoding.kitchen import Answer

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
CONFIG = {
    "http": {
        "rules": [
            {"selector": "grpc.health.v1.Health.Check", "get": "/check"},
            {"selector": "grpc.health.v1.Health.Watch", "get": "/watch"},
        ]
    }
}
REQUEST = health_pb2.HealthCheckRequest
RESPONSE = health_pb2.HealthCheckResponse

Act = Callable[[Any, list[Any]], Awaitable[None]]


class Servicer:
    """Does what the test says with the context, and then answers."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.notes: list[Any] = []

    async def Check(self, request: Any, context: Any) -> Any:
        """Act, and return."""
        await self.act(context, self.notes)
        return RESPONSE(status=RESPONSE.SERVING)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Act, and yield."""
        await self.act(context, self.notes)
        yield RESPONSE(status=RESPONSE.SERVING)


async def over_grpc(servicer: Any, method: str) -> tuple[grpc.StatusCode, str]:
    """Return code and details that a call of *servicer* ends with where grpc.aio serves it."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    coding = {"request_deserializer": REQUEST.FromString, "response_serializer": RESPONSE.SerializeToString}
    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(servicer.Check, **coding),
        "Watch": grpc.unary_stream_rpc_method_handler(servicer.Watch, **coding),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(10):
            make = channel.unary_unary if method == "Check" else channel.unary_stream
            name = f"/{SERVICE.full_name}/{method}"
            running: Any = make(name, REQUEST.SerializeToString, RESPONSE.FromString)(REQUEST())
            with suppress(grpc.aio.AioRpcError):
                if method == "Check":
                    await running
                else:
                    [message async for message in running]
            return await running.code(), await running.details()
    finally:
        await server.stop(None)


async def over_http(servicer: Any, method: str) -> tuple[Answer, bool]:
    """Return the answer to a call of *servicer* over HTTP, and whether it was ended."""
    app = Transcoder([(SERVICE, servicer)], service_config=CONFIG)
    async with Conversation(app, f"/{method.lower()}", method="GET") as conversation:
        conversation.finish()
        return await conversation.answer(), conversation.is_whole


async def attempt(notes: list[Any], running: Awaitable[Any]) -> None:
    """Note what an awaitable raises."""
    try:
        await running
    except Exception as error:  # noqa: BLE001  # whatever it is
        notes.append(type(error).__name__)
    else:
        notes.append("fine")


async def _metadata_twice(context: Any, notes: list[Any]) -> None:
    await attempt(notes, context.send_initial_metadata(()))
    await attempt(notes, context.send_initial_metadata((("a", "b"),)))


async def _set_code(context: Any, notes: list[Any]) -> None:
    notes.append((context.details(), context.done(), context.cancelled(), tuple(context.trailing_metadata())))
    context.set_details("Later.")
    context.set_code(grpc.StatusCode.ABORTED)
    notes.append((context.code(), context.details(), context.done(), context.cancelled()))


async def _set_number(context: Any, notes: list[Any]) -> None:
    context.set_code(5)


async def _set_cancelled(context: Any, notes: list[Any]) -> None:
    context.set_code(grpc.StatusCode.CANCELLED)
    notes.append(context.cancelled())


async def _abort(context: Any, notes: list[Any]) -> None:
    context.set_trailing_metadata((("a", "b"),))
    context.set_details("Before.")
    try:
        await context.abort(grpc.StatusCode.NOT_FOUND)
    finally:
        notes.append((context.code(), context.details(), tuple(context.trailing_metadata()), context.done()))


async def _abort_swallowed(context: Any, notes: list[Any]) -> None:
    await attempt(notes, context.abort(grpc.StatusCode.NOT_FOUND, "Gone."))
    await attempt(notes, context.abort(grpc.StatusCode.NOT_FOUND, "Again."))
    await attempt(notes, context.send_initial_metadata(()))
    await attempt(notes, context.write(RESPONSE()))
    await attempt(notes, context.read())
    notes.append(context.details())


async def _read(context: Any, notes: list[Any]) -> None:
    notes.extend([await context.read() is grpc.aio.EOF for _ in range(2)])


async def _raise_behind_a_code(context: Any, notes: list[Any]) -> None:
    context.set_code(grpc.StatusCode.UNAVAILABLE)
    raise KeyError("x")


async def _abort_with_status(context: Any, notes: list[Any]) -> None:
    class Status(grpc.Status):
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        details = "Enough."
        trailing_metadata = ()

    await context.abort_with_status(Status())


# What fails behind the message that a stream sends.
LATE = (_set_code, _set_number, _set_cancelled)


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (_metadata_twice, grpc.StatusCode.OK),
        (_set_code, grpc.StatusCode.ABORTED),
        (_set_number, grpc.StatusCode.NOT_FOUND),
        (_set_cancelled, grpc.StatusCode.CANCELLED),
        (_abort, grpc.StatusCode.NOT_FOUND),
        (_abort_swallowed, grpc.StatusCode.NOT_FOUND),
        (_read, grpc.StatusCode.OK),
        (_raise_behind_a_code, grpc.StatusCode.UNAVAILABLE),
        (_abort_with_status, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_as_grpc_does(act: Act, code: grpc.StatusCode, method: str) -> None:
    """What a servicer does with its context has the effect that it has where grpc.aio serves it, of streams too."""
    original, servicer = Servicer(act), Servicer(act)
    expected = await over_grpc(original, method)
    answer, is_whole = await over_http(servicer, method)

    assert original.notes == servicer.notes
    assert code is expected[0]
    if code is grpc.StatusCode.OK or answer.status == 200:
        # A message was sent before the call failed.
        assert (200, code is grpc.StatusCode.OK) == (answer.status, is_whole)
    elif code is grpc.StatusCode.UNAVAILABLE:
        assert 14 == answer.json["code"]
    else:
        assert (code.value[0], expected[1]) == (answer.json["code"], answer.json["message"])
    assert (answer.status == 200) is (code is grpc.StatusCode.OK or (method == "Watch" and act in LATE))


async def test_write_is_for_streams() -> None:
    """An rpc that answers with one message cannot write another."""

    async def act(context: Any, notes: list[Any]) -> None:
        await attempt(notes, context.write(RESPONSE()))

    servicer = Servicer(act)
    check, watch = [(await over_http(servicer, method))[0] for method in ("Check", "Watch")]

    assert ["UsageError", "fine"] == servicer.notes
    assert (200, 2) == (check.status, watch.body.count(b"\n"))


async def test_code_until_it_is_set() -> None:
    """The code is OK until something else was set: what the call would end with."""

    async def act(context: Any, notes: list[Any]) -> None:
        notes.append(context.code())

    servicer = Servicer(act)
    await over_http(servicer, "Check")

    assert [grpc.StatusCode.OK] == servicer.notes


async def test_no_abort_with_ok() -> None:
    """A call cannot be aborted with OK, which is the servicer's mistake."""

    async def act(context: Any, notes: list[Any]) -> None:
        await attempt(notes, context.abort(grpc.StatusCode.OK))

    servicer = Servicer(act)
    await over_http(servicer, "Check")

    assert ["ValueError"] == servicer.notes
