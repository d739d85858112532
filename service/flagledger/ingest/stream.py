"""Answers a stream of requests in their order, several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from typing import Any, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class OrderedStreams:
    """
    The streams of one servicer, which can be drained together.

    Args:
        unanswered: Requests of one stream that are read before the first of them is answered.
    """

    def __init__(self, unanswered: int) -> None:
        self._unanswered = unanswered
        self._readers: set[asyncio.Task[None]] = set()
        self.draining = False

    def drain(self) -> None:
        """Read no further, from now on: every stream ends once what was read of it is answered."""
        self.draining = True
        for reader in self._readers:
            reader.cancel()

    async def answers(
        self, items: AsyncIterable[Item], answer: Callable[[Item], Coroutine[Any, Any, Answer]]
    ) -> AsyncGenerator[Answer, None]:
        """
        Yield what *answer* returns for each of *items*, in their order; up to the bound of them are awaited at once.

        An exception of *answer* ends the stream in its place; one of *items* ends it behind the answers to what was
        read. However it ends, by the consumer too, nothing is left running and *items* is closed.
        """
        tasks: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()
        slots = asyncio.Semaphore(self._unanswered)

        async def read() -> None:
            await slots.acquire()
            async for item in items:
                tasks.put_nowait(asyncio.create_task(answer(item)))
                await slots.acquire()  # before the next is read, not after

        reader = asyncio.create_task(read())
        # A callback, since a task that is cancelled before its first step never comes to a `finally`.
        reader.add_done_callback(lambda _: tasks.put_nowait(None))
        if self.draining:
            reader.cancel()
        self._readers.add(reader)
        next_task: asyncio.Task[Answer] | None = None
        try:
            while (next_task := await tasks.get()) is not None:
                yield await next_task
                slots.release()
            if not reader.cancelled():
                reader.result()
        finally:
            self._readers.discard(reader)
            left = [next_task, *(tasks.get_nowait() for _ in range(tasks.qsize()))]
            await _cancel([reader, *filter(None, left)])
            if isinstance(items, AsyncGenerator):
                await items.aclose()


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
