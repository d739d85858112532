from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import grpc
import orjson
import pytest
from flagledger.transcoding import CodecError, Transcoder
from google.rpc import code_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from transcoding.budget import Budget, RefusalError
from transcoding.conversation import Conversation, exchange
from transcoding.kitchen import Everything, GetRequest, HttpBody, Nested, call, service

LINES = {"content-type": "application/x-ndjson"}


def to_status(error: Exception) -> status_pb2.Status | None:
    """Map the application's own exception."""
    return (
        status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message=str(error))
        if isinstance(error, RefusalError)
        else None
    )


class RelayServicer:
    """Keeps what it was sent, and what became of the call; answers with the number, and with every message in turn."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.context: Any = None
        self.cancelled = False
        self.closed = asyncio.Event()

    def begin(self, context: Any) -> None:
        """Keep the context."""
        self.context = context
        context.add_done_callback(lambda _: self.closed.set())

    async def Gather(self, requests: Any, context: Any) -> Any:
        """Take all messages."""
        self.begin(context)
        try:
            async for request in requests:
                self.requests.append(request)
        except asyncio.CancelledError:
            self.cancelled = True
            # What a servicer does when it cleans up is not cut short.
            await asyncio.sleep(0.001)
            self.requests.append(None)
            raise
        return Everything(int32_field=len(self.requests))

    Store = Gather

    async def Talk(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        """Answer every message with itself."""
        self.begin(context)
        try:
            async for request in requests:
                self.requests.append(request)
                yield request
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    Copy = Talk

    async def Raw(self, request: Any, context: Any) -> Any:
        """Answer with the request."""
        self.begin(context)
        self.requests.append(request)
        return request

    Note = Raw

    async def Watch(self, request: Any, context: Any) -> None:
        """Answer with nothing."""


def mount(servicer: Any, **options: Any) -> Transcoder:
    """Return an application around *servicer*."""
    return Transcoder([(service("Relay"), servicer)], to_status=to_status, **options)


async def settled(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("pieces", "count"),
    [
        ([b'{"name":"a"}\n{"name":"b"}\n'], 2),
        ([b'{"name":"a"}\r\n\r\n \t\n{"name":"b"}'], 2),
        ([b'{"na', b'me":"a"}', b'\n{"name":"b"', b"}", b"\n"], 2),
        ([b"\n\n", b"", b'{"name":"a"}\n', b"\n"], 1),
        ([b""], 0),
        ([b" \n\t\n"], 0),
    ],
)
async def test_lines(pieces: list[bytes], count: int) -> None:
    """Every line that is not blank is a message, wherever the pieces of the body end."""
    servicer = RelayServicer()
    answer = await exchange(mount(servicer), "POST", "/v1/relay", pieces, LINES)

    assert (200, {"int32Field": count} if count else {}) == (answer.status, answer.json)
    assert ["a", "b"][:count] == [request.name for request in servicer.requests]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 200),
        ("application/x-ndjson", 200),
        ("Application/JSONL; charset=utf-8", 200),
        ("application/json", 200),
        ("application/vnd.kitchen+json", 200),
        ("text/plain", 415),
        ("application/x-protobuf", 415),
    ],
)
async def test_content_types(content_type: str | None, status: int) -> None:
    """Lines of JSON come under their own types or that of JSON, and other types are refused before the servicer runs."""
    servicer = RelayServicer()
    headers = {} if content_type is None else {"content-type": content_type}
    answer = await exchange(mount(servicer), "POST", "/v1/relay", b"{}\n", headers)

    assert status == answer.status
    assert (servicer.context is not None) is (status == 200)


async def test_a_single_message_takes_no_lines() -> None:
    """The types of lines are none of a body that is one message."""
    answer = await exchange(mount(RelayServicer()), "POST", "/v1/relay", b"{}", LINES)
    refused = await exchange(
        Transcoder([(service("RawRequestField"), Echo())]), "POST", "/v1/raw/a", b"{}", {"content-encoding": "br"}
    )

    assert (200, 415) == (answer.status, refused.status)


class Echo:
    """Answers with nothing, and keeps the request."""

    request: Any = None

    async def Call(self, request: Any, context: Any) -> Any:
        """Keep the request."""
        self.request = request
        return GetRequest()


async def test_body_field_path_and_query() -> None:
    """A line may be one field of the message, and path and query are set in every one."""
    servicer = RelayServicer()
    body = b'{"name":"x"}\n{"size":2}\n'
    answer = await exchange(mount(servicer), "POST", "/v1/relay/jar?query.int32_field=7&query.strings=a", body, LINES)

    assert 200 == answer.status
    query = Everything(int32_field=7, strings=["a"])
    assert [
        GetRequest(name="jar", query=query, nested=Nested(name="x")),
        GetRequest(name="jar", query=query, nested=Nested(size=2)),
    ] == servicer.requests


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/v1/relay/many:sizes", "nested.size"),
        ("/v1/relay/jar?query.int32_field=x", "query.int32_field"),
        ("/v1/relay?name=x", "name"),
    ],
)
async def test_path_and_query_are_looked_at_first(target: str, field: str) -> None:
    """What path and query say is refused before the first message, by its name and without an index."""
    servicer = RelayServicer()
    async with Conversation(mount(servicer), target, LINES) as conversation:
        conversation.finish()
        answer = await conversation.answer()

    assert (400, [field], None) == (answer.status, [name for name, _ in answer.violations], servicer.context)


@pytest.mark.parametrize(
    ("line", "path", "words"),
    [
        (b'{"name":5}', "[2].name", "has to be a string"),
        (b'{"query":{"nesteds":[{},{"size":"x"}]}}', "[2].query.nesteds[1].size", "is not an integer"),
        (b'{"nope":5}', "[2].nope", "is not a field"),
        (b"[]", "[2]", "has to be an object"),
        (b"nonsense", "[2]", "is not JSON"),
        (b"{}{}", "[2]", "is not JSON"),
        (b'{"name":"\xff"}', "[2]", "is not JSON"),
        (b'{"nested":' + b'{"inner":' * 50 + b"{}" + b"}" * 51, "[2]", ""),
    ],
)
async def test_bad_line(line: bytes, path: str, words: str) -> None:
    """A line that does not fit is a 400 that says which; the servicer has had those before it, and is cancelled."""
    servicer = RelayServicer()
    async with Conversation(mount(servicer), "/v1/relay", LINES) as conversation:
        conversation.say(b"{}\n{}\n" + line + b"\n{}\n")
        await conversation.hear()
        conversation.finish()
        answer = await conversation.answer()

    assert (400, 3) == (answer.status, answer.json["code"])
    assert [path] == [name[: len(path)] for name, _ in answer.violations]
    assert words in answer.violations[0][1]
    assert answer.json["message"].startswith(path)
    assert "close" == answer.headers["connection"]
    assert [GetRequest(), GetRequest(), None] == servicer.requests


async def test_bad_line_behind_the_end() -> None:
    """A bad last line leaves the connection as it is, for the body has been read, and the server's task as it was."""
    answer = await call(mount(RelayServicer()), "POST", "/v1/relay", [b"{}\n", b"x"], LINES)
    task = asyncio.current_task()

    assert (400, False) == (answer.status, "connection" in answer.headers)
    assert task is not None
    assert 0 == task.cancelling()


async def test_bad_line_of_a_repeated_field() -> None:
    """The index of the message comes before that of the body field's element."""
    app = mount(RelayServicer(), on_codec_error=lambda error: RefusalError(f"{error.path} {error.description}"))
    answer = await exchange(app, "POST", "/v1/relay/5:sizes", b'{}\n{"nesteds":[{"name":1}]}\n', LINES)

    assert (429, "[1].nesteds[0].name has to be a string, not a number") == (answer.status, answer.json["message"])


async def test_swallowed_cancellation() -> None:
    """A servicer that makes light of being cancelled does not turn a bad line into a success."""

    class Stubborn(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            try:
                await context.read()
            except asyncio.CancelledError:
                return Everything(int32_field=1)

    class Angry(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            try:
                await context.read()
            except asyncio.CancelledError:
                raise RefusalError("No.") from None

    for servicer in (Stubborn(), Angry()):
        answer = await exchange(mount(servicer), "POST", "/v1/relay", b"x\n", LINES)
        assert (400, "[0]") == (answer.status, answer.violations[0][0])


async def test_writing_behind_a_cancellation() -> None:
    """Nothing is sent behind a bad line, or behind the deadline, by a servicer that makes light of being cancelled."""

    class Stubborn(RelayServicer):
        async def Talk(self, requests: Any, context: Any) -> None:
            try:
                await context.read()
            except asyncio.CancelledError:
                await context.write(GetRequest(name="late"))

    class Split(RelayServicer):
        async def Talk(self, requests: Any, context: Any) -> None:
            writer = asyncio.create_task(Stubborn().Talk(requests, context))
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.wait([writer])

    for servicer in (Stubborn(), Split()):
        answer = await exchange(mount(servicer), "POST", "/v1/talk", b"x\n", LINES)
        assert (400, "[0]") == (answer.status, answer.violations[0][0])
    async with Conversation(mount(Stubborn()), "/v1/talk", LINES | {"grpc-timeout": "50m"}) as conversation:
        await conversation.hear()
        conversation.finish()
        assert 504 == (await conversation.answer()).status


async def test_bad_line_read_by_another_task() -> None:
    """A task of the servicer that reads is cancelled together with the call."""
    ended: list[bool] = []

    class Split(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            reader = asyncio.create_task(context.read())
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.wait([reader])
                ended.append(reader.cancelled())

    answer = await exchange(mount(Split()), "POST", "/v1/relay", b"x\n", LINES)

    assert (400, [True]) == (answer.status, ended)


async def test_answer_before_the_body_has_ended() -> None:
    """Messages go both ways in turn: the answer begins with the first, and ends with the body."""
    servicer = RelayServicer()
    async with Conversation(mount(servicer), "/v1/talk", LINES) as conversation:
        heard = []
        for number in range(3):
            conversation.say(b'{"name":"%d"}\n' % number)
            heard.append(await conversation.hear())
        conversation.finish()
        answer = await conversation.answer()

    assert [b'{"name":"0"}\n', b'{"name":"1"}\n', b'{"name":"2"}\n'] == heard
    assert (200, "application/x-ndjson", True) == (answer.status, answer.headers["content-type"], conversation.is_whole)


async def test_bad_line_breaks_off() -> None:
    """A bad line behind the beginning of the answer breaks it off, and the context says why."""
    servicer = RelayServicer()
    async with Conversation(mount(servicer), "/v1/talk", LINES) as conversation:
        conversation.say(b"{}\n")
        await conversation.hear()
        conversation.say(b'{"name":5}\n')
        answer = await conversation.answer()

    assert (200, b"{}\n", False) == (answer.status, answer.body, conversation.is_whole)
    assert (True, grpc.StatusCode.INVALID_ARGUMENT) == (servicer.cancelled, servicer.context.code())


async def test_response_body_of_every_message() -> None:
    """A body field and a response field may be one and the same."""
    answer = await exchange(mount(RelayServicer()), "POST", "/v1/talk/jar", b'{"name":"x"}\n{}\n', LINES)

    assert b'{"name":"x"}\n{}\n' == answer.body


async def test_reads_no_further_than_one_ahead() -> None:
    """Nothing but the next piece is asked for until the servicer reads on."""
    gate = asyncio.Semaphore(0)

    class Careful(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            async for request in requests:
                self.requests.append(request)
                await gate.acquire()
            return Everything()

    servicer = Careful()
    async with Conversation(mount(servicer), "/v1/relay", LINES) as conversation:
        conversation.say(*[b"{}\n"] * 5)
        await settled(lambda: len(servicer.requests) == 1)
        await asyncio.sleep(0.02)
        first = conversation.taken
        gate.release()
        await settled(lambda: len(servicer.requests) == 2)
        await asyncio.sleep(0.02)
        second = conversation.taken
        for _ in range(5):
            gate.release()
        conversation.finish()
        answer = await conversation.answer()

    assert (2, 3, 200) == (first, second, answer.status)


async def test_size_of_a_message() -> None:
    """The limit is that of a line: many go through, one that is longer is a 413, ended or not."""
    app = mount(RelayServicer(), max_body_bytes=100)
    many = await exchange(app, "POST", "/v1/relay", b'{"name":"x"}\n' * 100, LINES)
    exact = await exchange(app, "POST", "/v1/relay", b'{"name":"%s"}\n' % (b"x" * 89), LINES)
    long = await exchange(app, "POST", "/v1/relay", b'{}\n{"name":"%s"}\n' % (b"x" * 90), LINES)
    endless = Conversation(app, "/v1/relay", LINES)
    async with endless:
        endless.say(b"{}\n", b"x" * 101)
        endless.leave()
        unended = await endless.answer()

    assert (200, {"int32Field": 100}, 200) == (many.status, many.json, exact.status)
    assert (413, 8, True) == (long.status, long.json["code"], "[1]" in long.json["message"])
    assert 413 == unended.status


async def test_refusals_are_told() -> None:
    """What HTTP itself refuses a message with is told as for any body."""
    told: list[int] = []
    app = mount(RelayServicer(), max_body_bytes=100, on_refusal=told.append)
    await exchange(app, "POST", "/v1/relay", b"x" * 200, LINES)
    await exchange(app, "POST", "/v1/relay", b"{}", {"content-type": "text/plain"})
    await exchange(app, "POST", "/v1/relay", b"x", LINES)

    assert [413, 415] == told


async def test_gzip() -> None:
    """A compressed body is decompressed as it comes, in one member or many, and a message is had before the body has ended."""
    packer = zlib.compressobj(wbits=31)
    servicer = RelayServicer()
    async with Conversation(mount(servicer), "/v1/talk", LINES | {"content-encoding": "gzip"}) as conversation:
        conversation.say(packer.compress(b'{"name":"a"}\n') + packer.flush(zlib.Z_SYNC_FLUSH))
        first = await conversation.hear()
        conversation.say(packer.compress(b'{"name":"b"}\n') + packer.flush())
        second = await conversation.hear()
        conversation.say(gzip.compress(b'{"name":"c"}\n') * 100, last=True)
        answer = await conversation.answer()

    assert (b'{"name":"a"}\n', b'{"name":"b"}\n') == (first, second)
    assert (102, True) == (answer.body.count(b"\n"), conversation.is_whole)


async def test_blank_lines_are_bounded() -> None:
    """Lines that are blank count as well, a message at a time: compressed they cost next to nothing to send."""
    app = mount(RelayServicer(), max_body_bytes=100_000)
    headers = LINES | {"content-encoding": "gzip"}
    refused = await exchange(app, "POST", "/v1/relay", gzip.compress(b"{}\n" + b"\n" * (64 << 20)), headers)
    taken = await exchange(app, "POST", "/v1/relay", gzip.compress((b"\n" * 80_000 + b"{}\n") * 5), headers)

    assert (413, 200) == (refused.status, taken.status)


async def test_gzip_is_bounded() -> None:
    """A line that grows beyond the limit is refused once it does, however little was sent for it."""
    budget = Budget(1 << 30)
    app = mount(RelayServicer(), max_body_bytes=100_000, body_budget=budget)
    bomb = gzip.compress(b"{}\n" + b" " * 10 + b"x" * (64 << 20))
    answer = await exchange(app, "POST", "/v1/relay", bomb, LINES | {"content-encoding": "gzip"})

    assert (413, True) == (answer.status, "[1]" in answer.json["message"])
    assert (0, True) == (budget.held, budget.peak < 1_000_000)


@pytest.mark.parametrize(
    "body",
    [
        b"{}\n",
        gzip.compress(b"{}\n{}\n" * 20)[:-9],
        gzip.compress(b"{}\n") + b"rest",
        gzip.compress(b"") * 100,
    ],
)
async def test_gzip_that_is_none(body: bytes) -> None:
    """A body that is not gzip as a whole is a 400, whatever the servicer had of it."""
    answer = await exchange(mount(RelayServicer()), "POST", "/v1/relay", body, LINES | {"content-encoding": "gzip"})

    assert (400, 3, True) == (answer.status, answer.json["code"], "not gzip" in answer.json["message"])


async def test_a_message_that_stops_coming() -> None:
    """A line that has begun and does not go on is a 408, however often the client stirs."""
    app = mount(RelayServicer(), body_timeout=0.2)
    async with Conversation(app, "/v1/relay", LINES) as conversation:
        conversation.say(b'{}\n{"name"')
        for _ in range(20):
            conversation.say(b" ")
            await asyncio.sleep(0.02)
        conversation.finish()
        answer = await conversation.answer()

    assert (408, 4, True) == (answer.status, answer.json["code"], "[1]" in answer.json["message"])


async def test_a_message_that_takes_too_long() -> None:
    """A line that comes fast enough and does not end within the time of a body is a 408."""
    app = mount(RelayServicer(), body_timeout=5, body_deadline=0.2)
    async with Conversation(app, "/v1/relay", LINES) as conversation:
        conversation.say(b'{"name":"')
        for _ in range(30):
            conversation.say(b"x" * 4_000)
            await asyncio.sleep(0.02)
        conversation.finish()
        answer = await conversation.answer()

    assert 408 == answer.status


async def test_idle_between_messages() -> None:
    """Between two messages, and before the first, a client may be silent for longer than any body may take."""
    app = mount(RelayServicer(), body_timeout=0.1, body_deadline=0.1)
    async with Conversation(app, "/v1/talk", LINES) as conversation:
        await asyncio.sleep(0.25)
        conversation.say(b"{}\n")
        await conversation.hear()
        await asyncio.sleep(0.25)
        conversation.say(b"{}\n", last=True)
        answer = await conversation.answer()

    assert (200, b"{}\n{}\n", True) == (answer.status, answer.body, conversation.is_whole)


async def test_a_servicer_that_takes_its_time() -> None:
    """The time in which the servicer does not read is not the client's."""

    class Slow(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            await context.read()
            await asyncio.sleep(0.3)
            return Everything(string_field=(await context.read()).name)

    async with Conversation(mount(Slow(), body_timeout=0.1, body_deadline=0.1), "/v1/relay", LINES) as conversation:
        conversation.say(b'{}\n{"name":', b'"x"}\n', last=True)
        answer = await conversation.answer()

    assert (200, {"stringField": "x"}) == (answer.status, answer.json)


async def test_budget() -> None:
    """What is held of the budget is what has come of messages that were not taken yet, and nothing in the end."""
    held: list[int] = []
    budget = Budget(1_000)

    class Weigh(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            async for _ in requests:
                held.append(budget.held)  # noqa: PERF401  # it is looked at between two messages
            return Everything()

    async with Conversation(mount(Weigh(), body_budget=budget), "/v1/relay", LINES) as conversation:
        conversation.say(b'{"name":"%s"}\n' % (b"x" * 600), b'{"name":"', b"x" * 600, b'"}\n', last=True)
        answer = await conversation.answer()

    assert (200, [0, 0], 0) == (answer.status, held, budget.held)
    assert 600 < budget.peak < 700


async def test_over_the_budget() -> None:
    """A message that the budget has no room for ends the call with the application's own status."""
    budget = Budget(100)
    app = mount(RelayServicer(), body_budget=budget)
    answer = await exchange(app, "POST", "/v1/relay", [b"{}\n", b"x" * 200, b"\n"], LINES)

    assert (429, "Too many bytes are in flight.", 0) == (answer.status, answer.json["message"], budget.held)


async def test_element_errors_and_ignored_fields() -> None:
    """Collected errors are those of the message read last, with its index; ignored fields add up, and each is told once."""
    told: list[str] = []
    seen: list[Any] = []

    class Look(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            async for _ in requests:
                paths = [error.path for error in context.element_errors]
                seen.append((paths, context.ignored_fields))
            return Everything()

    app = mount(
        Look(),
        ignore_unknown_below={"kitchen.v1.GetRequest", "kitchen.v1.Nested"},
        collect_errors_in={"kitchen.v1.Nested.children"},
        on_ignored=told.append,
    )
    body = b'{"a":1,"nested":{"children":[{},{"size":"x"}]}}\n{"a":2,"b":3}\n'
    answer = await exchange(app, "POST", "/v1/relay", body, LINES)

    assert (200, ["a", "b"]) == (answer.status, told)
    assert [(["[0].nested.children[1].size"], ("a",)), ([], ("a", "b"))] == seen


async def test_reading_by_the_context() -> None:
    """`context.read` gives message after message, then EOF for ever; the iterator goes on where it stopped."""
    read: list[Any] = []

    class Read(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            read.append((await context.read()).name)
            read.extend([request.name async for request in requests])
            read.extend([await context.read(), await context.read()])
            return Everything()

    await exchange(mount(Read()), "POST", "/v1/relay", b'{"name":"a"}\n{"name":"b"}\n{"name":"c"}', LINES)

    assert ["a", "b", "c", grpc.aio.EOF, grpc.aio.EOF] == read


async def test_reading_and_writing_by_the_context() -> None:
    """A coroutine reads and writes as a generator yields."""

    class Write(RelayServicer):
        async def Talk(self, requests: Any, context: Any) -> None:
            while (request := await context.read()) is not grpc.aio.EOF:
                await context.write(request)
                await context.write(GetRequest(name="heard"))

    async with Conversation(mount(Write()), "/v1/talk", LINES) as conversation:
        conversation.say(b'{"name":"a"}\n')
        heard = [await conversation.hear(), await conversation.hear()]
        conversation.finish()
        answer = await conversation.answer()

    assert [b'{"name":"a"}\n', b'{"name":"heard"}\n'] == heard
    assert (200, True) == (answer.status, conversation.is_whole)


async def test_a_read_that_was_given_up() -> None:
    """A message whose read was cancelled half-way is there for the next."""
    read: list[str] = []
    ready = asyncio.Event()

    class Impatient(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(context.read(), 0.05)
            ready.set()
            read.append((await context.read()).name)
            return Everything()

    async with Conversation(mount(Impatient()), "/v1/relay", LINES) as conversation:
        conversation.say(b'{"name":')
        await ready.wait()
        conversation.say(b'"a"}\n', last=True)
        answer = await conversation.answer()

    assert (200, ["a"]) == (answer.status, read)


async def test_one_read_at_a_time() -> None:
    """A second read beside one that is going on is a mistake, and harms nothing."""
    refused: list[BaseException] = []

    class Twice(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            first, second = await asyncio.gather(context.read(), context.read(), return_exceptions=True)
            refused.append(second)
            return Everything(string_field=first.name)

    answer = await exchange(mount(Twice()), "POST", "/v1/relay", b'{"name":"a"}\n', LINES)

    assert (200, {"stringField": "a"}) == (answer.status, answer.json)
    assert isinstance(refused[0], grpc.aio.UsageError)


async def test_reading_after_the_end() -> None:
    """A task that outlives its call reads nothing any more."""
    left: list[asyncio.Task[Any]] = []

    class Leaky(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            self.begin(context)
            left.append(asyncio.create_task(requests.read()))
            await asyncio.sleep(0.01)
            return Everything()

    servicer = Leaky()
    async with Conversation(mount(servicer), "/v1/relay", LINES) as conversation:
        await settled(servicer.closed.is_set)
        conversation.leave()
        await conversation.answer()
        done, _ = await asyncio.wait(left, timeout=5)

    assert [True] == [isinstance(task.exception(), grpc.aio.UsageError) for task in done]
    with pytest.raises(grpc.aio.UsageError):
        await servicer.context.read()


async def test_client_goes() -> None:
    """A client that goes cancels the servicer, whether that reads or does something else, and nothing is answered."""

    class Busy(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            self.begin(context)
            try:
                await context.read()
                await asyncio.sleep(30)
            finally:
                self.cancelled = context.cancelled()

    for servicer in (RelayServicer(), Busy()):
        async with Conversation(mount(servicer), "/v1/relay", LINES) as conversation:
            conversation.say(b'{"name":"a"}\n')
            await settled(lambda servicer=servicer: servicer.context is not None)
            await asyncio.sleep(0.01)
            conversation.leave()
            async with asyncio.timeout(10):
                await servicer.closed.wait()
            assert (True, True, 499) == (servicer.cancelled, servicer.context.cancelled(), servicer.context.http_status)


async def test_client_goes_behind_its_body() -> None:
    """A client that goes while it waits for the answer cancels the servicer too."""

    class Waiting(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            self.begin(context)
            try:
                async for _ in requests:
                    pass
                await asyncio.sleep(30)
            finally:
                self.cancelled = context.cancelled()

    servicer = Waiting()
    async with Conversation(mount(servicer), "/v1/relay", LINES) as conversation:
        conversation.say(b"{}\n", last=True)
        conversation.leave()
        async with asyncio.timeout(10):
            await servicer.closed.wait()

    assert servicer.cancelled


async def test_deadline() -> None:
    """`Grpc-Timeout` bounds a call that waits for its client, and the client's unread body closes the connection."""
    servicer = RelayServicer()
    async with Conversation(mount(servicer), "/v1/relay", LINES | {"grpc-timeout": "50m"}) as conversation:
        conversation.say(b"{}\n")
        await conversation.hear()
        conversation.finish()
        answer = await conversation.answer()

    assert servicer.cancelled
    assert (504, 4, "close") == (answer.status, answer.json["code"], answer.headers["connection"])


async def test_headers_that_do_not_fit() -> None:
    """A `Grpc-Timeout` that is none is a 400 before the servicer runs."""
    servicer = RelayServicer()
    answer = await exchange(mount(servicer), "POST", "/v1/relay", b"{}\n", LINES | {"grpc-timeout": "soon"})

    assert (400, None) == (answer.status, servicer.context)


async def test_answer_that_waits_for_no_more() -> None:
    """A servicer that returns before the body has ended is answered for at once; the rest is read for a while, then cut."""

    class Hasty(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            return Everything(string_field=(await context.read()).name)

    async with Conversation(mount(Hasty()), "/v1/relay", LINES) as conversation:
        conversation.say(b'{"name":"a"}\n')
        heard = await conversation.hear()
        conversation.finish()
        answer = await conversation.answer()

    assert (200, b'{"stringField":"a"}', "close") == (answer.status, heard, answer.headers["connection"])
    assert conversation.is_whole


async def test_abort_before_the_body_has_ended() -> None:
    """What a servicer aborts with is the answer, whatever of the body is still to come."""

    class No(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            await context.read()
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "Not you.")

    async with Conversation(mount(No()), "/v1/relay", LINES) as conversation:
        conversation.say(b"{}\n")
        heard = await conversation.hear()
        conversation.finish()
        answer = await conversation.answer()

    assert (403, True, "close") == (answer.status, b"Not you." in heard, answer.headers["connection"])


async def test_raw_pieces() -> None:
    """Of a raw body every piece is a message, under the Content-Type of the request; an empty body is one message."""
    servicer = RelayServicer()
    headers = {"content-type": "text/csv"}
    async with Conversation(mount(servicer), "/v1/copy", headers) as conversation:
        conversation.say(b"a,b\n")
        first = await conversation.hear()
        conversation.say(b"", b"\xff\n", last=True)
        answer = await conversation.answer()
    stored = RelayServicer()
    await exchange(mount(stored), "POST", "/v1/store/a", b"", headers)

    assert (b"a,b\n", b"a,b\n\xff\n", "text/csv") == (first, answer.body, answer.headers["content-type"])
    assert [HttpBody(content_type="text/csv", data=data) for data in (b"a,b\n", b"\xff\n")] == servicer.requests
    assert [("a", "text/csv", b"")] == [(each.name, each.file.content_type, each.file.data) for each in stored.requests]


async def test_raw_gzip_and_size() -> None:
    """A raw body is decompressed in steps, and a piece is as large as a message may be."""
    servicer = RelayServicer()
    content = b"x" * 1_000_000
    await exchange(mount(servicer), "POST", "/v1/store/a", gzip.compress(content), {"content-encoding": "gzip"})
    refused = await exchange(mount(RelayServicer(), max_body_bytes=10), "POST", "/v1/store/a", [b"x" * 10, b"x" * 11])

    assert content == b"".join(each.file.data for each in servicer.requests)
    assert 1 < len(servicer.requests) < 10
    assert (413, True) == (refused.status, "[1]" in refused.json["message"])


async def test_other_methods() -> None:
    """HEAD and GET have no stream to send: they are told what the path takes; OPTIONS is answered."""
    app = mount(RelayServicer())
    found = [await exchange(app, method, "/v1/relay") for method in ("HEAD", "GET", "OPTIONS")]

    assert [405, 405, 204] == [answer.status for answer in found]
    assert {"OPTIONS, POST"} == {answer.headers["allow"] for answer in found}


async def test_any_method() -> None:
    """A stream under any method takes nothing of a GET, and HEAD runs it up to its first message."""
    app = mount(RelayServicer())
    get = await exchange(app, "GET", "/v1/talks")
    head = await exchange(app, "HEAD", "/v1/talks", b"{}\n{}\n", LINES)

    assert (200, b"", 200, b"") == (get.status, get.body, head.status, head.body)


@pytest.mark.parametrize(("error", "status"), [(ConnectionResetError(), None), (ValueError("x"), 500)])
async def test_a_channel_that_fails(error: Exception, status: int | None) -> None:
    """A channel that breaks is a client that has gone; one that fails otherwise is an error of the server."""
    servicer = RelayServicer()
    sent: list[Any] = []

    async def receive() -> Any:
        raise error

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/relay",
        "query_string": b"",
        "headers": [],
    }
    async with asyncio.timeout(10):
        await mount(servicer)(scope, receive, send)

    expected = [] if status is None else [status]
    assert expected == [each["status"] for each in sent[:1]]
    assert servicer.cancelled


def test_error_that_knows_its_path() -> None:
    """The path of an error that is prefixed with the index of its message reads as those of repeated fields do."""
    assert ["[3]", "[3].a", "[3][1]"] == [CodecError("is not", path).within("[3]").path for path in ("", "a", "[1]")]


@given(
    st.lists(st.text('ab\t "\\é\n', max_size=20), max_size=8),
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n\t\r\n"]), min_size=8, max_size=8),
    st.lists(st.integers(0, 10_000), max_size=8),
    st.booleans(),
)
def test_any_pieces(names: list[str], ends: list[bytes], cuts: list[int], is_gzip: bool) -> None:  # noqa: FBT001
    """Lines are the same messages wherever the body is cut, blank lines or none, compressed or not."""
    texts = [orjson.dumps({"name": name}) for name in names]
    body = b"".join(text + end for text, end in zip(texts, ends, strict=False))
    data = gzip.compress(body) if is_gzip else body
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    servicer = RelayServicer()

    async def run() -> None:
        headers = LINES | ({"content-encoding": "gzip"} if is_gzip else {})
        async with Conversation(mount(servicer), "/v1/relay", headers) as conversation:
            conversation.say(*(data[start:end] for start, end in pairwise(places)))
            conversation.finish()
            assert 200 == (await conversation.answer()).status

    asyncio.run(run())

    assert names == [request.name for request in servicer.requests]
