from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flagledger.store import opening
from flagledger.store.clickhouse import schema
from flagledger.store.clickhouse.address import Address, parse
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.columns import DISCARDS, ROWS
from flagledger.store.errors import NewerFormatError, StoreError, UnreadableError
from support.chdb import connect, directory, fresh_url, sql

ALONE = Address(database="flags", host="host", port=8123)
CLUSTER = Address(database="flags", host="host", port=8123, cluster="main")
TABLES = {"evaluations", "discards", "quarantine", "gaps", "chunks", "writers", "migrations"}


@pytest.fixture
def url() -> str:
    """Return where a store is that does not exist yet."""
    return fresh_url()


def statements(address: Address) -> Iterator[str]:
    """Return everything that makes or changes the tables of a store at *address*."""
    yield schema.create_database(address)
    yield from schema.bootstrap(address)
    for step in schema.migrations(address):
        yield from step
    yield schema.retention(address, "evaluations", "receive_time", 30)
    yield schema.retention(address, "evaluations", "receive_time", 0)


def as_understood(statement: str) -> str:
    """Return *statement* as ClickHouse writes what it understood, in one line."""
    client = connect(directory())
    try:
        ((text,),) = client.query("SELECT formatQuerySingleLine({sql:String})", {"sql": statement}).result_rows
    finally:
        client.close()
    return str(text)


def tables_of(url: str, column: str) -> dict[str, str]:
    """Return *column* of what ClickHouse says of each table of the store at *url*."""
    rows = sql(url, f"SELECT name, {column} FROM system.tables WHERE database = currentDatabase()")
    return {str(name): str(value) for name, value in rows}


def test_a_new_store_has_its_tables(url: str) -> None:
    """Opening makes what is missing; opening again changes nothing."""
    ClickHouseStore(url).close()
    made = tables_of(url, "create_table_query")
    ClickHouseStore(url).close()

    assert set(made) == TABLES
    assert made == tables_of(url, "create_table_query")
    assert [(schema.FORMAT,)] == sql(url, "SELECT version FROM migrations")


def test_the_tables_have_the_columns_of_what_is_recorded(url: str) -> None:
    """No column of rows or discards is left out, and what else there is is known."""
    ClickHouseStore(url).close()
    columns = {
        table: {
            str(name)
            for (name,) in sql(
                url, f"SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '{table}'"
            )
        }
        for table in ("evaluations", "discards")
    }

    assert {"evaluations": {*ROWS.names, "value_key", "identity_hash"}, "discards": set(DISCARDS.names)} == columns


def test_every_table_writes_to_the_disk_and_remembers_tokens(url: str) -> None:
    """What an insert or a merge has made is on the disk, and an insert that is sent again is known: neither is so by itself."""
    ClickHouseStore(url).close()
    for table, engine in tables_of(url, "engine_full").items():
        settings = dict(re.findall(r"(\w+) = (\d+)", engine))
        assert {
            "fsync_after_insert": "1",
            "fsync_part_directory": "1",
            "min_compressed_bytes_to_fsync_after_merge": "1",
            "non_replicated_deduplication_window": "10000",
        }.items() <= settings.items(), table


@pytest.mark.parametrize("address", [ALONE, CLUSTER], ids=["alone", "cluster"])
def test_statements_are_understood(address: Address) -> None:
    """ClickHouse parses every statement, for a cluster too, and they say the same again as it writes them."""
    for statement in statements(address):
        understood = as_understood(statement)
        assert as_understood(understood) == understood
        assert understood.startswith(
            ("CREATE DATABASE IF NOT EXISTS flags", "CREATE TABLE IF NOT EXISTS flags.", "ALTER TABLE flags.")
        )


def test_without_a_cluster_nothing_is_replicated() -> None:
    """One server has tables of its own, and is not asked for what needs others."""
    for statement in statements(ALONE):
        understood = as_understood(statement)
        assert "ON CLUSTER" not in understood
        assert "Replicated" not in understood


def test_with_a_cluster_everything_is_on_all_of_it_and_replicated() -> None:
    """Each statement goes to all servers, and each table has a replica on each, in a place that later ones find too."""
    for statement in statements(CLUSTER):
        understood = as_understood(statement)
        assert " ON CLUSTER main" in understood or " ON CLUSTER `main`" in understood
        if understood.startswith("CREATE TABLE"):
            assert re.search(
                r"ENGINE = Replicated(Replacing)?MergeTree\('/clickhouse/tables/flagledger/\{database\}/\{table\}', "
                r"'\{replica\}'(, sequence)?\)",
                understood,
            )
            assert "replicated_deduplication_window = 10000" in understood
            assert "non_replicated" not in understood


def test_a_cluster_may_be_a_macro() -> None:
    """Servers may name their cluster themselves."""
    address = Address(database="flags", host="host", port=8123, cluster="{cluster}")

    assert "ON CLUSTER `{cluster}`" in as_understood(schema.create_database(address)).replace("'", "`")


def test_a_cluster_that_the_server_does_not_know_is_refused(url: str) -> None:
    """A store is kept by the replicas of one shard; nothing is made where there is no such cluster."""
    address = parse(url)
    client = connect(directory())
    try:
        with pytest.raises(StoreError, match="has 0 shards"):
            schema.ensure_database(
                client, Address(database=address.database, host="host", port=8123, cluster="nowhere")
            )
        assert [] == client.query(f"SELECT name FROM system.databases WHERE name = '{address.database}'").result_rows
    finally:
        client.close()


def test_somebody_elses_database_is_refused(url: str) -> None:
    """A database with other tables is not written into."""
    address = parse(url)
    client = connect(directory())
    client.command(f"CREATE DATABASE {address.database}")
    client.command(f"CREATE TABLE {address.database}.mine (a Int8) ENGINE = MergeTree ORDER BY a")
    client.close()

    with pytest.raises(UnreadableError, match="no store of evaluations"):
        ClickHouseStore(url)

    assert {"mine"} == set(tables_of(url, "name"))


def test_a_newer_format_is_refused_by_writer_and_reader(url: str) -> None:
    """Tables of a newer version are neither written nor read, and a sentence says which format they have."""
    ClickHouseStore(url).close()
    sql(url, "INSERT INTO migrations (version) VALUES (7)")

    with pytest.raises(NewerFormatError, match="has format 7"):
        ClickHouseStore(url)
    reader = ClickHouseStore(url, read_only=True)
    with pytest.raises(NewerFormatError, match="has format 7"):
        reader.stream()
    reader.close()


def test_an_opening_that_was_killed_is_finished(url: str) -> None:
    """Where some tables were made and the rest were not, the next opening makes the rest."""
    ClickHouseStore(url).close()
    sql(url, "DROP TABLE chunks SYNC")
    sql(url, "TRUNCATE TABLE migrations SYNC")

    ClickHouseStore(url).close()

    assert TABLES == set(tables_of(url, "name"))
    assert [(schema.FORMAT,)] == sql(url, "SELECT version FROM migrations")


def test_retention_is_set_changed_and_taken_away(url: str) -> None:
    """How long ClickHouse keeps rows by itself is what the last opening said; the same again, or nothing, changes nothing."""
    kept: list[dict[str, str]] = []
    for days in (None, 30, None, 30, 7, 0):
        ClickHouseStore(url, retention_days=days).close()
        engines = {table: tables_of(url, "engine_full")[table] for table in schema.PARTITIONED}
        kept.append({table: "".join(re.findall(r"TTL .*Day\(\d+\)", engine)) for table, engine in engines.items()})

    def all_for(days: int) -> dict[str, str]:
        return {table: f"TTL {column} + toIntervalDay({days})" for table, column in schema.PARTITIONED.items()}

    assert [
        dict.fromkeys(schema.PARTITIONED, ""),
        all_for(30),
        all_for(30),
        all_for(30),
        all_for(7),
        dict.fromkeys(schema.PARTITIONED, ""),
    ] == kept


def test_who_knows_nothing_of_retention_leaves_it(url: str) -> None:
    """A store that is opened without a word of it, as for a copy, goes on keeping rows for as long as it was told before."""
    ClickHouseStore(url, retention_days=30).close()

    opening.open_store(url).close()

    assert "TTL receive_time + toIntervalDay(30)" in tables_of(url, "engine_full")["evaluations"]


def test_a_directory_keeps_its_store(url: str) -> None:
    """What chDB keeps lies in the directory that the URL names."""
    ClickHouseStore(url).close()
    ((path,),) = sql(
        url, "SELECT data_paths[1] FROM system.tables WHERE database = currentDatabase() AND name = 'chunks'"
    )

    assert Path(str(path)).is_relative_to(directory())
