"""
The load generator: a process of its own that takes one load a line on stdin, runs it, and prints one result a line.

It never waits with less than the asked number of batches in flight: group commit is only seen under load. It sends
bytes made beforehand and compares answers as bytes, so that most of its time is the transport's own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import batches
import grpc
import grpc.aio
import orjson
import uvloop
from tally import Load, Result, Tally

_UNARY = "/flagledger.v1.EvaluationService/RecordEvaluations"
_STREAM = "/flagledger.v1.EvaluationService/StreamEvaluations"
_PATH = "/api/v2/analytics/evaluations/"
_METADATA = (("x-environment-key", batches.KEY),)
# Answers that do not come are a failure, not a reason to wait for ever.
_PATIENCE = 30.0


async def run(load: Load) -> Result:
    """
    Run *load* and return what it came to.

    Raises:
        TimeoutError: Batches are still unanswered long after the window.
    """
    tally = Tally(load=load)
    send = {"unary": _send_unary, "stream": _send_stream, "json": _send_json}[load.transport]
    sending = asyncio.create_task(send(load, tally))
    for wait, then in ((load.warm_up, tally.open_window), (load.seconds, tally.close_window)):
        await asyncio.wait({sending}, timeout=wait)
        then()
    if sending.done():
        tally.failed("the connections ended before the window did")
    await asyncio.wait_for(sending, _PATIENCE)
    return tally.result()


def _channels(load: Load) -> list[grpc.aio.Channel]:
    # Channels of one process share a connection unless each has a pool of its own.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    return [grpc.aio.insecure_channel(load.address, options=options) for _ in range(load.connections)]


async def _send_unary(load: Load, tally: Tally) -> None:
    requests = batches.protobuf_batches(load.evaluations)
    expected = batches.answer(load.accepted)
    channels = _channels(load)

    async def one_at_a_time(call: Any) -> None:
        while tally.going():
            sent_at = time.perf_counter()
            try:
                answer = await call(next(requests), metadata=_METADATA, timeout=_PATIENCE)
            except grpc.aio.AioRpcError as error:
                tally.failed(f"{error.code().name}: {error.details()}")
                continue
            if answer == expected:
                tally.answered(sent_at)
            else:
                tally.failed(f"answer {answer!r}")

    calls: list[Any] = [channel.unary_unary(_UNARY) for channel in channels]
    await asyncio.gather(*(one_at_a_time(calls[index % len(calls)]) for index in range(load.in_flight)))
    await asyncio.gather(*(channel.close() for channel in channels))


async def _send_stream(load: Load, tally: Tally) -> None:
    requests = batches.protobuf_batches(load.evaluations)
    expected = batches.stream_answer(load.accepted)
    channels = _channels(load)
    window = max(1, load.in_flight // load.connections)

    async def one_stream(channel: grpc.aio.Channel) -> None:
        sent: deque[float] = deque()
        room = asyncio.Semaphore(window)

        async def messages() -> AsyncIterator[bytes]:
            while tally.going():
                await room.acquire()
                if tally.going():
                    sent.append(time.perf_counter())
                    yield next(requests)

        method: Any = channel.stream_stream(_STREAM)
        call = method(messages(), metadata=_METADATA)
        try:
            async for answer in call:
                sent_at = sent.popleft()
                if answer == expected:
                    tally.answered(sent_at)
                else:
                    tally.failed(f"answer {answer!r}")
                room.release()
        except grpc.aio.AioRpcError as error:
            tally.failed(f"{error.code().name}: {error.details()}")
        if sent:
            tally.failed(f"a stream ended with {len(sent)} batches unanswered")

    await asyncio.gather(*(one_stream(channel) for channel in channels))
    await asyncio.gather(*(channel.close() for channel in channels))


class _HttpConnection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request in flight."""

    def __init__(self, requests: Iterator[bytes], tally: Tally) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._status = b"HTTP/1.1 %d" % tally.load.status
        self._expected = b'"accepted_count":%d,' % tally.load.accepted
        self._tally = tally
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _content_length(head):
            return
        if head.startswith(self._status) and self._expected in body.replace(b" ", b""):
            self._tally.answered(self._sent_at)
        else:
            self._tally.failed((head.partition(b"\r\n")[0] + b" " + body).decode(errors="replace"))
        self._received = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._tally.failed(f"connection lost: {exc}")
            self.ended.set_result(None)

    def _send(self) -> None:
        if self._tally.going():
            self._sent_at = time.perf_counter()
            self._transport.write(next(self._requests))
        else:
            self.ended.set_result(None)
            self._transport.close()


def _content_length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0])


async def _send_json(load: Load, tally: Tally) -> None:
    requests = batches.http_requests(load.evaluations, load.address, _PATH)
    host, _, port = load.address.rpartition(":")
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(load.in_flight):
        _, connection = await loop.create_connection(lambda: _HttpConnection(requests, tally), host, int(port))
        connections.append(connection)
    await asyncio.gather(*(connection.ended for connection in connections))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    gc.freeze()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        try:
            outcome = dataclasses.asdict(await run(Load(**orjson.loads(line))))
        except Exception as error:  # noqa: BLE001 - the next load may go well, and whoever asked is told
            outcome = {"error": repr(error)}
        sys.stdout.buffer.write(orjson.dumps(outcome) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(_serve())
