"""Journals to test with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from flagledger.journal.base import Journal
from flagledger.journal.sqlite import SqliteJournal


class OpenJournal(Journal, Protocol):
    """A journal that its owner can ask and close."""

    def writable(self) -> bool:
        """Return whether appends reach the disk."""

    def close(self) -> None:
        """Commit what is queued and close."""


# Every journal runs the conformance tests: name → how to open it in a directory, anew or again.
IMPLEMENTATIONS: dict[str, Callable[..., OpenJournal]] = {
    "sqlite": lambda directory, **options: SqliteJournal.open(
        directory / "journal.db", **{"max_bytes": 1 << 30, "reserve_bytes": 0} | options
    ),
}


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., OpenJournal]]:
    """Open the journal of this test's directory; whatever is still open afterwards is closed."""
    opened: list[OpenJournal] = []

    def open_it(directory: Path = tmp_path, **options: object) -> OpenJournal:
        opened.append(IMPLEMENTATIONS[request.param](directory, **options))
        return opened[-1]

    yield open_it
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal: Callable[..., OpenJournal]) -> OpenJournal:
    """Open one journal in ordinary settings."""
    return open_journal()
