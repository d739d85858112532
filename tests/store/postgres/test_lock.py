from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from flagledger.store.errors import StoreError
from flagledger.store.postgres.store import PostgresStore
from store.postgres.applying import EVALUATIONS, apply, expected_identities, identities

Open = Callable[..., PostgresStore]

# Applies simple entries one by one, and says how far it has come.
_WRITE: Final = """
import sys
from flagledger.store.postgres.store import PostgresStore
from store.postgres.applying import apply
store = PostgresStore(sys.argv[1])
position = store.position("journal")
print(position, flush=True)
while True:
    position += 1
    apply(store, position, position)
    print(position, flush=True)
"""
_TAKEOVER_SECONDS: Final = 20.0


@contextmanager
def writer(url: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that writes into the store at *url*, and kill it in the end."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", _WRITE, url], stdout=subprocess.PIPE, text=True, env=environment)
    with process:
        try:
            yield process
        finally:
            process.kill()


def lines_of(process: subprocess.Popen[str], count: int) -> list[int]:
    """Return the next *count* positions that *process* has come to."""
    assert process.stdout is not None
    # Between them it may log.
    return list(itertools.islice((int(line) for line in process.stdout if line.strip().isdecimal()), count))


def taken_over(open_store: Open) -> PostgresStore:
    """Open the store as soon as nobody else has it."""
    deadline = time.monotonic() + _TAKEOVER_SECONDS
    while time.monotonic() < deadline:
        try:
            return open_store()
        except StoreError as error:
            if "Another writer" not in str(error):
                raise
            time.sleep(0.05)
    return open_store()


def test_a_second_writer_is_refused_and_told_who_has_it(url: str, open_store: Open) -> None:
    """A writer in another process is named: program, host, process, from where, since when; once killed, it is taken over."""
    with writer(url) as process:
        lines_of(process, 2)
        with pytest.raises(StoreError) as refusal:
            open_store()

    assert refusal.value.temporary
    assert re.search(
        rf"Another writer has the schema \S+ in postgres on 127.0.0.1:\d+: flagledger writer on \S+, process {process.pid}, "
        r"from 127.0.0.1, connected since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, server process \d+\.",
        str(refusal.value),
    )
    assert 1 <= taken_over(open_store).position("journal")


def test_schemas_have_writers_of_their_own(url: str, open_store: Open) -> None:
    """Two schemas of one database have two writers."""
    apply(open_store(), 1, 1)
    apply(open_store(url=url + "_2"), 1, 1)


def test_closing_hands_over(open_store: Open) -> None:
    """A store that was closed leaves the schema to the next writer."""
    open_store().close()

    assert 0 == taken_over(open_store).position("journal")


@pytest.mark.slow
def test_a_writer_that_is_killed_is_taken_over_from(
    url: str, open_store: Open, administrator: psycopg.Connection[Any]
) -> None:
    """Killed five times while it applies, a writer leaves the schema to the next, which goes on from what was committed."""
    told = 0
    for _ in range(5):
        with writer(url) as process:
            told = lines_of(process, 4)[-1]
            process.send_signal(signal.SIGKILL)
        store = taken_over(open_store)
        position = store.position("journal")
        assert told <= position
        assert expected_identities(position) == identities(administrator)
        apply(store, position + 1, position + 1)
        store.close()
        told = position + 1

    assert told * EVALUATIONS == len(identities(administrator))


def test_a_writer_that_lost_its_connection_does_not_write_beside_another(
    url: str, open_store: Open, administrator: psycopg.Connection[Any]
) -> None:
    """With the connection the right to write is lost: whoever took over meanwhile has it, until it is gone in its turn."""
    first = open_store()
    apply(first, 1, 1)
    administrator.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name LIKE 'flagledger writer %'"
    )
    second = open_store()
    apply(second, 2, 2)
    for _ in range(2):
        with pytest.raises(StoreError):
            apply(first, 2, 2)
    second.close()
    apply(first, 3, 3)

    assert expected_identities(3) == identities(administrator)
