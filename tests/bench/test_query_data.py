from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
import query_data
from flagledger.journal.schema import connect, prepare
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.questions import Filter
from processes import BenchError

END = 1_760_000_000_000_000


def test_the_store_belongs_to_the_journal(tmp_path: Path) -> None:
    """The store has applied the last position of the journal beside it, which goes on from there: both can be served."""
    data = query_data.make(tmp_path / "made", 12_345, end=END)
    identity = prepare(tmp_path / "made" / "journal.db")
    with contextlib.closing(connect(tmp_path / "made" / "journal.db")) as journal:
        ((last,),) = journal.execute("SELECT last_position FROM state").fetchall()

    with contextlib.closing(DuckDBStore(data.store)) as store:
        assert 123 == last == data.last_entry == store.position(identity)
        store.check_reach(identity, last + 1)


def test_rows_are_spread_over_thirty_days(tmp_path: Path) -> None:
    """There are as many rows as were asked for, in whole batches, of every feature, received within thirty days."""
    data = query_data.make(tmp_path / "made", 20_050, end=END)
    with contextlib.closing(DuckDBStore(data.store)) as store:
        features = store.list_features("bench", None, None)
        rows = [row for batch in store.export(Filter(environment="bench"), 0).batches for row in batch.to_pylist()]
        unknown = store.list_unknown_features("bench", None, None, frozenset(), 1000)

    received = [_microseconds(row["receive_time"]) for row in rows]
    assert 20_000 == data.rows == len(rows) == sum(totals.evaluation_count for totals in features.totals)
    assert 50 == len(features.totals)
    assert data.start == min(received)
    assert END - query_data.DAY < max(received) < END
    assert all(row["evaluation_timestamp"] <= row["receive_time"] for row in rows)
    assert unknown.names


def test_the_last_rows_lie_behind_a_position(tmp_path: Path) -> None:
    """Behind the position of the last so many rows there are as many, and they are the latest received."""
    data = query_data.make(tmp_path / "made", 20_000, end=END)
    with contextlib.closing(DuckDBStore(data.store)) as store:
        for rows in (20_000, 300):
            found = [
                _microseconds(moment)
                for batch in store.export(Filter(environment="bench"), data.behind(rows)).batches
                for moment in batch.column("receive_time").to_pylist()
            ]

            assert rows == len(found)
            assert END - rows * (30 * query_data.DAY // 20_000) <= min(found)


def test_what_is_kept_is_made_once(tmp_path: Path) -> None:
    """A directory that was kept is taken as it is, and a draft that broke off is begun again."""
    (tmp_path / "kept.draft").mkdir()
    (tmp_path / "kept.draft" / "store.duckdb").write_bytes(b"torn")
    made = query_data.kept(tmp_path / "kept", 10_000)
    written = made.store.stat().st_mtime_ns

    assert made == query_data.kept(tmp_path / "kept", 10_000)
    assert written == made.store.stat().st_mtime_ns
    assert ["kept"] == [path.name for path in tmp_path.iterdir()]


def test_another_directory_is_not_taken(tmp_path: Path) -> None:
    """A directory of another size, or of somebody else, is refused and left as it is."""
    query_data.kept(tmp_path / "kept", 10_000)
    (tmp_path / "other").mkdir()

    with pytest.raises(BenchError, match=r"not \{'rows': 20000"):
        query_data.kept(tmp_path / "kept", 20_000)
    with pytest.raises(BenchError, match="was not made by this bench"):
        query_data.kept(tmp_path / "other", 10_000)


def _microseconds(moment: datetime) -> int:
    """Return a moment in UTC that was read without its zone, in microseconds since the epoch."""
    return round(moment.replace(tzinfo=UTC).timestamp() * 1_000_000)
