"""
Hashes of names beside the names, so that few strings are read where many rows are looked at.

A string is unpacked with the thousands of others that it was compressed with. A number is not: to find a feature among a hundred
million rows takes a sixth of the time by its hash, and telling identities apart a fifth. Rows of a transaction are sorted by
feature, so that equal hashes stand together and take next to no room; those of identities take 8 bytes a row.

A feature's hash only narrows down: the name is compared too. Identities are counted by their 64 bits alone: that two of ten
million share one happens to one installation in 400,000.

DuckDB may hash otherwise in a newer version. What a known text came to is kept in the file; where it comes to something else
now, the columns are made anew.
"""

from __future__ import annotations

from typing import Final

import duckdb

from flagledger.telemetry.logging import get_logger

FEATURE_HASH: Final = "(hash({}) >> 32)::UINTEGER"
"""Hash of a feature's name, as SQL, of what is put in."""
IDENTITY_HASH: Final = "hash({})"
"""Hash of an identity, as SQL; of NULL it is a number too."""

COLUMNS: Final = (
    f"{FEATURE_HASH.format('feature_name')} AS feature_hash, "
    f"CASE WHEN identity_identifier IS NOT NULL THEN {IDENTITY_HASH.format('identity_identifier')} END AS identity_hash"
)
"""The two columns out of a row's names, as SQL."""

PROBE_TABLE: Final = "CREATE TABLE IF NOT EXISTS hash_probe (hash UBIGINT NOT NULL)"

_PROBE: Final = IDENTITY_HASH.format("'Flagledger'")
_SLICE_ROWS: Final = 2_000_000


def ensure(connection: duckdb.DuckDBPyConnection) -> None:
    """
    Make sure that every row has its hashes, and that they are those of this DuckDB.

    An old file is gone through in slices, each of which is kept: begun again after a crash, it goes on where it was.

    Raises:
        duckdb.Error: The file cannot be read or written.
    """
    connection.execute(PROBE_TABLE).fetchall()
    known = connection.execute(f"SELECT hash = {_PROBE} FROM hash_probe").fetchall()  # noqa: S608  # our constants
    if known == [(True,)]:
        return
    if known:
        _forget(connection)
    _add(connection)
    connection.execute(f"INSERT INTO hash_probe SELECT {_PROBE}").fetchall()


def remember(connection: duckdb.DuckDBPyConnection) -> None:
    """Note in a new file how this DuckDB hashes."""
    connection.execute(PROBE_TABLE).fetchall()
    connection.execute(f"INSERT INTO hash_probe SELECT {_PROBE}").fetchall()


def _forget(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("BEGIN TRANSACTION").fetchall()
    connection.execute("ALTER TABLE evaluations DROP COLUMN feature_hash").fetchall()
    connection.execute("ALTER TABLE evaluations DROP COLUMN identity_hash").fetchall()
    connection.execute("DELETE FROM hash_probe").fetchall()
    connection.execute("COMMIT").fetchall()


def _add(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("ALTER TABLE evaluations ADD COLUMN IF NOT EXISTS feature_hash UINTEGER").fetchall()
    connection.execute("ALTER TABLE evaluations ADD COLUMN IF NOT EXISTS identity_hash UBIGINT").fetchall()
    rows, first, last = connection.execute(
        "SELECT count(*), min(position), max(position) FROM evaluations WHERE feature_hash IS NULL"
    ).fetchall()[0]
    if not rows:
        return
    get_logger().info("the store is being migrated", rows=rows)
    width = (last - first) // (1 + rows // _SLICE_ROWS) + 1
    for start in range(first, last + 1, width):
        connection.execute(
            f"UPDATE evaluations SET feature_hash = {FEATURE_HASH.format('feature_name')}, "  # noqa: S608  # our constants
            f"identity_hash = CASE WHEN identity_identifier IS NOT NULL THEN {IDENTITY_HASH.format('identity_identifier')} END "
            "WHERE position >= $start AND position < $end AND feature_hash IS NULL",
            {"start": start, "end": start + width},
        ).fetchall()
        connection.execute("CHECKPOINT").fetchall()
    get_logger().info("the store has been migrated")
