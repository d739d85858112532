from __future__ import annotations

import itertools

import pytest
from flagledger.store.clickhouse import ranges as clickhouse_ranges
from flagledger.store.clickhouse.ranges import ranges
from flagledger.store.positions import ONE_ENTRY, end_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LIMIT = 100
steps = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 150)), max_size=60)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ranges and what is asked at once be small."""
    monkeypatch.setattr(clickhouse_ranges, "RANGE_BYTES", LIMIT)
    monkeypatch.setattr(clickhouse_ranges, "MOST_ENTRIES", 3)
    monkeypatch.setattr(clickhouse_ranges, "_FIRST_ROWS", 5)
    monkeypatch.setattr(clickhouse_ranges, "_MOST_ROWS", 40)


@pytest.mark.usefixtures("_small")
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, begin=st.integers(0, 20), extent=st.integers(0, 60), within=st.integers(0, 1))
def test_ranges_follow_one_another(steps: list[tuple[int, int]], begin: int, extent: int, within: int) -> None:
    """They go from the first position to the last without a gap, and each is small enough or of one entry."""
    entries = itertools.accumulate(step for step, _ in steps)
    drawn = {entry: size for entry, (_, size) in zip(entries, steps, strict=True)}
    after, last = end_of(begin) + within * 5, end_of(begin + extent + within)

    def sizes(behind: int, up_to: int) -> list[tuple[int, int]]:
        assert behind < up_to
        found = [(entry, size) for entry, size in sorted(drawn.items()) if behind < entry * ONE_ENTRY + 9 <= up_to]
        return found[: clickhouse_ranges.MOST_ENTRIES]

    found = list(ranges(sizes, after=after, last=last, rows=len(drawn)))

    assert [after, *(up_to for _, up_to in found)][: len(found)] == [behind for behind, _ in found]
    assert (found[-1][1] if found else after) == last
    for behind, up_to in found:
        assert behind < up_to
        held = [size for entry, size in drawn.items() if behind < entry * ONE_ENTRY + 9 <= up_to]
        assert sum(held) <= LIMIT or len(held) == 1


@pytest.mark.usefixtures("_small")
def test_few_rows_far_apart_are_few_ranges() -> None:
    """Where there is little, ranges grow, up to what is looked at in a time."""
    asked = []

    def sizes(behind: int, up_to: int) -> list[tuple[int, int]]:
        asked.append(up_to - behind)
        return []

    list(ranges(sizes, after=end_of(0), last=end_of(1_000), rows=50))

    assert sorted(asked[:-1]) == asked[:-1]
    assert len(asked) < 10
