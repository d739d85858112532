"""What the tests of the PostgreSQL store share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from flagledger.store.postgres.store import PostgresStore
from support.postgres import fresh_store_url, session_server


@pytest.fixture
def url() -> str:
    """Return the URL of a store that does not exist yet."""
    return fresh_store_url()


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[..., PostgresStore]]:
    """Open the store of this test, again and again where the test closes it."""
    opened: list[PostgresStore] = []

    def open_(**options: Any) -> PostgresStore:
        opened.append(PostgresStore(options.pop("url", url), **options))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., PostgresStore]) -> PostgresStore:
    """Return an empty store."""
    return open_store()


@pytest.fixture
def administrator(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Return a connection of the superuser's, whose search_path names the schema of this test's store."""
    with psycopg.connect(session_server().url("postgres"), autocommit=True) as connection:
        connection.execute(f"SET search_path = {url.partition('schema=')[2]}")
        yield connection
