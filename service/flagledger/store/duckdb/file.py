"""The file of the embedded store: how it is made, recognised, opened, and opened without a log that cannot be replayed."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb

from flagledger.store.duckdb import hashes
from flagledger.store.duckdb import texts as duckdb_texts
from flagledger.store.errors import DiskFullError, HeldError, NewerFormatError, StoreError, UnreadableError
from flagledger.telemetry.logging import get_logger

FORMAT: Final = 3
"""The format that this version reads and writes. The first had no hashes (module `hashes`), the second no sample rates."""

Settings = dict[str, str | bool | int | float | list[str]]

_KEPT: Final = ".set-aside"

_TABLES: Final = (
    "CREATE TABLE format (version INTEGER NOT NULL)",
    "CREATE TABLE streams (stream VARCHAR NOT NULL, position BIGINT NOT NULL)",
    """
    CREATE TABLE gaps (
        stream VARCHAR NOT NULL,
        first BIGINT NOT NULL,
        last BIGINT NOT NULL,
        accept_time TIMESTAMP NOT NULL
    )
    """,
    """
    CREATE TABLE evaluations (
        position BIGINT NOT NULL,
        environment VARCHAR NOT NULL,
        feature_name VARCHAR NOT NULL,
        enabled BOOLEAN,
        value VARCHAR,
        evaluation_time TIMESTAMP NOT NULL,
        identity_identifier VARCHAR,
        identity_traits VARCHAR,
        segment_names VARCHAR[] NOT NULL,
        variant VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        metadata VARCHAR,
        "count" UINTEGER NOT NULL,
        batch_id VARCHAR NOT NULL,
        receive_time TIMESTAMP NOT NULL,
        origin INTEGER NOT NULL,
        sdk_name VARCHAR NOT NULL,
        sdk_version VARCHAR NOT NULL,
        feature_hash UINTEGER,
        identity_hash UBIGINT,
        sample_rate DOUBLE NOT NULL DEFAULT 1
    )
    """,
    """
    CREATE TABLE discards (
        position BIGINT NOT NULL,
        environment VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        entry_count UINTEGER NOT NULL,
        batch_id VARCHAR NOT NULL,
        receive_time TIMESTAMP NOT NULL,
        origin INTEGER NOT NULL,
        sdk_name VARCHAR NOT NULL,
        sdk_version VARCHAR NOT NULL
    )
    """,
    """
    CREATE TABLE quarantine (
        stream VARCHAR NOT NULL,
        position BIGINT NOT NULL,
        payload BLOB NOT NULL,
        description VARCHAR NOT NULL,
        set_aside_time TIMESTAMP NOT NULL
    )
    """,
    duckdb_texts.TABLE,
)


def open_file(path: Path, settings: Settings) -> tuple[duckdb.DuckDBPyConnection, int]:
    """
    Return a connection to the store at *path*, made where it is missing, and how many logs were set aside for it.

    Raises:
        NewerFormatError: A newer version wrote it.
        UnreadableError: It is damaged, or no store.
        HeldError: Another process has it open.
    """
    try:
        connection, set_aside = duckdb.connect(str(path), config=settings), 0
    except duckdb.Error as error:
        connection, set_aside = _open_without_log(path, settings, error)
    try:
        _prepare(connection, path)
    except duckdb.Error as error:
        connection.close()
        raise meaning(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection, set_aside


def log_of(path: Path) -> Path:
    """Return where DuckDB keeps the write-ahead log of the file at *path*."""
    return path.with_name(path.name + ".wal")


def meaning(path: Path, error: duckdb.Error) -> StoreError:
    """Return what *error* of the file at *path* means to an operator."""
    text = str(error)
    if "No space left" in text or "not enough space" in text.lower():
        return DiskFullError(f"There is no room on the disk of {path}; make some. ({text})")
    if "newer version" in text or "can only read version" in text:
        return NewerFormatError(
            f"{path} was written by a newer version of DuckDB than the one installed here. ({text})"
        )
    if "lock on file" in text:
        return HeldError(f"{path} is held by another process. ({text})")
    if isinstance(error, duckdb.OutOfMemoryException):
        return StoreError(f"The store needed more memory than it may hold. ({text})")
    return UnreadableError(f"{path} cannot be read or written. ({text})")


def _open_without_log(path: Path, settings: Settings, error: duckdb.Error) -> tuple[duckdb.DuckDBPyConnection, int]:
    """Open the file at its last checkpoint, if it is the log that *error* is about; else raise what it means."""
    refusal = meaning(path, error)
    # Beside the log there may be those that a checkpoint was working with when it was killed.
    logs = [log for log in path.parent.glob(f"{log_of(path).name}*") if log.suffix != _KEPT]
    if not logs or not _is_about_content(error, refusal):
        raise refusal from error
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    moved = [(log, log.rename(log.with_name(f"{log.name}.{moment}{_KEPT}"))) for log in logs]
    try:
        connection = duckdb.connect(str(path), config=settings)
    except duckdb.Error:
        # The log was not the trouble: leave everything as it was found.
        for log, kept in moved:
            with suppress(OSError):
                kept.rename(log)
        raise refusal from error
    get_logger().warning(
        "the store's log could not be replayed and was set aside; the journal is read again from the last checkpoint",
        error=str(error),
        kept=[str(kept) for _, kept in moved],
    )
    return connection, len(moved)


def _is_about_content(error: duckdb.Error, refusal: StoreError) -> bool:
    transient = isinstance(refusal, DiskFullError | NewerFormatError) or isinstance(error, duckdb.OutOfMemoryException)
    return not transient and "lock on file" not in str(error)


def _prepare(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        _create(connection)
        return
    if "format" not in tables:
        raise UnreadableError(f"{path} is a DuckDB database, but no store of evaluations. Name another file.")
    versions = connection.execute("SELECT version FROM format").fetchall()
    if len(versions) != 1:
        raise UnreadableError(f"{path} does not say which format it has.")
    if versions[0][0] > FORMAT:
        raise NewerFormatError(
            f"{path} has format {versions[0][0]}, which a newer version wrote; this one reads up to {FORMAT}. "
            "Start the newer version again, or put back a backup."
        )
    # The first files of the first format lack it.
    connection.execute(duckdb_texts.TABLE).fetchall()
    hashes.ensure(connection)
    if versions[0][0] < FORMAT:
        _add_sample_rates(connection)
        connection.execute("UPDATE format SET version = ?", [FORMAT]).fetchall()


def _add_sample_rates(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the rows of an older file their rate: each was kept. It takes no room, and of 100 million rows some seconds."""
    # A column is not added with its constraint. Both may have been done before the process died.
    connection.execute("ALTER TABLE evaluations ADD COLUMN IF NOT EXISTS sample_rate DOUBLE DEFAULT 1").fetchall()
    connection.execute("ALTER TABLE evaluations ALTER COLUMN sample_rate SET NOT NULL").fetchall()


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("BEGIN TRANSACTION").fetchall()
    for table in _TABLES:
        connection.execute(table).fetchall()
    hashes.remember(connection)
    connection.execute("INSERT INTO format VALUES (?)", [FORMAT]).fetchall()
    connection.execute("COMMIT").fetchall()
