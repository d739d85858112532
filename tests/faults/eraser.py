"""
Records identities and erases some of them until it is killed, and tells what was acknowledged.

Usage: eraser.py DIRECTORY [MODULE:NAME]
Prints `recorded <identity> bob` after an acknowledged batch, `ordering <identity>` before the first order of an identity, and
`erased <identity>` after the answer to an order that came after its last batch. Dies after the third call of the function
named, where one is.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from flagledger.journal.base import Outcome
from flagledger.journal.sqlite import SqliteJournal
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.writer import Writer
from support.records import add_evaluation, record_of

OUTCOME = Outcome(accepted=2, filtered=0, rejected=0)


def die_after(place: str) -> None:
    """Let the third call of what *place* names be the last thing that this process does."""
    module, _, name = place.partition(":")
    holder: Any = importlib.import_module(module)
    *holders, name = name.split(".")
    for part in holders:
        holder = getattr(holder, part)
    original, calls = getattr(holder, name), 0

    def last(*arguments: Any) -> Any:
        nonlocal calls
        result = original(*arguments)
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, name, last)


def say(*words: str) -> None:
    """Write a line as one piece, so that a kill cuts none in half."""
    os.write(1, (" ".join(words) + "\n").encode())


async def record(journal: SqliteJournal, identity: str) -> None:
    """Append a batch of *identity* and bob, and say so."""
    batch = record_of()
    add_evaluation(batch, identity_identifier=identity)
    add_evaluation(batch, identity_identifier="bob")
    await journal.append("production", "", b"d" * 16, OUTCOME, batch.SerializeToString())
    say("recorded", identity, "bob")


async def main(directory: Path, place: str) -> None:
    """Record and erase until killed."""
    journal = SqliteJournal.open(directory / "journal.db", max_bytes=1 << 30, reserve_bytes=0)
    writer = Writer(
        journal, lambda: DuckDBStore(directory / "store.duckdb", checkpoint_seconds=0.0), linger_seconds=0.02
    )
    writer.start()
    while not writer.opened:
        await asyncio.sleep(0.01)
    if place:
        die_after(place)
    number = 0

    def order() -> None:
        while True:
            identity = f"identity-{number:06d}-"
            say("ordering", identity)
            writer.erase("production", identity)
            if number > int(identity.split("-")[1]):
                writer.erase("production", identity)
                say("erased", identity)

    threading.Thread(target=order, daemon=True).start()
    while True:
        for _ in range(10):
            await record(journal, f"identity-{number:06d}-")
            await asyncio.sleep(0.002)
        number += 1


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
