from __future__ import annotations

from operator import itemgetter

import pytest
from flagledger.catalog.budget import Budget, Leave, PerSecond, Unlimited
from hypothesis import given
from hypothesis import strategies as st

Call = tuple[float, bool, float]


def taken(budget: Budget, calls: list[Call]) -> list[tuple[float, bool]]:
    """Return time and kind of the lookups made, of *calls*: pause before, whether known, delay until the leave is used."""
    now = 1000.0
    made = []
    waiting: list[tuple[float, bool, Leave]] = []

    def use_until(time: float) -> None:
        for moment, known, leave in sorted(waiting, key=itemgetter(0)):
            if moment <= time:
                leave.use(moment)
                made.append((moment, known))
        waiting[:] = [one for one in waiting if one[0] > time]

    for pause, known, delay in calls:
        now += pause
        use_until(now)
        leave = (budget.for_known if known else budget.for_unknown)(now, 0)
        if leave is not None:
            waiting.append((now + delay, known, leave))
            use_until(now)
    use_until(float("inf"))
    return made


def most_within(times: list[float], seconds: float) -> int:
    """Return how many of *times*, in order, lie within any *seconds* at most."""
    return max((sum(start <= time < start + seconds for time in times) for start in times), default=0)


@given(
    st.sampled_from([2.0, 3.5, 10.0, 16.7, 50.0]),
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.001, 0.02, 0.3, 1.0]), st.booleans(), st.sampled_from([0.0, 0.01, 0.5])),
        max_size=400,
    ),
)
def test_no_second_has_more(rate: float, calls: list[Call]) -> None:
    """Whenever a second begins, it has no more lookups than the budget, of both kinds together, however late they are made."""
    assert most_within([time for time, _ in taken(PerSecond(rate), calls)], 1.0) <= int(rate)


@pytest.mark.parametrize(("rate", "seconds"), [(1.0, 1.0), (0.5, 2.0), (1.9, 1 / 1.9)])
def test_less_than_two_a_second(rate: float, seconds: float) -> None:
    """A small share is one lookup at a time, and each kind has every other one."""
    calls = [(0.01, number % 2 == 0, 0) for number in range(2000)]
    made = taken(PerSecond(rate), calls)
    kinds = [known for _, known in made]

    assert 1 == most_within([time for time, _ in made], seconds)
    assert int(18 / seconds) <= len(made)
    assert abs(kinds.count(True) - kinds.count(False)) <= 1


def test_a_flood_of_wrong_keys_leaves_a_part_to_known_ones() -> None:
    """However many wrong keys come, ten of fifty lookups a second are left for what is known."""
    flood = [(0.001, False, 0)] * 999
    budget = PerSecond(50.0)

    assert 40 == len(taken(budget, flood))
    assert [True] * 10 + [False] == [budget.for_known(1000.999, 0) is not None for _ in range(11)]


def test_known_keys_go_first() -> None:
    """Under a flood of wrong keys, known ones that wait get nine tenths of the lookups, and new keys still one tenth."""
    calls = [(0.001, number % 4 == 0, 0) for number in range(20_000)]
    late = [known for time, known in taken(PerSecond(50.0), calls) if time >= 1002.0]

    assert 0.85 < late.count(True) / len(late) < 0.95
    assert 0 < late.count(False)


def test_a_second_worth_is_under_way_at_most() -> None:
    """A source that hangs is not asked ever more, and not about unknown keys first."""
    budget = PerSecond(50.0)

    leaves = [budget.for_unknown(1.0, 40), budget.for_known(1.0, 44), budget.for_known(1.0, 45)]

    assert [False, True, False] == [leave is not None for leave in leaves]


def test_a_source_that_is_near_has_no_budget() -> None:
    """A file is asked whenever there is cause."""
    assert 2000 == len(taken(Unlimited(), [(0.0, number % 2 == 0, 1.0) for number in range(2000)]))
