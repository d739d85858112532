"""Threads in which the store is asked, since it blocks; and the end of what nobody waits for any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from flagledger.store.errors import Interrupt, StoreError

_INTERRUPT_AGAIN_SECONDS: Final = 0.05

_T = TypeVar("_T")


class Threads:
    """
    A bounded number of threads; what comes beyond them waits.

    Args:
        name: What the threads are called.
        count: How many there are.
    """

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)
        self._asked: dict[Future[Any], Interrupt] = {}

    def submit(self, work: Callable[[], _T], interrupt: Interrupt) -> Future[_T]:
        """
        Begin *work* as soon as a thread is free; *interrupt* ends it when the threads are closed.

        Raises:
            StoreError: The threads are closed.
        """
        try:
            asked = self._pool.submit(work)
        except RuntimeError as error:
            raise StoreError("The service is ending.") from error
        self._asked[asked] = interrupt
        asked.add_done_callback(self._asked.pop)
        return asked

    def close(self) -> None:
        """End all that is left, and the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        while self._asked:
            for interrupt in list(self._asked.values()):
                interrupt.ask()
            time.sleep(_INTERRUPT_AGAIN_SECONDS)
        self._pool.shutdown(wait=True)


def end(asked: Future[Any], interrupt: Interrupt) -> None:
    """Interrupt what was asked, if it has not returned, until it does; on the event loop, without waiting."""
    if not asked.done():
        interrupt.ask()
        asyncio.get_running_loop().call_later(_INTERRUPT_AGAIN_SECONDS, end, asked, interrupt)
