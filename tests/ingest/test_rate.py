from __future__ import annotations

from dataclasses import replace

import pytest
from flagledger.catalog.base import Environment
from flagledger.catalog.policy import Policy
from flagledger.errors import FlagledgerError, Reason
from flagledger.ingest import rate as module
from flagledger.ingest.rate import Rates
from hypothesis import given
from hypothesis import strategies as st


class Clock:
    """A clock that is set."""

    now = 100.0

    def __call__(self) -> float:
        """Return the moment."""
        return self.now


def limited(rate: int | None, name: str = "production") -> Environment:
    """Return an environment with a rate."""
    return Environment(name=name, features=None, policy=Policy(rate=rate))


def refusal(rates: Rates, environment: Environment, evaluations: int = 1) -> FlagledgerError:
    """Take what is too much, and return how it is refused."""
    with pytest.raises(FlagledgerError) as caught:
        rates.take(environment, evaluations)
    assert Reason.RATE_EXCEEDED is caught.value.reason
    return caught.value


def test_no_rate() -> None:
    """An environment without a rate takes whatever comes."""
    rates = Rates(clock=Clock())
    for _ in range(100):
        rates.take(limited(None), 10_000)


def test_a_second_at_once() -> None:
    """A second's worth may come at once; then it comes evenly, and no more is saved up while nothing comes."""
    clock = Clock()
    rates = Rates(clock=clock)
    environment = limited(10)
    for _ in range(10):
        rates.take(environment, 1)
    refusal(rates, environment)
    clock.now += 0.25
    for _ in range(3):
        rates.take(environment, 1)
    refusal(rates, environment)
    clock.now += 3600
    for _ in range(10):
        rates.take(environment, 1)

    refusal(rates, environment)


def test_a_long_batch_leaves_a_debt() -> None:
    """A batch longer than a second's worth is taken whole, and those behind it wait for as long as it was long."""
    clock = Clock()
    rates = Rates(clock=clock)
    environment = limited(100)
    rates.take(environment, 1_000)

    error = refusal(rates, environment)

    assert 9.001 == error.retry_after
    assert () == error.violations
    assert "100 evaluations a second" in error.message


def test_the_delay_is_enough() -> None:
    """Whoever waits as long as was said is taken, and a moment before is not."""
    clock = Clock()
    rates = Rates(clock=clock)
    environment = limited(3)
    rates.take(environment, 7)
    delay = refusal(rates, environment).retry_after
    assert delay is not None
    clock.now += delay - 0.002
    refusal(rates, environment)
    clock.now += 0.002

    rates.take(environment, 7)


def test_what_is_refused_costs_nothing() -> None:
    """However often somebody tries too early, the wait does not get longer."""
    clock = Clock()
    rates = Rates(clock=clock)
    environment = limited(10)
    rates.take(environment, 20)

    assert 1 == len({refusal(rates, environment, 10_000).retry_after for _ in range(50)})


def test_an_empty_batch_is_always_taken() -> None:
    """A batch of nothing waits for nobody."""
    rates = Rates(clock=Clock())
    rates.take(limited(1), 1_000)

    rates.take(limited(1), 0)


def test_fronts_share_a_rate() -> None:
    """Each of N fronts enforces its part."""
    rates = Rates(4, clock=Clock())
    environment = limited(8)
    rates.take(environment, 2)

    refusal(rates, environment)


def test_less_than_one_a_second_for_each_front() -> None:
    """A part of a rate that is less than one evaluation still lets batches in, in its time."""
    clock = Clock()
    rates = Rates(4, clock=clock)
    environment = limited(1)
    rates.take(environment, 1)
    delay = refusal(rates, environment).retry_after

    assert 3.001 == delay
    clock.now += 3.001
    rates.take(environment, 1)


def test_a_changed_rate_takes_effect() -> None:
    """A rate that is lowered cuts what was saved up, and one that is raised pays a debt sooner."""
    clock = Clock()
    rates = Rates(clock=clock)
    environment = limited(1_000)
    rates.take(environment, 1)
    lower = replace(environment, policy=Policy(rate=10))
    rates.take(lower, 11)
    assert 0.101 == refusal(rates, lower).retry_after

    assert 0.002 == refusal(rates, environment).retry_after


def test_environments_have_rates_of_their_own() -> None:
    """One environment's crowd keeps no other waiting."""
    rates = Rates(clock=Clock())
    rates.take(limited(1, "a"), 100)

    rates.take(limited(1, "b"), 100)


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more environments than are remembered the quietest are forgotten, and those that send are not."""
    monkeypatch.setattr(module, "_MAX_BUCKETS", 3)
    rates = Rates(clock=Clock())
    busy = limited(1, "busy")
    rates.take(busy, 100)
    for number in range(10):
        rates.take(limited(1, f"other {number}"), 1)
        refusal(rates, busy)

    assert 3 == len(rates._buckets)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), max_size=60), st.integers(1, 20))
def test_no_more_than_the_rate(steps: list[tuple[float, int]], rate: int) -> None:
    """Over any time no more is taken than the rate, a second's worth, and the one batch that goes into debt."""
    clock = Clock()
    rates = Rates(clock=clock)
    taken = longest = 0
    for seconds, evaluations in steps:
        clock.now += seconds
        try:
            rates.take(limited(rate), evaluations)
        except FlagledgerError:
            continue
        taken += evaluations
        longest = max(longest, evaluations)

    assert taken <= rate * (clock.now - Clock.now + 1) + longest + 1e-6
