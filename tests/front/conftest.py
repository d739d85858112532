"""Both fronts in this process, around one servicer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import grpc
import pytest
from flagledger.errors import FlagledgerError, to_status
from flagledger.front import grpc as grpc_front
from flagledger.front import http
from flagledger.front.limits import InFlight
from flagledger.ingest.limits import Limits
from flagledger.ingest.servicer import EvaluationServicer
from flagledger.telemetry.health import Readiness
from flagledger.v1 import evaluation_service_pb2, evaluation_service_pb2_grpc
from google.rpc import code_pb2, status_pb2
from support.intake import NOW, MemoryCatalog, MemoryJournal

MAX_BODY_BYTES = 128 * 1024
SERVICE = evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"]


class Seen(EvaluationServicer):
    """The servicer as it is, and a note of who called which object."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.calls: list[tuple[int, str]] = []
        self.failure: Exception | None = None

    async def RecordEvaluations(self, request: Any, context: Any) -> Any:
        """Note the call, and fail where the test wants it."""
        self.calls.append((id(self), type(context).__name__))
        if self.failure:
            raise self.failure
        return await super().RecordEvaluations(request, context)


@dataclass
class Counted:
    """Metrics of the fronts, kept."""

    calls: list[tuple[str, str, int]] = field(default_factory=list)
    ignored_fields: int = 0
    refusals: list[str] = field(default_factory=list)

    def call(self, protocol: str, method: str, code: int, seconds: float) -> None:
        """Keep it."""
        self.calls.append((protocol, method, code))

    def refused(self, reason: Enum) -> None:
        """Keep it."""
        self.refusals.append(reason.name)

    def refused_by_http(self, status: int) -> None:
        """Keep it."""
        self.refusals.append(f"HTTP_{status}")

    def ignored(self, fields: int) -> None:
        """Keep it."""
        self.ignored_fields += fields


@dataclass
class Fronts:
    """What a test speaks to."""

    servicer: Seen
    catalog: MemoryCatalog
    journal: MemoryJournal
    in_flight: InFlight
    readiness: Readiness
    counted: Counted
    http: tuple[str, int]
    channel: grpc.aio.Channel
    server: grpc_front.Server
    ready: dict[str, bool]

    @property
    def stub(self) -> evaluation_service_pb2_grpc.EvaluationServiceAsyncStub:
        """The generated stub over gRPC."""
        return evaluation_service_pb2_grpc.EvaluationServiceStub(self.channel)


def status_of(error: Exception) -> status_pb2.Status:
    """Do as the service does, without its log."""
    if isinstance(error, FlagledgerError):
        return to_status(error)
    return status_pb2.Status(code=code_pb2.INTERNAL, message="The server failed; its log says why.")


@pytest.fixture
async def fronts() -> AsyncIterator[Fronts]:
    """Return both fronts, listening on loopback."""
    journal = MemoryJournal()
    catalog = MemoryCatalog()
    servicer = Seen(catalog, journal, Limits(), clock=lambda: NOW)
    in_flight = InFlight(max_bytes=256 * 1024, max_calls=8)
    ready = {"journal writable": True}
    readiness = Readiness({"journal writable": lambda: ready["journal writable"]})
    counted = Counted()
    server = grpc_front.Server(
        [(SERVICE, servicer)],
        in_flight=in_flight,
        asking=in_flight,
        to_status=status_of,
        metrics=counted,
        max_message_bytes=MAX_BODY_BYTES,
    )
    port = await server.start("127.0.0.1:0")
    await server.report(intake=True, queries=True)
    app = http.application(
        [(SERVICE, servicer)],
        max_body_bytes=MAX_BODY_BYTES,
        max_evaluations=10_000,
        in_flight=in_flight,
        asking=in_flight,
        to_status=status_of,
        readiness=readiness,
        exposition=lambda: (b"# nothing\n", "text/plain"),
        token=catalog.token,
        metrics=counted,
        environments=catalog.environments,
    )
    web = http.server(app, drain_seconds=1, refused=counted.refused_by_http)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        while not web.started:
            await asyncio.sleep(0.005)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Fronts(
                servicer=servicer,
                catalog=catalog,
                journal=journal,
                in_flight=in_flight,
                readiness=readiness,
                counted=counted,
                http=listener.getsockname(),
                channel=channel,
                server=server,
                ready=ready,
            )
        web.should_exit = True
        await serving
    await server.stop(0)
