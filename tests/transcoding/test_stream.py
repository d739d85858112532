from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from flagledger.transcoding import Transcoder
from google.rpc import code_pb2, status_pb2
from transcoding.kitchen import Everything, HttpBody, service

Act = Callable[[Any, Any], AsyncIterator[Any]]


class RefusalError(Exception):
    """What an application raises."""


def to_status(error: Exception) -> status_pb2.Status | None:
    """Map the application's own exception."""
    return status_pb2.Status(code=code_pb2.UNAVAILABLE, message=str(error)) if isinstance(error, RefusalError) else None


class StreamsServicer:
    """Yields what the test says, and keeps what became of it."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.context: Any = None
        self.yielded = 0
        self.closed = False
        self.ended: list[tuple[Any, int, bool]] = []

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Yield what the test says."""
        self.context = context
        context.add_done_callback(lambda context: self.ended.append((context.code(), context.http_status, self.closed)))
        try:
            async for message in self.act(request, context):
                self.yielded += 1
                yield message
        finally:
            self.closed = True

    Export = Watch


def everything(number: int) -> Any:
    """Return a message."""
    return Everything(int32_field=number)


def numbers(*found: int) -> Act:
    """Return what yields messages of these numbers."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        for number in found:
            yield everything(number)

    return act


def files(*found: Any) -> Act:
    """Return what yields these."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        for file in found:
            yield file

    return act


@dataclass(kw_only=True)
class Reader:
    """One request, and a client that takes a piece of the answer whenever it is open."""

    app: Any
    method: str = "GET"
    path: str = "/v1/watch"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    fault: Exception | None = None

    async def read(self, *, closed: bool = False) -> Reader:
        """Make the request, and return when the application has."""
        if not closed:
            self.open.set()
        requests = [{"type": "http.request", "body": self.body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if requests:
                return requests.pop()
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                await self.open.wait()
            if self.fault is not None:
                raise self.fault
            self.sent.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in self.headers.items()],
        }
        async with asyncio.timeout(10):
            await self.app(scope, receive, send)
        return self

    @property
    def status(self) -> int:
        """Status of the answer."""
        return int(self.sent[0]["status"])

    @property
    def found(self) -> dict[str, str]:
        """Headers of the answer."""
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def pieces(self) -> list[bytes]:
        """Body of the answer, as it was sent, without an empty last piece."""
        found = [message["body"] for message in self.sent[1:]]
        return found[:-1] if self.whole and not found[-1] else found

    @property
    def whole(self) -> bool:
        """Whether the answer was ended."""
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1].get("more_body", False)


def mount(servicer: StreamsServicer, **options: Any) -> Transcoder:
    """Return an application around *servicer*."""
    return Transcoder([(service("Streams"), servicer)], to_status=to_status, **options)


async def settled(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.002)


async def test_lines() -> None:
    """Messages are lines of JSON, one a piece, and the answer is ended."""
    answer = await Reader(app=mount(StreamsServicer(numbers(1, 2, 0)))).read()

    assert (200, {"content-type": "application/x-ndjson"}) == (answer.status, answer.found)
    assert [b'{"int32Field":1}\n', b'{"int32Field":2}\n', b"{}\n"] == answer.pieces
    assert answer.whole


async def test_lines_of_a_field() -> None:
    """A `response_body` is the line of each message."""
    servicer = StreamsServicer(files(Everything(strings=["a", "b"]), Everything()))
    answer = await Reader(app=mount(servicer), path="/v1/watch/strings").read()

    assert [b'["a","b"]\n', b"[]\n"] == answer.pieces


async def test_raw() -> None:
    """The data of HttpBody messages go out as they are, under the content type of the first."""
    servicer = StreamsServicer(
        files(HttpBody(content_type="text/csv", data=b"a,\0\n"), HttpBody(data=b"\xff"), HttpBody(content_type="x/y"))
    )
    answer = await Reader(app=mount(servicer), path="/v1/export").read()

    assert (200, {"content-type": "text/csv"}) == (answer.status, answer.found)
    assert ([b"a,\0\n", b"\xff", b""], True) == (answer.pieces, answer.whole)


@pytest.mark.parametrize(
    ("path", "content_type"), [("/v1/watch", "application/x-ndjson"), ("/v1/export", "application/octet-stream")]
)
async def test_empty(path: str, content_type: str) -> None:
    """A stream of nothing is a 200 with an empty body, and its metadata are headers all the same."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata([("x-last-position", "7")])
        for message in ():
            yield message

    answer = await Reader(app=mount(StreamsServicer(act)), path=path).read()

    assert (200, [], True) == (answer.status, answer.pieces, answer.whole)
    assert {"content-type": content_type, "x-last-position": "7"} == answer.found


async def test_metadata() -> None:
    """Initial metadata becomes headers, `x-http-code` the status; trailing metadata goes nowhere; the hook adds its own."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        context.set_trailing_metadata([("x-trailing", "1"), ("x-http-code", "201")])
        await context.send_initial_metadata([("x-last-position", "7"), ("x-http-code", "203")])
        yield everything(1)

    app = mount(StreamsServicer(act), on_response=lambda context: [(b"x-hook", b"%d" % context.http_status)])
    answer = await Reader(app=app).read()

    assert 203 == answer.status
    assert {"content-type": "application/x-ndjson", "x-last-position": "7", "x-hook": "203"} == answer.found


async def test_trailing_status() -> None:
    """An `x-http-code` in trailing metadata is no status of a stream."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        context.set_trailing_metadata([("x-http-code", "201")])
        yield everything(1)

    assert 200 == (await Reader(app=mount(StreamsServicer(act))).read()).status


async def test_metadata_too_late() -> None:
    """Initial metadata behind the first message is an error in the servicer, as it is for grpc.aio."""
    refused: list[BaseException] = []

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        try:
            await context.send_initial_metadata([("x-last-position", "7")])
        except grpc.aio.UsageError as error:
            refused.append(error)

    await Reader(app=mount(StreamsServicer(act))).read()

    assert 1 == len(refused)


async def test_no_content() -> None:
    """A 204 has no body, whatever is yielded, and the stream goes no further."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata([("x-http-code", "204")])
        yield everything(1)
        yield everything(2)

    servicer = StreamsServicer(act)
    answer = await Reader(app=mount(servicer)).read()

    assert (204, {}, [], 1) == (answer.status, answer.found, answer.pieces, servicer.yielded)


async def test_head() -> None:
    """HEAD has the headers of GET, and the stream is closed at its first message."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata([("x-last-position", "7")])
        for number in range(100):
            yield everything(number)

    servicer = StreamsServicer(act)
    get = await Reader(app=mount(StreamsServicer(act))).read()
    head = await Reader(app=mount(servicer), method="HEAD").read()

    assert (200, get.found, [], True) == (head.status, head.found, head.pieces, head.whole)
    assert (1, [(grpc.StatusCode.OK, 200, True)]) == (servicer.yielded, servicer.ended)


async def test_head_of_a_failure() -> None:
    """HEAD of a stream that fails at once has the status of the failure."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.abort(grpc.StatusCode.NOT_FOUND, "No.")
        yield

    answer = await Reader(app=mount(StreamsServicer(act)), method="HEAD").read()

    assert (404, [], True) == (answer.status, answer.pieces, answer.whole)


async def aborting(context: Any) -> None:
    """Abort."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "Wait.")


async def raising(context: Any) -> None:
    """Raise the application's own."""
    raise RefusalError("Wait.")


async def setting(context: Any) -> None:
    """Set a code, and go on to the end."""
    context.set_code(grpc.StatusCode.UNAVAILABLE)
    context.set_details("Wait.")


@pytest.mark.parametrize("fail", [aborting, raising, setting])
async def test_failure_before_the_first(fail: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What fails before the first message is an error like any other, with its status and the metadata sent so far."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata([("x-early", "1")])
        await fail(context)
        for message in ():
            yield message

    servicer = StreamsServicer(act)
    answer = await Reader(app=mount(servicer)).read()

    assert 503 == answer.status
    assert {"code": 14, "message": "Wait.", "details": []} == json.loads(answer.pieces[0])
    assert ("application/json", "1") == (answer.found["content-type"], answer.found["x-early"])
    assert [(grpc.StatusCode.UNAVAILABLE, 503, True)] == servicer.ended
    assert [] == caplog.records


@pytest.mark.parametrize("fail", [aborting, raising, setting])
async def test_failure_after_the_first(fail: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What fails later breaks the answer off: it is not ended, its callbacks see the code, and a foreseen fault is not logged."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        await fail(context)

    servicer = StreamsServicer(act)
    answer = await Reader(app=mount(servicer)).read()

    assert (200, [b'{"int32Field":1}\n'], False) == (answer.status, answer.pieces, answer.whole)
    assert [(grpc.StatusCode.UNAVAILABLE, 200, True)] == servicer.ended
    assert [] == caplog.records


async def test_unforeseen_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A fault that nobody foresaw breaks the answer off, and is logged."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        raise ZeroDivisionError("the cause")

    servicer = StreamsServicer(act)
    answer = await Reader(app=mount(servicer)).read()

    assert not answer.whole
    assert [(grpc.StatusCode.UNKNOWN, 200, True)] == servicer.ended
    assert "the cause" in caplog.text


@pytest.mark.parametrize("before", [0, 1])
async def test_a_message_that_cannot_be_written(before: int, caplog: pytest.LogCaptureFixture) -> None:
    """A message without a JSON form is a 500 where it is the first, breaks the answer off where it is not, and is logged."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(before):
            yield everything(number)
        message = Everything()
        message.value.number_value = float("nan")
        yield message

    servicer = StreamsServicer(act)
    answer = await Reader(app=mount(servicer)).read()

    assert (200, False) if before else (500, True) == (answer.status, answer.whole)
    assert [(grpc.StatusCode.INTERNAL, 200 if before else 500, True)] == servicer.ended
    assert "NaN" in caplog.text


async def test_slow_reader() -> None:
    """The next message is asked for when the one before has been taken, and no earlier."""
    servicer = StreamsServicer(numbers(*range(10)))
    reader = Reader(app=mount(servicer))
    reading = asyncio.create_task(reader.read(closed=True))
    await settled(lambda: servicer.yielded == 1)
    await asyncio.sleep(0.1)
    held = servicer.yielded
    reader.open.set()
    await reading

    assert (1, 10, True) == (held, servicer.yielded, reader.whole)


@pytest.mark.parametrize("where", ["first", "message", "send"])
async def test_client_goes(where: str) -> None:
    """When the client goes the stream is closed, whatever it waits for, and the call is cancelled."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        if where != "first":
            yield everything(1)
        await asyncio.sleep(30)
        yield everything(2)

    servicer = StreamsServicer(act)
    reader = Reader(app=mount(servicer))
    reading = asyncio.create_task(reader.read(closed=where == "send"))
    await settled(lambda: servicer.context is not None and servicer.yielded == (where != "first"))
    await asyncio.sleep(0.01)
    reader.gone.set()
    await reading

    assert servicer.context.cancelled()
    assert [(grpc.StatusCode.CANCELLED, 499 if where == "first" else 200, True)] == servicer.ended


async def test_client_goes_from_a_hasty_stream() -> None:
    """A stream that never waits, to a server that never waits, lets the loop notice that the client went."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(2_000_000):
            yield HttpBody(data=b"x")

    servicer = StreamsServicer(act)
    reader = Reader(app=mount(servicer), path="/v1/export")
    reading = asyncio.create_task(reader.read())
    await settled(lambda: servicer.yielded > 0)
    reader.gone.set()
    await reading

    assert (True, True) == (servicer.context.cancelled(), servicer.closed)


async def test_server_says_that_the_client_went(caplog: pytest.LogCaptureFixture) -> None:
    """A server that raises OSError for a client that went ends the call as cancelled, and nothing is logged."""
    servicer = StreamsServicer(numbers(1, 2))
    await Reader(app=mount(servicer), fault=BrokenPipeError()).read()

    assert [(grpc.StatusCode.CANCELLED, 200, True)] == servicer.ended
    assert [] == caplog.records


@pytest.mark.parametrize(("where", "status", "pieces"), [("first", 504, 1), ("message", 200, 1), ("send", 200, 0)])
async def test_deadline(where: str, status: int, pieces: int) -> None:
    """`Grpc-Timeout` ends a stream, whatever it waits for: with a 504 before the first message, with a break after it."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        if where == "first":
            await asyncio.sleep(30)
        yield everything(1)
        await asyncio.sleep(30)

    servicer = StreamsServicer(act)
    reader = Reader(app=mount(servicer), headers={"Grpc-Timeout": "100m"})
    await reader.read(closed=where == "send")

    assert [(grpc.StatusCode.DEADLINE_EXCEEDED, status, True)] == servicer.ended
    assert (status, pieces, where == "first") == (reader.status, len(reader.pieces), reader.whole)


@pytest.mark.parametrize("more", [0, 5])
async def test_deadline_that_is_swallowed(more: int) -> None:
    """A servicer that swallows its cancellation does not make the half of a stream look whole."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        for number in range(more):
            yield everything(number)

    servicer = StreamsServicer(act)
    answer = await Reader(app=mount(servicer), headers={"Grpc-Timeout": "50m"}).read()

    assert ([b'{"int32Field":1}\n'], False) == (answer.pieces, answer.whole)
    assert [(grpc.StatusCode.DEADLINE_EXCEEDED, 200, True)] == servicer.ended


async def test_cancelled_from_outside() -> None:
    """A server that cancels the call closes the stream, and gets the cancellation back."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        await asyncio.sleep(30)

    servicer = StreamsServicer(act)
    reader = Reader(app=mount(servicer))
    reading = asyncio.create_task(reader.read())
    await settled(lambda: len(reader.sent) == 2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert ([(grpc.StatusCode.CANCELLED, 200, True)], False) == (servicer.ended, reader.whole)


async def test_ends_once_at_the_end() -> None:
    """The call ends for its callbacks when its last piece has been taken, once, and holds its budget until then."""

    class Budget:
        held = 0

        def acquire(self, n: int) -> None:
            self.held += n

        def release(self, n: int) -> None:
            self.held -= n

    budget = Budget()
    seen: list[tuple[int, bool, int]] = []

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(3):
            seen.append((budget.held, context.done(), len(servicer.ended)))
            yield everything(number)

    servicer = StreamsServicer(act)
    answer = await Reader(app=mount(servicer, body_budget=budget), method="POST", body=b'{"count": 5}').read()

    assert [(12, False, 0)] * 3 == seen
    assert (200, 3) == (answer.status, len(answer.pieces))
    assert (0, [(grpc.StatusCode.OK, 200, True)]) == (budget.held, servicer.ended)


async def test_refusals_come_first() -> None:
    """Who is not let in, or asks for what cannot be, runs nothing of the stream."""

    async def authorize(method: str, context: Any) -> None:
        if context.metadata("authorization") is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Who are you?")

    servicer = StreamsServicer(numbers(1))
    app = mount(servicer, authorize=authorize)
    unknown = await Reader(app=app).read()
    misfit = await Reader(app=app, method="POST", body=b"[]", headers={"Authorization": "me"}).read()

    assert (401, 400, None) == (unknown.status, misfit.status, servicer.context)


class Writes(StreamsServicer):
    """Writes what the test says instead of yielding it."""

    def __init__(self, act: Act) -> None:
        super().__init__(act)
        self.raised: list[BaseException] = []

    async def Watch(self, request: Any, context: Any) -> None:
        """Write what the test says."""
        self.context = context
        try:
            async for message in self.act(request, context):
                await context.write(message)
                self.yielded += 1
        except BaseException as error:
            self.raised.append(error)
            raise
        finally:
            # What a servicer does when it cleans up is not cut short.
            await asyncio.sleep(0.001)
            self.closed = True

    Export = Watch


async def test_writing() -> None:
    """A coroutine that writes its messages is served as a generator that yields them."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata([("x-last-position", "7")])
        yield everything(1)
        yield everything(2)

    answer = await Reader(app=mount(Writes(act))).read()
    empty = await Reader(app=mount(Writes(numbers()))).read()
    raw = await Reader(app=mount(Writes(files(HttpBody(content_type="text/csv", data=b"a")))), path="/v1/export").read()

    assert (200, "7", True) == (answer.status, answer.found["x-last-position"], answer.whole)
    assert [b'{"int32Field":1}\n', b'{"int32Field":2}\n'] == answer.pieces
    assert ((200, [], True), [b"a"]) == ((empty.status, empty.pieces, empty.whole), raw.pieces)


async def test_writing_waits_for_the_reader() -> None:
    """A message is written once the one before has been taken, and a reader that takes nothing ends the call."""
    servicer = Writes(numbers(*range(10)))
    reader = Reader(app=mount(servicer, reader_timeout=0.1))
    await reader.read(closed=True)

    assert (0, True, 0) == (servicer.yielded, servicer.closed, len(reader.pieces))
    assert [asyncio.CancelledError] == [type(error) for error in servicer.raised]


async def test_writing_to_nobody() -> None:
    """What a server raises for a client that has gone cancels the servicer that writes."""
    servicer = Writes(numbers(1, 2))
    await Reader(app=mount(servicer), fault=ConnectionResetError()).read()

    assert [asyncio.CancelledError] == [type(error) for error in servicer.raised]
    assert servicer.context.cancelled()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_writing_no_more_than_is_asked_for(method: str) -> None:
    """HEAD, and a 204, run a servicer that writes up to its first message, and then cancel it."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        if method == "GET":
            await context.send_initial_metadata([("x-http-code", "204")])
        yield everything(1)
        yield everything(2)

    servicer = Writes(act)
    answer = await Reader(app=mount(servicer), method=method).read()

    assert (204 if method == "GET" else 200, [], True) == (answer.status, answer.pieces, answer.whole)
    assert (0, True) == (servicer.yielded, servicer.closed)


async def test_writing_what_cannot_be_written() -> None:
    """A message that cannot be written is an error in the servicer, and of the answer where that lets it pass."""
    servicer = Writes(files(object()))
    answer = await Reader(app=mount(servicer)).read()

    assert (500, 1) == (answer.status, len(servicer.raised))


async def test_failing_behind_what_was_written() -> None:
    """What a servicer that writes raises later breaks the answer off, and so does a code that it sets."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        raise RefusalError("No.")

    async def code(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        context.set_code(grpc.StatusCode.ABORTED)

    for failing in (act, code):
        answer = await Reader(app=mount(Writes(failing))).read()
        assert (200, 1, False) == (answer.status, len(answer.pieces), answer.whole)


async def test_one_write_at_a_time() -> None:
    """A second write beside one that is going on is a mistake, and one behind the end of the call, too."""
    found: list[Any] = []

    class Twice(StreamsServicer):
        async def Watch(self, request: Any, context: Any) -> None:
            self.context = context
            found.extend(
                await asyncio.gather(*(context.write(everything(each)) for each in (1, 2)), return_exceptions=True)
            )

        Export = Watch

    servicer = Twice(numbers())
    answer = await Reader(app=mount(servicer)).read()

    assert ([b'{"int32Field":1}\n'], True) == (answer.pieces, answer.whole)
    assert [type(None), grpc.aio.UsageError] == [type(each) for each in found]
    with pytest.raises(grpc.aio.UsageError):
        await servicer.context.write(everything(3))


async def test_client_leaves_a_servicer_that_writes() -> None:
    """A servicer that writes is cancelled when its client goes, though it waits for something else."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        await asyncio.sleep(30)

    servicer = Writes(act)
    reader = Reader(app=mount(servicer))
    task = asyncio.create_task(reader.read())
    await settled(lambda: servicer.yielded == 1)
    reader.gone.set()
    await task

    assert (True, True) == (servicer.closed, servicer.context.cancelled())


EVENTS = {"accept": "text/event-stream"}
END = b'event: status\ndata: {"code":0,"message":"","details":[]}\n\n'


async def test_events() -> None:
    """A client that prefers events gets each message as one, and one that says that this was all; others get lines."""
    servicer = StreamsServicer(numbers(1, 2))
    answer = await Reader(app=mount(servicer), headers=EVENTS).read()
    lines = await Reader(app=mount(servicer), headers={"accept": "application/json, text/event-stream"}).read()

    assert {"content-type": "text/event-stream", "cache-control": "no-cache"} == answer.found
    assert [b'data: {"int32Field":1}\n\n', b'data: {"int32Field":2}\n\n', END] == answer.pieces
    assert answer.whole
    assert {"content-type": "application/x-ndjson"} == lines.found
    assert [b'{"int32Field":1}\n', b'{"int32Field":2}\n'] == lines.pieces


async def test_events_that_fail() -> None:
    """A failure behind the first event is an event with its Status, and the answer is broken off; one before is a plain error."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        raise RefusalError("No.")

    async def at_once(request: Any, context: Any) -> AsyncIterator[Any]:
        for message in ():
            yield message
        raise RefusalError("No.")

    answer = await Reader(app=mount(StreamsServicer(act)), headers=EVENTS).read()
    refused = await Reader(app=mount(StreamsServicer(at_once)), headers=EVENTS).read()

    status = b'{"code":14,"message":"No.","details":[]}'
    assert [b'data: {"int32Field":1}\n\n', b"event: status\ndata: " + status + b"\n\n"] == answer.pieces
    assert (200, False) == (answer.status, answer.whole)
    assert (503, "application/json", [status]) == (refused.status, refused.found["content-type"], refused.pieces)


async def test_events_to_nobody() -> None:
    """A client that has gone is told nothing."""

    async def act(request: Any, context: Any) -> AsyncIterator[Any]:
        yield everything(1)
        reader.fault = ConnectionResetError()
        raise RefusalError("No.")

    reader = Reader(app=mount(StreamsServicer(act)), headers=EVENTS)
    await reader.read()

    assert [b'data: {"int32Field":1}\n\n'] == reader.pieces


async def test_events_to_a_reader_that_takes_nothing() -> None:
    """A reader that has not taken an event is not waited for when the call has run out of time."""
    headers = EVENTS | {"grpc-timeout": "50m"}
    reader = Reader(app=mount(StreamsServicer(numbers(1, 2))), headers=headers)
    await reader.read(closed=True)

    assert ([], False) == (reader.pieces, reader.whole)


async def test_no_events() -> None:
    """Neither raw bodies nor HEAD have events, and an empty stream of them has its last one alone."""
    servicer = StreamsServicer(files(HttpBody(content_type="text/csv", data=b"a")))
    raw = await Reader(app=mount(servicer), path="/v1/export", headers=EVENTS).read()
    head = await Reader(app=mount(StreamsServicer(numbers(1))), method="HEAD", headers=EVENTS).read()
    empty = await Reader(app=mount(StreamsServicer(numbers())), headers=EVENTS).read()

    assert ({"content-type": "text/csv"}, [b"a"]) == (raw.found, raw.pieces)
    assert ("text/event-stream", []) == (head.found["content-type"], head.pieces)
    assert ("text/event-stream", [END], True) == (empty.found["content-type"], empty.pieces, empty.whole)
