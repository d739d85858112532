"""
ClickHouse for tests: chDB, its engine within the process.

A process can have one directory open. It is made when it is first asked for, kept open so that the engine is not started again
for each store, and removed when Python ends; each store has a database of its own in it. There is no server here: what
needs several of them, or a network, cannot be shown with it.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_numbers = itertools.count(1)


def require_chdb() -> None:
    """Skip the test where chDB is not installed."""
    for library in ("clickhouse_connect", "chdb"):
        if importlib.util.find_spec(library) is None:
            pytest.skip("no ClickHouse here: pip install clickhouse-connect chdb")


@functools.cache
def directory() -> Path:
    """Return the directory that this process has open; the test is skipped where chDB is not installed."""
    require_chdb()
    folder = Path(tempfile.mkdtemp(prefix="flagledger-chdb-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    anchor = connect(folder)
    # Before the folder is removed: the last one registered goes first.
    atexit.register(anchor.close)
    return folder


def connect(folder: Path, database: str | None = None) -> Client:
    """Return a client of the engine in *folder*."""
    import clickhouse_connect

    return clickhouse_connect.get_client(dsn=f"chdb://{folder}", database=database)


def database_url(name: str) -> str:
    """Return the URL of the store in the database *name* of this process."""
    return f"chdb:{directory()}?database={name}"


def fresh_url() -> str:
    """Return the URL of a store that does not exist yet."""
    return database_url(f"fresh_{next(_numbers)}")


def sql(url: str, statement: str) -> list[tuple[object, ...]]:
    """Return what *statement* answers in the database of the store at *url*, which is of this process."""
    path, _, name = url.partition(":")[2].partition("?database=")
    client = connect(Path(path), name)
    try:
        return [tuple(row) for row in client.query(statement).result_rows]
    finally:
        client.close()
