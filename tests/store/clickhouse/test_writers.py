"""One store writes at a time, others may read at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flagledger.store.applied import Stream
from flagledger.store.clickhouse import inserting
from flagledger.store.clickhouse.lease import HeldError
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.errors import StoreError
from store.clickhouse.applying import Open, apply, counts, goes_silent, seen
from support.chdb import directory, fresh_url
from support.records import START


def test_a_second_writer_is_refused_until_the_first_is_closed(store: ClickHouseStore, open_store: Open) -> None:
    """Two stores do not write at once; what was closed gives way at once, and its rows are there."""
    with pytest.raises(HeldError):
        open_store()
    apply(store, 4, 4)
    store.close()

    second = open_store()

    assert 4 == second.position("journal")


def test_a_writer_that_was_overtaken_applies_nothing(url: str, open_store: Open) -> None:
    """After a silence another store writes; the first one is refused, whatever it is asked, until that one is gone."""
    first = open_store()
    apply(first, 1, 3)
    goes_silent(first, url)
    second = open_store()
    apply(second, 4, 5)

    for ask in (
        lambda: apply(first, 4, 6),
        lambda: first.position("journal"),
        first.maintain,
        first.checkpoint,
        lambda: first.erase_identity("production", "4/0"),
        lambda: first.drop_before(START),
    ):
        with pytest.raises(HeldError):
            ask()
    assert 10 == seen(first)
    second.close()
    assert 5 == first.position("journal")
    apply(first, 6, 6)
    assert [(12, 12), (6, 6), (0, 0), (0, 0)] == counts(url)


def test_a_writer_that_loses_its_place_within_a_range_does_not_end_it(
    url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another store took over while this one was recording, the last step is left to whoever writes."""
    first = open_store()
    insert, others = inserting.insert, []

    def slowly(*arguments: Any) -> None:
        insert(*arguments)
        if not others:
            goes_silent(first, url)
            others.append(open_store())

    with monkeypatch.context() as patched:
        patched.setattr(inserting, "insert", slowly)
        with pytest.raises(HeldError):
            apply(first, 1, 3)
    (second,) = others

    assert (0, 3) == (second.position("journal"), second.begun("journal"))
    apply(second, 1, 3)
    assert [(6, 6), (3, 3), (0, 0), (0, 0)] == counts(url)


def test_a_slow_writer_does_not_end_what_another_went_on_with(
    url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another store wrote while this one was recording, and is gone again, nothing is taken for what it was."""
    first = open_store()
    insert, others = inserting.insert, []

    def slowly(*arguments: Any) -> None:
        insert(*arguments)
        if not others:
            goes_silent(first, url)
            others.append(open_store())
            apply(others[0], 1, 3)
            apply(others[0], 4, 5)
            others[0].close()

    with monkeypatch.context() as patched:
        patched.setattr(inserting, "insert", slowly)
        with pytest.raises(StoreError, match="took so long"):
            apply(first, 1, 3)

    assert (5, None) == (first.position("journal"), first.begun("journal"))
    assert [(10, 10), (5, 5), (0, 0), (0, 0)] == counts(url)


def test_a_slow_writer_that_is_alone_goes_on(url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording that takes longer than a silence may ends all the same where nobody has come in between."""
    store = open_store()
    insert = inserting.insert

    def slowly(*arguments: Any) -> None:
        insert(*arguments)
        goes_silent(store, url)

    with monkeypatch.context() as patched:
        patched.setattr(inserting, "insert", slowly)
        apply(store, 1, 3)

    assert (3, None) == (store.position("journal"), store.begun("journal"))
    assert [(6, 6), (3, 3), (0, 0), (0, 0)] == counts(url)


def test_a_reader_writes_nothing(store: ClickHouseStore, open_store: Open) -> None:
    """A store that was opened for questions answers beside the one that writes, and refuses everything else."""
    reader = open_store(read_only=True)

    assert Stream(identity="journal", position=3) == reader.stream()
    assert 6 == seen(reader)
    apply(store, 4, 4)
    assert 8 == seen(reader)
    for ask in (
        lambda: reader.position("journal"),
        lambda: reader.begun("journal"),
        lambda: reader.trimmable("journal"),
        lambda: reader.check_reach("journal", 1),
        lambda: apply(reader, 5, 5),
        reader.checkpoint,
        reader.maintain,
        lambda: reader.erase_identity("production", "1/0"),
        lambda: reader.drop_before(START),
    ):
        with pytest.raises(StoreError, match="for questions alone"):
            ask()


def test_a_reader_may_come_first(open_store: Open) -> None:
    """Before a writer has made the store, a reader says that it is not there, and answers once it is."""
    reader = open_store(read_only=True)
    with pytest.raises(StoreError, match="was not made yet"):
        reader.stream()

    store = open_store()

    assert None is reader.stream()
    apply(store, 1, 1)
    assert Stream(identity="journal", position=1) == reader.stream()


def test_another_process_is_refused_by_the_directory() -> None:
    """A directory that this process has open is nobody else's for now; the message says so."""
    code = (
        "import sys; from flagledger.store.clickhouse.store import ClickHouseStore\n"
        "try: ClickHouseStore(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error.temporary, error)"
    )

    done = subprocess.run([sys.executable, "-c", code, fresh_url()], capture_output=True, text=True, check=True)

    assert done.stdout.startswith(
        f"UnreadableError True {directory()} cannot be opened: most likely another process holds it."
    )


def test_a_directory_is_made_where_it_is_missing(tmp_path: Path) -> None:
    """A URL may name a relative path that is not there yet, and characters that mean something in URLs."""
    code = (
        "import sys; from flagledger.store.clickhouse.store import ClickHouseStore\n"
        "store = ClickHouseStore('chdb:a b%20#c/chdb'); print(store.stream()); store.close()"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)

    assert "None\n" == done.stdout
    assert (tmp_path / "a b%20#c" / "chdb" / "store").is_dir()
