from __future__ import annotations

import pytest
from flagledger.errors import FlagledgerError, Reason
from flagledger.front.limits import InFlight
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(1, 100), max_size=50))
def test_budget(sizes: list[int]) -> None:
    """What is held never passes the budget, but for a single request, and what is refused takes nothing."""
    in_flight = InFlight(max_bytes=150, max_calls=1)
    held: list[int] = []
    for size in sizes:
        if held and sum(held) + size > 150:
            with pytest.raises(FlagledgerError) as refused:
                in_flight.acquire(size)
            assert Reason.BYTES_IN_FLIGHT is refused.value.reason
            in_flight.release(held.pop(0))
        else:
            in_flight.acquire(size)
            held.append(size)
        assert sum(held) == in_flight.bytes
        assert in_flight.bytes <= 150 or len(held) == 1


def test_calls() -> None:
    """A call past the limit is refused with a delay, and there is room again when one ends."""
    in_flight = InFlight(max_bytes=1, max_calls=1)
    in_flight.enter()

    with pytest.raises(FlagledgerError) as refused:
        in_flight.enter()
    in_flight.leave()
    in_flight.enter()

    assert (Reason.CALLS_IN_FLIGHT, 1.0) == (refused.value.reason, refused.value.retry_after)


def test_streams() -> None:
    """Streams have a bound of their own, and take no call's place."""
    in_flight = InFlight(max_bytes=1, max_calls=1, max_streams=2)
    in_flight.open_stream()
    in_flight.open_stream()

    with pytest.raises(FlagledgerError) as refused:
        in_flight.open_stream()
    in_flight.enter()
    in_flight.close_stream()
    in_flight.open_stream()

    assert Reason.CALLS_IN_FLIGHT is refused.value.reason
    assert (2, 1) == (in_flight.streams, in_flight.calls)
