from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import grpc
import pytest
import uvicorn
from flagledger.transcoding import Transcoder
from transcoding.kitchen import HttpBody, KitchenServicer, service


class Slow(KitchenServicer):
    """Waits, and tells what became of it."""

    def __init__(self) -> None:
        super().__init__()
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.done = asyncio.Event()

    async def Echo(self, request: Any, context: Any) -> Any:
        """Wait for half a minute, or for the end."""
        self.context = context
        context.add_done_callback(lambda _: self.done.set())
        self.started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request


class Export:
    """Sends pieces of a file, and tells how far it came."""

    def __init__(self, pieces: int, size: int, *, fails: bool = False) -> None:
        self.pieces = pieces
        self.size = size
        self.fails = fails
        self.sent = 0
        self.closed = asyncio.Event()

    async def Export(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send the pieces."""
        try:
            await context.send_initial_metadata([("x-last-position", "7")])
            for _ in range(self.pieces):
                self.sent += 1
                yield HttpBody(content_type="text/csv", data=b"x" * self.size)
            if self.fails:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Wait.")
        finally:
            self.closed.set()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send nothing."""
        for message in ():
            yield message


def mount_export(servicer: Export, **options: Any) -> Transcoder:
    """Return an application that exports."""
    return Transcoder([(service("Streams"), servicer)], **options)


class Server(uvicorn.Server):
    """A server that leaves signals to the tests."""

    def install_signal_handlers(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def serving(app: Any, http: str = "httptools") -> AsyncIterator[int]:
    """Serve *app* on a port of its own, and yield the port."""
    server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, http=http, log_level="critical", lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


class Client:
    """One HTTP/1.1 connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *pieces: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(b"".join(pieces))

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """Send a request with its length."""
        lines = [f"{method} {path} HTTP/1.1", "host: x"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"content-length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode(), body)

    async def answer(self, *, head: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next answer."""
        async with asyncio.timeout(10):
            raw = await self.reader.readuntil(b"\r\n\r\n")
            status, *lines = raw.decode().split("\r\n")[:-2]
            headers = dict(line.lower().split(": ", 1) for line in lines)
            length = int(headers.get("content-length", "0"))
            return int(status.split()[1]), headers, b"" if head else await self.reader.readexactly(length)

    async def closed(self) -> bool:
        """Tell whether the server closes the connection."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """Yield a connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def mount(servicer: Any = None, **options: Any) -> Transcoder:
    """Return the kitchen's application."""
    return Transcoder([(service("Kitchen"), servicer or KitchenServicer())], **options)


@pytest.fixture(params=["httptools", "h11"])
def http(request: pytest.FixtureRequest) -> str:
    """Return the HTTP implementation under uvicorn."""
    return str(request.param)


async def test_one_connection_many_requests(http: str) -> None:
    """Answers of every kind leave the connection usable: success, HEAD, OPTIONS, refusals with and without a body."""
    async with serving(mount(max_body_bytes=1_000), http) as port, connected(port) as client:
        expected = [200, 404, 405, 415, 413, 400, 200, 200]
        client.request("POST", "/v1/everything/", b'{"int32Field":5}')
        statuses = [(await client.answer())[0]]
        client.request("POST", "/nowhere", b"x" * 5_000)
        statuses.append((await client.answer())[0])
        client.request("DELETE", "/v1/everything", b"x" * 5_000)
        statuses.append((await client.answer())[0])
        client.request("POST", "/v1/everything", b"{}", content_type="text/plain")
        statuses.append((await client.answer())[0])
        client.request("POST", "/v1/everything", b"x" * 5_000)
        statuses.append((await client.answer())[0])
        client.request("POST", "/v1/everything", b"x")
        statuses.append((await client.answer())[0])
        client.request("POST", "/v1/everything", gzip.compress(b'{"int32Field":6}'), content_encoding="gzip")
        status, _, body = await client.answer()
        statuses.append(status)
        client.request("HEAD", "/v1/find")
        status, headers, _ = await client.answer(head=True)
        statuses.append(status)
        client.request("OPTIONS", "/v1/find")
        options = await client.answer()

    assert expected == statuses
    assert {"int32Field": 6} == json.loads(body)
    assert "2" == headers["content-length"]
    assert (204, "get, head, options") == (options[0], options[1]["allow"])


async def test_query_is_no_path(http: str) -> None:
    """The query that the server hands over is bound."""
    async with serving(mount(), http) as port, connected(port) as client:
        client.request("GET", "/v1/find?query.stringField=a%20b")
        _, _, body = await client.answer()

    assert {"stringField": "a b"} == json.loads(body)


async def test_chunked_over_the_limit(http: str) -> None:
    """A chunked body is cut at the limit with a 413 that the client gets to read, and the connection closes."""
    async with serving(mount(max_body_bytes=100_000), http) as port, connected(port) as client:
        client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(20):
            client.send(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        status, headers, body = await client.answer()
        client.send(b"0\r\n\r\n")
        closed = await client.closed()

    assert (413, "close", 8) == (status, headers["connection"], json.loads(body)["code"])
    assert closed


async def test_announced_over_the_limit(http: str) -> None:
    """A large announced body is refused before it is sent, and a client that sends on is read only for a while."""
    async with serving(mount(), http) as port, connected(port) as client:
        client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\ncontent-length: 67108864\r\n\r\n")
        status, headers, _ = await client.answer()
        sent = 0
        try:
            async with asyncio.timeout(8):
                while sent < 64 << 20:
                    client.send(b" " * 65_536)
                    await client.writer.drain()
                    sent += 65_536
        except ConnectionError:
            pass

    assert (413, "close") == (status, headers["connection"])
    assert sent < 32 << 20


async def test_expect_continue(http: str) -> None:
    """A client that waits for 100-continue gets it where the body is wanted, and the refusal where it is not."""
    async with serving(mount(max_body_bytes=100), http) as port, connected(port) as client:
        client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        async with asyncio.timeout(10):
            assert b"HTTP/1.1 100 Continue\r\n\r\n" == await client.reader.readuntil(b"\r\n\r\n")
        client.send(b"{}")
        assert 200 == (await client.answer())[0]
        client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 200\r\n\r\n")
        assert 413 == (await client.answer())[0]


@pytest.mark.parametrize("first", [b"", b"{"])
async def test_slow_body(http: str, first: bytes) -> None:
    """A body that stops coming is a 408 once the time is up, and the connection closes."""
    async with serving(mount(body_timeout=0.2), http) as port, connected(port) as client:
        client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n", first)
        status, headers, body = await client.answer()
        closed = await client.closed()

    assert (408, "close", 4) == (status, headers["connection"], json.loads(body)["code"])
    assert closed


async def test_trickling_body(http: str) -> None:
    """A client that sends a byte now and then does not keep its place by that."""
    async with serving(mount(body_timeout=0.3), http) as port, connected(port) as client:
        client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")

        async def trickle() -> None:
            while True:
                client.send(b" ")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(trickle())
        status, _, _ = await client.answer()
        task.cancel()

    assert 408 == status


@pytest.mark.parametrize("ahead", [0, 200_000])
async def test_sending_ahead(http: str, ahead: int) -> None:
    """Who sends most of a body at once and then trickles does not keep its place by that either."""
    async with serving(mount(body_timeout=0.3), http) as port, connected(port) as client:
        client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n", b" " * ahead)

        async def trickle() -> None:
            while True:
                client.send(b" ")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(trickle())
        async with asyncio.timeout(4):
            status, _, _ = await client.answer()
        task.cancel()

    assert 408 == status


async def test_body_deadline(http: str) -> None:
    """A body that comes fast enough and does not end within its time is a 408."""
    async with serving(mount(body_timeout=5, body_deadline=0.3), http) as port, connected(port) as client:
        client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n")

        async def flow() -> None:
            while True:
                client.send(b" " * 4_000)
                await asyncio.sleep(0.02)

        task = asyncio.create_task(flow())
        status, _, body = await client.answer()
        task.cancel()

    assert (408, 4) == (status, json.loads(body)["code"])


async def test_fast_enough(http: str) -> None:
    """A body that keeps up is taken, though it takes longer than the client may be behind."""
    async with serving(mount(body_timeout=0.5), http) as port, connected(port) as client:
        client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\ncontent-length: 100002\r\n\r\n")
        for _ in range(10):
            client.send(b" " * 10_000)
            await asyncio.sleep(0.08)
        client.send(b"{}")

        assert 200 == (await client.answer())[0]


async def test_client_goes_while_sending(http: str) -> None:
    """A client that goes in the middle of its body costs nothing but its own call."""
    servicer = KitchenServicer()
    async with serving(mount(servicer), http) as port:
        async with connected(port) as client:
            client.send(b"POST /v1/everything HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
            await client.writer.drain()
        async with connected(port) as client:
            client.request("POST", "/v1/everything", b"{}")
            assert 200 == (await client.answer())[0]


async def test_client_goes_while_waiting(http: str) -> None:
    """A call whose client goes is cancelled, its context says so, and its done callbacks are called."""
    servicer = Slow()
    async with serving(mount(servicer), http) as port:
        async with connected(port) as client:
            client.request("POST", "/v1/everything", b"{}")
            await servicer.started.wait()
            await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await servicer.cancelled.wait()
            await servicer.done.wait()

    assert servicer.context.cancelled()


async def test_call_that_takes_a_while(http: str) -> None:
    """A call that is watched for its client ends as any other, and the connection goes on."""

    class Patient(KitchenServicer):
        async def Echo(self, request: Any, context: Any) -> Any:
            await asyncio.sleep(0.2)
            return request

    async with serving(mount(Patient()), http) as port, connected(port) as client:
        for _ in range(2):
            client.request("POST", "/v1/everything", b'{"int32Field":5}')
            status, _, body = await client.answer()
            assert (200, {"int32Field": 5}) == (status, json.loads(body))


async def test_deadline(http: str) -> None:
    """A deadline ends a call over a real connection too."""
    servicer = Slow()
    async with serving(mount(servicer), http) as port, connected(port) as client:
        client.request("POST", "/v1/everything", b"{}", grpc_timeout="100m")
        status, _, _ = await client.answer()

    assert 504 == status
    assert servicer.cancelled.is_set()
    assert not servicer.context.cancelled()


@pytest.mark.parametrize(
    "refuse",
    [
        lambda client: client.request("GET", "/v1/find?query.stringField=%zz"),
        lambda client: client.request("GET", "/v1/%zz"),
        lambda client: client.request("GET", "/" + "x" * 8_000),
        lambda client: client.request("GET", "//v1/find"),
        lambda client: client.request("GET", "/v1/../v1/find"),
    ],
)
async def test_odd_targets(refuse: Callable[[Client], None]) -> None:
    """Odd request targets are a 4xx with a Status, and nothing else."""
    async with serving(mount()) as port, connected(port) as client:
        refuse(client)
        status, headers, body = await client.answer()

    assert status in {400, 404}
    assert "application/json" == headers["content-type"]
    assert {"code", "message", "details"} == set(json.loads(body))


def get(port: int, method: str = "GET") -> tuple[int, str | None, bytes]:
    """Return status, last position and body of an export, as an ordinary client gets it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, "/v1/export")
        response = connection.getresponse()
        return response.status, response.getheader("x-last-position"), response.read()
    finally:
        connection.close()


async def test_stream(http: str) -> None:
    """A stream arrives whole, and its connection goes on; so it does after HEAD, which reads no further than the headers."""
    servicer = Export(5, 1_000)
    async with serving(mount_export(servicer), http) as port, connected(port) as client:
        whole = await asyncio.to_thread(get, port)
        sent = servicer.sent
        client.request("HEAD", "/v1/export")
        head = await client.answer(head=True)
        client.request("GET", "/v1/export")
        again = await client.reader.readuntil(b"\r\n0\r\n\r\n")
        client.request("GET", "/nowhere")
        after = await client.answer()

    assert (200, "7", b"x" * 5_000) == whole
    assert (200, "7") == (head[0], head[1]["x-last-position"])
    assert (5_000, 404) == (again.partition(b"\r\n\r\n")[2].count(b"x"), after[0])
    assert (5, 11) == (sent, servicer.sent)


async def test_stream_broken_off(http: str) -> None:
    """A stream that fails behind its first message is one that no client takes for whole."""
    servicer = Export(5, 1_000, fails=True)
    async with serving(mount_export(servicer), http) as port:
        with pytest.raises(IncompleteRead) as broken:
            await asyncio.to_thread(get, port)

    assert b"x" * 5_000 == broken.value.partial


async def test_stream_that_fails_at_once(http: str) -> None:
    """A stream that fails before its first message is a plain error, and its connection goes on."""
    async with serving(mount_export(Export(0, 0, fails=True)), http) as port, connected(port) as client:
        client.request("GET", "/v1/export")
        status, _, body = await client.answer()
        client.request("GET", "/nowhere")
        after = await client.answer()

    assert (503, 14, 404) == (status, json.loads(body)["code"], after[0])


async def test_slow_reader(http: str) -> None:
    """A client that does not read holds the stream up, and gets all of it once it does."""
    servicer = Export(200, 256 * 1024)
    async with serving(mount_export(servicer), http) as port, connected(port) as client:
        client.request("GET", "/v1/export")
        before = -1
        # What fits into the buffers of both ends is on its way; then nothing moves.
        while servicer.sent != before:
            before = servicer.sent
            await asyncio.sleep(0.3)
        held = servicer.sent
        async with asyncio.timeout(30):
            size = 0
            while not servicer.closed.is_set():
                size += len(await client.reader.read(1 << 20))

    assert 0 < held < 100
    assert 200 == servicer.sent


async def test_idle_reader(http: str) -> None:
    """A client that reads nothing for a while is as good as gone: the stream is closed, and no other keeps waiting for it."""
    servicer = Export(200, 256 * 1024)
    async with serving(mount_export(servicer, reader_timeout=0.3), http) as port, connected(port) as client:
        client.request("GET", "/v1/export")
        async with asyncio.timeout(10):
            await servicer.closed.wait()

    assert 0 < servicer.sent < 100


@pytest.mark.parametrize("pause", [0, 0.3])
async def test_client_leaves_a_stream(http: str, pause: float) -> None:
    """A stream whose client goes is closed, whether that was reading or had stopped."""
    servicer = Export(1_000_000, 64 * 1024)
    async with serving(mount_export(servicer), http) as port:
        async with connected(port) as client:
            client.request("GET", "/v1/export")
            await client.reader.readexactly(1 << 20)
            await asyncio.sleep(pause)
        async with asyncio.timeout(10):
            await servicer.closed.wait()

    assert 0 < servicer.sent < 1_000_000
