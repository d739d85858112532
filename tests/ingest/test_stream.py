from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from flagledger.ingest.stream import OrderedStreams
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


async def items(*numbers: int) -> AsyncGenerator[int, None]:
    """Yield *numbers*."""
    for number in numbers:
        yield number


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


@given(delays=st.lists(st.integers(0, 5), max_size=30), unanswered=st.integers(1, 8))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_answers_keep_the_order(delays: list[int], unanswered: int) -> None:
    """However long each takes, answers come in the order of the items, one each, and no more are open than permitted."""
    is_open = most_open = 0

    async def answer(number: int) -> int:
        nonlocal is_open, most_open
        is_open += 1
        most_open = max(most_open, is_open)
        for _ in range(delays[number]):
            await asyncio.sleep(0)
        is_open -= 1
        return number

    async def run() -> list[int]:
        return [n async for n in OrderedStreams(unanswered).answers(items(*range(len(delays))), answer)]

    assert asyncio.run(run()) == list(range(len(delays)))
    assert most_open <= unanswered


async def test_several_are_answered_at_once() -> None:
    """Items are taken on while the first is not answered yet, and no further than the bound."""
    taken: list[int] = []
    gate = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    async def answer(number: int) -> int:
        await gate.wait()
        return number

    async with aclosing(OrderedStreams(8).answers(source(), answer)) as answers:
        first = asyncio.create_task(anext(answers))
        await settled()
        assert taken == list(range(8))

        gate.set()
        assert await first == 0
        assert await anext(answers) == 1
        await settled()
        # The second is not known to be sent before the third is asked for.
        assert taken == list(range(9))


async def test_draining_answers_what_was_read() -> None:
    """A drain in the middle reads nothing more, answers what was read, and ends the stream."""
    streams = OrderedStreams(8)
    gate = asyncio.Event()
    idle = asyncio.Event()

    async def source() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await idle.wait()
        yield 3

    async def answer(number: int) -> int:
        await gate.wait()
        return number

    async def run() -> list[int]:
        return [number async for number in streams.answers(source(), answer)]

    stream = asyncio.create_task(run())
    await settled()
    streams.drain()
    await settled()
    assert not stream.done()
    gate.set()

    assert await stream == [0, 1, 2]


async def test_draining_ends_an_idle_stream() -> None:
    """A stream on which nothing is sent ends at once."""
    streams = OrderedStreams(8)

    async def source() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 0

    async def answer(number: int) -> int:
        return number

    async def run() -> list[int]:
        return [number async for number in streams.answers(source(), answer)]

    stream = asyncio.create_task(run())
    await settled()
    streams.drain()

    assert await asyncio.wait_for(stream, 1) == []


async def test_a_stream_that_starts_while_draining_ends() -> None:
    """A stream after the drain reads nothing."""
    streams = OrderedStreams(8)
    streams.drain()

    async def answer(number: int) -> int:
        return number

    assert [number async for number in streams.answers(items(1, 2), answer)] == []


@pytest.mark.parametrize("read", [0, 1, 2])
async def test_a_consumer_that_leaves_leaves_nothing_behind(read: int) -> None:
    """When the consumer goes, open answers are cancelled, the source is closed and no task remains."""
    closed = asyncio.Event()
    cancelled: list[int] = []

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(5):
                yield number
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def answer(number: int) -> int:
        try:
            if number >= 2:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    async with aclosing(OrderedStreams(8).answers(source(), answer)) as answers:
        for number in range(read):
            assert await anext(answers) == number
        await settled()

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (closed.is_set(), cancelled) == ((True, [2, 3, 4]) if read else (False, []))


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    """When the task that consumes is cancelled, as a transport does, nothing is left running."""
    stopped: list[int] = []

    async def answer(number: int) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(number)
        return number

    async def run() -> None:
        async for _ in OrderedStreams(8).answers(items(0, 1, 2), answer):
            pass

    call = asyncio.create_task(run())
    await settled()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await settled()

    assert stopped == [0, 1, 2]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_an_answer_ends_the_stream_in_its_place() -> None:
    """Answers before the one that failed are given, the error is raised, and the others are cancelled."""
    given_: list[int] = []

    async def answer(number: int) -> int:
        if number == 1:
            raise RuntimeError("one")
        if number > 1:
            await asyncio.Event().wait()
        return number

    async def run() -> None:
        async for number in OrderedStreams(8).answers(items(0, 1, 2), answer):
            given_.append(number)  # noqa: PERF401 - those before the error are to stay

    with pytest.raises(RuntimeError, match="one"):
        await run()
    assert given_ == [0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_the_source_comes_behind_the_answers() -> None:
    """What was read before the source failed is answered first."""
    given_: list[int] = []

    async def source() -> AsyncIterator[int]:
        yield 0
        yield 1
        raise RuntimeError("source")

    async def answer(number: int) -> int:
        await asyncio.sleep(random.random() / 100)
        return number

    async def run() -> None:
        async for number in OrderedStreams(8).answers(source(), answer):
            given_.append(number)  # noqa: PERF401 - those before the error are to stay

    with pytest.raises(RuntimeError, match="source"):
        await run()
    assert given_ == [0, 1]
