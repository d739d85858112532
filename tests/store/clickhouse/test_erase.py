from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.applied import SetAside
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.columns import DISCARDS, ROWS, to_columns
from support.chdb import fresh_url, sql
from support.records import START, add_evaluation, entries_of, record_of

DAY = 86_400_000_000
MIDNIGHT = START // DAY * DAY
NO_ROWS = pa.RecordBatch.from_pylist([], ROWS)
NO_DISCARDS = pa.RecordBatch.from_pylist([], DISCARDS)
IDENTITIES = "SELECT identity_identifier FROM evaluations ORDER BY position"


@pytest.fixture
def url() -> str:
    """Return where the store is."""
    return fresh_url()


@pytest.fixture
def store(url: str) -> Iterator[ClickHouseStore]:
    """Return an empty store."""
    store = ClickHouseStore(url)
    yield store
    store.close()


def apply(store: ClickHouseStore, records: list[JournalRecord]) -> None:
    """Apply *records* behind what is there."""
    first = store.position("journal") + 1
    store.apply("journal", first, first + len(records) - 1, *to_columns(entries_of(records, first)))


def set_aside(store: ClickHouseStore, payload: bytes) -> None:
    """Set *payload* aside behind what is there."""
    position = store.position("journal") + 1
    apart = SetAside(position=position, payload=payload, description="unreadable")
    store.apply("journal", position, position, NO_ROWS, NO_DISCARDS, (apart,))


def of(identities: list[str], *, environment: str = "production", **fields: Any) -> JournalRecord:
    """Return a record with an evaluation of each of *identities*."""
    record = record_of(environment=environment, **fields)
    for identity in identities:
        add_evaluation(record, identity_identifier=identity)
    return record


def broken(identity: str, environment: str = "production") -> bytes:
    """Return a payload that holds an identity of an environment and is no record: its end is cut off."""
    return of(["someone", identity], environment=environment).SerializeToString() + b"\x7a\xff"


def received_at(time: int, *, discards: int = 0) -> JournalRecord:
    """Return a record with one evaluation, received at *time*."""
    record = of([str(time)], receive_time=time)
    for _ in range(discards):
        record.envelope.discards.add(reason="unknown_feature", name="x", entry_count=1)
    return record


def column(url: str, statement: str) -> list[Any]:
    """Return the first column of what *statement* answers."""
    return [row[0] for row in sql(url, statement)]


def test_an_identity_is_erased_and_nothing_else(url: str, store: ClickHouseStore) -> None:
    """The rows of the very identity in the very environment go, on whichever days; all others stay."""
    apply(store, [of(["ann", "bob", "ann"]), of(["ann"], environment="staging")])
    apply(
        store,
        [of(["Ann", "ann ", "ann%", "an"], receive_time=START + DAY), of(["ann", "bob"], receive_time=START + DAY)],
    )

    assert 3 == store.erase_identity("production", "ann")

    assert ["bob", "ann", "Ann", "ann ", "ann%", "an", "bob"] == column(url, IDENTITIES)
    assert ["staging"] == column(url, "SELECT environment FROM evaluations WHERE identity_identifier = 'ann'")


def test_an_identity_is_erased_once(store: ClickHouseStore) -> None:
    """A second order finds nothing; what came in between is found."""
    apply(store, [of(["ann"] * 5)])
    assert [5, 0] == [store.erase_identity("production", "ann") for _ in range(2)]

    apply(store, [of(["ann"])])

    assert 1 == store.erase_identity("production", "ann")
    assert 0 == store.erase_identity("elsewhere", "ann")


@pytest.mark.parametrize(
    "identity",
    [
        "ann",
        "é😀",
        "'; DROP TABLE evaluations; --",
        "a.*b",
        "a\x00b",
        "\\'\\n\n\t",
        "{a:Int8} %s",
        "a" * 128,
        "a" * 2000,
    ],
)
def test_whatever_an_identity_is_called_it_is_erased(url: str, store: ClickHouseStore, identity: str) -> None:
    """An identifier is a value and no SQL; a payload that was set aside goes where it holds it whole, in that environment."""
    apply(store, [of([identity, identity + "x"])])
    for payload in (
        broken(identity),
        broken(identity, "staging"),
        broken(identity + "x"),
        broken("another"),
    ):
        set_aside(store, payload)

    assert 1 == store.erase_identity("production", identity)

    assert [identity + "x"] == column(url, IDENTITIES)
    assert [3, 4, 5] == column(url, "SELECT position FROM quarantine ORDER BY position")
    assert [broken(identity + "x").hex().upper()] == column(
        url, "SELECT hex(payload) FROM quarantine WHERE position = 4"
    )


def test_nothing_brings_erased_rows_back(url: str, store: ClickHouseStore) -> None:
    """When the call returns no part holds the rows, and what is recorded later is recorded."""
    apply(store, [of(["ann", "bob"])])
    store.erase_identity("production", "ann")
    store.close()

    later = ClickHouseStore(url)
    apply(later, [of(["cyd"])])

    assert ["bob", "cyd"] == column(url, IDENTITIES)
    assert [0] == column(
        url,
        "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done",
    )
    later.close()


@pytest.mark.slow
@pytest.mark.parametrize("table", ["evaluations", "quarantine"])
def test_what_was_erased_goes_from_the_disk(url: str, store: ClickHouseStore, table: str) -> None:
    """Within a minute the files are gone that held what was erased."""
    apply(store, [of(["ann", "bob"])])
    set_aside(store, broken("ann"))
    set_aside(store, broken("bob"))
    before = column(url, f"SELECT path FROM system.parts WHERE database = currentDatabase() AND table = '{table}'")
    assert all(Path(path).is_dir() for path in before)

    store.erase_identity("production", "ann")

    end = time.monotonic() + 60
    while any(Path(path).exists() for path in before) and time.monotonic() < end:
        time.sleep(1)
    assert [] == [path for path in before if Path(path).exists()]


def test_days_that_ended_are_dropped(url: str, store: ClickHouseStore) -> None:
    """Whole days of receipt go, of rows and discards, once they ended; the day that the bound lies in stays whole."""
    times = [MIDNIGHT - DAY - 1, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + DAY - 1, MIDNIGHT + DAY]
    apply(store, [received_at(time, discards=2) for time in times])

    assert 0 == store.drop_before(MIDNIGHT - DAY - 1)
    assert 3 == store.drop_before(MIDNIGHT - 1)
    assert [str(time) for time in times[1:]] == column(url, IDENTITIES)
    assert 3 == store.drop_before(MIDNIGHT + DAY - 1)
    assert [str(time) for time in times[2:]] == column(url, IDENTITIES)
    assert 6 == store.drop_before(MIDNIGHT + DAY)
    assert [str(time) for time in times[4:]] == column(url, IDENTITIES)
    assert [2] == column(url, "SELECT count() FROM discards")
    assert 0 == store.drop_before(MIDNIGHT + DAY)


def test_what_was_set_aside_is_dropped_by_its_day(url: str, store: ClickHouseStore) -> None:
    """An entry that was set aside goes once the day of that has ended."""
    set_aside(store, b"\xff")
    ((moment,),) = sql(url, "SELECT toUnixTimestamp64Micro(set_aside_time) FROM quarantine")
    assert isinstance(moment, int)

    assert 0 == store.drop_before(moment // DAY * DAY)
    assert 1 == store.drop_before((moment // DAY + 1) * DAY)
    assert [0] == column(url, "SELECT count() FROM quarantine")


def test_what_was_dropped_can_be_recorded_again(url: str, store: ClickHouseStore) -> None:
    """A day that was dropped takes rows that come late."""
    apply(store, [received_at(MIDNIGHT)])
    store.drop_before(MIDNIGHT + DAY)
    apply(store, [received_at(MIDNIGHT)])

    assert [str(MIDNIGHT)] == column(url, IDENTITIES)
    assert 2 == store.position("journal")


def test_clickhouse_drops_what_has_outlived_its_retention(url: str) -> None:
    """With a retention, parts of old days go by themselves, at the latest when they are merged; younger ones stay."""
    store = ClickHouseStore(url)
    ((now,),) = sql(url, "SELECT toUnixTimestamp64Micro(now64(6))")
    assert isinstance(now, int)
    times = [now - 40 * DAY, now - 31 * DAY, now - 29 * DAY, now]
    apply(store, [received_at(time, discards=1) for time in times])
    store.close()

    ClickHouseStore(url, retention_days=30).close()
    for table in ("evaluations", "discards"):
        sql(url, f"OPTIMIZE TABLE {table} FINAL")

    assert [str(time) for time in times[2:]] == column(url, IDENTITIES)
    assert [2] == column(url, "SELECT count() FROM discards")


def test_a_longer_retention_counts_for_what_is_there(url: str) -> None:
    """Rows that were recorded under a short retention are kept for the longer one that came before they went."""
    store = ClickHouseStore(url, retention_days=30)
    sql(url, "SYSTEM STOP TTL MERGES evaluations")
    ((now,),) = sql(url, "SELECT toUnixTimestamp64Micro(now64(6))")
    assert isinstance(now, int)
    apply(store, [received_at(now - 40 * DAY)])
    store.close()

    ClickHouseStore(url, retention_days=90).close()
    sql(url, "SYSTEM START TTL MERGES evaluations")
    sql(url, "OPTIMIZE TABLE evaluations FINAL")

    assert [1] == column(url, "SELECT count() FROM evaluations")
