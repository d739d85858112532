"""
The tables of a ClickHouse store, and how those of an older version become those of this one.

```text
evaluations   columns.ROWS, a partition for each UTC day of receipt, sorted as questions ask
discards      columns.DISCARDS, partitioned likewise
quarantine    entries that could not be made into rows
chunks        how far the journal has been applied, and which range was begun (module chunks)
gaps          entries that are known to be lost
writers       who writes (module lease)
migrations    which of `MIGRATIONS` were carried out
```

An insert into these tables is on the disk when it returns, and so is a merge before what it was made of is removed. Each
remembers the tokens of its last inserts, so that one that is sent again is recorded once; without replicas that is off
unless it is asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from flagledger.store.errors import NewerFormatError, StoreError, UnreadableError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from flagledger.store.clickhouse.address import Address

FORMAT: Final = 1
"""The format that this version reads and writes."""

DEDUPLICATION_WINDOW: Final = 10_000
"""Blocks whose tokens a table remembers: an insert makes one for each day that it has rows of."""

OLD_PARTS_SECONDS: Final = 10
"""Seconds that a part stays on the disk after what is left of it was written anew; ClickHouse looks for such now and then."""

PARTITIONED: Final = {"evaluations": "receive_time", "discards": "receive_time", "quarantine": "set_aside_time"}
"""Tables that are partitioned by day, and the time whose day it is."""

_DAY_SECONDS: Final = 86_400
_TTL: Final = re.compile(r"TTL \w+ \+ toIntervalDay\((\d+)\)")

_ON_DISK: Final = "fsync_after_insert = 1, fsync_part_directory = 1, min_compressed_bytes_to_fsync_after_merge = 1"
_REMEMBERED: Final = f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
_REMEMBERED_BY_REPLICAS: Final = (
    f"replicated_deduplication_window = {DEDUPLICATION_WINDOW}, "
    f"replicated_deduplication_window_seconds = {7 * _DAY_SECONDS}"
)
_BY_DAY: Final = "ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1"
# What was erased goes from the disk too: parts stay that long after others took their place, which are on the disk by then.
_REPLACED: Final = f"old_parts_lifetime = {OLD_PARTS_SECONDS}"

_EVALUATIONS: Final = """
    position Int64 CODEC(Delta, ZSTD),
    environment LowCardinality(String),
    feature_name LowCardinality(String),
    enabled Nullable(Bool),
    value Nullable(String) CODEC(ZSTD(3)),
    value_key Nullable(String) CODEC(ZSTD),
    evaluation_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    identity_identifier Nullable(String) CODEC(ZSTD),
    identity_hash Nullable(UInt64)
        MATERIALIZED if(isNull(identity_identifier), NULL, cityHash64(assumeNotNull(identity_identifier))) CODEC(ZSTD),
    identity_traits Nullable(String) CODEC(ZSTD(3)),
    segment_names Array(LowCardinality(String)) CODEC(ZSTD),
    variant LowCardinality(String),
    reason LowCardinality(String),
    metadata Nullable(String) CODEC(ZSTD(3)),
    count UInt32 CODEC(ZSTD),
    batch_id String CODEC(ZSTD),
    receive_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    origin Int32 CODEC(ZSTD),
    sdk_name LowCardinality(String),
    sdk_version LowCardinality(String),
    sample_rate Float64 CODEC(ZSTD),
    INDEX positions position TYPE minmax GRANULARITY 1
"""
_DISCARDS: Final = """
    position Int64 CODEC(Delta, ZSTD),
    environment LowCardinality(String),
    reason LowCardinality(String),
    name String CODEC(ZSTD),
    entry_count UInt32 CODEC(ZSTD),
    batch_id String CODEC(ZSTD),
    receive_time DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    origin Int32 CODEC(ZSTD),
    sdk_name LowCardinality(String),
    sdk_version LowCardinality(String),
    INDEX positions position TYPE minmax GRANULARITY 1
"""
_QUARANTINE: Final = """
    stream String,
    position Int64,
    payload String CODEC(ZSTD(3)),
    description String CODEC(ZSTD),
    set_aside_time DateTime64(6, 'UTC')
"""
_CHUNKS: Final = """
    stream String,
    sequence UInt64,
    position Int64,
    first Int64,
    last Int64,
    begin_time DateTime64(6, 'UTC'),
    writer String
"""
_GAPS: Final = "stream String, first Int64, last Int64, accept_time DateTime64(6, 'UTC')"
_WRITERS: Final = """
    writer String,
    host String,
    process UInt32,
    moment DateTime64(6, 'UTC') DEFAULT now64(6),
    gone Bool
"""
_MIGRATIONS: Final = "version UInt32, moment DateTime64(6, 'UTC') DEFAULT now64(6)"


def bootstrap(address: Address) -> tuple[str, ...]:
    """Return what makes the tables that tell who may make the others."""
    return (
        _table(address, "migrations", _MIGRATIONS, order="version"),
        # Whoever wrote an hour ago and has not since is gone.
        _table(address, "writers", _WRITERS, order="moment", ttl="moment + toIntervalHour(1)"),
    )


def migrations(address: Address) -> tuple[tuple[str, ...], ...]:
    """Return what leads from each format to the next one, from nothing on. Each statement may be carried out twice."""
    return (
        (
            _table(
                address,
                "evaluations",
                _EVALUATIONS,
                day="receive_time",
                order="environment, feature_name, evaluation_time, position",
            ),
            _table(address, "discards", _DISCARDS, day="receive_time", order="environment, receive_time, position"),
            _table(address, "quarantine", _QUARANTINE, day="set_aside_time", order="position"),
            _table(address, "gaps", _GAPS, order="first"),
            _table(address, "chunks", _CHUNKS, kind="Replacing", version="sequence", order="stream"),
        ),
    )


def create_database(address: Address) -> str:
    """Return what makes the database."""
    return f"CREATE DATABASE IF NOT EXISTS {address.database}{on_cluster(address)}"


def on_cluster(address: Address) -> str:
    """Return the clause that has a statement carried out by all servers of the cluster; nothing where there is none."""
    return f" ON CLUSTER '{address.cluster}'" if address.cluster else ""


def ensure_database(client: Client, address: Address) -> None:
    """
    Make the database where it is missing, with what tells who writes.

    Args:
        client: One that has no database yet.
        address: Where the store is.

    Raises:
        UnreadableError: The database is somebody else's.
        StoreError: The cluster is none that can hold it.
    """
    if address.cluster:
        _check_cluster(client, address)
    parameters = {"database": address.database}
    there = client.query("SELECT name FROM system.databases WHERE name = {database:String}", parameters).result_rows
    if not there:
        client.command(create_database(address))
    found = client.query("SELECT name FROM system.tables WHERE database = {database:String}", parameters).result_rows
    tables = {name for (name,) in found}
    if tables and "migrations" not in tables:
        raise UnreadableError(f"{address.name} holds tables, but no store of evaluations. Name another database.")
    for statement in bootstrap(address):
        client.command(statement)


def version(client: Client, address: Address) -> int:
    """
    Return the format of the store; 0 where it has no tables yet.

    Raises:
        NewerFormatError: A newer version wrote it.
    """
    ((found,),) = client.query("SELECT max(version) FROM migrations").result_rows
    if found > FORMAT:
        raise NewerFormatError(
            f"{address.name} has format {found}, which a newer version wrote; this one reads up to {FORMAT}. "
            "Start the newer version again, or put back a backup."
        )
    return int(found)


def migrate(client: Client, address: Address) -> None:
    """
    Bring the tables into the form of this version. For the one that writes alone.

    Raises:
        NewerFormatError: A newer version wrote them.
    """
    steps = migrations(address)
    for number in range(version(client, address), len(steps)):
        for statement in steps[number]:
            client.command(statement)
        client.command("INSERT INTO migrations (version) SELECT {version:UInt32}", {"version": number + 1})


def ensure_retention(client: Client, address: Address, days: int) -> None:
    """Have ClickHouse drop what was received more than *days* ago by itself, a day's part at a time; 0 for never."""
    for table, column in PARTITIONED.items():
        if days == retention_of(client, address, table):
            continue
        # What lies there already is given its new time before this returns: otherwise days that are kept longer now would go.
        client.command(
            retention(address, table, column, days), settings={"mutations_sync": 2 if address.cluster else 1}
        )


def retention_of(client: Client, address: Address, table: str) -> int:
    """Return the days after which ClickHouse drops rows of *table* by itself; 0 for never."""
    ((engine,),) = client.query(
        "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        {"database": address.database, "name": table},
    ).result_rows
    found = _TTL.search(engine)
    return int(found[1]) if found else 0


def retention(address: Address, table: str, column: str, days: int) -> str:
    """Return what changes how long *table* keeps rows by their time in *column*; 0 for as long as nobody drops them."""
    change = f"MODIFY TTL {column} + toIntervalDay({days})" if days else "REMOVE TTL"
    return f"ALTER TABLE {address.database}.{table}{on_cluster(address)} {change}"


def _check_cluster(client: Client, address: Address) -> None:
    cluster = str(address.cluster)
    named = "getMacro({cluster:String})" if cluster.startswith("{") else "{cluster:String}"
    ((shards,),) = client.query(
        f"SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = {named}",  # noqa: S608  # ours
        {"cluster": cluster.strip("{}")},
    ).result_rows
    if shards != 1:
        raise StoreError(
            f"The cluster {cluster} of {address.host}:{address.port} has {shards} shards, and a store is kept in one, by its "
            "replicas. Name a cluster of one shard."
        )


def _table(
    address: Address,
    name: str,
    columns: str,
    *,
    order: str,
    day: str | None = None,
    ttl: str | None = None,
    kind: str = "",
    version: str | None = None,
) -> str:
    arguments = [] if version is None else [version]
    engine, remembered = f"{kind}MergeTree", _REMEMBERED
    if address.cluster:
        # Not by the table's UUID: a server that joins the cluster later must find the others.
        arguments = ["'/clickhouse/tables/flagledger/{database}/{table}'", "'{replica}'", *arguments]
        engine, remembered = f"Replicated{engine}", _REMEMBERED_BY_REPLICAS
    settings = ", ".join((_ON_DISK, remembered, *((_BY_DAY, _REPLACED) if day else ())))
    return (
        f"CREATE TABLE IF NOT EXISTS {address.database}.{name}{on_cluster(address)} ({columns}) "
        f"ENGINE = {engine}({', '.join(arguments)}) "
        + (f"PARTITION BY toYYYYMMDD({day}) " if day else "")
        + f"ORDER BY ({order}) "
        + (f"TTL {ttl} " if ttl else "")
        + f"SETTINGS {settings}"
    )
