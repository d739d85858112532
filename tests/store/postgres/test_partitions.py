from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
import pyarrow as pa
import pytest
from flagledger.store.applied import SetAside
from flagledger.store.columns import to_columns
from flagledger.store.postgres import partitions
from flagledger.store.postgres.store import PostgresStore
from support.records import add_evaluation, entries_of, record_of

Open = Callable[..., PostgresStore]

DAY: Final = partitions.DAY_MICROSECONDS
FIRST_DAY: Final = 20_000
"""2024-10-04."""


def record(store: PostgresStore, *received: int, discards: int = 0) -> None:
    """Apply an entry for each of *received*, the moments of receipt, with two evaluations and so many discards."""
    made = []
    for moment in received:
        entry = record_of(receive_time=moment)
        add_evaluation(entry)
        add_evaluation(entry)
        for number in range(discards):
            entry.envelope.discards.add(reason="r", name=str(number), entry_count=1)
        made.append(entry)
    first = store.position("journal") + 1
    store.apply("journal", first, first + len(made) - 1, *to_columns(entries_of(made, first)))


def names(administrator: psycopg.Connection[Any], table: str = "evaluations") -> list[str]:
    """Return the names of the partitions of *table*."""
    found = administrator.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = %s::regclass ORDER BY relname",
        (table,),
    )
    return [name for (name,) in found]


@pytest.mark.parametrize(
    ("received", "day"),
    [
        (0, 0),
        (DAY - 1, 0),
        (DAY, 1),
        (-1, -1),
        (-DAY, -1),
        (-62_135_596_800_000_000, -719_162),
        (253_402_300_799_999_999, 2_932_896),
    ],
)
def test_days_are_those_of_utc(received: int, day: int) -> None:
    """A day begins at midnight UTC, before 1970 too, in every year that a time may have."""
    times = pa.array([received], pa.timestamp("us"))

    assert {day} == partitions.days_of(pa.record_batch([times], names=["receive_time"]))


def test_each_day_has_a_partition(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """A batch of several days has its rows in partitions of theirs, made as needed, for every year that a time may have."""
    record(store, FIRST_DAY * DAY, (FIRST_DAY + 1) * DAY - 1, discards=1)
    record(store, (FIRST_DAY + 1) * DAY, -62_135_596_800_000_000, 253_402_300_799_999_999)
    assert ["evaluations_00010101", "evaluations_20241004", "evaluations_20241005", "evaluations_99991231"] == names(
        administrator
    )
    assert ["discards_20241004"] == names(administrator, "discards")
    counts = administrator.execute(
        "SELECT relname, count(*) FROM evaluations AS e JOIN pg_class AS c ON c.oid = e.tableoid GROUP BY 1 ORDER BY 1"
    ).fetchall()

    assert [2, 4, 2, 2] == [count for _, count in counts]


def test_partitions_have_the_indexes_of_their_table(
    store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """Every index of a table is attached to each partition of it, and valid."""
    record(store, FIRST_DAY * DAY, (FIRST_DAY + 1) * DAY, discards=1)
    for table, days in (("evaluations", 2), ("discards", 2)):
        found = administrator.execute(
            """
            SELECT parent.indisvalid, count(child.inhrelid) FROM pg_index AS parent
            LEFT JOIN pg_inherits AS child ON child.inhparent = parent.indexrelid
            WHERE parent.indrelid = %s::regclass GROUP BY parent.indexrelid, parent.indisvalid
            """,
            (table,),
        ).fetchall()

        assert len(found) >= 2
        assert {(True, days)} == set(found)


def test_maintenance_makes_those_of_today_and_tomorrow(
    store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """Midnight finds its partitions made; what is there already is left alone."""
    record(store, time.time_ns() // 1_000)
    today = datetime.now(UTC).date()
    store.maintain()
    store.maintain()

    expected = [f"{today + timedelta(days=days):%Y%m%d}" for days in (0, 1)]
    # Unless midnight has just passed.
    assert set(expected) <= {name.rpartition("_")[2] for name in names(administrator)}
    assert set(expected) <= {name.rpartition("_")[2] for name in names(administrator, "discards")}


def test_a_new_day_waits_for_no_question(store: PostgresStore) -> None:
    """While a question holds the table, a batch of a day without a partition is applied, and other questions are answered."""
    record(store, FIRST_DAY * DAY)
    done = threading.Event()

    def apply_next_day() -> None:
        record(store, (FIRST_DAY + 1) * DAY)
        done.set()

    with store._reading(None) as reader:
        assert [(2,)] == reader.execute("SELECT count(*) FROM evaluations").fetchall()
        thread = threading.Thread(target=apply_next_day)
        thread.start()
        applied = done.wait(20)
        # The question still sees its own moment.
        assert [(2,)] == reader.execute("SELECT count(*) FROM evaluations").fetchall()
    thread.join()

    assert applied
    assert ("production",) == store.environments()


def test_whole_days_are_dropped(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """Days that ended by then go one after the other, rows and discards, and are counted; later ones stay."""
    record(store, *((FIRST_DAY + number) * DAY for number in range(4)), discards=3)
    before = (FIRST_DAY + 3) * DAY - 1
    dropped = []
    while rows := store.drop_before(before):
        dropped.append(rows)

    assert [3, 2, 3, 2] == dropped
    assert ["evaluations_20241006", "evaluations_20241007"] == names(administrator)
    assert ["discards_20241006", "discards_20241007"] == names(administrator, "discards")
    assert 5 == store.drop_before(before + 1) + store.drop_before(before + 1)
    record(store, FIRST_DAY * DAY)
    assert ["evaluations_20241004", "evaluations_20241007"] == names(administrator)


def test_days_without_rows_hold_up_no_others(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """An empty partition is dropped on the way: 0 says that nothing is left to drop."""
    record(store, FIRST_DAY * DAY, (FIRST_DAY + 1) * DAY)
    administrator.execute("DELETE FROM evaluations WHERE receive_time < '2024-10-05'")

    assert 2 == store.drop_before((FIRST_DAY + 2) * DAY)
    assert [] == names(administrator)


def test_what_was_set_aside_is_dropped_too(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """What was set aside goes by the time that it was."""
    now = time.time_ns() // 1_000
    for position in (1, 2):
        store.apply(
            "journal", position, position, *to_columns([]), (SetAside(position=position, payload=b"", description=""),)
        )
    administrator.execute("UPDATE quarantine SET set_aside_time = now() - interval '2 hours' WHERE position = 1")

    assert 1 == store.drop_before(now - 3_600_000_000)
    assert [(2,)] == administrator.execute("SELECT position FROM quarantine").fetchall()
    assert 0 == store.drop_before(now - 3_600_000_000)


def test_dropping_gives_way_to_a_long_question(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """A day that a question is looking at is not waited for; it goes at a later call, and intake goes on in between."""
    record(store, FIRST_DAY * DAY)
    with store._reading(None) as reader:
        reader.execute("SELECT count(*) FROM evaluations").fetchall()
        began = time.monotonic()
        assert 0 == store.drop_before((FIRST_DAY + 1) * DAY)
        assert time.monotonic() - began < 10
        record(store, FIRST_DAY * DAY)
        assert [(2,)] == reader.execute("SELECT count(*) FROM evaluations").fetchall()

    assert 4 == store.drop_before((FIRST_DAY + 1) * DAY)
    assert [] == names(administrator)
