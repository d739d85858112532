"""Entries of which each is received on a day of its own, applied to a ClickHouse store; and what goes wrong with that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.applied import SetAside
from flagledger.store.clickhouse import inserting
from flagledger.store.clickhouse.lease import LEASE_SECONDS
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.columns import to_columns
from flagledger.store.errors import Interrupt
from flagledger.store.questions import CountQuestion, Filter
from support.chdb import sql
from support.records import START, add_evaluation, entries_of, record_of

DAY = 86_400_000_000
PRODUCTION = Filter(environment="production")
Open = Callable[..., ClickHouseStore]
"""Opens the store of a test, with the options of one."""
TABLES = ("evaluations", "discards", "quarantine", "gaps")


def record(position: int) -> JournalRecord:
    """Return a record of two rows and a discard, received on a day of its own."""
    made = record_of(receive_time=START + position * DAY)
    made.envelope.discards.add(reason="unknown_feature", name=f"name-{position}", entry_count=1)
    for index in range(2):
        add_evaluation(made, time=START + position, identity_identifier=f"{position}/{index}")
    return made


def apply(
    store: ClickHouseStore, first: int, last: int, *, stream: str = "journal", apart: tuple[SetAside, ...] = ()
) -> None:
    """Apply entries *first* to *last*, and *apart* from them what was set aside."""
    records = [record(position) for position in range(first, last + 1)]
    store.apply(stream, first, last, *to_columns(entries_of(records, first)), apart)


def counts(url: str) -> list[tuple[object, ...]]:
    """Return how many rows each table has, and how many there are without those that are there twice."""
    return [
        sql(url, f"SELECT count(), uniqExact({'first' if table == 'gaps' else 'position'}) FROM {table}")[0]
        for table in TABLES
    ]


def seen(store: ClickHouseStore) -> int:
    """Return how many rows questions find, all of which must agree."""
    page = store.list_evaluations(PRODUCTION, 1_000, None)
    (series,) = store.count_evaluations(CountQuestion(filter=PRODUCTION)).series
    totals = store.list_features("production", None, None).totals
    exported = sum(batch.num_rows for batch in store.export(PRODUCTION, 0).batches)
    found = {len(page.rows), series.total.evaluation_count, sum(total.evaluation_count for total in totals), exported}
    assert len(found) == 1
    return found.pop()


def fails_at(monkeypatch: pytest.MonkeyPatch, table: str, error: Exception, *, afterwards: bool = False) -> None:
    """Let the insert into *table* fail with *error*, with or without having done its work, until `undo`."""
    insert = inserting.insert

    def failing(client: Any, name: str, *arguments: Any) -> None:
        if name == table and not afterwards:
            raise error
        insert(client, name, *arguments)
        if name == table:
            raise error

    monkeypatch.setattr(inserting, "insert", failing)


def goes_silent(store: ClickHouseStore, url: str) -> None:
    """Let time pass for *store* without a sign of life, as where its process was stopped."""
    sql(url, "ALTER TABLE writers UPDATE gone = true WHERE true SETTINGS mutations_sync = 1")
    store._lease._clock = lambda: time.monotonic() + 2 * LEASE_SECONDS


@contextmanager
def asking(interrupt: Interrupt) -> Iterator[None]:
    """Ask *interrupt* a while after the block began, and again and again until it is left, as whoever wants an end does."""
    left = threading.Event()

    def ask() -> None:
        while not left.wait(0.3):
            interrupt.ask()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
