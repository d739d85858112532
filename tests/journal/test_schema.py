from __future__ import annotations

import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flagledger.journal import schema
from flagledger.journal.base import JournalError
from flagledger.journal.sqlite import SqliteJournal
from journal.processes import Appender


def open_it(path: Path) -> SqliteJournal:
    """Open the journal in ordinary settings."""
    return SqliteJournal.open(path, max_bytes=1 << 30, reserve_bytes=0)


def test_makes_files_that_only_their_owner_reads(tmp_path: Path) -> None:
    """The journal, its log and its reserve have mode 0600."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=1 << 30, reserve_bytes=1 << 20)
    journal.lag()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    journal.close()

    assert {"journal.db", "journal.db-wal", "journal.db-shm", "journal.db.reserve"} == set(modes)
    assert {0o600} == set(modes.values())


def test_opens_what_a_kill_left_before_the_tables(tmp_path: Path) -> None:
    """An empty file, which a kill right after creation leaves, becomes a journal."""
    path = tmp_path / "journal.db"
    path.touch()
    journal = open_it(path)

    assert len(journal.identity) == 32
    assert journal.read(0, 1) == []
    journal.close()


def _set_format(path: Path, file_format: int) -> None:
    open_it(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'format'", (str(file_format),))
    connection.close()


def test_refuses_a_newer_format(tmp_path: Path) -> None:
    """A journal of a newer format is refused with a sentence that says so and what to do, and is left as it was."""
    path = tmp_path / "journal.db"
    _set_format(path, 7)

    with pytest.raises(JournalError, match=r"has format 7, which a newer Flagledger wrote.*Start that newer version"):
        open_it(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchall() == [("7",)]
    connection.close()


def test_migrates_an_older_format_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal two formats behind runs both migrations, in order, once, and keeps its identity."""
    path = tmp_path / "journal.db"
    journal = open_it(path)
    identity = journal.identity
    journal.close()
    steps: list[int] = []

    def first(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE entries ADD COLUMN first INTEGER")
        steps.append(1)

    def second(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT first FROM entries").fetchall()
        steps.append(2)

    monkeypatch.setattr(schema, "FORMAT", 3)
    monkeypatch.setattr(schema, "_MIGRATIONS", {1: first, 2: second})

    assert identity == schema.prepare(path) == schema.prepare(path)
    assert steps == [1, 2]


def test_leaves_the_file_as_it_was_where_a_migration_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that fails changes nothing: not the tables, not the format."""
    path = tmp_path / "journal.db"
    identity = schema.prepare(path)

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE entries")
        connection.execute("SELECT nonsense")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "FORMAT", 2)
        patch.setattr(schema, "_MIGRATIONS", {1: broken})
        with pytest.raises(JournalError, match="nonsense"):
            schema.prepare(path)

    assert identity == schema.prepare(path)
    journal = open_it(path)
    assert journal.read(0, 1) == []
    journal.close()


def test_refuses_an_older_format_that_it_cannot_migrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A format without a migration is refused by its number."""
    path = tmp_path / "journal.db"
    schema.prepare(path)
    monkeypatch.setattr(schema, "FORMAT", 2)

    with pytest.raises(JournalError, match="has format 1, which this Flagledger cannot migrate"):
        schema.prepare(path)


def test_refuses_another_database(tmp_path: Path) -> None:
    """A database that is no journal is refused, and no table is added to it."""
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE letters (a)")
    with pytest.raises(JournalError, match="is a database, but not a journal"):
        open_it(path)

    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("letters",)]
    connection.close()


def test_refuses_what_is_no_database(tmp_path: Path) -> None:
    """A file of other content is refused, and keeps it."""
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database at all, but quite long" * 100)

    with pytest.raises(JournalError, match=r"The journal .* cannot be (used|opened): file is not a database"):
        open_it(path)
    assert path.read_bytes().startswith(b"not a database")


def test_names_the_directory_that_is_missing(tmp_path: Path) -> None:
    """A path that cannot be made is named in the refusal."""
    with pytest.raises(JournalError, match=r"The journal .*/nowhere/journal\.db cannot be opened: .*No such file"):
        open_it(tmp_path / "nowhere" / "journal.db")


def test_is_made_once_by_many_at_the_same_moment(tmp_path: Path) -> None:
    """However closely openings of a new journal follow each other, one of them makes it and all see its identity."""
    together = threading.Barrier(6)

    def prepare(path: Path) -> str:
        together.wait()
        return schema.prepare(path)

    with ThreadPoolExecutor(6) as pool:
        for number in range(10):
            path = tmp_path / f"journal-{number}.db"
            assert len(set(pool.map(prepare, [path] * 6))) == 1


def test_is_made_once_by_many_processes(tmp_path: Path) -> None:
    """Processes that open a new journal at the same moment agree on its identity."""
    path = tmp_path / "journal.db"
    appenders = [Appender(path, f"{number}", 20) for number in range(4)]
    for appender in appenders:
        with appender:
            assert appender.join() == 0

    assert len({appender.words["open"][0] for appender in appenders}) == 1
    journal = open_it(path)
    assert journal.lag().entries == 80
    assert appenders[0].words["open"][0] == journal.identity
    journal.close()
