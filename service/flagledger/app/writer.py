"""The writer's process: it moves the journal into the store, and answers what fronts do not answer themselves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from typing import Final

import grpc

from flagledger.app.parts import (
    ended,
    followed_catalog,
    journal_state,
    open_journal,
    query_target,
    readers_catalog,
    status_of,
    stop_signal,
)
from flagledger.config import Config
from flagledger.errors import FlagledgerError
from flagledger.feeder import Feeder
from flagledger.front import grpc as grpc_front
from flagledger.front.limits import InFlight
from flagledger.journal.sqlite import SqliteJournal
from flagledger.query.servicer import QueryServicer
from flagledger.store.opening import open_store
from flagledger.store.sinks import open_sink
from flagledger.supervisor import CannotRunError, ProcessSettings, report
from flagledger.telemetry import metrics
from flagledger.telemetry.logging import get_logger
from flagledger.upkeep import Retention
from flagledger.v1 import query_service_pb2
from flagledger.writer import Writer

_OBSERVE_SECONDS: Final = 1.0
_LONG_SECONDS: Final = 30.0
_OPEN_POLL_SECONDS: Final = 0.01
# Less than what the supervisor gives a child to be ready.
_OPEN_SECONDS: Final = 20.0
_QUESTION_SECONDS: Final = 1.0
_MAX_SAID: Final = 1_000
_MEANWHILE: Final = "Evaluations are taken in meanwhile, and wait in the journal."
_SINK_FILE: Final = "sink.json"


async def run(config: Config, settings: ProcessSettings) -> None:
    """Move the journal into the store and answer questions until told to stop, then apply what is left."""
    stopping = stop_signal()
    counted = metrics.WriterMetrics()
    catalog, watching = followed_catalog(config, settings)
    journal = open_journal(config)
    writer = Writer(
        journal,
        lambda: open_store(
            config.store_url,
            accept_gap=config.accept_gap,
            memory_bytes=config.store_memory_bytes,
            retention_days=config.retention_days,
        ),
        metrics=counted,
        retention=Retention(config.retention_days),
    )
    writer.start()
    feeder = _feeder(config, writer, journal)
    queries = QueryServicer(
        readers_catalog(config, catalog, writer.store),
        writer.store,
        journal_state=lambda: journal_state(journal, config.journal_max_bytes, writer.position()),
        erase=writer.erase,
        retention_days=config.retention_days,
        secret=settings.identity_secret.encode(),
    )
    service = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
    server = grpc.aio.server(options=grpc_front.INTERNAL_OPTIONS)
    in_flight = InFlight(max_bytes=config.max_in_flight_bytes, max_calls=config.max_concurrent_calls)
    server.add_generic_rpc_handlers(
        [grpc_front.handlers(service, queries, in_flight=in_flight, to_status=status_of, metrics=counted)]
    )
    server.add_insecure_port(query_target(settings))
    await server.start()
    try:
        lacking = await _opened(writer)
        gc.freeze()
        report(ready=True, lacking=lacking)
        observing = asyncio.create_task(_observe(journal, writer))
        await stopping.wait()
        observing.cancel()
    finally:
        await ended(watching)
        # Beside the rest: it may be waiting for an answer, and nothing is lost with what it has not sent.
        fed = asyncio.create_task(asyncio.to_thread(feeder.stop)) if feeder is not None else None
        await server.stop(_QUESTION_SECONDS)
        await asyncio.to_thread(writer.stop)
        queries.close()
        if fed is not None:
            await fed
        await asyncio.to_thread(journal.close)


def _feeder(config: Config, writer: Writer, journal: SqliteJournal) -> Feeder | None:
    """Return what sends counts on, started; None where there is no sink."""
    if config.sink is None:
        return None
    sink = open_sink(config.sink)
    feeder = Feeder(sink, writer.store, journal.identity, config.data / _SINK_FILE, metrics=metrics.FeederMetrics())
    feeder.start()
    return feeder


async def _opened(writer: Writer) -> str:
    """
    Wait until the store has been opened, or has failed to in a way that may pass: then reading says so, and intake goes on.
    Return what is to be said about it to whoever started the service, if anything.

    One that takes long, as a large one does that is being migrated, is waited for no further: it must not keep intake from
    beginning.

    Raises:
        CannotRunError: It will not open as it is, and somebody has to decide what to do.
    """
    waiting_ends = time.monotonic() + _OPEN_SECONDS
    while not writer.opened and writer.failures == 0:
        if time.monotonic() > waiting_ends:
            get_logger().warning("the store takes long to open; until it has, questions are refused with a delay")
            return f"The store takes long to open. {_MEANWHILE}"
        await asyncio.sleep(_OPEN_POLL_SECONDS)
    if writer.refused is not None:
        raise CannotRunError(str(writer.refused))
    if writer.last_error is None:
        return ""
    # It may quote a server, and is shown on a terminal.
    said = "".join(character if character.isprintable() else " " for character in writer.last_error[:_MAX_SAID])
    return f"The store cannot be used yet: {said} {_MEANWHILE}"


async def _observe(journal: SqliteJournal, writer: Writer) -> None:
    """Keep the gauges of the journal, and say where the store keeps the writer waiting, which cannot say so itself."""
    said: float | None = None
    while True:
        with contextlib.suppress(FlagledgerError):
            lag = await asyncio.to_thread(journal.lag)
            unapplied = await asyncio.to_thread(writer.unapplied, lag.entries)
            metrics.observe_journal(lag.bytes, lag.entries, lag.oldest_age, unapplied)
        began = writer.step_began
        if began is not None and began != said and time.monotonic() - began > _LONG_SECONDS:
            said = began
            get_logger().warning(
                "the store does not answer, or works on something long; what is recorded waits in the journal",
                seconds=round(time.monotonic() - began),
            )
        await asyncio.sleep(_OBSERVE_SECONDS)
