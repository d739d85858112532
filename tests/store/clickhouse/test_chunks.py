from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from flagledger.store.clickhouse import chunks
from flagledger.store.clickhouse.chunks import Progress
from flagledger.store.clickhouse.store import ClickHouseStore
from support.chdb import fresh_url, sql
from support.records import START

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

BEGINNING = Progress(stream="journal's \\ é", sequence=0, position=0)


@pytest.fixture
def url() -> str:
    """Return where an empty store is."""
    url = fresh_url()
    ClickHouseStore(url).close()
    return url


def test_the_last_step_is_what_counts(url: str, client: Client) -> None:
    """After each step the tables say it, also once ClickHouse has thrown away those before."""
    assert chunks.load(client) is None
    begun = BEGINNING.beginning(1, 5, START)
    committed = begun.committed(5)
    again = committed.beginning(6, 9, START + 1)
    withdrawn = again.withdrawn()
    for step in (begun, committed, again, withdrawn):
        chunks.save(client, step, "writer")
        assert step == chunks.load(client)
        sql(url, "OPTIMIZE TABLE chunks FINAL")
        assert step == chunks.load(client)

    assert [(1,)] == sql(url, "SELECT count() FROM chunks")


def test_a_late_step_of_another_writer_takes_nothing_back(url: str, client: Client) -> None:
    """A writer that was stopped before its last step, and takes it after others went on, changes nothing."""
    begun = BEGINNING.beginning(1, 5, START)
    late = begun.committed(5)
    further = late.beginning(6, 9, START).committed(9)
    for step in (begun, late, further, late):
        chunks.save(client, step, "writer")

    assert further == chunks.load(client)
    # Of the same number, as of two that took the same range over from a third.
    chunks.save(client, Progress(stream=BEGINNING.stream, sequence=further.sequence, position=5), "writer")
    assert further == chunks.load(client)
    # Or after it took back what it had begun.
    stray = Progress(stream=BEGINNING.stream, sequence=further.sequence + 1, position=5)
    chunks.save(client, stray, "writer")
    assert replace(stray, position=9) == chunks.load(client)


def test_no_two_attempts_have_one_token() -> None:
    """The same range, withdrawn and begun anew, has another token, since it may hold other rows; read back it has the same."""
    first = BEGINNING.beginning(1, 5, START)
    second = first.withdrawn().beginning(1, 5, START)
    other = BEGINNING.beginning(1, 6, START)

    assert first.begun is not None
    tokens = {progress.begun.token for progress in (first, second, other) if progress.begun is not None}
    assert 3 == len(tokens)
    assert first.begun == BEGINNING.beginning(1, 5, START).begun


def test_a_range_begins_with_the_first_row_of_its_first_entry() -> None:
    """No row of the entry before it has so high a position, and none of its own a lower one."""
    begun = BEGINNING.beginning(3, 5, START).begun

    assert begun is not None
    assert 3 << 16 == begun.first_row()
