"""
Erasing from the embedded store: an identity, or what has been kept long enough.

Each function is one transaction. A row that is erased is no longer found by any question from then on; DuckDB keeps the
blocks that it was compressed into until no row of its row group is left, or a checkpoint merges the row group with others,
and overwrites them when they are used again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

import duckdb

from flagledger.store.identity_fields import fields_of

# What one call drops at most, in microseconds of receipt: some million rows where much comes in.
SLICE_MICROSECONDS: Final = 3_600_000_000

_OF_IDENTITY: Final = "environment = $environment AND identity_identifier = $identity"
_BEFORE: Final = "receive_time < make_timestamp($received)"
_SET_ASIDE_BEFORE: Final = "set_aside_time < make_timestamp($received)"

# Row groups that hold nothing so old are passed over by their smallest time.
_OLDEST: Final = f"""
    SELECT epoch_us(least(
        (SELECT min(receive_time) FROM evaluations WHERE {_BEFORE}),
        (SELECT min(receive_time) FROM discards WHERE {_BEFORE}),
        (SELECT min(set_aside_time) FROM quarantine WHERE {_SET_ASIDE_BEFORE})
    ))
"""  # noqa: S608  # our own conditions


def erase_identity(connection: duckdb.DuckDBPyConnection, environment: str, identity_identifier: str) -> int:
    """
    Erase the rows of an identity, their long texts, and whatever was set aside and holds the identifier.

    Returns:
        How many rows there were.
    """
    identity = {"environment": environment, "identity": identity_identifier}
    with _transaction(connection):
        _erase_long_texts(connection, _OF_IDENTITY, identity)
        erased = _delete(connection, "evaluations", _OF_IDENTITY, identity)
        _erase_set_aside(connection, environment, identity_identifier)
    return erased


def _erase_set_aside(connection: duckdb.DuckDBPyConnection, environment: str, identity_identifier: str) -> None:
    """Erase what was set aside and holds the identity. No record could be made of it, so that fields are looked for as bytes."""
    held = fields_of(environment, identity_identifier)
    # One at a time: each may be as large as a request.
    for (position,) in connection.execute("SELECT position FROM quarantine").fetchall():
        ((payload,),) = connection.execute("SELECT payload FROM quarantine WHERE position = ?", [position]).fetchall()
        if all(field in payload for field in held):
            _delete(connection, "quarantine", "position = $position", {"position": position})


def drop_before(connection: duckdb.DuckDBPyConnection, received: int) -> int:
    """
    Erase the oldest of what was received before *received*: an hour's worth, as whole hours go, at most.

    Returns:
        How many rows, discards and set-aside entries there were; 0 where none is left.
    """
    ((oldest,),) = connection.execute(_OLDEST, {"received": received}).fetchall()
    if oldest is None:
        return 0
    before = {"received": min(received, (oldest // SLICE_MICROSECONDS + 1) * SLICE_MICROSECONDS)}
    with _transaction(connection):
        _erase_long_texts(connection, _BEFORE, before)
        return (
            _delete(connection, "evaluations", _BEFORE, before)
            + _delete(connection, "discards", _BEFORE, before)
            + _delete(connection, "quarantine", _SET_ASIDE_BEFORE, before)
        )


def _erase_long_texts(connection: duckdb.DuckDBPyConnection, condition: str, values: Mapping[str, str | int]) -> None:
    rows = f"SELECT position FROM evaluations WHERE {condition}"  # noqa: S608  # our own condition
    _delete(connection, "long_texts", f"position IN ({rows})", values)


def _delete(connection: duckdb.DuckDBPyConnection, table: str, condition: str, values: Mapping[str, str | int]) -> int:
    ((rows,),) = connection.execute(f"DELETE FROM {table} WHERE {condition}", values).fetchall()  # noqa: S608  # as above
    return int(rows)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("BEGIN TRANSACTION").fetchall()
    try:
        yield
        connection.execute("COMMIT").fetchall()
    except BaseException:
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK").fetchall()
        raise
