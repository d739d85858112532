"""
A group: appends that share one transaction, and what is said and done within it.

Statements take many rows each: every statement gives up the interpreter lock and has to win it back from a busy event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from flagledger.errors import FlagledgerError, Reason
from flagledger.journal.base import Appended, Outcome
from flagledger.journal.generations import Window

ENTRY_OVERHEAD: Final = 128
"""Bytes that an entry counts for beside its payload: its row, and what its batch id takes."""

# Few different statements, so that all stay prepared, and few rows to fill them up with.
_WIDTHS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_ID_COLUMNS: Final = ("key", "fingerprint", "generation", "accepted", "filtered", "rejected")
_ENTRY_COLUMNS: Final = ("position", "appended_at", "payload")

Answer = Appended | FlagledgerError


class Pending(NamedTuple):
    """An append on its way: who waits for it, the key and fingerprint of its batch id (key None for no id), and what to keep."""

    future: asyncio.Future[Appended]
    key: int | None
    fingerprint: bytes
    outcome: Outcome
    payload: bytes


def commit(
    connection: sqlite3.Connection, group: Sequence[Pending], *, now: int, max_bytes: int, window: Window
) -> list[Answer]:
    """
    Record *group* in the transaction that *connection* has begun, commit it, and return the answers, which are true from then on.

    Args:
        connection: Inside a write transaction; out of it afterwards, unless this raises.
        group: What to record, in order.
        now: Epoch milliseconds.
        max_bytes: Outstanding bytes from which appends are refused.
        window: How long batch ids are remembered.
    """
    position, size, count, *rest = connection.execute(
        "SELECT last_position, outstanding_bytes, outstanding_entries, generation, generation_started_at,"
        " generation_batches, oldest_generation FROM state"
    ).fetchall()[0]
    generation, batches, oldest = window.turn(connection, now, *rest)
    known = _recorded(connection, [pending.key for pending in group if pending.key is not None])
    entries: list[int | bytes] = []
    ids: list[int | bytes] = []
    answers: list[Answer] = []
    for pending in group:
        earlier = known.get(pending.key) if pending.key is not None else None
        # The first 8 bytes belong to the id: where they differ, two ids share a key by chance, and the later one has it.
        if earlier is not None and earlier[1] >= oldest and earlier[0][:8] == pending.fingerprint[:8]:
            answers.append(_again(earlier, pending))
            continue
        if size >= max_bytes:
            answers.append(
                FlagledgerError(
                    Reason.JOURNAL_FULL,
                    "As many batches wait for the store as the journal may hold. Send the batch again later.",
                )
            )
            continue
        position += 1
        count += 1
        size += len(pending.payload) + ENTRY_OVERHEAD
        entries += (position, now, pending.payload)
        if pending.key is not None:
            outcome = pending.outcome
            record = (pending.fingerprint, generation, outcome.accepted, outcome.filtered, outcome.rejected)
            known[pending.key] = record
            ids += (pending.key, *record)
            batches += 1
        answers.append(Appended(duplicate=False, outcome=pending.outcome))
    if not entries:
        connection.execute("ROLLBACK")
        return answers
    _insert(connection, _INSERT_IDS, ids, len(_ID_COLUMNS))
    _insert(connection, _INSERT_ENTRIES, entries, len(_ENTRY_COLUMNS))
    connection.execute(
        "UPDATE state SET last_position = ?, outstanding_bytes = ?, outstanding_entries = ?, generation_batches = ?",
        (position, size, count, batches),
    )
    connection.execute("COMMIT")
    return answers


def _again(earlier: tuple[bytes, int, int, int, int], pending: Pending) -> Answer:
    if earlier[0] != pending.fingerprint:
        return FlagledgerError(
            Reason.BATCH_ID_REUSED,
            "The batch_id was used before for a batch of other content. Give every batch an id of its own.",
        )
    outcome = Outcome(accepted=earlier[2], filtered=earlier[3], rejected=earlier[4])
    return Appended(duplicate=True, outcome=outcome)


def _recorded(connection: sqlite3.Connection, keys: list[int]) -> dict[int, tuple[bytes, int, int, int, int]]:
    """Return what is recorded under *keys*: fingerprint, generation, and the outcome's three counts."""
    known = {}
    for start in range(0, len(keys), _WIDTHS[-1]):
        some = keys[start : start + _WIDTHS[-1]]
        width = _width(len(some))
        # The last key fills up.
        some += some[-1:] * (width - len(some))
        for key, *record in connection.execute(_SELECT_IDS[width], some).fetchall():
            known[key] = tuple(record)
    return known


def _insert(
    connection: sqlite3.Connection, statements: dict[int, str], values: list[int | bytes], columns: int
) -> None:
    """Insert *values*, row after row of *columns* each, with the one of *statements* that has the width."""
    for start in range(0, len(values), _WIDTHS[-1] * columns):
        some: list[int | bytes | None] = [*values[start : start + _WIDTHS[-1] * columns]]
        width = _width(len(some) // columns)
        # Rows of nothing fill up; the statement leaves them out.
        some += [None] * (width * columns - len(some))
        connection.execute(statements[width], some)


def _width(rows: int) -> int:
    return next(width for width in _WIDTHS if width >= rows)


def _inserts(into: str, columns: Sequence[str]) -> dict[int, str]:
    names, row = ", ".join(columns), f"({', '.join('?' * len(columns))})"
    return {
        rows: f"WITH new ({names}) AS (VALUES {', '.join([row] * rows)})"  # noqa: S608 - constants only
        f" {into} ({names}) SELECT {names} FROM new WHERE {columns[0]} IS NOT NULL"
        for rows in _WIDTHS
    }


# The later of two ids that share a key has its row. A position is given out once: a second time is an error.
_INSERT_IDS: Final = _inserts("INSERT OR REPLACE INTO batch_ids", _ID_COLUMNS)
_INSERT_ENTRIES: Final = _inserts("INSERT INTO entries", _ENTRY_COLUMNS)
_SELECT_IDS: Final = {
    rows: f"SELECT {', '.join(_ID_COLUMNS)} FROM batch_ids WHERE key IN ({', '.join('?' * rows)})"  # noqa: S608 - constants only
    for rows in _WIDTHS
}
