from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest
from flagledger.transcoding.alarms import LATE_SECONDS, Alarm, TimeLimit


def clock() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


async def test_goes_off_in_time() -> None:
    """An alarm goes off once, not before its moment, and one that is set meanwhile goes off as well."""
    when = clock() + 0.1
    heard: list[float] = []
    Alarm(when, lambda: heard.append(clock()))
    await asyncio.sleep(LATE_SECONDS / 2)
    Alarm(when, lambda: heard.append(clock()))
    await asyncio.sleep(0.1 + 4 * LATE_SECONDS)

    assert 2 == len(heard)
    assert all(when <= each for each in heard)


async def test_a_cancelled_alarm_is_silent() -> None:
    """An alarm that was taken back does not go off, and the others do."""
    heard: list[str] = []
    first, _ = Alarm(clock(), lambda: heard.append("first")), Alarm(clock(), lambda: heard.append("second"))
    first.cancel()
    await asyncio.sleep(3 * LATE_SECONDS)
    first.cancel()

    assert ["second"] == heard


async def test_an_alarm_that_cancels_another() -> None:
    """Alarms may be set and taken back by what another one calls, though they are due at the same moment."""
    heard: list[str] = []
    both: list[Alarm] = []

    def one(number: int) -> None:
        both[1 - number].cancel()
        heard.append("one of both")
        Alarm(clock(), lambda: heard.append("set meanwhile"))

    both += [Alarm(clock(), lambda: one(0)), Alarm(clock(), lambda: one(1))]
    await asyncio.sleep(4 * LATE_SECONDS)

    assert ["one of both", "set meanwhile"] == heard


async def test_an_alarm_that_fails() -> None:
    """What one alarm calls may fail: the others go off all the same."""
    heard: list[str] = []
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, failure: failures.append(failure["exception"]))
    error = RuntimeError()

    def fail() -> None:
        raise error

    for _ in range(3):
        Alarm(clock(), fail)
        Alarm(clock(), lambda: heard.append("heard"))
    await asyncio.sleep(6 * LATE_SECONDS)

    assert [error] * 3 == failures
    assert ["heard"] * 3 == heard


async def test_a_block_within_its_limit() -> None:
    """A block that is left in time is not disturbed, not even later."""
    with TimeLimit(clock() + LATE_SECONDS):
        await asyncio.sleep(0)
    await asyncio.sleep(4 * LATE_SECONDS)


async def test_a_block_beyond_its_limit() -> None:
    """A block that takes too long raises TimeoutError, and its task goes on uncancelled."""
    started = time.monotonic()
    with pytest.raises(TimeoutError), TimeLimit(clock() + 0.05):
        await asyncio.sleep(60)

    assert time.monotonic() - started < 30
    task = asyncio.current_task()
    assert task is not None
    assert 0 == task.cancelling()


async def test_a_limit_can_be_moved() -> None:
    """A limit that is moved on counts from there, and one that is moved back as well."""
    seen: list[str] = []

    async def wait() -> None:
        with TimeLimit(clock() + 0.05) as limit:
            limit.when = clock() + 60
            await asyncio.sleep(0.05 + 3 * LATE_SECONDS)
            seen.append("moved on")
            limit.when = clock()
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await wait()
    assert ["moved on"] == seen


async def test_cancellation_by_others_stays_theirs() -> None:
    """A task that others cancel within its limit, or beyond it, ends as cancelled and not as late."""

    async def wait() -> None:
        with TimeLimit(clock() + 60):
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def cancelled_twice() -> None:
        limit = TimeLimit(clock() + 60)
        with limit:
            limit.go_off()
            await asyncio.sleep(60)

    task = asyncio.create_task(cancelled_twice())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_loops_of_several_threads() -> None:
    """Each event loop hears its own alarms, also while another one runs."""
    heard: list[str] = []

    async def listen(name: str) -> None:
        for number in range(5):
            Alarm(clock(), lambda number=number: heard.append(f"{name}{number}"))
            await asyncio.sleep(2.5 * LATE_SECONDS)

    threads = [threading.Thread(target=lambda name=name: asyncio.run(listen(name))) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(f"{name}{number}" for name in "ab" for number in range(5)) == sorted(heard)


async def test_leaves_nothing_to_the_garbage_collector() -> None:
    """An alarm that was taken back keeps nothing of whoever set it, though that one keeps the alarm."""

    class Holder:
        def __init__(self) -> None:
            self.alarm = Alarm(clock() + 60, self.ring)

        def ring(self) -> None:
            pass

    gc.disable()
    try:
        holder = Holder()
        holder.alarm.cancel()
        left = weakref.ref(holder)
        del holder
        assert left() is None
    finally:
        gc.enable()
