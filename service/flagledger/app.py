"""
The place where the parts are put together: what a front is made of, and what the writer is.

Run by the supervisor as `python -m flagledger.app`, with its settings on stdin (see `flagledger.supervisor`). Imports of parts
stand in the functions: a front that loaded the store, or a writer that loaded HTTP, would take memory for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import uvloop
from google.protobuf.internal import api_implementation
from google.rpc import code_pb2, status_pb2

from flagledger.catalog.base import Token
from flagledger.catalog.cache import CachedCatalog
from flagledger.catalog.document import CatalogError
from flagledger.catalog.sources import declared_environments, open_catalog
from flagledger.config import Config, parse_address
from flagledger.errors import FlagledgerError, to_status
from flagledger.journal.base import JournalError
from flagledger.journal.sqlite import SqliteJournal
from flagledger.supervisor import CannotRunError, ProcessSettings, die_with, read_line, report
from flagledger.telemetry import metrics
from flagledger.telemetry.health import Readiness
from flagledger.telemetry.logging import configure, get_logger

if TYPE_CHECKING:
    from flagledger.front.forward import Forwarder
    from flagledger.front.grpc import Server
    from flagledger.front.limits import InFlight
    from flagledger.query.journal_state import JournalState
    from flagledger.store.base import Store
    from flagledger.writer import Writer

_MIB: Final = 1 << 20
_HEALTH_SECONDS: Final = 0.5
_OBSERVE_SECONDS: Final = 1.0
_OPEN_POLL_SECONDS: Final = 0.01
# Less than what the supervisor gives a child to be ready.
_OPEN_SECONDS: Final = 20.0
_QUESTION_SECONDS: Final = 1.0
_SAY_AGAIN_SECONDS: Final = 60.0
# What a process leaves to the others between two commits, where there are others.
_BREATH_SECONDS: Final = 0.0003


def main() -> int:
    """Read the settings from stdin, run what they say, and return the exit code."""
    parent = os.getppid()
    settings = ProcessSettings.from_json(read_line())
    die_with(parent)
    configure(settings.name())
    config = Config.from_json(settings.config)
    if api_implementation.Type() != "upb":
        # Twenty times slower, and admission reads the bytes as upb writes them.
        report(fatal="The installed protobuf runs without its compiled part (upb); install a wheel for this platform.")
        return 1
    run = _run_writer if settings.role == "writer" else _run_front
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(config, settings))
    except (CannotRunError, JournalError) as error:
        report(fatal=str(error))
        return 1
    return 0


async def _run_front(config: Config, settings: ProcessSettings) -> None:
    """Serve both protocols until told to stop, then finish what was accepted."""
    from flagledger.compat.flagsmith import OlderSdks  # noqa: PLC0415
    from flagledger.front import grpc as grpc_front  # noqa: PLC0415
    from flagledger.front import http  # noqa: PLC0415
    from flagledger.front.forward import Forwarder  # noqa: PLC0415
    from flagledger.front.limits import MAX_QUESTIONS, InFlight  # noqa: PLC0415
    from flagledger.ingest.limits import Limits  # noqa: PLC0415
    from flagledger.ingest.servicer import EvaluationServicer  # noqa: PLC0415
    from flagledger.query.servicer import QueryServicer  # noqa: PLC0415
    from flagledger.v1 import evaluation_service_pb2, query_service_pb2  # noqa: PLC0415

    stopping = _stop_signal()
    counted = metrics.FrontMetrics()
    catalog, watching = _catalog(config, settings, counted)
    journal = _journal(config)
    readiness = Readiness({"journal writable": journal.writable, "catalog loaded": catalog.ready})
    in_flight = InFlight(max_bytes=config.max_in_flight_bytes, max_calls=config.max_concurrent_calls)
    asking = InFlight(max_bytes=config.max_body_bytes, max_calls=MAX_QUESTIONS)
    limits = Limits(max_evaluations=config.max_evaluations)
    evaluations = EvaluationServicer(
        catalog,
        journal,
        limits,
        metrics=counted,
        secret=settings.identity_secret.encode(),
        fronts=config.fronts,
    )
    evaluation_service = evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"]
    query_service = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
    queries = Forwarder(
        query_service,
        _query_target(settings),
        QueryServicer(catalog, _no_store).authenticate,
        # It waits until the writer has come so far, and overwrites what was.
        unhurried={"DeleteIdentity"},
    )
    services: list[tuple[Any, Any]] = [(evaluation_service, evaluations), (query_service, queries)]

    grpc_server = grpc_front.Server(
        services,
        in_flight=in_flight,
        asking=asking,
        to_status=_to_status,
        metrics=counted,
        max_message_bytes=config.max_body_bytes,
    )
    await grpc_server.start(settings.grpc)

    pages = http.application(
        services,
        max_body_bytes=config.max_body_bytes,
        max_evaluations=config.max_evaluations,
        in_flight=in_flight,
        asking=asking,
        to_status=_to_status,
        readiness=readiness,
        exposition=metrics.exposition,
        token=catalog.token,
        environments=catalog.environments
        if config.is_file_catalog
        else declared_environments(config.declared_policies),
        metrics=counted,
        older_sdks=OlderSdks(
            servicer=evaluations,
            limits=limits,
            secret=settings.identity_secret.encode(),
            recognise_resends=config.recognise_resent_bodies,
        ),
    )
    with _listening(settings.http) as listener:
        web = http.server(pages, drain_seconds=config.drain_seconds, refused=counted.refused_by_http)
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        reporting = asyncio.create_task(_report_health(grpc_server, readiness, in_flight, queries))
        while not web.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        # What was made at start lives as long as the process: the collector need not look at it again.
        gc.freeze()
        report(ready=True)
        await _first(stopping.wait(), serving)

        readiness.drain()
        evaluations.drain()
        web.should_exit = True
        await asyncio.gather(grpc_server.stop(config.drain_seconds), serving)
        reporting.cancel()
    await _ended(watching)
    await queries.close()
    await asyncio.to_thread(journal.close)


async def _run_writer(config: Config, settings: ProcessSettings) -> None:
    """Move the journal into the store and answer questions until told to stop, then apply what is left."""
    import grpc  # noqa: PLC0415

    from flagledger.front import grpc as grpc_front  # noqa: PLC0415
    from flagledger.front.limits import InFlight  # noqa: PLC0415
    from flagledger.query.recorded import RecordedEnvironments  # noqa: PLC0415
    from flagledger.query.servicer import QueryServicer  # noqa: PLC0415
    from flagledger.store.duckdb.store import DuckDBStore  # noqa: PLC0415
    from flagledger.upkeep import Retention  # noqa: PLC0415
    from flagledger.v1 import query_service_pb2  # noqa: PLC0415
    from flagledger.writer import Writer  # noqa: PLC0415

    stopping = _stop_signal()
    counted = metrics.WriterMetrics()
    catalog, watching = _catalog(config, settings)
    journal = _journal(config)
    writer = Writer(
        journal,
        lambda: DuckDBStore(
            config.store_path,
            accept_gap=config.accept_gap,
            memory_limit=f"{config.store_memory_bytes // _MIB}MiB",
        ),
        metrics=counted,
        retention=Retention(config.retention_days),
    )
    writer.start()
    # A front learns environments of a Flagsmith from its senders, which this process never meets.
    readable = (
        catalog if config.is_file_catalog else RecordedEnvironments(catalog, writer.store, config.declared_policies.of)
    )
    queries = QueryServicer(
        readable,
        writer.store,
        journal_state=lambda: _journal_state(journal, config.journal_max_bytes, writer),
        erase=writer.erase,
        retention_days=config.retention_days,
        secret=settings.identity_secret.encode(),
    )
    service = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
    server = grpc.aio.server(options=grpc_front.INTERNAL_OPTIONS)
    in_flight = InFlight(max_bytes=config.max_in_flight_bytes, max_calls=config.max_concurrent_calls)
    server.add_generic_rpc_handlers(
        [grpc_front.handlers(service, queries, in_flight=in_flight, to_status=_to_status, metrics=counted)]
    )
    server.add_insecure_port(_query_target(settings))
    await server.start()
    try:
        await _opened(writer)
        gc.freeze()
        report(ready=True)
        observing = asyncio.create_task(_observe(journal))
        await stopping.wait()
        observing.cancel()
    finally:
        await _ended(watching)
        await server.stop(_QUESTION_SECONDS)
        await asyncio.to_thread(writer.stop)
        queries.close()
        await asyncio.to_thread(journal.close)


def _stop_signal() -> asyncio.Event:
    """Return an event that SIGTERM sets."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    # A terminal's Ctrl-C is for the supervisor, which then tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return stopping


def _catalog(
    config: Config, settings: ProcessSettings, counted: metrics.FrontMetrics | None = None
) -> tuple[CachedCatalog, asyncio.Task[None]]:
    """Return the catalog, and the task that follows its source."""

    def reloaded(ok: bool, error: CatalogError | None) -> None:  # noqa: FBT001 - the callback's own form
        if counted is not None:
            counted.loaded(ok)
        # Every process follows the file; one of them says so.
        if settings.name() == "front-0":
            if ok:
                get_logger().info("the environments were loaded again", file=str(config.environments_file))
            else:
                get_logger().error(
                    "the environments file is broken; the last good one stays in force", error=str(error)
                )

    said: list[tuple[str, float]] = []

    def failed(error: BaseException) -> None:
        # Each failure once, and again once a minute for as long as it lasts.
        text = f"{error} {error.__cause__}"
        if said and said[0][0] == text and time.monotonic() < said[0][1] + _SAY_AGAIN_SECONDS:
            return
        said[:] = [(text, time.monotonic())]
        if settings.name() == "front-0":
            get_logger().error(
                "the catalog cannot be asked; what is known stays in force",
                catalog=config.catalog_shown,
                error=str(error),
                # The error is for whoever sent a key; what failed is for whoever reads this.
                cause=str(error.__cause__ or ""),
            )

    opened = open_catalog(
        config.catalog_url,
        tokens={**config.declared_tokens, settings.read_token: Token(role="read")},
        policies=config.declared_policies,
        server_keys=[key.get_secret_value() for key in config.flagsmith_server_keys],
        refresh_seconds=config.catalog_refresh_seconds,
        sharers=config.fronts,
        on_reload=reloaded,
        on_failure=failed,
        on_lookup=None if counted is None else counted.looked_up,
    )
    return opened.catalog, asyncio.create_task(opened.follow(), name="catalog")


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel *task* and wait until it has ended."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _journal(config: Config) -> SqliteJournal:
    return SqliteJournal.open(
        config.data / "journal.db",
        max_bytes=config.journal_max_bytes,
        dedup_hours=config.dedup_hours,
        breath=_BREATH_SECONDS if config.fronts > 1 else 0.0,
    )


def _no_store() -> Store:
    raise AssertionError("A front asks the writer and never the store.")


async def _opened(writer: Writer) -> None:
    """
    Wait until the store has been opened, or has failed to in a way that may pass: then reading says so, and intake goes on.

    One that takes long, as a large one does that is being migrated, is waited for no further: it must not keep intake from
    beginning.

    Raises:
        CannotRunError: It will not open as it is, and somebody has to decide what to do.
    """
    waiting_ends = time.monotonic() + _OPEN_SECONDS
    while not writer.opened and writer.failures == 0:
        if time.monotonic() > waiting_ends:
            get_logger().warning("the store takes long to open; until it has, questions are refused with a delay")
            return
        await asyncio.sleep(_OPEN_POLL_SECONDS)
    if writer.refused is not None:
        raise CannotRunError(str(writer.refused))


async def _observe(journal: SqliteJournal) -> None:
    """Keep the gauges of the journal."""
    while True:
        with contextlib.suppress(FlagledgerError):
            lag = await asyncio.to_thread(journal.lag)
            metrics.observe_journal(lag.bytes, lag.entries, lag.oldest_age)
        await asyncio.sleep(_OBSERVE_SECONDS)


def _journal_state(journal: SqliteJournal, max_bytes: int, writer: Writer) -> JournalState:
    """Return how far the store is behind the journal. Blocks."""
    from flagledger.query.journal_state import JournalState  # noqa: PLC0415

    waiting = journal.waiting(writer.position())
    return JournalState(
        bytes=journal.lag().bytes,
        max_bytes=max_bytes,
        waiting_batches=waiting.entries,
        lag_seconds=waiting.oldest_age,
    )


def _query_target(settings: ProcessSettings) -> str:
    return f"unix:{settings.runtime}/query.sock"


def _to_status(error: Exception) -> status_pb2.Status:
    """Return what a caller is told of *error*; of one that nobody foresaw only that it was logged."""
    if isinstance(error, FlagledgerError):
        return to_status(error)
    status = getattr(error, "status", None)
    if isinstance(status, status_pb2.Status):
        return status
    get_logger().error("a call failed", exc_info=error)
    return status_pb2.Status(code=code_pb2.INTERNAL, message="The server failed; its log says why.")


async def _report_health(server: Server, readiness: Readiness, in_flight: InFlight, queries: Forwarder) -> None:
    """Keep gRPC health in step with readiness, and the gauge of what is in flight."""
    while True:
        intake = not readiness.missing()
        await server.report(intake=intake, queries=intake and queries.connected())
        metrics.IN_FLIGHT_BYTES.set(in_flight.bytes)
        await asyncio.sleep(_HEALTH_SECONDS)


@contextlib.contextmanager
def _listening(address: str) -> Iterator[socket.socket]:
    """Yield a socket on *address*, which other fronts may listen on too."""
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        yield listener


async def _first(*awaitables: Any) -> None:
    """Wait for the first of *awaitables*; an error of it is raised."""
    tasks = [asyncio.ensure_future(one) for one in awaitables]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


if __name__ == "__main__":
    sys.exit(main())
