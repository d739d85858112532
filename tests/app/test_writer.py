from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from flagledger.app import writer as app_writer
from flagledger.journal.base import Lag
from flagledger.telemetry import metrics


class Journal:
    """A journal that holds five entries."""

    def lag(self) -> Lag:
        """Return them."""
        return Lag(bytes=100, entries=5, oldest_age=7.0)


class Waiting:
    """A writer that has been at something since a while ago."""

    def __init__(self, seconds: float | None) -> None:
        self.step_began = None if seconds is None else time.monotonic() - seconds

    def unapplied(self, held: int) -> int:
        """Return how many of *held* wait."""
        return held - 2


async def warnings(writer: Waiting, meanwhile: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
    """Return what is said of *writer* in some looks at it, *meanwhile* between them."""
    with structlog.testing.capture_logs() as logs:
        observing = asyncio.create_task(app_writer._observe(Journal(), writer))  # type: ignore[arg-type]
        await asyncio.sleep(0.2)
        meanwhile()
        await asyncio.sleep(0.2)
        observing.cancel()
    return [dict(line) for line in logs]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be looked often."""
    monkeypatch.setattr(app_writer, "_OBSERVE_SECONDS", 0.01)


async def test_a_store_that_does_not_answer_is_said_once() -> None:
    """Who waits cannot say so: it is said for it, once for each wait, and not of what takes a moment or of a pause."""
    writer = Waiting(31.0)

    def again() -> None:
        writer.step_began = time.monotonic() - 40.0

    said = await warnings(writer, again)

    assert [31, 40] == [line["seconds"] for line in said]
    assert all("does not answer" in line["event"] for line in said)
    assert [] == await warnings(Waiting(29.0))
    assert [] == await warnings(Waiting(None))


async def test_what_the_store_lacks_is_shown_while_it_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gauges tell how much waits, whether or not the writer gets anywhere."""
    set_: list[float] = []
    monkeypatch.setattr(metrics.UNAPPLIED, "set", set_.append)
    await warnings(Waiting(31.0))

    assert {3} == set(set_)
