"""Stores that several processes share: who writes, and who reads beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flagledger.store.applied import Stream
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from flagledger.store.errors import StoreError
from store import moved, stores
from support.records import add_evaluation, record_of, simple_entry

Open = Callable[..., Store]

pytestmark = pytest.mark.parametrize("kind", stores.shared_kinds(), indirect=True)


@pytest.fixture
def open_reader(kind: str, place: Path) -> Iterator[Callable[[], Store]]:
    """Open the store of this test for questions alone."""
    opened: list[Store] = []

    def open_() -> Store:
        opened.append(stores.open_reader(kind, place))
        return opened[-1]

    yield open_
    for reader in opened:
        reader.close()


def apply(store: Store, first: int, last: int) -> None:
    """Apply simple entries *first* to *last*."""
    rows, discards = to_columns([simple_entry(position) for position in range(first, last + 1)])
    store.apply("journal", first, last, rows, discards)


def rows(store: Store) -> int:
    """Return how many rows there are."""
    (series,) = store.count_evaluations(moved.EVERYTHING).series
    return series.total.evaluation_count


def test_a_reader_sees_what_was_applied(open_store: Open, open_reader: Callable[[], Store]) -> None:
    """A reader that was opened before or after sees what the writer has applied once the call has returned."""
    store = open_store()
    early = open_reader()
    for position in range(1, 4):
        apply(store, position, position)
        late = open_reader()

        assert [3 * position] * 2 == [rows(reader) for reader in (early, late)]
        assert [Stream(identity="journal", position=position)] * 2 == [reader.stream() for reader in (early, late)]
        assert moved.content_of(store) == moved.content_of(early)
        assert store.tally(0, 3).num_rows == early.tally(0, 3).num_rows > 0


def test_a_reader_goes_on_without_the_writer(open_store: Open, open_reader: Callable[[], Store]) -> None:
    """What was applied is answered while nobody writes, and when another writer has come."""
    store = open_store()
    reader = open_reader()
    apply(store, 1, 2)
    store.close()
    assert 6 == rows(reader)
    apply(open_store(), 3, 3)

    assert 9 == rows(reader)


def test_a_reader_writes_nothing(open_store: Open, open_reader: Callable[[], Store]) -> None:
    """What belongs to the writer raises StoreError on a reader, and changes nothing; so does `position`."""
    store = open_store()
    record = record_of()
    add_evaluation(record, identity_identifier="1/0")
    moved.apply(store, [record])
    reader = open_reader()
    for call in (
        lambda: reader.position("journal"),
        lambda: reader.begun("journal"),
        lambda: reader.withdraw("journal"),
        lambda: reader.check_reach("journal", 2),
        lambda: apply(reader, 2, 2),
        lambda: reader.trimmable("journal"),
        reader.checkpoint,
        reader.maintain,
        lambda: reader.erase_identity("production", "1/0"),
        lambda: reader.drop_before(1 << 52),
    ):
        with pytest.raises(StoreError):
            call()

    assert moved.expected([record]) == moved.content_of(store)
    assert 1 == store.position("journal")


def test_a_closed_reader_says_so(open_store: Open, open_reader: Callable[[], Store]) -> None:
    """A reader that was closed answers nothing; the writer goes on."""
    store = open_store()
    apply(store, 1, 1)
    reader = open_reader()
    reader.close()
    for call in (reader.stream, lambda: list(reader.applied(0)), lambda: rows(reader)):
        with pytest.raises(StoreError):
            call()

    apply(store, 2, 2)
    assert 6 == rows(store)


def test_a_second_writer_is_told_to_wait(open_store: Open) -> None:
    """While one writes, another is refused in a way that passes, and opened once the first has closed."""
    store = open_store()
    apply(store, 1, 1)
    with pytest.raises(StoreError) as refusal:
        open_store()
    assert refusal.value.temporary
    apply(store, 2, 2)
    store.close()

    second = open_store()

    apply(second, 3, 3)
    assert 9 == rows(second)


def test_writers_of_other_stores_are_not_in_the_way(open_store: Open, kind: str, tmp_path: Path) -> None:
    """Stores beside one another have a writer, and rows, each of their own."""
    store = open_store()
    other = stores.open_store(kind, tmp_path / "other")
    apply(store, 1, 1)
    apply(other, 1, 2)

    assert (3, 6) == (rows(store), rows(other))
    other.close()
