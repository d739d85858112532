"""
The stores of tests, by kind: each test has places of its own, and opens the store at one again and again.

A place is a path. For DuckDB it is the file; for PostgreSQL a schema of a server that all tests of the process share, for
ClickHouse a database of the chDB within the process, both called after the path.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any, Final

import pytest
from flagledger.store import opening
from flagledger.store.base import Store
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.errors import HeldError

DAY: Final = 86_400_000_000
"""A day in microseconds."""

_RELEASE_SECONDS: Final = 10.0
_SERVER: Final = "FLAGLEDGER_TEST_POSTGRES"
_KINDS: Final = ("duckdb", "postgres", "clickhouse")
_SHARED: Final = ("postgres", "clickhouse")


def kinds() -> tuple[str, ...]:
    """Return the kinds of stores there are."""
    return _KINDS


def shared_kinds() -> tuple[str, ...]:
    """Return the kinds that others may read while a writer has them open."""
    return _SHARED


def open_store(kind: str, place: Path, **options: Any) -> Store:
    """Open the store of *kind* at *place* with *options* of its class; the test is skipped where a library is missing."""
    url = url_of(kind, place)
    match kind:
        case "duckdb":
            return DuckDBStore(place, **options)
        case "postgres":
            from flagledger.store.postgres.store import PostgresStore

            deadline = time.monotonic() + _RELEASE_SECONDS
            while True:
                try:
                    return PostgresStore(url, **options)
                except HeldError:
                    # A server takes note a moment later that the one that was closed has gone.
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
        case _:
            from flagledger.store.clickhouse.store import ClickHouseStore

            return ClickHouseStore(url, **options)


def open_reader(kind: str, place: Path) -> Store:
    """Open the store of *kind* at *place* for questions alone."""
    return opening.open_reader(url_of(kind, place))


def end_of_dropped(store: Store, received: int) -> int:
    """Return the moment of receipt up to which *store* drops what was received before *received*."""
    return received if isinstance(store, DuckDBStore) else received // DAY * DAY


def url_of(kind: str, place: Path) -> str:
    """Return the URL of the store of *kind* at *place*; the test is skipped where what it needs is not installed."""
    match kind:
        case "duckdb":
            return f"duckdb:{place}"
        case "postgres":
            pytest.importorskip(
                "psycopg", reason="no PostgreSQL driver here: pip install 'psycopg[binary]' psycopg-pool"
            )
            from support.postgres import session_server

            return f"{session_server().url('postgres')}?schema={name_of(place)}"
        case _:
            from support.chdb import database_url

            return database_url(name_of(place))


def url_of_process(kind: str, place: Path) -> str:
    """Return the URL of the store for a process of its own, which was started with `for_processes` in its environment."""
    match kind:
        case "postgres":
            return f"{os.environ[_SERVER]}?schema={name_of(place)}"
        case "clickhouse":
            # One process has an engine's directory.
            return f"chdb:{place}"
        case _:
            return url_of(kind, place)


def for_processes() -> dict[str, str]:
    """Return variables with which another process finds the server of this one, if that has been started."""
    from support.postgres import session_server

    return {_SERVER: session_server().url("postgres")} if session_server.cache_info().currsize else {}


def name_of(place: Path) -> str:
    """Return what a schema or a database is called that stands for *place*."""
    return f"store_{hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest()}"
