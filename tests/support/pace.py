"""A load of a known rate: batches that are sent at their moments, whatever becomes of those before them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from support.reading import EVALUATIONS
from support.server import RunningServer

_THREADS = 8
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Answered:
    """
    What a batch was answered.

    Attributes:
        batch_id: Of the batch.
        at: When it was sent, by the monotonic clock.
        status: The status; 0 where there was no answer.
        retry_after: What the header says; None where there is none.
        reason: Why it was refused; empty where it was not.
    """

    batch_id: str
    at: float
    status: int
    retry_after: str | None
    reason: str


@dataclass
class Pace:
    """
    Sends so many batches of so many evaluations in a second.

    Attributes:
        answers: What the batches were answered, in no order.
    """

    server: RunningServer
    key: str
    batches_per_second: int
    evaluations: int
    answers: list[Answered] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._pacing = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._pacing.start()

    def stop(self) -> None:
        """End, once all is answered. May be called twice."""
        self._stopping.set()
        self._pacing.join(2 * _TIMEOUT_SECONDS)
        assert not self._pacing.is_alive()

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def send(self, batch_id: str) -> Answered:
        """Send the batch *batch_id*, which holds the same whenever it is sent."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(
                urlsplit(self.server.http_url).netloc, timeout=_TIMEOUT_SECONDS
            )
            self._connections.append(connection)
        sent = time.monotonic()
        try:
            connection.request("POST", f"{EVALUATIONS}/", self._body(batch_id), self._headers())
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return Answered(batch_id=batch_id, at=sent, status=0, retry_after=None, reason="")
        return Answered(
            batch_id=batch_id,
            at=sent,
            status=response.status,
            retry_after=response.headers["Retry-After"],
            reason=_reason(json.loads(content)),
        )

    def _run(self) -> None:
        began, number = time.monotonic(), 0
        with ThreadPoolExecutor(_THREADS) as pool:
            while not self._stopping.wait(max(0.0, began + number / self.batches_per_second - time.monotonic())):
                pool.submit(self._send_next, f"paced-{number}")
                number += 1

    def _send_next(self, batch_id: str) -> None:
        self.answers.append(self.send(batch_id))

    def _headers(self) -> dict[str, str]:
        return {"X-Environment-Key": self.key, "Content-Type": "application/json"}

    def _body(self, batch_id: str) -> str:
        return json.dumps(
            {
                "batch_id": batch_id,
                "evaluations": [
                    {
                        "feature_name": "new_dashboard",
                        "enabled": index % 2 == 0,
                        "value": f"{batch_id}/{index}",
                        "evaluation_timestamp": "2026-02-10T11:00:00Z",
                        "identity_identifier": f"{batch_id}/{index}",
                    }
                    for index in range(self.evaluations)
                ],
            }
        )


def _reason(answer: Any) -> str:
    """Return the reason of a refusal; empty where it is none."""
    for detail in answer.get("details", ()):
        if "reason" in detail:
            return str(detail["reason"])
    return ""


@contextmanager
def pace(server: RunningServer, key: str, *, batches_per_second: int, evaluations: int) -> Iterator[Pace]:
    """Send for as long as the block lasts, or until it is stopped in it."""
    paced = Pace(server, key, batches_per_second, evaluations)
    paced.start()
    try:
        yield paced
    finally:
        paced.stop()
        paced.close()
