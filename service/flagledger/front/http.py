"""The HTTP front: one ASGI application of the transcoder (the API, out of the contract) and a few pages of our own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol
from urllib.parse import quote

import uvicorn
from google.protobuf.descriptor import ServiceDescriptor
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from flagledger.front import grpc
from flagledger.front.grpc import Servicer, ToStatus
from flagledger.front.limits import InFlight
from flagledger.telemetry.health import Readiness
from flagledger.transcoding import TranscodedContext, Transcoder
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch, IdentityTrait

_METADATA_HEADERS: Final = (
    "authorization",
    "flagsmith-sdk-user-agent",
    "idempotency-key",
    "user-agent",
    "x-environment-key",
)
_PAGES: Final = frozenset({"/", "/healthz", "/readyz", "/metrics"})
# Deeper than any valid value, so that one too deep costs only its evaluation, and less than protobuf refuses to read.
_MAX_JSON_DEPTH: Final = 45
_EVALUATIONS: Final = f"{EvaluationBatch.DESCRIPTOR.full_name}.evaluations"
# Batches with a few too many are refused by the servicer, with its own reason; those with more never get that far.
_FAR_TOO_MANY: Final = 4
_MAX_IGNORED_FIELDS: Final = 20
_PREFLIGHT_SECONDS: Final = 86_400
_BACKLOG: Final = 2048
_KEEP_ALIVE_SECONDS: Final = 75


class Metrics(grpc.Metrics, Protocol):
    """What the HTTP front counts."""

    def ignored(self, fields: int) -> None:
        """Count JSON *fields* that the contract does not know."""


def application(
    services: Sequence[tuple[ServiceDescriptor, Servicer]],
    *,
    max_body_bytes: int,
    max_evaluations: int,
    in_flight: InFlight,
    to_status: ToStatus,
    readiness: Readiness,
    exposition: Callable[[], tuple[bytes, str]],
    metrics: Metrics,
) -> ASGIApp:
    """
    Return the ASGI application.

    Args:
        services: Descriptors with the servicers that answer for them.
        max_body_bytes: Limit of a body, after decompression too.
        max_evaluations: Limit of a batch: one far over it must not be decoded first.
        in_flight: The budget of bytes and calls, shared with the gRPC front.
        to_status: Turns an exception into what the caller is told.
        readiness: What `/readyz` answers from.
        exposition: Returns the metrics of the whole process tree, and their content type.
        metrics: Where calls are counted.
    """
    servicers = {descriptor.full_name: servicer for descriptor, servicer in services}

    async def authorize(full_method_name: str, context: TranscodedContext) -> None:
        started = time.perf_counter()
        service, _, name = full_method_name[1:].rpartition("/")
        method = f"{service}.{name}"
        context.add_done_callback(
            lambda _: metrics.call("http", method, context.code().value[0], time.perf_counter() - started)
        )
        in_flight.enter()
        context.add_done_callback(lambda _: in_flight.leave())
        await servicers[service].authenticate(context)

    def on_response(context: TranscodedContext) -> list[tuple[bytes, bytes]]:
        ignored = context.ignored_fields
        if not ignored:
            return []
        return [(b"x-ignored-fields", ", ".join(map(_printable, ignored[:_MAX_IGNORED_FIELDS])).encode())]

    transcoder = Transcoder(
        services,
        max_body_bytes=max_body_bytes,
        max_depth=_MAX_JSON_DEPTH,
        header_allow_list=_METADATA_HEADERS,
        authorize=authorize,
        to_status=to_status,
        body_budget=in_flight,
        preserving_proto_field_name=True,
        always_print_primitive=True,
        int64_as_numbers=True,
        ignore_unknown_below={Evaluation.DESCRIPTOR.full_name, IdentityTrait.DESCRIPTOR.full_name},
        collect_errors_in={_EVALUATIONS},
        max_elements={_EVALUATIONS: _FAR_TOO_MANY * max_evaluations},
        on_ignored=lambda _: metrics.ignored(1),
        on_response=on_response,
    )
    pages = _pages(readiness, exposition)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in _PAGES:
            await pages(scope, receive, send)
        else:
            await transcoder(scope, receive, send)

    # The key is no secret and no cookie is read: any origin may send. An `Authorization` header is never added by a browser.
    return CORSMiddleware(
        dispatch,
        allow_origins=["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["Retry-After", "X-Ignored-Fields"],
        max_age=_PREFLIGHT_SECONDS,
    )


def _pages(readiness: Readiness, exposition: Callable[[], tuple[bytes, str]]) -> Router:
    async def healthz(_: Request) -> Response:
        """Answer that the process lives."""
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        """Answer whether evaluations are taken, and what is missing."""
        missing = readiness.missing()
        if missing:
            return JSONResponse({"status": "not ready", "missing": missing}, 503, {"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    async def metrics_page(_: Request) -> Response:
        """Answer with the metrics of the whole process tree."""
        body, content_type = exposition()
        return Response(body, media_type=content_type)

    async def index(_: Request) -> Response:
        """Say what this is and where to go."""
        return HTMLResponse(_INDEX, headers=_INDEX_HEADERS)

    return Router(
        [
            Route("/", index),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics_page),
        ]
    )


_INDEX_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_INDEX: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Flagledger</title>
<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }
dt { margin-top: .75rem } dd { margin-left: 1.5rem } code { font-size: .95em }
</style>
<h1>Flagledger</h1>
<p>Records what feature flags decided. Flag SDKs send their evaluations here; each is kept exactly once, and can be asked for.</p>
<dl>
<dt><code>POST /api/v2/analytics/evaluations</code></dt>
<dd>records a batch, under <code>X-Environment-Key</code>; also over gRPC as
 <code>flagledger.v1.EvaluationService/RecordEvaluations</code></dd>
<dt><code>GET /api/v2/analytics/evaluations</code></dt>
<dd>lists what was recorded, under <code>Authorization: Bearer &lt;read token&gt;</code></dd>
<dt><code>GET /api/v2/analytics/features</code></dt>
<dd>lists the features with their totals, under the same token</dd>
<dt><a href="/readyz"><code>/readyz</code></a>, <a href="/healthz"><code>/healthz</code></a>,
 <a href="/metrics"><code>/metrics</code></a></dt>
<dd>for whoever runs it</dd>
</dl>
<p>From a terminal: <code>flagledger evaluations</code> and <code>flagledger features</code>.</p>
</html>
"""


def _printable(path: str) -> str:
    """Return *path* fit for a header: a sender chose it."""
    return quote(path, safe="[]._-")


class Server(uvicorn.Server):
    """uvicorn on the loop that is there, with signals left to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the process ends both fronts together."""
        yield


def server(app: ASGIApp, *, drain_seconds: float) -> Server:
    """Return a server for *app*; `serve(sockets=[…])` runs it until `should_exit` is set and accepted requests are answered."""
    return Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            server_header=False,
            log_config=None,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=round(drain_seconds),
        )
    )
