"""What can go wrong with a store, and the way to end a question before it is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StoreError(Exception):
    """
    The store cannot do what was asked. The message is a sentence for an operator.

    Attributes:
        temporary: Whether the same may succeed later.
    """

    temporary = True


class UnreadableError(StoreError):
    """The store's file cannot be opened, or its content cannot be read."""


class HeldError(StoreError):
    """Another one writes into the store. The same may succeed once it is gone."""


class NewerFormatError(StoreError):
    """The store was written by a newer version than this one."""

    temporary = False


class OtherJournalError(StoreError):
    """The store knows another journal than the one it is given."""

    temporary = False


class BehindJournalError(StoreError):
    """
    The journal no longer holds the entries that the store needs next, as after a restored backup.

    Attributes:
        gap: Name of the gap, `<first>-<last>` of the positions that are missing. Who accepts the loss opens the store
            with it.
    """

    temporary = False

    def __init__(self, message: str, *, gap: str) -> None:
        super().__init__(message)
        self.gap = gap


class AheadOfJournalError(StoreError):
    """The store has applied positions that the journal has yet to give out, as after a journal was restored."""

    temporary = False


class OverlapError(StoreError):
    """A range begins within what has been applied and ends beyond it. Read again from `position` and apply that."""


class RowsRefusedError(StoreError):
    """The rows themselves cannot be stored; the same rows will be refused again. Nothing of the range was applied."""

    temporary = False


class DiskFullError(StoreError):
    """The disk has no room for more. Nothing of the range was applied."""


class QuestionEndedError(StoreError):
    """The question was ended through its `Interrupt` before it was answered."""


class TooManyBucketsError(StoreError):
    """The period has more buckets than an answer may hold. The message is a sentence about the field `bucket`."""

    temporary = False


class Interrupt:
    """
    Ends one question from another thread, so that nobody works on an answer that nobody waits for.

    Whoever asks for the end does so again and again until the question has returned: an interruption between two
    statements of an engine may be lost on it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._end: Callable[[], object] | None = None

    def ask(self) -> None:
        """End the question if it is being worked on, and keep it from beginning if it is not; never blocks."""
        with self._lock:
            self._asked = True
            if self._end is not None:
                self._end()

    @contextmanager
    def ending(self, end: Callable[[], object]) -> Iterator[None]:
        """
        Let *end*, which any thread may call, end what happens in the block; it is not called outside of it.

        Raises:
            QuestionEndedError: The end was asked for before.
        """
        with self._lock:
            if self._asked:
                raise QuestionEndedError("The question was ended before it began.")
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None
