"""When the embedded store makes checkpoints, which the journal is trimmed up to."""

from __future__ import annotations

import threading
from pathlib import Path

import duckdb
from flagledger.store.columns import to_columns
from flagledger.store.duckdb.store import DuckDBStore
from support.records import simple_entry


def apply(store: DuckDBStore, first: int, last: int) -> None:
    """Apply simple entries *first* to *last*."""
    rows, discards = to_columns([simple_entry(position) for position in range(first, last + 1)])
    store.apply("journal", first, last, rows, discards)


def test_trimming_follows_checkpoints(tmp_path: Path) -> None:
    """What was applied is trimmable once a checkpoint has covered it, not before."""
    store = DuckDBStore(tmp_path / "store.duckdb")
    apply(store, 1, 3)
    assert 0 == store.trimmable("journal")
    store.checkpoint()
    apply(store, 4, 4)

    assert 3 == store.trimmable("journal")
    store.close()


def test_maintenance_makes_things_trimmable_in_time(tmp_path: Path) -> None:
    """With nothing more arriving, maintenance makes a checkpoint once its time has come."""
    store = DuckDBStore(tmp_path / "store.duckdb", checkpoint_seconds=3600.0)
    apply(store, 1, 3)
    store.maintain()
    assert 0 == store.trimmable("journal")
    store.close()

    store = DuckDBStore(tmp_path / "store.duckdb", checkpoint_seconds=0.0)
    apply(store, 4, 4)
    store.maintain()

    assert 4 == store.trimmable("journal")
    store.close()


def test_a_checkpoint_waits_for_questions_in_the_end(tmp_path: Path) -> None:
    """Questions that follow each other without a pause delay checkpoints, but not for ever."""
    store = DuckDBStore(tmp_path / "store.duckdb", checkpoint_seconds=0.0)
    previous: list[duckdb.DuckDBPyConnection] = []
    for position in range(1, 60):
        question = store._connection.cursor()  # type: ignore[union-attr]
        question.execute("BEGIN TRANSACTION READ ONLY").fetchall()
        question.execute("SELECT count(*) FROM evaluations").fetchall()
        apply(store, position, position)
        if store._checkpoints_refused < 20:
            store.maintain()
        for done in previous:
            done.close()
        previous = [question]
    for done in previous:
        done.close()

    assert 20 == store._checkpoints_refused
    store.maintain()
    assert 59 == store.trimmable("journal")
    store.close()


def test_a_long_log_is_not_put_off(tmp_path: Path) -> None:
    """A checkpoint waits for a question at once where the log has grown far beyond its length."""
    store = DuckDBStore(tmp_path / "store.duckdb", checkpoint_bytes=100)
    apply(store, 1, 1)
    question = store._connection.cursor()  # type: ignore[union-attr]
    question.execute("BEGIN TRANSACTION READ ONLY").fetchall()
    question.execute("SELECT count(*) FROM evaluations").fetchall()
    apply(store, 2, 2)
    maintaining = threading.Thread(target=store.maintain)
    maintaining.start()
    maintaining.join(0.2)

    assert maintaining.is_alive()
    question.close()
    maintaining.join()
    assert 2 == store.trimmable("journal")
    store.close()
