"""
A stub of an InfluxDB: an HTTP server that takes line protocol as one does, and answers otherwise where a test says so.

It shows what is sent, and that points overwrite themselves; how an InfluxDB reads lines is shown by a real one.
"""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.line_protocol import Point, read_points


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request: its method, path with query, headers by small names, body unpacked, and the client's port."""

    method: str
    target: str
    headers: dict[str, str]
    body: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: its status, headers, and body, which may come in pieces with pauses before each."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pause: float = 0.0
    pieces: int = 1


def refusal(status: int, error: str, **headers: str) -> Reply:
    """Return what an InfluxDB 1 answers with where *error* is wrong."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers=named, body=json.dumps({"error": error}).encode())


class InfluxStub:
    """
    What was sent, and what is answered.

    Attributes:
        requests: Requests, in order.
        points: Counts by tags and timestamp, of requests that were answered with 204.
        replies: Answers to the next requests; once there are none, *answer* decides.
        answer: Returns what to answer with; None for 204.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.points: dict[tuple[tuple[tuple[str, str], ...], int], int] = {}
        self.replies: deque[Reply | None] = deque()
        self.answer: Callable[[Request], Reply | None] = lambda _request: None
        self.port = 0

    def take(self, request: Request) -> Reply:
        """Take *request* and return the answer."""
        self.requests.append(request)
        reply = self.replies.popleft() if self.replies else self.answer(request)
        if reply is not None:
            return reply
        for point in read_points(request.body):
            self.points[point.tags, point.timestamp] = count_of(point)
        return Reply(status=204)

    def bodies(self) -> list[list[str]]:
        """Return the lines of each request."""
        return [request.body.splitlines() for request in self.requests]

    def sums(self) -> Counter[tuple[tuple[str, str], ...]]:
        """Return the sum of counts by tags."""
        sums: Counter[tuple[tuple[str, str], ...]] = Counter()
        for (tags, _), count in self.points.items():
            sums[tags] += count
        return sums


def count_of(point: Point) -> int:
    """Return the field `count`, the only one, an integer."""
    ((name, value),) = point.fields
    assert ("flag_evaluations", "count", "i") == (point.measurement, name, value[-1])
    return int(value[:-1])


@contextmanager
def influxdb_stub(tls: ssl.SSLContext | None = None) -> Iterator[InfluxStub]:
    """Yield a stub that listens on `port` of loopback, over TLS where *tls* says how."""
    stub = InfluxStub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Status, headers and body are one piece each: without it, each answer would wait for the one before.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = stub.take(
                Request(
                    method=self.command,
                    target=self.path,
                    headers=headers,
                    body=body.decode(),
                    port=self.client_address[1],
                )
            )
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            time.sleep(reply.pause if reply.pieces == 1 else 0)
            self.end_headers()
            try:
                self._write(reply)
            except OSError:
                self.close_connection = True

        def _write(self, reply: Reply) -> None:
            size = -(-len(reply.body) // reply.pieces) or 1
            for i in range(0, len(reply.body), size):
                self.wfile.write(reply.body[i : i + size])
                self.wfile.flush()
                time.sleep(reply.pause if reply.pieces > 1 else 0)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    server.block_on_close = False
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
