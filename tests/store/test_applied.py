"""What every store gives back of what was applied to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from flagledger.store.applied import RANGE_BYTES, TALLY, Applied
from flagledger.store.base import Store
from flagledger.store.errors import Interrupt, QuestionEndedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store import moved
from store.moved import Item
from support.records import START, add_evaluation, record_of, value_of

# One store serves all examples of a test.
some = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@some
@given(drawn=moved.items(), at_once=st.integers(1, 4), resumed=st.integers(0, 8))
def test_what_was_applied_comes_back(store: Store, drawn: list[Item], at_once: int, resumed: int) -> None:
    """Every row, discard and set-aside entry comes back as it was, once and in order, from any position on."""
    before = store.position("journal")
    moved.apply(store, drawn, before + 1, at_once=at_once)
    behind = min(resumed, len(drawn))

    assert moved.expected(drawn, before + 1) == moved.content_of(store, before)
    assert moved.expected(drawn[behind:], before + behind + 1) == moved.content_of(store, before + behind)


@some
@given(drawn=moved.items(), behind=st.integers(0, 8), extent=st.integers(0, 8))
def test_a_tally_sums_up(store: Store, drawn: list[Item], behind: int, extent: int) -> None:
    """Whatever range is asked for, the tally has the sum of `count` by environment, feature, enabled, variant and second."""
    before = store.position("journal")
    moved.apply(store, drawn, before + 1)
    part = drawn[behind : behind + extent]
    after = before + min(behind, len(drawn))

    table = store.tally(after, after + len(part))

    assert TALLY == table.schema
    found = Counter({tuple(row.values())[:-1]: row["evaluation_count"] for row in table.to_pylist()})
    assert table.num_rows == len(found)
    assert tallied(part) == found


def tallied(given_: Sequence[Item]) -> Counter[tuple[object, ...]]:
    """Return the tally of *given_*, counted one by one."""
    counted: Counter[tuple[object, ...]] = Counter()
    for row in moved.expected(given_).rows:
        key = row["environment"], row["feature_name"], row["enabled"], row["variant"], row["evaluation_time"] // 10**6
        counted[key] += row["count"]
    return counted


def test_seconds_before_the_epoch_are_whole_ones(store: Store) -> None:
    """A moment belongs to the second that began before it, also where seconds are negative."""
    record = record_of()
    for time in (-2_000_001, -2_000_000, -1, 0, 999_999):
        add_evaluation(record, time=time, count=1)
    moved.apply(store, [record])

    found = {row["second"]: row["evaluation_count"] for row in store.tally(0, 1).to_pylist()}

    assert {-3: 1, -2: 1, -1: 1, 0: 2} == found


def bulky(rows: int = 100) -> Item:
    """Return an entry of so many *rows* with values of 120 KiB each: 12 MB."""
    record = record_of(batch_id="bulky")
    for number in range(rows):
        add_evaluation(record, time=START + number, value=value_of(chr(97 + number % 26) * (120 << 10)))
    return record


def test_ranges_fit_into_memory(store: Store) -> None:
    """A range comes to some `RANGE_BYTES`, but for a single entry that is larger; none is left out for being too large."""
    given_ = [bulky(), bulky(), bulky(300), bulky(), bulky(), bulky()]
    moved.apply(store, given_, at_once=1)

    sizes = []
    for found in store.applied(0):
        sizes.append((found.last - found.first + 1, found.rows.nbytes))
        assert found.rows.num_rows == sum(len(record.evaluations) for record in moved.records_of(of(given_, found)))
    assert len(given_) == sum(entries for entries, _ in sizes)
    assert all(size <= 2 * RANGE_BYTES for entries, size in sizes if entries > 1)
    assert len(sizes) > 2


def of(given_: Sequence[Item], found: Applied) -> Sequence[Item]:
    """Return the entries that *found* is about."""
    return given_[found.first - 1 : found.last]


def test_it_ends_where_the_store_was_when_it_was_asked(store: Store) -> None:
    """What is applied after the call is not in it, however late it is read."""
    record = record_of()
    add_evaluation(record)
    moved.apply(store, [record] * 3)
    ranges = store.applied(1)
    moved.apply(store, [record] * 2, 4)

    assert moved.expected([record] * 2, 2) == moved.read_back(ranges, 2, 3)
    assert [] == list(store.applied(5))
    assert [] == list(store.applied(9))


def test_nothing_is_held_between_two_ranges(store: Store) -> None:
    """While somebody reads slowly, the store goes on: it applies, makes checkpoints and erases, and the ranges stay whole."""
    given_ = [bulky()] * 4
    moved.apply(store, given_)
    ranges = store.applied(0)
    first = next(ranges)
    moved.apply(store, [record_of()], 5)
    store.checkpoint()
    assert 5 == store.trimmable("journal")
    store.erase_identity("production", "nobody")
    rest = list(ranges)

    assert first.last < 4
    assert moved.expected(given_) == moved.read_back([first, *rest], 1, 4)


def test_what_was_erased_is_missing(store: Store) -> None:
    """Entries whose rows were erased leave no gap: their ranges are there, with what is left."""
    records = []
    for position in range(1, 6):
        record = record_of()
        add_evaluation(record, identity_identifier="gone" if position != 3 else "here")
        records.append(record)
    moved.apply(store, records, at_once=1)
    assert 4 == store.erase_identity("production", "gone")

    found = moved.content_of(store)

    assert ["here"] == [row["identity_identifier"] for row in found.rows]
    assert [3 << 16] == [row["position"] for row in found.rows]


def test_it_is_ended_between_two_ranges(store: Store) -> None:
    """An interrupt that is asked while ranges are read ends them at the next one."""
    moved.apply(store, [bulky()] * 4)
    interrupt = Interrupt()
    ranges = store.applied(0, interrupt)
    next(ranges)
    interrupt.ask()

    with pytest.raises(QuestionEndedError):
        list(ranges)
