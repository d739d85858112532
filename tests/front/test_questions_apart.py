"""Readers and senders: what one front lets both of them take."""

from __future__ import annotations

import asyncio
from typing import Any

from flagledger.front import http
from flagledger.front.limits import InFlight
from flagledger.telemetry.health import Readiness
from flagledger.v1 import query_service_pb2
from front.conftest import Counted, status_of

SERVICE = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]


class Slow:
    """A servicer of questions that answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        for method in SERVICE.methods:
            setattr(self, method.name, self.pieces if method.server_streaming else self.answer)

    async def authenticate(self, context: Any) -> None:
        """Let everybody in."""

    async def answer(self, request: Any, context: Any) -> Any:
        """Answer in the end."""
        await self.go_on.wait()
        return query_service_pb2.ListEnvironmentsResponse()

    async def pieces(self, request: Any, context: Any) -> Any:
        """Send nothing."""
        return
        yield


async def ask(app: Any) -> int:
    """Ask a question and return the status of its answer."""
    statuses: list[int] = []
    stays = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await stays.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    path = "/api/v2/analytics/environments"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    await app(scope, receive, send)
    return statuses[0]


async def test_questions_take_no_place_of_intake() -> None:
    """A question beyond those that are worked on is told to wait, and all of them together keep out no sender."""
    in_flight, asking = InFlight(max_bytes=1, max_calls=1), InFlight(max_bytes=1, max_calls=2)
    servicer = Slow()
    app = http.application(
        [(SERVICE, servicer)],
        max_body_bytes=1,
        max_evaluations=1,
        in_flight=in_flight,
        asking=asking,
        to_status=status_of,
        readiness=Readiness({}),
        exposition=lambda: (b"", "text/plain"),
        token=servicer.authenticate,  # type: ignore[arg-type]  # nobody signs in
        metrics=Counted(),
    )
    waiting = [asyncio.create_task(ask(app)) for _ in range(2)]
    await asyncio.sleep(0.05)

    assert (0, 2) == (in_flight.calls, asking.calls)
    assert 429 == await ask(app)
    servicer.go_on.set()
    assert [200, 200] == [await each for each in waiting]
    assert (0, 0) == (in_flight.calls, asking.calls)
