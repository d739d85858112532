from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
import query_load
from processes import BenchError, standin

pytestmark = pytest.mark.system


def test_what_is_sent_is_acknowledged(tmp_path: Path) -> None:
    """A load sends until it is told to stop, and counts every evaluation that was acknowledged."""
    with (
        standin("grpc", tmp_path / "log") as (address, _),
        contextlib.closing(query_load.SteadyLoad(address, 5_000)) as load,
    ):
        time.sleep(2)
        outcome = load.stop()

    assert 0 < outcome.acknowledged
    assert 0 == outcome.acknowledged % 100
    # One batch more than the rate has room for is the one at the start.
    assert outcome.acknowledged <= outcome.seconds * 5_000 + 100
    assert {} == outcome.failures


async def test_what_is_not_answered_is_a_failure() -> None:
    """Batches that nobody takes are counted under what went wrong, and not as acknowledged."""
    until = asyncio.Event()
    sending = asyncio.create_task(query_load.send("127.0.0.1:1", 10_000, until))
    await asyncio.sleep(0.2)
    until.set()
    outcome = await sending

    assert 0 == outcome.acknowledged
    assert 0 < outcome.failures.total()
    assert all(said.startswith("UNAVAILABLE") for said in outcome.failures)


def test_a_load_that_ended_by_itself_is_told() -> None:
    """A load that cannot go on is an error, and no figure."""
    with (
        contextlib.closing(query_load.SteadyLoad("127.0.0.1:1", 0)) as load,
        pytest.raises(BenchError, match="broke off"),
    ):
        load.stop()
