from __future__ import annotations

import asyncio

import pytest
from flagledger.transcoding.running import Running, raise_if_cancelled


def cancelling() -> int:
    """Return how often this task was cancelled."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_first_reason() -> None:
    """The first reason counts, and what cancelled the servicer is gone once it has ended."""
    running = Running()
    first = ValueError()
    running.end(first)
    running.end(KeyError())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        raise_if_cancelled()
    running.stop()

    raise_if_cancelled()
    assert (first, 0) == (running.reason, cancelling())


async def test_nothing_ends_what_has_ended() -> None:
    """What comes after the servicer has ended, such as a client that goes while the last piece is sent, cancels nobody."""
    running = Running()
    running.stop()
    running.end(ValueError())
    await asyncio.sleep(0)

    assert (None, 0) == (running.reason, cancelling())
