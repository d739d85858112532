from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from flagledger.store.clickhouse import lease as lease_module
from flagledger.store.clickhouse import schema
from flagledger.store.clickhouse.address import Address, parse
from flagledger.store.clickhouse.client import Clients
from flagledger.store.clickhouse.lease import Lease, Sign, holder_of
from flagledger.store.errors import HeldError
from support.chdb import fresh_url, sql

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

SECOND = 1_000_000
TOLERATED = 16 * SECOND


class Clock:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return what it shows."""
        return self.now


@pytest.fixture
def url() -> str:
    """Return where the store is."""
    return fresh_url()


@pytest.fixture
def address(url: str) -> Address:
    """Return the same."""
    return parse(url)


@pytest.fixture
def client(address: Address) -> Iterator[Client]:
    """Return a client of a database that has a table of writers."""
    clients = Clients(address)
    first = clients.open(database=False).client
    schema.ensure_database(first, address)
    first.close()
    client = clients.open().client
    yield client
    client.close()


def sign(writer: str, second: float, *, gone: bool = False) -> Sign:
    """Return a sign of life that *writer* gave at *second*."""
    return Sign(writer=writer, host="host", process=1, moment=round(second * SECOND), gone=gone)


@pytest.mark.parametrize(
    ("signs", "now", "holder"),
    [
        ([], 0, None),
        ([sign("a", 0)], 15, "a"),
        ([sign("a", 0)], 16, None),
        ([sign("a", 0), sign("b", 1)], 2, "a"),
        ([sign("b", 0), sign("a", 0)], 1, "a"),
        ([sign("a", 0), sign("b", 1), sign("b", 2, gone=True)], 3, "a"),
        ([sign("a", 0), sign("a", 1, gone=True)], 2, None),
        ([sign("a", 0), sign("a", 1, gone=True), sign("b", 2)], 3, "b"),
        # Silent for too long, then back: the other has taken over in between.
        ([sign("a", 0), sign("b", 16), sign("a", 17)], 18, "b"),
        # Back before it was too long: the other came too early, and goes.
        ([sign("a", 0), sign("b", 15), sign("a", 15.5)], 17, "a"),
        ([sign("a", 0), sign("a", 10), sign("a", 20), sign("b", 21), sign("a", 30)], 32, "a"),
        ([sign("a", 0), sign("a", 1, gone=True), sign("b", 2), sign("a", 3)], 4, "b"),
    ],
)
def test_one_of_those_that_are_alive_writes(signs: list[Sign], now: float, holder: str | None) -> None:
    """The one that has been there for longest without a pause writes; equal ones are told apart by their names."""
    found = holder_of(signs, round(now * SECOND), TOLERATED)

    assert holder == (found.writer if found else None)


def test_a_second_one_is_refused_and_told_who_writes(address: Address, client: Client) -> None:
    """While one writes, another one is refused for now, with its host, its process and when it was heard of."""
    Lease(address).take(client)

    with pytest.raises(
        HeldError, match=r"is written by process \d+ on .+, which was last heard of at \d{4}-\d\d-\d\dT"
    ) as refusal:
        Lease(address).take(client)

    assert refusal.value.temporary


def test_the_next_one_writes_once_the_first_has_given_back(address: Address, client: Client) -> None:
    """Who gives back is not waited for, and can take again."""
    first, second = Lease(address), Lease(address)
    first.take(client)
    first.give_back(client)
    second.take(client)

    assert second.keep(client)
    assert not first.keep(client)
    second.give_back(client)
    first.take(client)
    assert first.keep(client)


def test_a_silent_one_is_taken_over_from_and_finds_out(address: Address, client: Client) -> None:
    """While it is not silent for long it writes; after silence another one does, and it is refused from then on."""
    first, second = (Lease(address, seconds=0.5, settle_seconds=0.0) for _ in range(2))
    first.take(client)
    for _ in range(4):
        time.sleep(0.2)
        assert first.keep(client)
        with pytest.raises(HeldError):
            second.take(client)
    time.sleep(0.6)
    second.take(client)

    assert not first.keep(client)
    assert second.keep(client)
    with pytest.raises(HeldError):
        first.take(client)


def test_one_that_was_overtaken_is_refused_when_it_says_that_it_lives(address: Address, client: Client) -> None:
    """A row of its own does not help a writer that others have taken to be gone: it reads theirs behind it."""
    clock = Clock()
    first = Lease(address, seconds=30.0, clock=clock)
    first.take(client)
    # As the second one sees it, after a pause that the clock of the first did not measure.
    client.command("ALTER TABLE writers UPDATE gone = true WHERE true", settings={"mutations_sync": 1})
    second = Lease(address, seconds=30.0, clock=clock)
    second.take(client)
    assert first.keep(client)
    clock.now += 11

    with pytest.raises(HeldError):
        first.keep(client)

    assert not first.keep(client)
    assert second.keep(client)


def test_a_sign_is_given_only_when_it_is_due(url: str, address: Address, client: Client) -> None:
    """Often asked, it adds a row after a third of the time alone, and none once the time is over."""
    clock = Clock()
    lease = Lease(address, seconds=30.0, clock=clock)
    lease.take(client)
    signs = []
    for wait in (9.9, 0.1, 9.9, 0.1, 29.9, 30.0):
        clock.now += wait
        signs.append((lease.keep(client), sql(url, "SELECT count() FROM writers")[0][0]))

    assert [(True, 1), (True, 2), (True, 2), (True, 3), (True, 4), (False, 4)] == signs


def test_what_another_process_left_in_a_directory_is_gone(
    monkeypatch: pytest.MonkeyPatch, address: Address, client: Client
) -> None:
    """A directory that this process could open is nobody else's: the one before it was killed, and is not waited for."""
    Lease(address).take(client)
    monkeypatch.setattr(lease_module, "_PROCESS", "another")

    lease = Lease(address)
    lease.take(client)

    assert lease.keep(client)


def test_of_two_that_ask_at_once_one_writes(address: Address, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that saw nobody, and finds another one before it once all rows are visible, takes its own back."""
    server = replace(address, path=None)
    other = Lease(address)
    monkeypatch.setattr(lease_module.time, "sleep", lambda _: None)
    late = Lease(server)
    sign_, checks = late._sign, []

    def signing(client: Client, *, gone: bool = False) -> None:
        # The other one has asked a moment before, and this one did not see it yet.
        if not checks:
            other.take(client)
        checks.append(gone)
        sign_(client, gone=gone)

    monkeypatch.setattr(late, "_sign", signing)

    with pytest.raises(HeldError):
        late.take(client)

    assert [False, True] == checks
    assert other.keep(client)
    assert not late.keep(client)
