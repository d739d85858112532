"""What stores have in common that commit a range and the position that it ends with in one transaction."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from flagledger.store import gaps
from flagledger.store.applied import Stream
from flagledger.store.errors import OverlapError
from flagledger.store.questioning import Questions


class Cursor(Protocol):
    """What a statement has found."""

    def fetchall(self) -> list[Any]:
        """Return every row."""


class Connection(Protocol):
    """What statements are executed over."""

    def execute(self, statement: str, /) -> Cursor:
        """Execute *statement*."""


Reader = TypeVar("Reader", bound=Connection)


class Transactional(Questions[Reader]):
    """
    The part of a `Store` that tells how far it is, and what a range that is given to it means. What each does is said in
    `store.base`.

    Attributes:
        name: What messages call the store.
        accept_gap: Name of a gap whose entries are known to be lost; None for none.
    """

    name: str
    accept_gap: str | None

    @abstractmethod
    def _errors(self) -> AbstractContextManager[None]:
        """Raise what goes wrong in the block as a StoreError."""

    @abstractmethod
    def _own(self) -> object:
        """Return the connection of the one thread that applies; raise where there is none."""

    @abstractmethod
    def _known(self, stream: str) -> int:
        """Return the position of *stream*; raise where another one is known."""

    def position(self, stream: str) -> int:
        """Return the position up to which entries of *stream* have been applied; 0 where none was."""
        with self._errors():
            self._own()
            return self._known(stream)

    def stream(self) -> Stream | None:
        """Return the journal that the store knows, and how far its entries have been applied."""
        with self._reading(None) as reader:
            known = reader.execute("SELECT stream, position FROM streams").fetchall()
        return Stream(identity=known[0][0], position=known[0][1]) if known else None

    def begun(self, stream: str) -> int | None:
        """Return None: a range is applied whole or not at all."""
        self.position(stream)
        return None

    def withdraw(self, stream: str) -> None:
        """Do nothing: no range is ever begun and left."""
        self.position(stream)

    def check_reach(self, stream: str, first: int) -> None:
        """Refuse a journal whose oldest entry, or next one where it holds none, is *first*, if entries before it are missing."""
        with self._errors():
            self._own()
            gaps.accepted(self.name, self._known(stream), first, self.accept_gap)

    def _gap_before(self, known: int, first: int, last: int) -> tuple[int, int] | None:
        """Return the gap that was accepted between *known* and a range; refuse a range that overlaps, or another gap."""
        if first <= known:
            raise OverlapError(f"Entries {first} to {last} overlap with what was applied, up to {known}.")
        return gaps.accepted(self.name, known, first, self.accept_gap)
