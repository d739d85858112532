"""
The tables in PostgreSQL: how they are made, and brought to what this version reads and writes.

```text
evaluations, discards               partitioned by time of receipt; a partition a UTC day: evaluations_20261126
streams                             the one journal that is known, and the position up to which it was applied
gaps, quarantine                    entries that are known to be lost; entries that could not be made into rows
unvacuumed                          partitions that rows were erased from, until their space has been cleared
migrations                          which of the migrations below were made, and when
```

All of them live in one schema, which a connection's search_path names. Names of features take 8,000 bytes and do not fit into
an index, so that an index has their hash: a question for one feature asks for the hash and for the name (`OF_FEATURE`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from flagledger.store.errors import NewerFormatError, StoreError, UnreadableError
from flagledger.telemetry.logging import get_logger

Connection = psycopg.Connection[TupleRow]

OF_FEATURE: Final = (
    "hashtextextended(feature_name, 0) = hashtextextended(%(feature_name)s, 0) AND feature_name = %(feature_name)s"
)
"""Condition for the rows of one feature, in the form that the index knows."""
OF_IDENTITY: Final = (
    "identity_hash = hashtextextended(%(identity_identifier)s, 0) AND identity_identifier = %(identity_identifier)s"
)
"""Condition for the rows of one identity."""

WITHOUT_STATISTICS: Final = ("identity_identifier", "identity_traits", "metadata")
"""Columns of `evaluations` that the planner keeps no samples of: those of an empty table are never renewed, so nor erased."""

LOCK_SECONDS: Final = 60
"""Seconds that one process waits while another migrates."""

MIGRATIONS: Final[tuple[tuple[LiteralString, ...], ...]] = (
    (
        """
        CREATE TABLE evaluations (
            position bigint NOT NULL,
            evaluation_time timestamptz NOT NULL,
            receive_time timestamptz NOT NULL,
            count bigint NOT NULL,
            sample_rate double precision NOT NULL,
            identity_hash bigint GENERATED ALWAYS AS (hashtextextended(identity_identifier, 0)) STORED,
            origin integer NOT NULL,
            enabled boolean,
            environment text COLLATE "C" NOT NULL,
            feature_name text COLLATE "C" NOT NULL,
            value text COLLATE "C",
            value_key text COLLATE "C",
            identity_identifier text COLLATE "C",
            identity_traits text COLLATE "C",
            segment_names text[] COLLATE "C" NOT NULL,
            variant text COLLATE "C" NOT NULL,
            reason text COLLATE "C" NOT NULL,
            metadata text COLLATE "C",
            batch_id text COLLATE "C" NOT NULL,
            sdk_name text COLLATE "C" NOT NULL,
            sdk_version text COLLATE "C" NOT NULL
        ) PARTITION BY RANGE (receive_time)
        """,
        """
        ALTER TABLE evaluations ALTER identity_identifier SET STATISTICS 0, ALTER identity_traits SET STATISTICS 0,
            ALTER metadata SET STATISTICS 0
        """,
        """
        CREATE INDEX evaluations_by_feature
        ON evaluations (environment, hashtextextended(feature_name, 0), evaluation_time, position)
        """,
        "CREATE INDEX evaluations_by_time ON evaluations (environment, evaluation_time, position)",
        # Many rows are received at one time, so that it takes a third of the others' room.
        "CREATE INDEX evaluations_by_receipt ON evaluations (environment, receive_time)",
        "CREATE INDEX evaluations_by_identity ON evaluations (identity_hash) WHERE identity_hash IS NOT NULL",
        # What was sampled is asked for at every question about identities; where nothing was, this index is empty.
        "CREATE INDEX evaluations_sampled ON evaluations (environment, evaluation_time) WHERE sample_rate < 1",
        "CREATE INDEX evaluations_by_position ON evaluations USING brin (position) WITH (autosummarize = on)",
        """
        CREATE TABLE discards (
            position bigint NOT NULL,
            receive_time timestamptz NOT NULL,
            entry_count bigint NOT NULL,
            origin integer NOT NULL,
            environment text COLLATE "C" NOT NULL,
            reason text COLLATE "C" NOT NULL,
            name text COLLATE "C" NOT NULL,
            batch_id text COLLATE "C" NOT NULL,
            sdk_name text COLLATE "C" NOT NULL,
            sdk_version text COLLATE "C" NOT NULL
        ) PARTITION BY RANGE (receive_time)
        """,
        "CREATE INDEX discards_by_time ON discards (environment, receive_time)",
        "CREATE INDEX discards_by_position ON discards USING brin (position) WITH (autosummarize = on)",
        "CREATE TABLE streams (stream text NOT NULL, position bigint NOT NULL)",
        # One schema knows one journal, whatever two writers may try.
        "CREATE UNIQUE INDEX one_stream ON streams ((true))",
        """
        CREATE TABLE gaps (
            stream text NOT NULL, first bigint NOT NULL, last bigint NOT NULL, accept_time timestamptz NOT NULL
        )
        """,
        """
        CREATE TABLE quarantine (
            stream text NOT NULL,
            position bigint NOT NULL,
            payload bytea NOT NULL,
            description text NOT NULL,
            set_aside_time timestamptz NOT NULL
        )
        """,
        "CREATE TABLE unvacuumed (name text PRIMARY KEY)",
    ),
)
"""What makes each version of the tables out of the one before; the first out of nothing. What was released is never altered."""

VERSION: Final = len(MIGRATIONS)
"""The version that this program reads and writes."""

_LEDGER: Final = """
CREATE TABLE migrations (version integer PRIMARY KEY, migrate_time timestamptz NOT NULL DEFAULT now())
"""
_LOCK: Final = "hashtextextended('flagledger migrations ' || %s, 0)"


def migrate(connection: Connection, schema: str) -> None:
    """
    Bring the tables of *schema* to this version, by way of *connection*, which is outside of a transaction.

    Of several processes one does it, and the others wait for it. It is done whole or not at all.

    Raises:
        NewerFormatError: A newer version made them.
        StoreError: The role may not, or another process has been at it for `LOCK_SECONDS`.
    """
    _check_encoding(connection)
    with _permitted(connection, schema):
        _check_use(connection, schema)
        if _version(connection, schema) == VERSION:
            return
        with _turn(connection, schema), connection.transaction():
            _migrate(connection, schema)


@contextmanager
def _turn(connection: Connection, schema: str) -> Iterator[None]:
    """Keep other processes from migrating during the block. What one of them did is seen by transactions that begin in it."""
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            connection.execute(f"SELECT pg_advisory_lock({_LOCK})", (schema,))
    except psycopg.errors.LockNotAvailable as error:
        raise StoreError(f"Another process has been migrating the schema {schema} for {LOCK_SECONDS} s.") from error
    try:
        yield
    finally:
        # It goes with the connection otherwise.
        with suppress(psycopg.Error):
            connection.execute(f"SELECT pg_advisory_unlock({_LOCK})", (schema,))


def check_version(connection: Connection, schema: str) -> None:
    """
    Check that the tables of *schema* are what this version reads.

    Raises:
        NewerFormatError: A newer version made them.
        StoreError: The writer has yet to make them, or to migrate them.
    """
    try:
        ((version,),) = connection.execute("SELECT max(version) FROM migrations").fetchall()
    except psycopg.errors.UndefinedTable as error:
        connection.rollback()
        raise StoreError(
            f"The role {connection.info.user} may not use the schema {schema}: GRANT USAGE ON SCHEMA, and GRANT SELECT ON ALL "
            "TABLES IN SCHEMA."
            if _is_barred(connection, schema)
            else f"The schema {schema} holds no evaluations yet: the writer makes its tables when it starts."
        ) from error
    if version == VERSION:
        return
    _refuse_newer(schema, version)
    raise StoreError(
        f"The tables in the schema {schema} have version {version}, which the writer of this version, {VERSION}, migrates "
        "when it starts."
    )


def _migrate(connection: Connection, schema: str) -> None:
    # Once more, now that nobody else is at it.
    version = _version(connection, schema)
    if version == VERSION:
        return
    if version is None:
        _make_schema(connection, schema)
        connection.execute(_LEDGER)
        version = 0
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO migrations (version) VALUES (%s)", (number,))
    get_logger().info("the tables in PostgreSQL are of this version now", schema=schema, version=VERSION)


def _version(connection: Connection, schema: str) -> int | None:
    """Return the version of the tables of *schema*, None where there are none."""
    found = connection.execute(
        "SELECT relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace "
        "WHERE nspname = %s AND relname IN ('migrations', 'streams')",
        (schema,),
    ).fetchall()
    if not found:
        return None
    if len(found) < 2:  # noqa: PLR2004  # both are made at once
        raise UnreadableError(
            f"The schema {schema} holds tables of another program. Name one of its own, as ?schema=NAME in the store's URL."
        )
    ((version,),) = connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchall()
    _refuse_newer(schema, version)
    return int(version)


def _refuse_newer(schema: str, version: int) -> None:
    if version > VERSION:
        raise NewerFormatError(
            f"The tables in the schema {schema} have version {version}, which a newer version made; this one knows "
            f"{VERSION}. Start the newer version again, or put back a backup."
        )


def _make_schema(connection: Connection, schema: str) -> None:
    # Not IF NOT EXISTS, which asks for the right to make one even where there is one.
    exists = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchall()
    if not exists:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def _check_use(connection: Connection, schema: str) -> None:
    # A schema that may not be used is passed over without a word: tables would be made, and rows be lost, in `pg_temp`.
    if _is_barred(connection, schema):
        raise _may_not(connection, schema, "it may not use the schema")


def _is_barred(connection: Connection, schema: str) -> bool:
    """Return whether *schema* is there, and the role may not use it."""
    used = connection.execute(
        "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = %s", (schema,)
    ).fetchall()
    return used == [(False,)]


def _check_encoding(connection: Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"The database {connection.info.dbname} has the encoding {encoding}, and cannot hold every text. Make one with "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        )


@contextmanager
def _permitted(connection: Connection, schema: str) -> Iterator[None]:
    """Say what to grant where the role lacks a right for what the block does."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise _may_not(connection, schema, error.diag.message_primary or "") from error


def _may_not(connection: Connection, schema: str, reason: str) -> StoreError:
    role, database = connection.info.user, connection.info.dbname
    owners = connection.execute(
        "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s", (schema,)
    ).fetchall()
    helps = (
        f"It is of the role {owners[0][0]}: give that one in the URL, or another schema as ?schema=NAME, or, as long as it holds "
        f'nothing, ALTER SCHEMA "{schema}" OWNER TO "{role}".'
        if owners
        else f'They must be its own: GRANT CREATE ON DATABASE "{database}" TO "{role}", or CREATE SCHEMA "{schema}" '
        f'AUTHORIZATION "{role}".'
    )
    return StoreError(f"The role {role} may not make the tables in the schema {schema} ({reason}). {helps}")
