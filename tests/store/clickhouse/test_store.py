from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from flagledger.store.applied import SetAside
from flagledger.store.clickhouse import chunks, inserting
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.columns import to_columns
from flagledger.store.errors import (
    OtherJournalError,
    RowsRefusedError,
    StoreError,
)
from flagledger.store.questions import MIN_TIME
from store.clickhouse.applying import DAY, Open, apply, counts, fails_at, seen
from support.chdb import sql
from support.records import START, add_evaluation, entries_of, record_of

APART = (SetAside(position=5, payload=b"\xff\x00", description="unreadable"),)


def test_rows_that_are_refused_are_withdrawn(url: str, store: ClickHouseStore) -> None:
    """What ClickHouse will never take is refused for good; nothing of it is left, and other ranges can be applied."""
    sql(url, "ALTER TABLE discards ADD CONSTRAINT known CHECK name != 'name-5'")

    with pytest.raises(RowsRefusedError) as refusal:
        apply(store, 4, 6)

    assert not refusal.value.temporary
    assert str(refusal.value).endswith("says VIOLATED_CONSTRAINT of them.")
    assert refusal.value.__suppress_context__
    assert (3, None) == (store.position("journal"), store.begun("journal"))
    assert [(6, 6), (3, 3), (0, 0), (0, 0)] == counts(url)
    apply(store, 4, 4)
    with pytest.raises(RowsRefusedError):
        apply(store, 5, 5)
    nothing = to_columns([])
    store.apply("journal", 5, 5, *nothing, APART)
    apply(store, 6, 6)
    assert (6, 10) == (store.position("journal"), seen(store))
    assert [(10, 10), (5, 5), (1, 1), (0, 0)] == counts(url)


def test_times_that_clickhouse_has_not_are_refused_before_anything_is_begun(url: str, store: ClickHouseStore) -> None:
    """A time before 1900 is refused with a sentence; nothing was begun, and the entry can be set aside."""
    made = record_of()
    add_evaluation(made, time=MIN_TIME)

    with pytest.raises(RowsRefusedError, match="outside of the years 1900 to 2299"):
        store.apply("journal", 4, 4, *to_columns(entries_of([made], 4)))

    assert [(1,)] == sql(url, "SELECT count() FROM chunks FINAL")
    assert None is store.begun("journal")
    store.apply("journal", 4, 4, *to_columns([]), (SetAside(position=4, payload=b"", description="too early"),))
    assert 4 == store.position("journal")


def test_what_was_begun_and_is_refused_now_is_taken_back(
    url: str, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A range that another version began with such a time is no obstacle: its other entries can be applied by themselves."""
    made = [record_of(), record_of()]
    add_evaluation(made[0])
    add_evaluation(made[1], time=MIN_TIME)
    rows, discards = to_columns(entries_of(made, 4))
    with monkeypatch.context() as patched:
        patched.setattr(inserting, "check_times", lambda _: None)
        fails_at(patched, "evaluations", OperationalError("broken off"), afterwards=True)
        with pytest.raises(StoreError):
            store.apply("journal", 4, 5, rows, discards)
    assert 5 == store.begun("journal")

    with pytest.raises(RowsRefusedError):
        store.apply("journal", 4, 5, rows, discards)

    assert (3, None) == (store.position("journal"), store.begun("journal"))
    assert [(6, 6), (3, 3), (0, 0), (0, 0)] == counts(url)
    store.apply("journal", 4, 4, *to_columns(entries_of(made[:1], 4)))
    assert (4, 7) == (store.position("journal"), seen(store))


@pytest.mark.parametrize(
    "damage",
    [
        # As where the token of a part is remembered, and the part did not come to be.
        "ALTER TABLE evaluations DELETE WHERE position >= 327680 SETTINGS mutations_sync = 1",
        # As where the part came to be, and its token is not remembered.
        "INSERT INTO evaluations SELECT * FROM evaluations WHERE position >= 327680",
    ],
    ids=["missing", "double"],
)
def test_tokens_that_tell_lies_are_found_out(
    url: str, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Where sending the same again does not make a range whole, it is erased and begun anew."""
    with monkeypatch.context() as patched:
        fails_at(patched, "quarantine", OperationalError("broken off"))
        with pytest.raises(StoreError):
            apply(store, 4, 6, apart=APART)
    sql(url, damage)
    assert (12, 12) != counts(url)[0]

    apply(store, 4, 6, apart=APART)

    assert [(12, 12), (6, 6), (1, 1), (0, 0)] == counts(url)
    assert (6, 12) == (store.position("journal"), seen(store))


@pytest.mark.parametrize("days", [1, None])
def test_what_is_too_old_to_be_kept_is_not_missed(
    open_store: Open, url: str, monkeypatch: pytest.MonkeyPatch, days: int | None
) -> None:
    """Rows that outlived the retention when they were sent again may be gone already; the range is applied all the same."""
    open_store(retention_days=1).close()
    store = open_store(retention_days=days)
    made = [record_of(receive_time=START - DAY * 400)]
    add_evaluation(made[0])
    arguments = ("journal", 1, 1, *to_columns(entries_of(made)))
    with monkeypatch.context() as patched:
        fails_at(patched, "evaluations", OperationalError("broken off"), afterwards=True)
        with pytest.raises(StoreError):
            store.apply(*arguments)
    sql(url, "OPTIMIZE TABLE evaluations FINAL")
    sql(url, "TRUNCATE TABLE evaluations")
    begun = chunks.Progress.beginning
    monkeypatch.setattr(chunks.Progress, "beginning", lambda *_: pytest.fail("it was begun anew"))

    store.apply(*arguments)

    monkeypatch.setattr(chunks.Progress, "beginning", begun)
    assert 1 == store.position("journal")


def test_another_journal_is_refused(store: ClickHouseStore, open_store: Open) -> None:
    """A journal that the store does not know is refused for good, by reader's names too."""
    for ask in (
        lambda: store.position("another"),
        lambda: store.begun("another"),
        lambda: store.trimmable("another"),
        lambda: store.check_reach("another", 4),
        lambda: apply(store, 4, 4, stream="another"),
    ):
        with pytest.raises(OtherJournalError, match="belongs to the journal journal, and not to another") as refusal:
            ask()
        assert not refusal.value.temporary
    assert 6 == seen(store)


def test_what_was_applied_is_trimmable(store: ClickHouseStore) -> None:
    """Each step is on the disk, so that the journal is not needed for what was applied."""
    assert 3 == store.trimmable("journal")
    apply(store, 4, 4)
    assert 4 == store.trimmable("journal")


def test_an_error_that_says_nothing_of_rows_refuses_none(
    store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory, or a server that goes away, is no fault of the rows: the range stays begun and is sent again."""
    with monkeypatch.context() as patched:
        fails_at(patched, "evaluations", DatabaseError("Memory limit exceeded", code=241))
        with pytest.raises(StoreError, match="more memory") as refusal:
            apply(store, 4, 6)

    assert refusal.value.temporary
    assert 6 == store.begun("journal")
