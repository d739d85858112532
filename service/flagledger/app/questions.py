"""
How a front answers questions.

An embedded store belongs to the writer alone: every question is passed on to it. A shared one is asked by each front itself, so
that questions need no writer; what changes the store is the writer's all the same, and is passed on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from flagledger.app.parts import journal_state, query_target, readers_catalog
from flagledger.catalog.cache import CachedCatalog
from flagledger.config import Config
from flagledger.errors import FlagledgerError
from flagledger.front.forward import Divided, Forwarder
from flagledger.front.grpc import Servicer
from flagledger.journal.sqlite import SqliteJournal
from flagledger.query.journal_state import Backlog, JournalState
from flagledger.query.servicer import QueryServicer
from flagledger.store import gaps
from flagledger.store.base import Store
from flagledger.store.errors import BehindJournalError, OtherJournalError, StoreError
from flagledger.store.opening import is_shared, open_reader
from flagledger.supervisor import ProcessSettings
from flagledger.v1 import query_service_pb2

SERVICE = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
"""The service that questions are rpcs of."""

# The one that changes what is stored. It waits until the writer has come so far, and overwrites what was.
_ORDERS = frozenset({"DeleteIdentity"})
# A server may be put back as it was while the service runs.
_CHECK_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """
    What answers the questions that a front gets.

    Attributes:
        servicer: Answers them.
        answering: Tells whether they can be asked at the moment, as far as that is known without asking one.
        close: Ends it, with what is still being answered.
    """

    servicer: Servicer
    answering: Callable[[], bool]
    close: Callable[[], Awaitable[None]]


def questions(config: Config, settings: ProcessSettings, catalog: CachedCatalog, journal: SqliteJournal) -> Questions:
    """Return what answers the questions of a front, from its running event loop."""
    if is_shared(config.store_url):
        return _asked_here(config, settings, catalog, journal)
    return _passed_on(settings, catalog)


def _passed_on(settings: ProcessSettings, catalog: CachedCatalog) -> Questions:
    forwarder = Forwarder(
        SERVICE, query_target(settings), QueryServicer(catalog, _no_store).authenticate, unhurried=_ORDERS
    )
    return Questions(servicer=forwarder, answering=forwarder.connected, close=forwarder.close)


def _asked_here(config: Config, settings: ProcessSettings, catalog: CachedCatalog, journal: SqliteJournal) -> Questions:
    reader = Reader(config.store_url, open_reader, journal, config.accept_gap)
    own = QueryServicer(
        readers_catalog(config, catalog, reader.store),
        reader.store,
        journal_state=lambda: _journal_state(journal, config.journal_max_bytes, reader),
        backlog=lambda: _backlog(journal, config.journal_max_bytes),
        retention_days=config.retention_days,
        secret=settings.identity_secret.encode(),
    )
    forwarder = Forwarder(SERVICE, query_target(settings), own.authenticate, unhurried=_ORDERS)

    async def close() -> None:
        await asyncio.to_thread(own.close)
        await asyncio.to_thread(reader.close)
        await forwarder.close()

    return Questions(servicer=Divided(SERVICE, own, dict.fromkeys(_ORDERS, forwarder)), answering=_always, close=close)


class Reader:
    """
    A shared store, opened for questions when the first one is asked, and again after it could not be.

    Whatever it answers, it has to be the one that the writer applies to: another one knows nothing of what was recorded here, and
    would say so as if nothing had been.

    Args:
        url: URL of the store.
        open_: Opens it.
        journal: What was recorded here, and has not been applied yet.
        accept_gap: Name of a gap (see `BehindJournalError`) whose entries are known to be lost.
    """

    def __init__(
        self, url: str, open_: Callable[[str], Store], journal: SqliteJournal, accept_gap: str | None = None
    ) -> None:
        self._url = url
        self._open = open_
        self._journal = journal
        self._accept_gap = accept_gap
        self._checked: float | None = None
        self._is_checking = False
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._closed = False

    def store(self) -> Store:
        """
        Return the store. Blocks while it is opened.

        Raises:
            OtherJournalError: It records another journal, whose evaluations are nothing to those who ask here.
            BehindJournalError: It lacks entries that were applied to another store, or to this one before it was put back.
            StoreError: It cannot be opened, or was closed.
        """
        with self._lock:
            if self._closed:
                raise StoreError("The service is being stopped.")
            if self._store is None:
                self._store = self._open(self._url)
            store = self._store
            checked = self._checked
            is_due = checked is not None and time.monotonic() - checked > _CHECK_SECONDS and not self._is_checking
            self._is_checking |= is_due
        if checked is None:
            self._check(store)
        elif is_due:
            # Beside the question, which could not be ended in the midst of it where the server hangs.
            threading.Thread(target=self._check_again, args=(store,), name="check-store", daemon=True).start()
        return store

    def close(self) -> None:
        """Let go of the store. May be called twice."""
        with self._lock:
            self._closed = True
            store, self._store = self._store, None
        if store is not None:
            store.close()

    def _check_again(self, store: Store) -> None:
        try:
            self._check(store)
        except (OtherJournalError, BehindJournalError):
            # Whoever asks next finds out what is wrong.
            self._checked = None
        except StoreError:
            # That it is away is what questions find out themselves.
            pass
        finally:
            self._is_checking = False

    def _check(self, store: Store) -> None:
        first = self._first()
        # After the journal is looked at: what was applied meanwhile may be gone from there already.
        known = store.stream()
        ours = self._journal.identity
        if known is not None and known.identity != ours:
            raise OtherJournalError(
                f"The store records the journal {known.identity}, and this service writes {ours}. Bring the journal's "
                "directory and the store together again that belong together."
            )
        gaps.accepted("The store", 0 if known is None else known.position, first, self._accept_gap)
        # As long as nothing is recorded, another journal may still come first.
        self._checked = None if known is None else time.monotonic()

    def _first(self) -> int:
        """Return the position of the oldest entry that the journal holds; 0 where it cannot be read, which costs no answer."""
        try:
            return self._journal.first_position()
        except FlagledgerError:
            return 0


def _journal_state(journal: SqliteJournal, max_bytes: int, reader: Reader) -> JournalState:
    """Return how far the store is behind the journal. Blocks."""
    stream = reader.store().stream()
    # Bound to another journal just now: the next question is refused.
    applied = stream.position if stream is not None and stream.identity == journal.identity else 0
    return journal_state(journal, max_bytes, applied)


def _backlog(journal: SqliteJournal, max_bytes: int) -> Backlog:
    """Return what the journal holds, which is what the store lacks, or nearly: a shared one has it trimmed at once. Blocks."""
    lag = journal.lag()
    return Backlog(bytes=lag.bytes, max_bytes=max_bytes, batches=lag.entries, seconds=lag.oldest_age)


def _always() -> bool:
    return True


def _no_store() -> Store:
    raise AssertionError("A front asks the writer and never the store.")
