"""What becomes of a range that was begun, and was not applied as a whole."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from flagledger.store.applied import SetAside, Stream
from flagledger.store.clickhouse import chunks
from flagledger.store.clickhouse.address import parse
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.errors import (
    BehindJournalError,
    OverlapError,
    StoreError,
)
from store.clickhouse.applying import Open, apply, counts, fails_at, seen
from support.chdb import connect, directory, sql
from support.records import START

APART = (SetAside(position=5, payload=b"\xff\x00", description="unreadable"),)


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "afterwards"])
@pytest.mark.parametrize("table", ["evaluations", "discards", "quarantine"])
def test_what_was_begun_is_applied_as_it_was(
    url: str, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch, table: str, *, afterwards: bool
) -> None:
    """Where an insert fails, what is there of the range is in no answer, and the same range makes it whole, once."""
    with monkeypatch.context() as patched:
        fails_at(patched, table, OperationalError("broken off"), afterwards=afterwards)
        with pytest.raises(StoreError, match="broken off"):
            apply(store, 4, 6, apart=APART)

    assert (3, 6, 6) == (store.position("journal"), store.begun("journal"), seen(store))
    assert Stream(identity="journal", position=3) == store.stream()

    apply(store, 4, 6, apart=APART)
    apply(store, 4, 6, apart=APART)

    assert (6, None, 12) == (store.position("journal"), store.begun("journal"), seen(store))
    assert [(12, 12), (6, 6), (1, 1), (0, 0)] == counts(url)


def test_a_range_that_was_begun_survives_reopening(url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another store knows where the range ends that the one before had begun, and makes it whole."""
    store = open_store()
    with monkeypatch.context() as patched:
        fails_at(patched, "discards", OperationalError("broken off"))
        with pytest.raises(StoreError):
            apply(store, 1, 6)
    store.close()

    store = open_store()

    assert (0, 6, 0) == (store.position("journal"), store.begun("journal"), len(store.environments()))
    apply(store, 1, 6)
    assert [(12, 12), (6, 6), (0, 0), (0, 0)] == counts(url)
    assert 12 == seen(store)


@pytest.mark.parametrize("reopened", [False, True])
def test_what_was_begun_can_be_taken_back(
    url: str, store: ClickHouseStore, open_store: Open, monkeypatch: pytest.MonkeyPatch, *, reopened: bool
) -> None:
    """Nothing of a range that was taken back is left, and another one is applied in its place."""
    with monkeypatch.context() as patched:
        fails_at(patched, "quarantine", OperationalError("broken off"), afterwards=True)
        with pytest.raises(StoreError):
            apply(store, 4, 6, apart=APART)
    if reopened:
        store.close()
        store = open_store()
    store.withdraw("journal")

    assert (3, None, 6) == (store.position("journal"), store.begun("journal"), seen(store))
    assert [(6, 6), (3, 3), (0, 0), (0, 0)] == counts(url)
    apply(store, 4, 5)
    assert (5, None, 10) == (store.position("journal"), store.begun("journal"), seen(store))


@pytest.mark.parametrize(
    ("first", "last", "error"),
    [(4, 5, OverlapError), (4, 7, OverlapError), (5, 6, BehindJournalError), (6, 6, BehindJournalError)],
)
def test_no_other_range_is_applied_while_one_is_begun(
    url: str, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch, first: int, last: int, error: type[StoreError]
) -> None:
    """What overlaps with a range that was begun is refused, as long as that was not applied."""
    with monkeypatch.context() as patched:
        fails_at(patched, "discards", OperationalError("broken off"))
        with pytest.raises(StoreError):
            apply(store, 4, 6)
    before = counts(url)

    with pytest.raises(error):
        apply(store, first, last)

    assert (3, 6, before) == (store.position("journal"), store.begun("journal"), counts(url))
    apply(store, 1, 2)
    apply(store, 4, 6)
    apply(store, 7, 7)
    assert 14 == seen(store)


@pytest.mark.parametrize("error", [OperationalError("broken off"), ValueError(), KeyboardInterrupt()])
def test_a_last_step_that_failed_afterwards_was_taken(
    store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Where the answer to the last step is lost, the store reads what the tables say, and applies nothing twice."""
    save = chunks.save

    def failing(client: Any, progress: chunks.Progress, writer: str) -> None:
        save(client, progress, writer)
        if progress.begun is None:
            raise error

    with monkeypatch.context() as patched:
        patched.setattr(chunks, "save", failing)
        with pytest.raises((StoreError, type(error))):
            apply(store, 4, 6)

    assert (6, None, 12) == (store.position("journal"), store.begun("journal"), seen(store))
    apply(store, 4, 6)
    assert 12 == seen(store)


@pytest.mark.parametrize(
    ("late_last", "merged", "landed"),
    [(5, False, 4), (5, True, 4), (5, True, 6), (6, True, 4), (8, True, 4)],
    ids=["shorter, beside", "shorter", "shorter, the last day alone", "equal", "longer"],
)
def test_a_first_step_that_comes_late_brings_nothing_in_twice(
    url: str,
    store: ClickHouseStore,
    open_store: Open,
    monkeypatch: pytest.MonkeyPatch,
    late_last: int,
    landed: int,
    *,
    merged: bool,
) -> None:
    """Where a first step whose answer was lost lands beside the next one, whose range breaks off, each row is there once."""
    save, late = chunks.save, []

    def losing(client: Any, progress: chunks.Progress, writer: str) -> None:
        if not late:
            late.append(progress)
            raise OperationalError("timed out")
        save(client, progress, writer)
        save(client, late[0], writer)

    with monkeypatch.context() as patched:
        patched.setattr(chunks, "save", losing)
        with pytest.raises(StoreError):
            apply(store, 4, late_last)
        fails_at(patched, "discards", OperationalError("killed"), afterwards=True)
        with pytest.raises(StoreError):
            apply(store, 4, 6, apart=APART)
    if merged:
        sql(url, "OPTIMIZE TABLE chunks FINAL")
    # An insert makes a part for each day, one after the other.
    for table in ("evaluations", "discards"):
        sql(
            url,
            f"ALTER TABLE {table} DELETE WHERE position >= {4 << 16} AND position < {landed << 16} SETTINGS mutations_sync = 1",
        )
    store.close()

    store = open_store()
    begun = store.begun("journal")
    assert begun in (6, late_last)
    apply(store, 4, begun, apart=APART)
    if begun < 8:
        apply(store, begun + 1, 8)

    assert [(16, 16), (8, 8), (1, 1), (0, 0)] == counts(url)
    assert (8, 16) == (store.position("journal"), seen(store))


def test_a_step_that_is_still_on_its_way_is_ended_before_steps_are_read(url: str, store: ClickHouseStore) -> None:
    """Where it is not known whether a step was taken, none can be taken any more once the tables have been read."""
    assert store._writing is not None
    settings = {"log_comment": store._writing.mark}
    path, name = directory(), parse(url).database
    ended: list[ClickHouseError] = []

    def step() -> None:
        client = connect(path, name)
        try:
            client.command(
                "INSERT INTO chunks SELECT 'journal', 9, 9, 0, 0, now64(6), '' FROM numbers(600) "
                "WHERE sleepEachRow(0.1) = 0 SETTINGS max_block_size = 1",
                settings=settings,
            )
        except ClickHouseError as error:
            ended.append(error)
        finally:
            client.close()

    thread = threading.Thread(target=step)
    thread.start()
    while not sql(url, f"SELECT 1 FROM system.processes WHERE Settings['log_comment'] = '{store._writing.mark}'"):
        time.sleep(0.01)
    with pytest.raises(OverlapError):
        apply(store, 2, 4)

    assert 3 == store.position("journal")
    thread.join()
    assert [394] == [error.code for error in ended]


def test_erasing_and_dropping_take_back_what_was_begun(
    url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is erased while a range is begun stays erased, and the range, which may be cut otherwise then, is begun anew."""
    for order in (lambda store: store.erase_identity("production", "5/1"), lambda store: store.drop_before(START)):
        store = open_store()
        position = store.position("journal")
        with monkeypatch.context() as patched:
            fails_at(patched, "discards", OperationalError("broken off"))
            with pytest.raises(StoreError):
                apply(store, position + 1, position + 3)
        order(store)
        assert None is store.begun("journal")
        apply(store, position + 1, position + 1)
        store.close()

    assert [(4, 4), (2, 2), (0, 0), (0, 0)] == counts(url)


@pytest.mark.parametrize("begun", [3, 5, 8], ids=["within", "beyond the first", "beyond the last"])
def test_a_gap_may_hold_what_was_begun(url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch, begun: int) -> None:
    """Where the first entries of a range that was begun are lost, and that is accepted, nothing of it comes to light."""
    store = open_store()
    with monkeypatch.context() as patched:
        fails_at(patched, "discards", OperationalError("broken off"))
        with pytest.raises(StoreError):
            apply(store, 1, begun)
    with pytest.raises(BehindJournalError, match="entries 1-4 are missing"):
        store.check_reach("journal", 5)
    with pytest.raises(BehindJournalError):
        apply(store, 5, 6)
    assert begun == store.begun("journal")
    store.close()

    store = open_store(accept_gap="1-4")
    store.check_reach("journal", 5)
    apply(store, 5, 6)

    assert (6, None, 4) == (store.position("journal"), store.begun("journal"), seen(store))
    assert [(4, 4), (2, 2), (0, 0), (1, 1)] == counts(url)
    assert [("journal", 1, 4)] == sql(url, "SELECT stream, first, last FROM gaps")


def test_what_was_taken_for_lost_may_come_back(url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the journal is back that holds the entries of a gap, a range behind it that was begun gives way to them."""
    store = open_store(accept_gap="1-4")
    with monkeypatch.context() as patched:
        fails_at(patched, "gaps", OperationalError("broken off"), afterwards=True)
        with pytest.raises(StoreError):
            apply(store, 5, 6)
    store.close()

    store = open_store()
    apply(store, 1, 6)

    assert (6, None, 12) == (store.position("journal"), store.begun("journal"), seen(store))
    assert [(12, 12), (6, 6), (0, 0), (0, 0)] == counts(url)


def test_a_gap_is_recorded_once(url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range behind an accepted gap that was begun is applied again, also where the gap is not named any more."""
    store = open_store(accept_gap="1-4")
    with monkeypatch.context() as patched:
        fails_at(patched, "gaps", OperationalError("broken off"), afterwards=True)
        with pytest.raises(StoreError):
            apply(store, 5, 6)
    store.close()

    store = open_store()
    apply(store, 5, 6)

    assert [(4, 4), (2, 2), (0, 0), (1, 1)] == counts(url)
    assert 4 == seen(store)
