"""A store of ClickHouse, for each test a new one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from flagledger.store.clickhouse.address import parse
from flagledger.store.clickhouse.client import Clients
from flagledger.store.clickhouse.store import ClickHouseStore
from store.clickhouse.applying import Open, apply
from support.chdb import fresh_url

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@pytest.fixture
def url() -> str:
    """Return where the store is."""
    return fresh_url()


@pytest.fixture
def open_store(url: str) -> Iterator[Open]:
    """Open the store of this test, again and again where the test closes it."""
    opened: list[ClickHouseStore] = []

    def open_(**options: Any) -> ClickHouseStore:
        opened.append(ClickHouseStore(url, **options))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> ClickHouseStore:
    """Return a store that has applied entries 1 to 3."""
    store = open_store()
    apply(store, 1, 3)
    return store


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Return a client of it."""
    client = Clients(parse(url)).open().client
    yield client
    client.close()
