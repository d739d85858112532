from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.applied import SetAside
from flagledger.store.columns import DISCARDS, ROWS, to_columns
from flagledger.store.duckdb import erase as duckdb_erase
from flagledger.store.duckdb.file import log_of
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.errors import StoreError
from google.protobuf import struct_pb2
from support.records import START, add_evaluation, entries_of, record_of

HOUR = 3_600_000_000
LONG = struct_pb2.Value(string_value="long " * 5_000)
NO_ROWS = pa.RecordBatch.from_pylist([], ROWS)
NO_DISCARDS = pa.RecordBatch.from_pylist([], DISCARDS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    """Open a store that makes no checkpoint by itself."""
    store = DuckDBStore(tmp_path / "store.duckdb", checkpoint_seconds=10**9)
    yield store
    store.close()


def apply(store: DuckDBStore, records: list[JournalRecord]) -> None:
    """Apply *records* behind what is there."""
    first = store.position("journal") + 1
    rows, discards = to_columns(entries_of(records, first))
    store.apply("journal", first, first + len(records) - 1, rows, discards)


def set_aside(store: DuckDBStore, payload: bytes) -> None:
    """Set *payload* aside behind what is there."""
    position = store.position("journal") + 1
    apart = SetAside(position=position, payload=payload, description="unreadable")
    store.apply("journal", position, position, NO_ROWS, NO_DISCARDS, (apart,))


def of(identities: list[str], *, environment: str = "production", **fields: Any) -> JournalRecord:
    """Return a record with an evaluation of each of *identities*."""
    record = record_of(environment=environment)
    for identity in identities:
        add_evaluation(record, identity_identifier=identity, **fields)
    return record


def received_at(time: int, *, discards: int = 0, **fields: Any) -> JournalRecord:
    """Return a record with one evaluation, received at *time*."""
    record = record_of(receive_time=time)
    add_evaluation(record, identity_identifier=str(time), **fields)
    for _ in range(discards):
        record.envelope.discards.add(reason="unknown_feature", name="x", entry_count=1)
    return record


def select(path: Path, question: str) -> list[Any]:
    """Return the first column of what the file at *path*, which nobody holds, answers."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return [row[0] for row in connection.execute(question).fetchall()]


def inside(store: DuckDBStore, question: str) -> list[Any]:
    """Return the first column of what the file of the open *store* answers."""
    assert store._connection is not None
    with store._connection.cursor() as connection:
        return [row[0] for row in connection.execute(question).fetchall()]


IDENTITIES = "SELECT identity_identifier FROM evaluations ORDER BY position"


def test_an_identity_is_erased_and_nothing_else(store: DuckDBStore) -> None:
    """The rows of the very identity in the very environment go, with their long texts; all others stay."""
    apply(store, [of(["ann", "bob", "ann"], value=LONG), of(["ann"], environment="staging", value=LONG)])
    apply(store, [of(["Ann", "ann ", "ann%", "an"]), of(["ann", "bob"])])
    assert 4 == len(set(inside(store, "SELECT position FROM long_texts")))

    assert 3 == store.erase_identity("production", "ann")

    assert ["bob", "ann", "Ann", "ann ", "ann%", "an", "bob"] == inside(store, IDENTITIES)
    assert ["production", "staging"] == inside(
        store,
        "SELECT environment FROM evaluations WHERE position IN (SELECT position FROM long_texts) ORDER BY position",
    )
    assert 2 == len(set(inside(store, "SELECT position FROM long_texts")))


def test_an_identity_is_erased_once(store: DuckDBStore) -> None:
    """A second order finds nothing; what came in between is found."""
    apply(store, [of(["ann"] * 5)])
    assert [5, 0] == [store.erase_identity("production", "ann") for _ in range(2)]

    apply(store, [of(["ann"])])

    assert 1 == store.erase_identity("production", "ann")
    assert 0 == store.erase_identity("elsewhere", "ann")


def broken(identity: str, environment: str = "production") -> bytes:
    """Return a payload that holds an identity of an environment and is no record: its end is cut off."""
    return of(["someone", identity], environment=environment).SerializeToString() + b"\x7a\xff"


@pytest.mark.parametrize(
    "identity", ["ann", "é😀", "'; DROP TABLE evaluations; --", "a.*b", "a\x00b", "a" * 128, "a" * 2000]
)
def test_what_was_set_aside_and_holds_the_identity_is_erased(store: DuckDBStore, identity: str) -> None:
    """A payload of which no record could be made goes where it holds the identifier of that environment, and only as a whole."""
    apply(store, [of([identity])])
    kept = [b"", identity.encode(), broken(identity + "x"), broken(identity[:-1]), broken(identity, "staging")]
    for payload in [*kept, broken(identity), b"\xff" + broken(identity)]:
        set_aside(store, payload)

    assert 1 == store.erase_identity("production", identity)

    assert kept == inside(store, "SELECT payload FROM quarantine ORDER BY position")


def test_an_erased_identity_does_not_come_back_with_the_loss_of_the_log(store: DuckDBStore, tmp_path: Path) -> None:
    """When the order is done the file alone, without its log, holds everything but the identity, and the position."""
    apply(store, [of(["ann", "bob"])])
    apply(store, [of(["bob", "ann"])])
    set_aside(store, broken("ann"))
    store.erase_identity("production", "ann")
    copy = tmp_path / "copy.duckdb"
    shutil.copy(tmp_path / "store.duckdb", copy)

    assert not log_of(copy).exists()
    assert ["bob", "bob"] == select(copy, IDENTITIES)
    assert [3] == select(copy, "SELECT position FROM streams")
    assert [] == select(copy, "SELECT payload FROM quarantine")
    assert 3 == store.trimmable("journal")


def test_an_order_that_got_as_far_as_the_log_is_finished(store: DuckDBStore, tmp_path: Path) -> None:
    """Where an order ended between its commit and the checkpoint, the next one finds no row and makes the checkpoint."""
    apply(store, [of(["ann", "bob"])])
    store.checkpoint()
    assert store._connection is not None
    duckdb_erase.erase_identity(store._connection, "production", "ann")
    copy = tmp_path / "copy.duckdb"
    shutil.copy(tmp_path / "store.duckdb", copy)
    assert ["ann", "bob"] == select(copy, IDENTITIES)

    assert 0 == store.erase_identity("production", "ann")

    shutil.copy(tmp_path / "store.duckdb", copy)
    assert ["bob"] == select(copy, IDENTITIES)


def test_questions_go_on_while_an_identity_is_erased(store: DuckDBStore) -> None:
    """Questions that began before an order end with what they began with; they neither fail nor wait, nor does the order."""
    apply(store, [of(["ann", "bob"] * 30_000)])
    store.checkpoint()
    assert store._connection is not None
    with store._connection.cursor() as connection:
        connection.execute("BEGIN TRANSACTION")
        assert [(60_000,)] == connection.execute("SELECT count(*) FROM evaluations").fetchall()
        erased: list[int] = []
        order = threading.Thread(target=lambda: erased.append(store.erase_identity("production", "ann")))
        order.start()
        order.join(30)

        assert [30_000] == erased
        assert [(60_000,)] == connection.execute("SELECT count(*) FROM evaluations").fetchall()
        assert [(30_000,)] == connection.execute(
            "SELECT count(*) FROM evaluations WHERE identity_identifier = 'ann'"
        ).fetchall()
        connection.execute("COMMIT")
        assert [(30_000,)] == connection.execute("SELECT count(*) FROM evaluations").fetchall()


def dropped(store: DuckDBStore, received: int) -> list[int]:
    """Return what each call dropped, until none drops anything."""
    counts = [store.drop_before(received)]
    while counts[-1]:
        counts.append(store.drop_before(received))
    return counts


def test_what_is_old_is_dropped_an_hour_at_a_time(store: DuckDBStore) -> None:
    """Each call drops what the oldest hour holds, whatever lies between the hours, up to the very microsecond."""
    start = START // HOUR * HOUR
    times = [start, start + HOUR - 1, start + HOUR, start + 5 * HOUR + 10, start + 5 * HOUR + 11, start + 9 * HOUR]
    apply(store, [received_at(time) for time in reversed(times)])

    assert [2, 1, 1, 0] == dropped(store, start + 5 * HOUR + 11)

    assert [str(time) for time in reversed(times[4:])] == inside(store, IDENTITIES)
    assert [0] == dropped(store, start + 5 * HOUR + 11)
    assert [1, 1, 0] == dropped(store, start + 100 * HOUR)
    assert [] == inside(store, IDENTITIES)


def test_all_that_is_old_is_dropped(store: DuckDBStore) -> None:
    """Long texts, discards and what was set aside go with the rows of their time, and are counted but for the texts."""
    apply(store, [received_at(START, discards=2, value=LONG), received_at(START + HOUR, discards=1, value=LONG)])
    only_discards = record_of(receive_time=START)
    only_discards.envelope.discards.add(reason="unknown_feature", name="x", entry_count=1)
    apply(store, [only_discards])
    set_aside(store, b"now")

    assert 4 == sum(dropped(store, START + 1))

    assert [str(START + HOUR)] == inside(store, IDENTITIES)
    assert 1 == len(set(inside(store, "SELECT position FROM long_texts")))
    assert [START + HOUR] == inside(store, "SELECT epoch_us(receive_time) FROM discards")
    assert [b"now"] == inside(store, "SELECT payload FROM quarantine")
    # In these tests receipt lies further ahead than the clock by which entries are set aside.
    assert 3 == sum(dropped(store, 2**55))
    assert [] == inside(store, "SELECT payload FROM quarantine")
    assert [] == inside(store, "SELECT text FROM long_texts")


def test_an_empty_store_drops_and_erases_nothing(store: DuckDBStore) -> None:
    """Where nothing was recorded, nothing is dropped or erased."""
    assert 0 == store.drop_before(START)
    assert 0 == store.erase_identity("production", "ann")


def test_what_was_dropped_gets_a_checkpoint(tmp_path: Path) -> None:
    """A drop is covered by a checkpoint like rows that were applied, so that it does not lie in the log for ever."""
    store = DuckDBStore(tmp_path / "store.duckdb", checkpoint_seconds=0.0)
    apply(store, [received_at(START)])
    store.maintain()
    store.drop_before(START + 1)
    copy = tmp_path / "copy.duckdb"
    shutil.copy(tmp_path / "store.duckdb", copy)
    assert 1 == len(select(copy, IDENTITIES))

    store.maintain()

    shutil.copy(tmp_path / "store.duckdb", copy)
    assert [] == select(copy, IDENTITIES)
    store.close()


def test_an_order_that_fails_erases_nothing(store: DuckDBStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where any part of an order fails, nothing was erased, and the store goes on."""
    apply(store, [of(["ann", "bob"], value=LONG)])
    set_aside(store, broken("ann"))
    delete = duckdb_erase._delete

    def failing(connection: duckdb.DuckDBPyConnection, table: str, *arguments: Any) -> int:
        if table == "quarantine":
            raise duckdb.IOException("IO Error: Could not write file: No space left on device")
        return delete(connection, table, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(duckdb_erase, "_delete", failing)
        with pytest.raises(StoreError, match="no room"):
            store.erase_identity("production", "ann")
        with pytest.raises(StoreError, match="no room"):
            store.drop_before(START + 1)

    assert ["ann", "bob"] == inside(store, IDENTITIES)
    assert 2 == len(set(inside(store, "SELECT position FROM long_texts")))
    apply(store, [of(["ann"])])
    assert 2 == store.erase_identity("production", "ann")


def test_a_closed_store_erases_nothing(tmp_path: Path) -> None:
    """After closing, orders are refused."""
    store = DuckDBStore(tmp_path / "store.duckdb")
    store.close()

    with pytest.raises(StoreError):
        store.erase_identity("production", "ann")
    with pytest.raises(StoreError):
        store.drop_before(START)
