from __future__ import annotations

from dataclasses import replace

import pytest
from flagledger.catalog.base import Environment
from flagledger.catalog.policy import PLAIN, Policy
from flagledger.errors import FlagledgerError, Reason
from flagledger.query.recorded import RecordedEnvironments
from flagledger.store.errors import StoreError
from support.querying import TableCatalog

LISTED = Environment(name="listed", display_name="Listed", features=frozenset({"checkout"}))
DROP = Policy(identity="drop")


class Recorded:
    """Stands in for a store: it answers with names, or fails."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked = 0
        self.fails = False

    def __call__(self) -> Recorded:
        """Return itself, as a provider of a store does."""
        if self.fails:
            raise StoreError("gone")
        return self

    def environments(self) -> tuple[str, ...]:
        """Return the names."""
        self.asked += 1
        return self.names


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        """Return what it is set to."""
        return self.now


def policy_of(name: str) -> Policy:
    """Return the policy of one that hides, and of all others."""
    return DROP if name == "hidden" else PLAIN


async def test_what_was_recorded_can_be_read() -> None:
    """An environment that the catalog lacks is there once something is recorded, under its policy; others stay as listed."""
    catalog = RecordedEnvironments(TableCatalog(LISTED), Recorded("hidden", "listed", "other"), policy_of)
    other = Environment(name="other", features=None)

    assert {
        "listed": LISTED,
        "hidden": replace(other, name="hidden", policy=DROP),
        "other": other,
    } == await catalog.environments()


class Away(TableCatalog):
    """A catalog that cannot be asked."""

    async def environments(self) -> dict[str, Environment]:
        """Refuse."""
        raise FlagledgerError(Reason.CATALOG_UNREACHABLE, "away")


async def test_what_was_recorded_can_be_read_without_the_catalog() -> None:
    """While the catalog is away, what the store knows is there; where it knows nothing, the refusal stands."""
    assert ["other"] == list(await RecordedEnvironments(Away(), Recorded("other"), policy_of).environments())
    with pytest.raises(FlagledgerError, match="away"):
        await RecordedEnvironments(Away(), Recorded(), policy_of).environments()


async def test_store_is_asked_now_and_then() -> None:
    """The store is asked once in ten seconds, and what it said stays while it cannot be, which is tried again after two."""
    clock, recorded = Clock(), Recorded("first")
    catalog = RecordedEnvironments(TableCatalog(), recorded, policy_of, clock=clock)
    await catalog.environments()
    recorded.names = ("first", "second")

    assert ["first"] == list(await catalog.environments())
    assert 1 == recorded.asked

    clock.now = 10.0
    recorded.fails = True

    assert ["first"] == list(await catalog.environments())

    recorded.fails = False

    assert ["first"] == list(await catalog.environments())
    clock.now = 12.0
    assert ["first", "second"] == list(await catalog.environments())
