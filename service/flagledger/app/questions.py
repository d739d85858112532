"""
How a front answers questions.

An embedded store belongs to the writer alone: every question is passed on to it. A shared one is asked by each front itself, so
that questions need no writer; what changes the store is the writer's all the same, and is passed on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flagledger.app.parts import journal_state, query_target, readers_catalog
from flagledger.catalog.cache import CachedCatalog
from flagledger.config import Config
from flagledger.front.forward import Divided, Forwarder
from flagledger.front.grpc import Servicer
from flagledger.journal.sqlite import SqliteJournal
from flagledger.query.journal_state import JournalState
from flagledger.query.servicer import QueryServicer
from flagledger.store.base import Store
from flagledger.store.errors import OtherJournalError, StoreError
from flagledger.store.opening import is_shared, open_reader
from flagledger.supervisor import ProcessSettings
from flagledger.v1 import query_service_pb2

SERVICE = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
"""The service that questions are rpcs of."""

# The one that changes what is stored. It waits until the writer has come so far, and overwrites what was.
_ORDERS = frozenset({"DeleteIdentity"})


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
    reader = Reader(config.store_url, open_reader, journal.identity)
    own = QueryServicer(
        readers_catalog(config, catalog, reader.store),
        reader.store,
        journal_state=lambda: _journal_state(journal, config.journal_max_bytes, reader),
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

    Args:
        url: URL of the store.
        open_: Opens it.
        stream: Identity of the journal whose evaluations it is asked for.
    """

    def __init__(self, url: str, open_: Callable[[str], Store], stream: str) -> None:
        self._url = url
        self._open = open_
        self._stream = stream
        self._ours = False
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._closed = False

    def store(self) -> Store:
        """
        Return the store. Blocks while it is opened.

        Raises:
            OtherJournalError: It records another journal, whose evaluations are nothing to those who ask here.
            StoreError: It cannot be opened, or was closed.
        """
        with self._lock:
            if self._closed:
                raise StoreError("The service is being stopped.")
            if self._store is None:
                self._store = self._open(self._url)
            store = self._store
        if not self._ours:
            self._check(store)
        return store

    def close(self) -> None:
        """Let go of the store. May be called twice."""
        with self._lock:
            self._closed = True
            store, self._store = self._store, None
        if store is not None:
            store.close()

    def _check(self, store: Store) -> None:
        # As long as nothing is recorded, another journal may still come first: only what is bound stays as it is.
        known = store.stream()
        if known is not None and known.identity != self._stream:
            raise OtherJournalError(
                f"The store records the journal {known.identity}, and this service writes {self._stream}. Bring the journal's "
                "directory and the store together again that belong together."
            )
        self._ours = known is not None


def _journal_state(journal: SqliteJournal, max_bytes: int, reader: Reader) -> JournalState:
    """Return how far the store is behind the journal. Blocks."""
    stream = reader.store().stream()
    # Bound to another journal just now: the next question is refused.
    applied = stream.position if stream is not None and stream.identity == journal.identity else 0
    return journal_state(journal, max_bytes, applied)


def _always() -> bool:
    return True


def _no_store() -> Store:
    raise AssertionError("A front asks the writer and never the store.")
