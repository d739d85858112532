from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from flagledger.journal.base import Entry
from flagledger.store.applied import SetAside
from flagledger.store.columns import ROWS, to_columns
from flagledger.store.duckdb import file as duckdb_file
from flagledger.store.duckdb import queries as duckdb_queries
from flagledger.store.duckdb import store as duckdb_module
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.errors import (
    DiskFullError,
    Interrupt,
    NewerFormatError,
    QuestionEndedError,
    RowsRefusedError,
    StoreError,
    UnreadableError,
)
from flagledger.store.questions import Filter
from support.records import record_of, simple_entry


def apply(store: DuckDBStore, first: int, last: int) -> None:
    """Apply simple entries *first* to *last*."""
    rows, discards = to_columns([simple_entry(position) for position in range(first, last + 1)])
    store.apply("journal", first, last, rows, discards)


def recorded(store: DuckDBStore) -> list[str | None]:
    """Return the identities of all rows, the newest first."""
    page = store.list_evaluations(Filter(environment="production"), 1_000_000, None)
    return [row.identity_identifier for row in page.rows]


def expected(last: int) -> list[str]:
    """Return the identities of simple entries 1 to *last*, the newest first."""
    return [f"{position}/{i}" for position in range(last, 0, -1) for i in (2, 1, 0)]


@pytest.fixture
def crashed(tmp_path: Path) -> Iterator[Path]:
    """Files as a process leaves them that was killed: entries 1 to 5 in the file, 6 to 20 in the log, one transaction each."""
    path = tmp_path / "alive" / "store.duckdb"
    path.parent.mkdir()
    store = DuckDBStore(path)
    for position in range(1, 6):
        apply(store, position, position)
    store.checkpoint()
    for position in range(6, 21):
        apply(store, position, position)
    copy = tmp_path / "store.duckdb"
    for name in ("store.duckdb", "store.duckdb.wal"):
        (tmp_path / name).write_bytes((path.parent / name).read_bytes())
    yield copy
    store.close()


def replay(store: DuckDBStore) -> None:
    """Apply what the journal still holds, which is what was not trimmable at the crash."""
    assert store.position("journal") >= 5
    for position in range(store.position("journal") + 1, 21):
        apply(store, position, position)


def test_a_log_is_replayed(crashed: Path) -> None:
    """What was applied before a crash is there after it, and then lies in the file itself."""
    store = DuckDBStore(crashed)

    assert 20 == store.position("journal")
    assert 20 == store.trimmable("journal")
    assert expected(20) == recorded(store)
    assert 0 == store.logs_set_aside
    store.close()


@pytest.mark.parametrize("seed", range(12))
def test_a_torn_log_costs_what_was_torn(crashed: Path, seed: int) -> None:
    """A log that ends anywhere leaves whole transactions, and the journal brings back the rest."""
    log = duckdb_file.log_of(crashed)
    os.truncate(log, random.Random(seed).randrange(1, log.stat().st_size))

    store = DuckDBStore(crashed)

    assert expected(store.position("journal")) == recorded(store)
    replay(store)
    assert expected(20) == recorded(store)
    store.close()


@pytest.mark.parametrize("seed", range(12))
def test_garbage_in_the_log_costs_the_log_at_most(crashed: Path, seed: int) -> None:
    """A log with garbage in it is replayed up to there or set aside and kept; the journal brings back the rest."""
    chance, log = random.Random(seed), duckdb_file.log_of(crashed)
    content = bytearray(log.read_bytes())
    if seed % 3 == 0:
        content += chance.randbytes(chance.randrange(1, 5_000))
    elif seed % 3 == 1:
        content[:64] = chance.randbytes(64)
    else:
        start = chance.randrange(len(content) - 100)
        content[start : start + 100] = chance.randbytes(100)
    log.write_bytes(content)

    store = DuckDBStore(crashed)

    assert expected(store.position("journal")) == recorded(store)
    kept = list(crashed.parent.glob("*.set-aside"))
    assert store.logs_set_aside == len(kept)
    assert [bytes(content)] * len(kept) == [file.read_bytes() for file in kept]
    replay(store)
    assert expected(20) == recorded(store)
    store.close()


def flipped(log: bytes) -> bytes:
    """Return *log* with a byte of its first transaction changed."""
    return log[:400] + bytes([log[400] ^ 0xFF]) + log[401:]


def foreign(path: Path) -> bytes:
    """Return the log of another store."""
    store = DuckDBStore(path)
    apply(store, 1, 1)
    content = duckdb_file.log_of(path).read_bytes()
    store.close()
    return content


@pytest.mark.parametrize("kind", ["flipped", "foreign"])
def test_a_log_that_cannot_be_replayed_is_set_aside_once(crashed: Path, kind: str) -> None:
    """The file opens at its last checkpoint without the log, and the next time there is nothing to set aside."""
    log = duckdb_file.log_of(crashed)
    content = flipped(log.read_bytes()) if kind == "flipped" else foreign(crashed.parent / "another")
    log.write_bytes(content)

    store = DuckDBStore(crashed)

    assert 1 == store.logs_set_aside
    assert 5 == store.position("journal")
    assert expected(5) == recorded(store)
    assert [content] == [file.read_bytes() for file in crashed.parent.glob("*.set-aside")]
    store.close()
    store = DuckDBStore(crashed)
    assert 0 == store.logs_set_aside
    replay(store)
    assert expected(20) == recorded(store)
    store.close()


@pytest.mark.parametrize(
    "content", [b"this is no database" * 1000, b"\0" * 20_000, b"x"], ids=["text", "zeros", "short"]
)
def test_an_unreadable_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    """A file that is no database is refused by its name, and stays as it is; its log too."""
    path = tmp_path / "store.duckdb"
    path.write_bytes(content)
    duckdb_file.log_of(path).write_bytes(b"log")

    with pytest.raises(UnreadableError) as refusal:
        DuckDBStore(path)

    assert str(path) in str(refusal.value)
    assert {"store.duckdb": content, "store.duckdb.wal": b"log"} == {
        file.name: file.read_bytes() for file in tmp_path.iterdir()
    }


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """A file whose headers were overwritten is refused rather than begun anew."""
    path = tmp_path / "store.duckdb"
    store = DuckDBStore(path)
    apply(store, 1, 50)
    store.close()
    content = bytearray(path.read_bytes())
    content[:12_288] = random.Random(1).randbytes(12_288)
    path.write_bytes(content)

    with pytest.raises(UnreadableError):
        DuckDBStore(path)

    assert bytes(content) == path.read_bytes()


def test_damaged_blocks_are_an_error_and_not_an_answer(tmp_path: Path) -> None:
    """Rows that cannot be read any more make a question fail; they are not left out of its answer."""
    path = tmp_path / "store.duckdb"
    store = DuckDBStore(path)
    for position in range(1, 40):
        apply(store, position * 50 - 49, position * 50)
    store.close()
    content = bytearray(path.read_bytes())
    for start in range(12_288, len(content), 262_144):
        content[start + 100_000 : start + 100_064] = b"\xff" * 64
        content[start + 64 : start + 128] = b"\xff" * 64
    path.write_bytes(content)

    with pytest.raises(StoreError):
        recorded(DuckDBStore(path))


def test_another_database_is_refused(tmp_path: Path) -> None:
    """A DuckDB file of somebody else is not written into."""
    path = tmp_path / "store.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE mine (a INTEGER)").fetchall()

    with pytest.raises(UnreadableError, match="no store of evaluations"):
        DuckDBStore(path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A file of a newer version is refused with a sentence that says which format it has."""
    path = tmp_path / "store.duckdb"
    DuckDBStore(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE format SET version = 7").fetchall()

    with pytest.raises(NewerFormatError, match="has format 7"):
        DuckDBStore(path)


@pytest.mark.parametrize(
    "text",
    [
        "Trying to read a database file with version number 99, but we can only read versions between 64 and 68.",
        'Error opening "x": file was written with a storage version greater than the latest version supported. '  # noqa: ISC004
        "Try opening the file with a newer version of DuckDB.",
    ],
)
def test_a_newer_duckdb_is_told_from_damage(tmp_path: Path, text: str) -> None:
    """What DuckDB says of a file that a newer one wrote is taken as that, and asks for no repair."""
    assert NewerFormatError is type(duckdb_file.meaning(tmp_path, duckdb.IOException(text)))


def test_a_full_disk_is_told_from_damage(tmp_path: Path) -> None:
    """What DuckDB says of a full disk is taken as that: it passes."""
    error = duckdb.IOException('Could not write all bytes to file "x": wanted=262144 wrote=-1: No space left on device')

    meaning = duckdb_file.meaning(tmp_path, error)

    assert (DiskFullError, True) == (type(meaning), meaning.temporary)


def test_a_file_that_is_held_is_refused_and_its_log_left_alone(tmp_path: Path) -> None:
    """A second process is told that the first one holds the file, and touches nothing."""
    path = tmp_path / "store.duckdb"
    store = DuckDBStore(path)
    apply(store, 1, 3)
    code = (
        "import sys; from pathlib import Path; from flagledger.store.duckdb.store import DuckDBStore\n"
        "try: DuckDBStore(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )

    answer = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)

    assert answer.stdout.startswith("HeldError")
    assert "held by another process" in answer.stdout
    apply(store, 4, 4)
    store.close()
    assert expected(4) == recorded(DuckDBStore(path))


def test_rows_that_break_a_rule_of_the_table_are_refused_as_such(tmp_path: Path) -> None:
    """Rows that the table does not take are told apart from failures that pass, and nothing of them is recorded."""
    store = DuckDBStore(tmp_path / "store.duckdb")
    rows, discards = to_columns([simple_entry(1)])
    column = ROWS.get_field_index("evaluation_time")
    broken = rows.set_column(column, pa.field("evaluation_time", pa.timestamp("us")), pa.nulls(3, pa.timestamp("us")))

    with pytest.raises(RowsRefusedError):
        store.apply("journal", 1, 1, broken, discards)

    assert 0 == store.position("journal")
    apply(store, 1, 1)
    assert expected(1) == recorded(store)
    store.close()


def test_what_was_set_aside_is_kept_as_it_was(tmp_path: Path) -> None:
    """The payload of an entry that could not be stored lies in the file, byte for byte."""
    path = tmp_path / "store.duckdb"
    store = DuckDBStore(path)
    payload = bytes(range(256))
    rows, discards = to_columns([])
    store.apply("journal", 1, 1, rows, discards, (SetAside(position=1, payload=payload, description="broken"),))
    store.close()

    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT stream, position, payload, description FROM quarantine").fetchall()
    assert [("journal", 1, payload, "broken")] == found


def test_an_accepted_gap_is_kept(tmp_path: Path) -> None:
    """Which entries were given up stays on record."""
    path = tmp_path / "store.duckdb"
    store = DuckDBStore(path, accept_gap="1-9")
    apply(store, 10, 10)
    store.close()

    with duckdb.connect(str(path), read_only=True) as connection:
        assert [("journal", 1, 9)] == connection.execute("SELECT stream, first, last FROM gaps").fetchall()


def test_discards_are_kept(tmp_path: Path) -> None:
    """What was not recorded is in the file by reason and name."""
    path = tmp_path / "store.duckdb"
    record = record_of(batch_id="b")
    record.envelope.discards.add(reason="unknown_feature", name="chekout", entry_count=3)
    store = DuckDBStore(path)
    store.apply("journal", 1, 1, *to_columns([Entry(position=1, payload=record.SerializeToString())]))
    store.close()

    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT environment, reason, name, entry_count, batch_id FROM discards").fetchall()
    assert [("production", "unknown_feature", "chekout", 3, "b")] == found


@pytest.mark.parametrize("stage", ["_insert", "_keep", "_move"])
def test_a_transaction_that_fails_on_its_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """A failure after any of its steps leaves neither rows nor position behind, and trying again records once."""
    store = DuckDBStore(tmp_path / "store.duckdb")
    apply(store, 1, 1)
    place = store if stage == "_move" else duckdb_module
    step = getattr(place, stage)

    def stepping_into_failure(*arguments: object) -> None:
        step(*arguments)
        raise duckdb.IOException("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(place, stage, stepping_into_failure)
        with pytest.raises(StoreError):
            apply(store, 2, 3)

    assert 1 == store.position("journal")
    assert expected(1) == recorded(store)
    apply(store, 2, 3)
    assert expected(3) == recorded(store)
    store.close()


def test_a_failed_database_is_opened_again(tmp_path: Path) -> None:
    """After a failure that spoils DuckDB's connection, the next call of the owner opens the file again, and nothing is lost."""
    store = DuckDBStore(tmp_path / "store.duckdb")
    apply(store, 1, 3)
    with pytest.raises(StoreError), store._errors():
        raise duckdb.FatalException("database has been invalidated because of a previous fatal error")
    with pytest.raises(StoreError):
        recorded(store)

    assert 3 == store.position("journal")
    apply(store, 4, 4)
    assert expected(4) == recorded(store)
    store.close()


def test_a_question_is_ended_while_it_is_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for the end ends the statement itself, and the store goes on."""
    hours = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE hash(a.range + b.range) = 0 AND $environment <> ''"
    monkeypatch.setattr(duckdb_queries, "_TOTALS", hours)
    store = DuckDBStore(tmp_path / "store.duckdb")
    interrupt, outcome = Interrupt(), []

    def ask() -> None:
        with pytest.raises(QuestionEndedError) as ended:
            store.list_features("production", None, None, interrupt)
        outcome.append(type(ended.value))

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(0.3)
    for _ in range(100):
        interrupt.ask()
        asking.join(0.05)
        if not asking.is_alive():
            break

    assert [QuestionEndedError] == outcome
    apply(store, 1, 1)
    assert expected(1) == recorded(store)
    store.close()


def test_a_file_without_pieces_gets_them(tmp_path: Path) -> None:
    """A file that was made before long texts were kept in pieces is taken as it is and keeps them from then on."""
    path = tmp_path / "store.duckdb"
    DuckDBStore(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE long_texts").fetchall()
    store = DuckDBStore(path)
    apply(store, 1, 1)

    assert expected(1) == recorded(store)
    store.close()
