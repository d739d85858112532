from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from flagledger.catalog.cache import CachedCatalog
from flagledger.errors import FlagledgerError, Reason
from support.remote_catalog import Clock, Remote, grant, settle

FLOOD = Path(__file__).parents[1] / "support" / "wrong_keys.py"


@pytest.fixture
def remote() -> Remote:
    """Start a source that knows one key."""
    remote = Remote()
    remote.keys["key"] = grant("a")
    return remote


@pytest.fixture
def clock() -> Clock:
    """Stop the clock."""
    return Clock()


@pytest.fixture
def outcomes() -> Counter[str]:
    """Count what came of lookups."""
    return Counter()


@pytest.fixture
def catalog(remote: Remote, clock: Clock, outcomes: Counter[str]) -> CachedCatalog:
    """Put a cache in front of the source, which may ask it about ten keys a second."""
    return CachedCatalog(
        remote,
        min_fresh_interval=5,
        max_lookups_per_second=10.0,
        on_lookup=lambda outcome: outcomes.update([outcome]),
        clock=clock,
    )


async def refusal(catalog: CachedCatalog, key: str) -> FlagledgerError:
    """Return how *key* is refused."""
    with pytest.raises(FlagledgerError) as caught:
        await catalog.lookup(key)
    return caught.value


async def test_an_unknown_key_beyond_the_budget_is_not_called_wrong(
    catalog: CachedCatalog, remote: Remote, clock: Clock
) -> None:
    """It is refused with a delay of two seconds, and is not remembered: once there is room it is looked up."""
    remote.keys["new"] = grant("b")
    for number in range(8):
        assert await catalog.lookup(f"wrong-{number}") is None
    errors = [await refusal(catalog, key) for key in ("new", "new", "wrong-8")]
    asked = len(remote.asked)
    clock.now += 1.1

    assert [(Reason.CATALOG_UNREACHABLE, 2.0)] * 3 == [(error.reason, error.retry_after) for error in errors]
    assert 8 == asked
    assert grant("b") == await catalog.lookup("new")
    assert await catalog.lookup("wrong-8") is None


async def test_beyond_the_budget_what_is_remembered_is_still_answered(catalog: CachedCatalog) -> None:
    """Keys that were looked up lately, right or wrong, need no budget."""
    await catalog.lookup("key")
    for number in range(7):
        await catalog.lookup(f"wrong-{number}")
    await refusal(catalog, "another")

    assert grant("a") == await catalog.lookup("key")
    assert await catalog.lookup("wrong-0") is None


async def test_one_more_who_asks_for_the_same_key_needs_no_budget(catalog: CachedCatalog, remote: Remote) -> None:
    """A crowd with one new key is one lookup of the budget."""
    answers = await asyncio.gather(*(catalog.lookup("key") for _ in range(100)))

    assert [grant("a")] * 100 == answers
    assert ["key"] == remote.asked


async def test_a_known_key_beyond_the_budget_is_served_as_it_was(
    catalog: CachedCatalog, remote: Remote, clock: Clock
) -> None:
    """A known key never fails for the budget, however old, and is asked about again as soon as there is room."""
    for number in range(20):
        remote.keys[f"key-{number}"] = grant("a")
        await catalog.lookup(f"key-{number}")
        clock.now += 1.1
    remote.asked.clear()
    clock.now += 100
    remote.keys.clear()
    first = [await catalog.lookup(f"key-{number}") for number in range(20)]
    asked = len(remote.asked)
    for _ in range(3):
        clock.now += 1.1
        last = [await catalog.lookup(f"key-{number}") for number in range(20)]

    # Nine of ten lookups a second are for known keys; each of those says that its key is gone.
    assert 9 == asked
    assert [None] * 9 + [grant("a")] * 11 == first
    assert [None] * 20 == last


async def test_a_fresh_look_beyond_the_budget_is_served_as_it_was(
    catalog: CachedCatalog, remote: Remote, clock: Clock
) -> None:
    """The second look on an unknown feature counts as well, and never makes a known key fail."""
    for number in range(20):
        remote.keys[f"key-{number}"] = grant("a")
        await catalog.lookup(f"key-{number}")
        clock.now += 1.1
    remote.asked.clear()
    clock.now += 10

    assert [grant("a")] * 20 == [await catalog.lookup(f"key-{number}", fresh=True) for number in range(20)]
    assert 9 == len(remote.asked)


async def test_what_is_under_way_is_bounded(catalog: CachedCatalog, remote: Remote, clock: Clock) -> None:
    """A source that hangs is asked about a second's worth of keys, however long it hangs, and the rest is refused."""
    await catalog.lookup("key")
    remote.gate.clear()
    waiting = []
    for number in range(100):
        clock.now += 1.1
        waiting.append(asyncio.create_task(catalog.lookup(f"wrong-{number}")))
        await settle()
    under_way = len(catalog._keys.flights)
    refused = [task for task in waiting if task.done()]
    known = await catalog.lookup("key")
    remote.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)

    assert 8 == under_way
    assert 92 == len(refused) == sum(isinstance(answer, FlagledgerError) for answer in answers)
    assert [None] * 8 == [answer for answer in answers if not isinstance(answer, FlagledgerError)]
    assert grant("a") == known


async def test_what_came_of_lookups_is_told(
    catalog: CachedCatalog, remote: Remote, clock: Clock, outcomes: Counter[str]
) -> None:
    """Each lookup at the source is told once, hits are not, and so is each caller who was refused."""
    for _ in range(3):
        await catalog.lookup("key")
        await catalog.lookup("wrong")
    assert {"found": 1, "unknown": 1} == outcomes
    remote.down = True
    await refusal(catalog, "another")
    await settle()
    for number in range(5):
        await refusal(catalog, f"another-{number}")
    clock.now += 0.5
    await refusal(catalog, "beyond")
    await refusal(catalog, "beyond")
    remote.down = False
    clock.now += 70
    await catalog.lookup("key")

    assert {"found": 2, "unknown": 1, "failed": 6, "refused": 2} == outcomes


async def test_tokens_and_environments_need_no_budget(catalog: CachedCatalog, remote: Remote) -> None:
    """Readers are not kept out by a flood of wrong keys."""
    for number in range(8):
        await catalog.lookup(f"wrong-{number}")
    await refusal(catalog, "another")

    assert await catalog.token("wrong") is None
    assert {"one": grant("a").environment} == await catalog.environments()


class Changing(Remote):
    """A source that says when something changed."""

    def __init__(self) -> None:
        super().__init__()
        self.generation = 0

    def poll(self) -> None:
        """Do nothing: the change is made by the test."""


async def test_a_change_at_a_remote_source_makes_no_known_key_fail(clock: Clock) -> None:
    """All known keys are asked about again, nine of ten lookups a second, and served as they were until then."""
    remote = Changing()
    catalog = CachedCatalog(remote, min_fresh_interval=5, max_lookups_per_second=10.0, clock=clock)
    for number in range(20):
        remote.keys[f"key-{number}"] = grant("a")
        await catalog.lookup(f"key-{number}")
        clock.now += 1
    assert await catalog.lookup("made-later") is None
    clock.now += 2
    remote.asked.clear()
    remote.keys = {"made-later": grant("b")}
    remote.generation += 1
    first = [await catalog.lookup(f"key-{number}") for number in range(20)]
    asked = len(remote.asked)
    for _ in range(2):
        clock.now += 1.1
        last = [await catalog.lookup(f"key-{number}") for number in range(20)]
    clock.now += 1.1

    assert 9 == asked
    assert [None] * 9 + [grant("a")] * 11 == first
    assert [None] * 20 == last
    assert grant("b") == await catalog.lookup("made-later")


async def test_a_change_at_a_remote_source_that_is_down(clock: Clock) -> None:
    """A source that says that it changed and then goes down leaves known keys in force, fresh looks included."""
    remote = Changing()
    remote.keys["key"] = grant("a")
    catalog = CachedCatalog(remote, min_fresh_interval=5, max_lookups_per_second=10.0, clock=clock)
    await catalog.lookup("key")
    remote.generation += 1
    remote.down = True

    assert [grant("a")] * 3 == [await catalog.lookup("key", fresh=fresh) for fresh in (False, True, False)]
    remote.down = False
    remote.keys["key"] = grant("b")
    clock.now += 6
    assert grant("b") == await catalog.lookup("key")


def flood(keys: int, seconds: float) -> None:
    """Send wrong keys in a process of its own, and hold what came of it against what is promised."""
    command = [sys.executable, str(FLOOD), str(keys), str(seconds)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    answers, outcomes = told["answers"], told["outcomes"]

    assert told["grown"] <= 32 * 2**20, told
    assert told["most_in_a_second"] <= 50, told
    assert 0 == answers["wrong"], told
    assert keys + 500 == answers["unknown"] + answers["refused"], told
    # Nobody was told that his key is wrong but by the source.
    assert answers["unknown"] == outcomes["unknown"], told
    assert told["asked"] == outcomes["unknown"] + outcomes["found"], told
    # It must have been a flood, and known keys must have been asked about again under it.
    assert answers["refused"] > 0.9 * keys, told
    assert answers["unknown"] > 20 * seconds, told
    assert outcomes["found"] > 3 * (seconds - 1), told


def test_a_hundred_thousand_wrong_keys_cost_nothing() -> None:
    """Memory grows by 32 MiB at most, the source is asked 50 times a second at most, and nobody is refused wrongly."""
    flood(100_000, 4.0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_wrong_keys_cost_nothing() -> None:
    """The same with a million."""
    flood(1_000_000, 30.0)
