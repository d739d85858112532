"""The HTTP front: one ASGI application of the transcoder (the API, out of the contract), the dashboard, and a few pages."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, cast
from urllib.parse import quote

import uvicorn
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import code_pb2
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from flagledger.catalog.base import Environment, Token
from flagledger.compat.flagsmith import FlagsmithRoutes, OlderSdks
from flagledger.dashboard import assets
from flagledger.dashboard.pages import READING, Dashboard
from flagledger.dashboard.session import CookieReader
from flagledger.errors import FieldViolation, FlagledgerError, Reason
from flagledger.front import grpc, openapi
from flagledger.front.connection import BoundedProtocol
from flagledger.front.cors import CrossOrigin, Environments
from flagledger.front.grpc import Servicer, ToStatus
from flagledger.front.limits import InFlight
from flagledger.telemetry.health import Readiness
from flagledger.transcoding import CodecError, TooManyElementsError, TranscodedContext, Transcoder
from flagledger.transcoding import status as statuses
from flagledger.transcoding.pages import Pages
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch, IdentityTrait

_METADATA_HEADERS: Final = (
    "authorization",
    "flagsmith-sdk-user-agent",
    "idempotency-key",
    "origin",
    "user-agent",
    "x-environment-key",
)
# Deeper than any valid value, so that one too deep costs only its evaluation, and less than protobuf refuses to read.
_MAX_JSON_DEPTH: Final = 45
_EVALUATIONS: Final = f"{EvaluationBatch.DESCRIPTOR.full_name}.evaluations"
_MAX_IGNORED_FIELDS: Final = 20
_BACKLOG: Final = 2048
_KEEP_ALIVE_SECONDS: Final = 75


class Metrics(grpc.Metrics, Protocol):
    """What the HTTP front counts."""

    def refused_by_http(self, status: int) -> None:
        """Count a request that HTTP itself refused with *status*."""

    def ignored(self, fields: int) -> None:
        """Count JSON *fields* that the contract does not know."""


def application(
    services: Sequence[tuple[ServiceDescriptor, Servicer]],
    *,
    max_body_bytes: int,
    max_evaluations: int,
    in_flight: InFlight,
    asking: InFlight,
    to_status: ToStatus,
    readiness: Readiness,
    exposition: Callable[[], tuple[bytes, str]],
    token: Callable[[str], Awaitable[Token | None]],
    metrics: Metrics,
    older_sdks: OlderSdks | None = None,
    environments: Environments | None = None,
) -> ASGIApp:
    """
    Return the ASGI application.

    Args:
        services: Descriptors with the servicers that answer for them.
        max_body_bytes: Limit of a body, after decompression too.
        max_evaluations: Limit of a batch: one over it must not be decoded first.
        in_flight: The budget of bytes and calls, shared with the gRPC front.
        asking: That of QueryService.
        to_status: Turns an exception into what the caller is told.
        readiness: What `/readyz` answers from.
        exposition: Returns the metrics of the whole process tree, and their content type.
        token: Returns what a reader's token permits, for those who sign in to the dashboard.
        metrics: Where calls are counted.
        older_sdks: What is done with what SDKs send by protocols older than the contract; None serves no route of theirs.
        environments: Returns every environment, for the origins that may send; None lets any.
    """
    servicers = {descriptor.full_name: servicer for descriptor, servicer in services}

    async def authorize(full_method_name: str, context: TranscodedContext) -> None:
        started = time.perf_counter()
        service, _, name = full_method_name[1:].rpartition("/")
        method = f"{service}.{name}"
        context.add_done_callback(
            lambda _: metrics.call("http", method, context.code().value[0], time.perf_counter() - started)
        )
        budget = asking if service == grpc.QUERY_SERVICE else in_flight
        try:
            budget.enter()
        except FlagledgerError as error:
            # The front's own; what a servicer refuses it counts itself.
            metrics.refused(error.reason)
            raise
        context.add_done_callback(lambda _: budget.leave())
        await servicers[service].authenticate(context)

    def on_codec_error(error: CodecError) -> FlagledgerError:
        refusal = _refusal(error)
        metrics.refused(refusal.reason)
        return refusal

    def on_response(context: TranscodedContext) -> list[tuple[bytes, bytes]]:
        ignored = context.ignored_fields
        if not ignored:
            return []
        return [(b"x-ignored-fields", ", ".join(map(_printable, ignored[:_MAX_IGNORED_FIELDS])).encode())]

    budget_of_bytes = _Budget(in_flight, metrics)
    transcoder = Transcoder(
        services,
        max_body_bytes=max_body_bytes,
        max_depth=_MAX_JSON_DEPTH,
        header_allow_list=_METADATA_HEADERS,
        authorize=authorize,
        to_status=to_status,
        body_budget=budget_of_bytes,
        preserving_proto_field_name=True,
        always_print_primitive=True,
        int64_as_numbers=True,
        ignore_unknown_below={Evaluation.DESCRIPTOR.full_name, IdentityTrait.DESCRIPTOR.full_name},
        collect_errors_in={_EVALUATIONS},
        max_elements={_EVALUATIONS: max_evaluations},
        on_codec_error=on_codec_error,
        on_refusal=metrics.refused_by_http,
        on_ignored=lambda _: metrics.ignored(1),
        on_response=on_response,
    )
    recording: ASGIApp = transcoder
    if older_sdks is not None:
        recording = FlagsmithRoutes(
            transcoder,
            older_sdks,
            max_body_bytes=max_body_bytes,
            calls=in_flight,
            byte_budget=budget_of_bytes,
            metrics=metrics,
        )
    # The key is no secret: any origin may send that its environment does not rule out. Reading takes an `Authorization` header,
    # which no browser adds by itself, or the dashboard's cookie, which counts for pages of our own origin alone; and no answer
    # to credentials is for others to read.
    cors = CrossOrigin(recording, environments or _no_environments)
    api = Pages(CookieReader(cors), functools.partial(openapi.document, transcoder), on_refusal=metrics.refused_by_http)
    pages = _pages(readiness, exposition)
    dashboard = Dashboard(token, assets.charts())

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        page = pages.get(path)
        methods = READING if page else dashboard.methods(path)
        if methods is None:
            await api(scope, receive, send)
        elif scope["method"] in methods:
            response = page() if page else await dashboard.answer(Request(scope, receive))
            await response(scope, receive, send)
        else:
            metrics.refused_by_http(405)
            await _method_not_allowed(methods)(scope, receive, send)

    return dispatch


async def _no_environments() -> Mapping[str, Environment]:
    return {}


class _Budget:
    """The budget of bytes, with its refusals counted."""

    def __init__(self, in_flight: InFlight, metrics: Metrics) -> None:
        self._in_flight = in_flight
        self._metrics = metrics
        self.release = in_flight.release

    def acquire(self, size: int, /) -> None:
        """Take *size* bytes; FlagledgerError where that would be too many."""
        try:
            self._in_flight.acquire(size)
        except FlagledgerError as error:
            self._metrics.refused(error.reason)
            raise


def _refusal(error: CodecError) -> FlagledgerError:
    """Return what does not fit a message as the refusal that the same gets over gRPC."""
    if isinstance(error, TooManyElementsError) and error.field == _EVALUATIONS:
        most = f"{error.most:,}"
        return FlagledgerError(
            Reason.BATCH_TOO_LONG,
            f"The batch has more than {most} evaluations. Send smaller batches.",
            violations=(FieldViolation(field=error.path, description=f"There are more than {most}."),),
        )
    violations = (FieldViolation(field=error.path, description=error.description),) if error.path else ()
    return FlagledgerError(Reason.MALFORMED, error.sentence, violations=violations)


def _pages(readiness: Readiness, exposition: Callable[[], tuple[bytes, str]]) -> dict[str, Callable[[], Response]]:
    def healthz() -> Response:
        """Answer that the process lives."""
        return JSONResponse({"status": "alive"})

    def readyz() -> Response:
        """Answer whether evaluations are taken, and what is missing."""
        missing = readiness.missing()
        if missing:
            return JSONResponse({"status": "not ready", "missing": missing}, 503, {"Retry-After": "1"})
        return JSONResponse({"status": "ready"})

    def metrics_page() -> Response:
        """Answer with the metrics of the whole process tree."""
        body, content_type = exposition()
        return Response(body, media_type=content_type)

    return {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics_page}


def _method_not_allowed(methods: Sequence[str]) -> Response:
    allow = ", ".join(methods)
    status = statuses.make(code_pb2.UNIMPLEMENTED, f"This path takes {allow}.")
    return Response(statuses.body(status), 405, {"Allow": allow}, "application/json")


def _printable(path: str) -> str:
    """Return *path* fit for a header: a sender chose it."""
    return quote(path, safe="[]._-")


class Server(uvicorn.Server):
    """uvicorn on the loop that is there, with signals left to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the process ends both fronts together."""
        yield


def server(app: ASGIApp, *, drain_seconds: float, refused: Callable[[int], None] = lambda _: None) -> Server:
    """
    Return a server for *app*; `serve(sockets=[…])` runs it until `should_exit` is set and accepted requests are answered.

    Args:
        app: What answers.
        drain_seconds: Seconds that requests get to be answered at the end.
        refused: Called with the status of what is refused before it is a request: 400, 408, 431.
    """
    return Server(
        uvicorn.Config(
            app,
            http=cast("Any", functools.partial(BoundedProtocol, refused=refused)),
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
