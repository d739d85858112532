"""The routes of older SDKs, through the whole HTTP application, with a real servicer before a journal on disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from flagledger.compat.flagsmith import OlderSdks
from flagledger.errors import FlagledgerError, to_status
from flagledger.front import http
from flagledger.front.limits import InFlight
from flagledger.ingest.limits import Limits
from flagledger.ingest.servicer import EvaluationServicer
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.journal.base import Journal
from flagledger.journal.sqlite import SqliteJournal
from flagledger.telemetry.health import Readiness
from flagledger.v1 import evaluation_service_pb2
from flagledger.v1.evaluation_pb2 import Evaluation
from google.rpc import status_pb2
from support.intake import CLIENT_KEY, NOW, MemoryCatalog, Tally
from support.web import Response

SERVICE = evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"]
MAX_BODY_BYTES = 256 * 1024
MAX_EVALUATIONS = 1_000

V1 = "/api/v1/analytics/flags/"
V2 = "/api/v2/analytics/flags/"
EVENTS = "/v1/events"
BATCH = "/v1/analytics/batch"
ROUTES = (V1, V2, EVENTS, BATCH)


class Counted(Tally):
    """Metrics of servicer and front, kept."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, str, int]] = []

    def foreign(self, environment: str, entries: int) -> None:
        """Keep it."""
        self.counts["foreign", environment] += entries

    def sampled_out(self, environment: str, entries: int) -> None:
        """Keep it."""
        self.counts["sampled_out", environment] += entries

    def call(self, protocol: str, method: str, code: int, seconds: float) -> None:
        """Keep it."""
        self.calls.append((protocol, method, code))

    def refused_by_http(self, status: int) -> None:
        """Keep it."""
        self.counts["refused", f"HTTP_{status}"] += 1

    def ignored(self, fields: int) -> None:
        """Keep it."""
        self.counts["ignored",] += fields

    def of(self, outcome: str) -> int:
        """Return the entries of an outcome, whatever their environment and field."""
        return sum(number for key, number in self.counts.items() if key[0] == outcome)

    @property
    def refusals(self) -> list[str]:
        """Reasons of refusals, each as often as it came."""
        return sorted(key[1] for key, number in self.counts.items() if key[0] == "refused" for _ in range(number))


def status_of(error: Exception) -> status_pb2.Status:
    """Do as the service does for its own refusals; nothing else gets here."""
    assert isinstance(error, FlagledgerError)
    return to_status(error)


@dataclass
class Service:
    """What a test speaks to; `clock` is that of the server."""

    journal: Journal
    catalog: MemoryCatalog = field(default_factory=MemoryCatalog)
    counted: Counted = field(default_factory=Counted)
    in_flight: InFlight = field(default_factory=lambda: InFlight(max_bytes=1 << 20, max_calls=8))
    now: float = NOW
    secret: bytes = b"secret"
    recognise_resends: bool = True

    def __post_init__(self) -> None:
        self.servicer = EvaluationServicer(
            self.catalog,
            self.journal,
            Limits(max_evaluations=MAX_EVALUATIONS),
            clock=lambda: self.now,
            secret=self.secret,
            metrics=self.counted,
        )
        self.app = http.application(
            [(SERVICE, self.servicer)],
            max_body_bytes=MAX_BODY_BYTES,
            max_evaluations=MAX_EVALUATIONS,
            in_flight=self.in_flight,
            asking=self.in_flight,
            to_status=status_of,
            readiness=Readiness({}),
            exposition=lambda: (b"", "text/plain"),
            token=self.catalog.token,
            metrics=self.counted,
            older_sdks=OlderSdks(
                servicer=self.servicer,
                limits=Limits(max_evaluations=MAX_EVALUATIONS),
                secret=self.secret,
                recognise_resends=self.recognise_resends,
                clock=lambda: self.now,
            ),
        )

    @property
    def records(self) -> list[JournalRecord]:
        """Everything in the journal."""
        return [JournalRecord.FromString(entry.payload) for entry in self.journal.read(0, 1 << 30)]

    @property
    def evaluations(self) -> list[Evaluation]:
        """The evaluations of all records."""
        return [evaluation for record in self.records for evaluation in record.evaluations]

    def hide_identities(self) -> None:
        """Have the environment keep pseudonyms of identities."""
        for key, grant in self.catalog.grants.items():
            assert not isinstance(grant, FlagledgerError)
            policy = replace(grant.environment.policy, identity="hash")
            self.catalog.grants[key] = replace(grant, environment=replace(grant.environment, policy=policy))

    async def send(
        self,
        path: str,
        body: object = b"",
        *,
        method: str = "POST",
        key: str | None = CLIENT_KEY,
        headers: dict[str, str] | None = None,
        pieces: list[bytes] | None = None,
        stalls: bool = False,
    ) -> Response:
        """
        Send a request and return the whole answer.

        Args:
            path: Where to.
            body: Bytes, or what is sent as JSON.
            method: Of HTTP.
            key: Environment key; None for none.
            headers: Further ones; an empty value leaves one out that is sent otherwise.
            pieces: The body as it arrives, instead of in one piece.
            stalls: Whether the last piece never arrives.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json", "content-length": str(len(content))}
        if key is not None:
            given["x-environment-key"] = key
        given |= headers or {}
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces or []
        ]
        messages.append({"type": "http.request", "body": b"" if pieces else content, "more_body": False})
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if stalls and len(messages) == 1:
                await asyncio.Event().wait()
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value],
        }
        await self.app(scope, receive, send)  # type: ignore[arg-type]  # starlette's types are wider
        return Response(
            status=sent[0]["status"],
            headers={name.decode(): value.decode() for name, value in sent[0]["headers"]},
            body=b"".join(message["body"] for message in sent[1:]),
        )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services around one journal on disk."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=1 << 30, reserve_bytes=0)
    yield lambda **named: Service(journal=journal, **named)
    journal.close()


@pytest.fixture
def service(start: Callable[..., Service]) -> Service:
    """Return a service as it is set up by default."""
    return start()
