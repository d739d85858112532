"""A front's process: it takes evaluations in and answers questions, over both protocols."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

from flagledger.app.parts import ended, followed_catalog, open_journal, status_of, stop_signal
from flagledger.app.questions import SERVICE as QUERY_SERVICE
from flagledger.app.questions import questions
from flagledger.catalog.sources import declared_environments
from flagledger.compat.flagsmith import OlderSdks
from flagledger.config import Config, parse_address
from flagledger.front import grpc as grpc_front
from flagledger.front import http
from flagledger.front.limits import MAX_QUESTIONS, InFlight
from flagledger.ingest.limits import Limits
from flagledger.ingest.servicer import EvaluationServicer
from flagledger.supervisor import ProcessSettings, report
from flagledger.telemetry import metrics
from flagledger.telemetry.health import Readiness
from flagledger.v1 import evaluation_service_pb2

_HEALTH_SECONDS: Final = 0.5


async def run(config: Config, settings: ProcessSettings) -> None:
    """Serve both protocols until told to stop, then finish what was accepted."""
    stopping = stop_signal()
    counted = metrics.FrontMetrics()
    catalog, watching = followed_catalog(config, settings, counted)
    journal = open_journal(config)
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
    asked = questions(config, settings, catalog, journal)
    evaluation_service = evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"]
    services: list[tuple[Any, Any]] = [(evaluation_service, evaluations), (QUERY_SERVICE, asked.servicer)]

    grpc_server = grpc_front.Server(
        services,
        in_flight=in_flight,
        asking=asking,
        to_status=status_of,
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
        to_status=status_of,
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
        reporting = asyncio.create_task(_report_health(grpc_server, readiness, in_flight, asked.answering))
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
    await ended(watching)
    await asked.close()
    await asyncio.to_thread(journal.close)


async def _report_health(
    server: grpc_front.Server, readiness: Readiness, in_flight: InFlight, answering: Callable[[], bool]
) -> None:
    """Keep gRPC health in step with readiness, and the gauge of what is in flight."""
    while True:
        intake = not readiness.missing()
        await server.report(intake=intake, queries=intake and answering())
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
