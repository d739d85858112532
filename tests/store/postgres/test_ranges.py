from __future__ import annotations

import pytest
from flagledger.store.positions import ONE_ENTRY, end_of
from flagledger.store.postgres import ranges as postgres_ranges
from flagledger.store.postgres.ranges import BETWEEN, walk
from flagledger.store.postgres.sql import Reader
from flagledger.store.postgres.store import PostgresStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MAX_ROWS = 8
RANGE_BYTES = 100

# Entries by position: of each the bytes of its rows.
entries = st.dictionaries(
    st.integers(1, 3_000) | st.integers(1, 20),
    st.lists(st.sampled_from((1, 2, 60)), min_size=1, max_size=12),
    max_size=15,
)


@pytest.mark.parametrize("first", [1, 256])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=entries, begin=st.integers(0, 40), within=st.booleans())
def test_ranges_follow_one_another(
    store: PostgresStore,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    drawn: dict[int, list[int]],
    begin: int,
    within: bool,  # noqa: FBT001  # drawn
) -> None:
    """They go from the first position to the last without a gap, end with entries, and are small or of one entry."""
    monkeypatch.setattr(postgres_ranges, "MAX_ROWS", MAX_ROWS)
    monkeypatch.setattr(postgres_ranges, "RANGE_BYTES", RANGE_BYTES)
    monkeypatch.setattr(postgres_ranges, "_FIRST_ENTRIES", first)
    rows = ", ".join(
        f"({entry * ONE_ENTRY + index}, {size})" for entry, sizes in drawn.items() for index, size in enumerate(sizes)
    )
    sized = f"SELECT * FROM (VALUES (-1::bigint, 1){rows and ', '}{rows}) AS made (position, bytes) WHERE {BETWEEN}"
    after, last = end_of(begin) + (3 if within else 0), end_of(3_100)

    def read(_: Reader, behind: int, up_to: int) -> tuple[int, int]:
        return behind, up_to

    found = list(
        walk(lambda: store._reading(None), read, looked=sized, sized=sized, parameters={}, after=after, last=last)
    )

    assert [after, *(up_to for _, up_to in found)] == [*(behind for behind, _ in found), last]
    for behind, up_to in found:
        assert behind < up_to
        assert up_to == end_of(up_to // ONE_ENTRY)
        # The first range may begin in the middle of an entry.
        rows_of = (
            [size for index, size in enumerate(sizes) if behind < entry * ONE_ENTRY + index <= up_to]
            for entry, sizes in drawn.items()
        )
        held = [sizes for sizes in rows_of if sizes]
        if up_to - behind > ONE_ENTRY:
            assert sum(map(len, held)) <= MAX_ROWS or len(held) == 1
            assert sum(map(sum, held)) <= RANGE_BYTES or len(held) == 1


def test_few_rows_far_apart_are_few_ranges(store: PostgresStore) -> None:
    """Where there is little, ranges grow."""
    sized = f"SELECT position, 1 AS bytes FROM generate_series(0::bigint, 1 << 40, 1 << 36) AS position WHERE {BETWEEN}"

    def read(_: Reader, behind: int, up_to: int) -> int:
        return up_to - behind

    widths = list(
        walk(lambda: store._reading(None), read, looked=sized, sized=sized, parameters={}, after=0, last=(1 << 40) - 1)
    )

    assert sorted(widths[:-1]) == widths[:-1]
    assert len(widths) < 12
