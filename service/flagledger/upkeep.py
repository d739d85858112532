"""
What the writer does between helpings: it carries out orders to erase an identity, and drops what has outlived its retention.

An order, in this order:

1. Whatever the journal held when it was given is applied; that is the writer's.
2. The store erases, in one transaction, and makes a checkpoint: no loss of its log brings anything back, and the entries are
   not read again.
3. The journal is trimmed up to what the checkpoint covers, and what that leaves in its files is overwritten.
4. The order is answered.

Killed before the transaction, nothing was erased; killed later, it was, and whoever gives the order again, as one must
without an answer, has the rest done.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Protocol

from flagledger.errors import FlagledgerError
from flagledger.store.base import Store
from flagledger.store.errors import StoreError
from flagledger.telemetry.logging import get_logger

RETENTION_SECONDS: Final = 300.0
"""Seconds between two looks for what has outlived its retention."""

_STOPPING: Final = "The service is being stopped; order it again later."
_MICROSECONDS_PER_DAY: Final = 86_400_000_000


class ErasableJournal(Protocol):
    """
    A journal that can forget for good.

    Attributes:
        identity: Names the journal.
    """

    identity: str

    def erase(self, up_to: int) -> None:
        """Trim up to position *up_to*, and overwrite what was ever trimmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """An order to erase an identity once the entries up to position *after* have been applied, and its answer."""

    environment: str
    identity_identifier: str
    after: int
    answer: Future[int] = field(default_factory=Future)


class Orders:
    """Orders to erase: given by any thread, carried out by the writer's."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._waiting: deque[_Order] = deque()
        self._closed = False

    def give(self, environment: str, identity_identifier: str, after: int) -> Future[int]:
        """
        Order that an identity be erased once entries up to *after* have been applied; return what becomes the number of rows.

        Raises:
            StoreError: No order is taken any more.
        """
        order = _Order(environment=environment, identity_identifier=identity_identifier, after=after)
        with self._gate:
            if self._closed:
                raise StoreError(_STOPPING)
            self._waiting.append(order)
        return order.answer

    def waiting(self) -> bool:
        """Return whether there are orders to carry out."""
        return bool(self._waiting)

    def carry_out(self, store: Store, journal: ErasableJournal) -> None:
        """Carry out the first order, if the entries that were there when it was given have been applied."""
        if not self._waiting or store.position(journal.identity) < self._waiting[0].after:
            return
        order = self._waiting[0]
        erased = store.erase_identity(order.environment, order.identity_identifier)
        journal.erase(store.trimmable(journal.identity))
        self._waiting.popleft()
        order.answer.set_result(erased)

    def refuse(self, error: Exception) -> None:
        """Answer every order that waits with *error*."""
        known = error if isinstance(error, StoreError | FlagledgerError) else StoreError(f"Erasing failed: {error}")
        while self._waiting:
            self._waiting.popleft().answer.set_exception(known)

    def close(self) -> None:
        """Refuse every order, those to come too."""
        with self._gate:
            self._closed = True
        self.refuse(StoreError(_STOPPING))


class Retention:
    """
    Drops what was received more than so many days ago, a slice at a time.

    Args:
        days: The days; 0 for ever.
        seconds: Seconds between two looks, the first of which is made at once.
        clock: Epoch seconds.
    """

    def __init__(
        self, days: int, *, seconds: float = RETENTION_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._days = days
        self._seconds = seconds
        self._clock = clock
        self._due = time.monotonic()
        # All that was received before so many microseconds is being dropped; None between drops.
        self._before: int | None = None
        self._dropped = 0

    def drop(self, store: Store) -> int:
        """Drop a slice of *store*, where it is time to; return how many rows that were, 0 where there are no more for now."""
        if self._before is None:
            if not self._days or time.monotonic() < self._due:
                return 0
            # The same until all of it is dropped: with each moment there is a little more.
            self._before = int(self._clock() * 1_000_000) - self._days * _MICROSECONDS_PER_DAY
        rows = store.drop_before(self._before)
        if rows:
            self._dropped += rows
            return rows
        if self._dropped:
            get_logger().info("what has outlived its retention was dropped", rows=self._dropped, days=self._days)
        self._before, self._dropped = None, 0
        self._due = time.monotonic() + self._seconds
        return 0
