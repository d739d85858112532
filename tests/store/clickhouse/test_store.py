from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from flagledger.store.applied import SetAside, Stream
from flagledger.store.clickhouse import chunks
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.columns import to_columns
from flagledger.store.errors import (
    BehindJournalError,
    OtherJournalError,
    OverlapError,
    RowsRefusedError,
    StoreError,
)
from flagledger.store.questions import MIN_TIME
from store.clickhouse.applying import DAY, apply, counts, fails_at, seen
from support.chdb import fresh_url, sql
from support.records import START, add_evaluation, entries_of, record_of

APART = (SetAside(position=5, payload=b"\xff\x00", description="unreadable"),)

Open = Callable[..., ClickHouseStore]


@pytest.fixture
def url() -> str:
    """Return where the store is."""
    return fresh_url()


@pytest.fixture
def open_store(url: str) -> Iterator[Open]:
    """Open the store of this test, again and again where the test closes it."""
    opened: list[ClickHouseStore] = []

    def open_(**options: Any) -> ClickHouseStore:
        opened.append(ClickHouseStore(url, **options))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> ClickHouseStore:
    """Return a store that has applied entries 1 to 3."""
    store = open_store()
    apply(store, 1, 3)
    return store


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


@pytest.mark.parametrize(("first", "last"), [(4, 5), (4, 7), (5, 6), (6, 6)])
def test_no_other_range_is_applied_while_one_is_begun(
    url: str, store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch, first: int, last: int
) -> None:
    """What overlaps with a range that was begun is refused, as long as that was not applied."""
    with monkeypatch.context() as patched:
        fails_at(patched, "discards", OperationalError("broken off"))
        with pytest.raises(StoreError):
            apply(store, 4, 6)
    before = counts(url)

    with pytest.raises(OverlapError):
        apply(store, first, last)

    assert (3, 6, before) == (store.position("journal"), store.begun("journal"), counts(url))
    apply(store, 1, 2)
    apply(store, 4, 6)
    apply(store, 7, 7)
    assert 14 == seen(store)


def test_a_last_step_that_failed_afterwards_was_taken(store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the answer to the last step is lost, the store reads what the tables say, and applies nothing twice."""
    save = chunks.save

    def failing(client: Any, progress: chunks.Progress, writer: str) -> None:
        save(client, progress, writer)
        if progress.begun is None:
            raise OperationalError("broken off")

    with monkeypatch.context() as patched:
        patched.setattr(chunks, "save", failing)
        with pytest.raises(StoreError):
            apply(store, 4, 6)

    assert (6, None, 12) == (store.position("journal"), store.begun("journal"), seen(store))
    apply(store, 4, 6)
    assert 12 == seen(store)


def test_rows_that_are_refused_are_withdrawn(url: str, store: ClickHouseStore) -> None:
    """What ClickHouse will never take is refused for good; nothing of it is left, and other ranges can be applied."""
    sql(url, "ALTER TABLE discards ADD CONSTRAINT known CHECK name != 'name-5'")

    with pytest.raises(RowsRefusedError) as refusal:
        apply(store, 4, 6)

    assert not refusal.value.temporary
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


def test_what_is_too_old_to_be_kept_is_not_missed(open_store: Open, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that outlived the retention when they were sent again may be gone already; the range is applied all the same."""
    store = open_store(retention_days=1)
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


def test_a_gap_may_hold_what_was_begun(url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the entries of a range that was begun are lost, and that is accepted, nothing of it comes to light."""
    store = open_store()
    with monkeypatch.context() as patched:
        fails_at(patched, "discards", OperationalError("broken off"))
        with pytest.raises(StoreError):
            apply(store, 1, 3)
    with pytest.raises(BehindJournalError, match="entries 1-4 are missing"):
        store.check_reach("journal", 5)
    with pytest.raises(BehindJournalError):
        apply(store, 5, 6)
    assert 3 == store.begun("journal")
    store.close()

    store = open_store(accept_gap="1-4")
    store.check_reach("journal", 5)
    apply(store, 5, 6)

    assert (6, None, 4) == (store.position("journal"), store.begun("journal"), seen(store))
    assert [(4, 4), (2, 2), (0, 0), (1, 1)] == counts(url)
    assert [("journal", 1, 4)] == sql(url, "SELECT stream, first, last FROM gaps")


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
