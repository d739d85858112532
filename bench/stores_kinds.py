"""The stores that are measured: where each is, and how much room it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import clickhouse_connect
import psycopg
from flagledger.store.base import Store
from flagledger.store.opening import open_store
from support.postgres import postgres_server


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """
    A store to measure.

    Attributes:
        name: For people.
        url: Where it is.
        size: Returns the bytes that it takes on its disk once *store* has nothing more to write.
    """

    name: str
    url: str
    size: Callable[[Store], int]

    def open(self) -> Store:
        """Open it for writing."""
        return open_store(self.url)


def duckdb(directory: Path) -> Kind:
    """Return a DuckDB file in *directory*."""
    path = directory / "store.duckdb"

    def size(store: Store) -> int:
        store.checkpoint()
        return path.stat().st_size

    return Kind(name="DuckDB", url=f"duckdb:{path}", size=size)


@contextlib.contextmanager
def postgres() -> Iterator[Kind]:
    """Yield a PostgreSQL with its defaults, whose commits reach the disk."""
    with postgres_server(durable=True) as server:
        yield of_url(server.url("postgres"))


def chdb(directory: Path) -> Kind:
    """Return ClickHouse's engine within this process, in *directory*."""
    return of_url(f"chdb:{directory / 'chdb'}")


def of_url(url: str) -> Kind:
    """Return the server, or the engine, at *url*."""
    if url.startswith("postgres"):
        return Kind(name="PostgreSQL", url=url, size=lambda _: _of_postgres(url))
    name = "chDB" if url.startswith("chdb:") else "ClickHouse"
    return Kind(name=name, url=url, size=lambda _: _of_clickhouse(url))


def _of_postgres(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        row = connection.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'flagledger'::regnamespace"
        ).fetchone()
    return 0 if row is None else int(row[0])


def _of_clickhouse(url: str) -> int:
    dsn = url.replace("chdb:", "chdb://", 1) if url.startswith("chdb:") else url
    client = clickhouse_connect.get_client(dsn=dsn)
    with contextlib.closing(client):
        found = client.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database NOT IN ('system')")
        return int(found.result_rows[0][0])
