from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from flagledger.store.columns import to_columns
from flagledger.store.duckdb import hashes as duckdb_hashes
from flagledger.store.duckdb.file import FORMAT
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.questions import Filter
from support.records import simple_entry

STREAM = "a-journal"
ENVIRONMENT = "production"
ENTRIES = 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of this format with some evaluations, closed."""
    path = tmp_path / "store.duckdb"
    store = DuckDBStore(path)
    entries = [simple_entry(position) for position in range(1, ENTRIES + 1)]
    store.apply(STREAM, 1, ENTRIES, *to_columns(entries))
    store.close()
    return path


def statement(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Run statements on the closed store at *path* and return the rows of the last."""
    with duckdb.connect(str(path)) as connection:
        return [connection.execute(one).fetchall() for one in statements][-1]


def found(path: Path) -> tuple[int, int, int]:
    """Return how many evaluations there are by feature, by one identity, and how many identities."""
    store = DuckDBStore(path)
    try:
        (totals,) = store.list_features(ENVIRONMENT, None, None).totals
        by_feature = store.list_evaluations(Filter(environment=ENVIRONMENT, feature_name="checkout"), 1000, None)
        by_identity = store.list_evaluations(Filter(environment=ENVIRONMENT, identity_identifier="7/1"), 1000, None)
        return len(by_feature.rows), len(by_identity.rows), totals.identity_count
    finally:
        store.close()


EXPECTED = (3 * ENTRIES, 1, 3 * ENTRIES)


def test_new_rows_have_hashes(path: Path) -> None:
    """Rows are found by the hashes that they were stored with."""
    assert EXPECTED == found(path)
    assert [(0,)] == statement(
        path, "SELECT count(*) FROM evaluations WHERE feature_hash IS NULL OR identity_hash IS NULL"
    )


@pytest.fixture(params=["whole", "in slices", "interrupted"])
def first_format(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the first format, which had no hashes; the last one with a migration that was cut off."""
    statement(
        path,
        "ALTER TABLE evaluations DROP COLUMN feature_hash",
        "ALTER TABLE evaluations DROP COLUMN identity_hash",
        "DROP TABLE hash_probe",
        "UPDATE format SET version = 1",
    )
    if request.param == "in slices":
        monkeypatch.setattr(duckdb_hashes, "_SLICE_ROWS", 7)
    if request.param == "interrupted":
        statement(
            path,
            duckdb_hashes.PROBE_TABLE,
            "ALTER TABLE evaluations ADD COLUMN feature_hash UINTEGER",
            "ALTER TABLE evaluations ADD COLUMN identity_hash UBIGINT",
            f"UPDATE evaluations SET feature_hash = {duckdb_hashes.FEATURE_HASH.format('feature_name')}, "
            f"identity_hash = {duckdb_hashes.IDENTITY_HASH.format('identity_identifier')} WHERE position < {20 << 16}",
        )
    return path


def test_first_format_is_migrated(first_format: Path) -> None:
    """A file of the first format is given its hashes, also where that was begun before and cut off."""
    assert EXPECTED == found(first_format)
    assert [(FORMAT,)] == statement(first_format, "SELECT version FROM format")


def test_another_hash_function(path: Path) -> None:
    """Where DuckDB hashes otherwise than when the file was written, every hash is made anew."""
    statement(
        path,
        "UPDATE hash_probe SET hash = hash + 1",
        "UPDATE evaluations SET feature_hash = feature_hash + 1, identity_hash = identity_hash + 1",
    )

    assert EXPECTED == found(path)
    assert EXPECTED == found(path)


def test_no_identity_has_no_hash(path: Path) -> None:
    """An evaluation without an identity is none of the identities."""
    statement(
        path, "UPDATE evaluations SET identity_identifier = NULL WHERE position < 3 << 16", "DROP TABLE hash_probe"
    )
    statement(
        path, "ALTER TABLE evaluations DROP COLUMN identity_hash", "ALTER TABLE evaluations DROP COLUMN feature_hash"
    )

    assert (EXPECTED[0], EXPECTED[1], EXPECTED[2] - 6) == found(path)
