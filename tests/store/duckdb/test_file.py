from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from flagledger.store.columns import to_columns
from flagledger.store.duckdb.file import FORMAT
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.questions import Filter
from support.records import START, add_evaluation, entries_of, record_of

ENVIRONMENT = "production"
PRODUCTION = Filter(environment=ENVIRONMENT)

# As the versions of then made them; `{hashes}` is what the second format had beyond the first.
TABLES = (
    "CREATE TABLE format (version INTEGER NOT NULL)",
    "CREATE TABLE streams (stream VARCHAR NOT NULL, position BIGINT NOT NULL)",
    "CREATE TABLE gaps (stream VARCHAR NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, accept_time TIMESTAMP NOT NULL)",
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
        sdk_version VARCHAR NOT NULL {hashes}
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
    """
    CREATE TABLE long_texts (
        position BIGINT NOT NULL,
        name VARCHAR NOT NULL,
        piece INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        text VARCHAR NOT NULL
    )
    """,
)
HASH_COLUMNS = ", feature_hash UINTEGER, identity_hash UBIGINT"
HASHES = ", (hash('checkout') >> 32)::UINTEGER, hash('old/' || number)"
ROWS = f"""
    INSERT INTO evaluations SELECT 65536 + number, '{ENVIRONMENT}', 'checkout', true, '"on"', make_timestamp({START} + number),
        'old/' || number, NULL, [], '', '', NULL, 2, 'batch', make_timestamp({START}), 1, 'sdk', '1' {{hashes}}
    FROM range(1000) rows (number)
"""
OLD = 1_000


@pytest.fixture(params=[1, 2, "2, cut off"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of an older format with a thousand evaluations; the last one with a migration that was cut off."""
    path = tmp_path / "store.duckdb"
    version = 1 if request.param == 1 else 2
    with duckdb.connect(str(path)) as connection:
        for table in TABLES:
            connection.execute(table.format(hashes="" if version == 1 else HASH_COLUMNS))
        connection.execute(ROWS.format(hashes="" if version == 1 else HASHES))
        connection.execute("INSERT INTO streams VALUES ('journal', 1)")
        connection.execute("INSERT INTO format VALUES (?)", [version])
        if version > 1:
            connection.execute("CREATE TABLE hash_probe (hash UBIGINT NOT NULL)")
            connection.execute("INSERT INTO hash_probe SELECT hash('Flagledger')")
        if request.param == "2, cut off":
            connection.execute("ALTER TABLE evaluations ADD COLUMN sample_rate DOUBLE DEFAULT 1")
    return path


def test_an_older_file_is_migrated(path: Path) -> None:
    """What an older version wrote is there as it was, each evaluation kept; what is recorded now has its rate beside it."""
    sampled = record_of(receive_time=START)
    sampled.envelope.sample_rate = 0.25
    add_evaluation(sampled, time=START, identity_identifier="new", count=4)
    for _ in range(2):
        store = DuckDBStore(path)
        store.apply("journal", 2, 2, *to_columns(entries_of([sampled], 2)))

        (totals,) = store.list_features(ENVIRONMENT, None, None).totals
        assert (2 * OLD + 4, OLD + 1, True) == (
            totals.evaluation_count,
            totals.identity_count,
            totals.identities_lower_bound,
        )
        rates = [rate for batch in store.export(PRODUCTION, 0).batches for rate in batch["sample_rate"].to_pylist()]
        assert [1.0] * OLD + [0.25] == sorted(rates, reverse=True)
        asked = Filter(environment=ENVIRONMENT, identity_identifier="old/7")
        (row,) = store.list_evaluations(asked, 10, None).rows
        assert ("old/7", START + 7, 2, 1.0) == (
            row.identity_identifier,
            row.evaluation_time,
            row.count,
            row.sample_rate,
        )
        store.close()


def test_a_migrated_file_is_as_a_new_one(path: Path) -> None:
    """A file that was migrated has the format, the columns and the constraints of one that is made now."""
    new = path.with_name("new.duckdb")
    for each in (path, new):
        DuckDBStore(each).close()

    assert [(FORMAT,)] == ask(path, "SELECT version FROM format")
    columns = (
        "SELECT column_name, data_type, is_nullable, column_default FROM duckdb_columns() "
        "WHERE table_name = 'evaluations' ORDER BY column_name"
    )
    assert ask(new, columns) == ask(path, columns)


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    """Return what the closed store at *path* answers."""
    with duckdb.connect(str(path)) as connection:
        return connection.execute(question).fetchall()
