"""
The floors that are servers: what the frameworks cost when nothing is done with a request.

`python standins.py grpc` is a grpc.aio server whose handlers take bytes and answer bytes made beforehand;
`python standins.py http` is uvicorn with httptools and uvloop around an application that reads the body and answers
202. Both print a JSON line with their address when they listen, and end with SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import batches
import grpc
import grpc.aio
import orjson
import uvicorn
import uvloop

# Evaluations that every answer claims to have accepted, whatever was sent.
ACCEPTED = 100


def _ready(port: int) -> None:
    sys.stdout.buffer.write(orjson.dumps({"event": "ready", "address": f"127.0.0.1:{port}"}) + b"\n")
    sys.stdout.buffer.flush()


async def _unary(request: bytes, context: object) -> bytes:  # noqa: ARG001 - grpc.aio's signature
    return _ANSWER


async def _stream(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:  # noqa: ARG001 - grpc.aio's signature
    async for _ in requests:
        yield _STREAM_ANSWER


_ANSWER = batches.answer(ACCEPTED)
_STREAM_ANSWER = batches.stream_answer(ACCEPTED)


async def _serve_grpc() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "flagledger.v1.EvaluationService",
                {
                    "RecordEvaluations": grpc.unary_unary_rpc_method_handler(_unary),
                    "StreamEvaluations": grpc.stream_stream_rpc_method_handler(_stream),
                },
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    _ready(port)
    await stopping.wait()
    await server.stop(None)


async def _application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 202, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


_BODY = orjson.dumps({"accepted_count": ACCEPTED, "filtered_count": 0, "rejected_count": 0, "duplicate": False})
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


async def _serve_http() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        _application, loop="uvloop", http="httptools", log_level="error", access_log=False, lifespan="off"
    )
    _ready(listener.getsockname()[1])
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run({"grpc": _serve_grpc, "http": _serve_http}[sys.argv[1]]())
