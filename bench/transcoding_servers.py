"""
Two servers that give the same answer, so that their difference is the transcoder.

`python transcoding_servers.py transcoder` is a Transcoder around a servicer that does nothing;
`python transcoding_servers.py bare` is an application that reads the body and answers with the bytes that the other one makes.
Both run under uvicorn as the front does, print a JSON line with their address when they listen, and end with SIGTERM.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Final

import orjson
import uvicorn
import uvloop
from flagledger.transcoding import Codec, CodecOptions, Transcoder
from flagledger.v1 import evaluation_service_pb2

_SERVICE: Final = evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"]
_RESPONSE: Final = evaluation_service_pb2.RecordEvaluationsResponse()
_OPTIONS: Final = CodecOptions(preserving_proto_field_name=True, always_print_primitive=True)


class Servicer:
    """Answers at once, whatever it is asked."""

    async def RecordEvaluations(self, request: Any, context: Any) -> Any:  # noqa: ARG002 - grpc.aio's signature
        """Return the same response every time."""
        return _RESPONSE


async def bare(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - ASGI's signature
    """Read the body of a request, and answer it."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


_BODY: Final = Codec(_OPTIONS).serialize(_RESPONSE)
_HEADERS: Final = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


def application(kind: str) -> Any:
    """Return the application of *kind*."""
    if kind == "bare":
        return bare
    return Transcoder([(_SERVICE, Servicer())], preserving_proto_field_name=True, always_print_primitive=True)


async def _serve(kind: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        application(kind),
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_level="error",
    )
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    sys.stdout.buffer.write(orjson.dumps({"event": "ready", "address": address}) + b"\n")
    sys.stdout.buffer.flush()
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
