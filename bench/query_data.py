"""
The data directory that is asked: evaluations of thirty days in a store, and the journal that it belongs to.

The store is filled as the writer fills it, by `DuckDBStore.apply` with batches of the schemas of `columns`; only the way through
fronts and journal is left out, which would take hours. The journal is told that it has handed out as many positions, so that
`flagledger serve` opens the directory as one of its own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import batches
import duckdb
import pyarrow as pa
from flagledger.journal.schema import prepare
from flagledger.store.columns import DISCARDS, INDEX_BITS, ROWS
from flagledger.store.duckdb.file import FORMAT
from flagledger.store.duckdb.store import DuckDBStore
from processes import BenchError, console

DAY: Final = 86_400_000_000
DAYS: Final = 30
BATCH_ROWS: Final = 100
"""Rows of one journal entry, as of a batch that was sent."""
IDENTITIES: Final = 500_000

# What the writer takes at a time when it has much to do.
_HELPING_ROWS: Final = 170_000
_MEMORY_LIMIT: Final = "1GB"
_MANIFEST: Final = "bench-query.json"
# What a row may take on the disk, in a store that is kept and in the copy that is served.
_ROW_BYTES: Final = 100
_SPARE_BYTES: Final = 2 << 30
# What the load sends is up to a minute old: none of it falls into the time of the data.
_GAP: Final = 61_000_000
# Kept longer, the oldest days would be dropped as soon as the directory is served.
_MAX_AGE: Final = 30 * DAY

# Row i has its own place in time and belongs to batch i // 100. What differs from row to row comes out of hashes: the same rows
# every time, and no order in them but that of receipt.
_ROWS: Final = f"""
    SELECT (($entry + i // {BATCH_ROWS}) << {INDEX_BITS}) + i % {BATCH_ROWS} AS position,
        '{batches.ENVIRONMENT}' AS environment,
        'checkout_' || lpad((hash(i * 31 + $seed) % {len(batches.FEATURES)})::VARCHAR, 2, '0') AS feature_name,
        hash(i * 7 + $seed) % 10 < 7 AS enabled,
        (['"control"', '"variant_a"', '"variant_b"', 'true'])[1 + (hash(i * 13 + $seed) % 4)::INTEGER] AS value,
        make_timestamp(received - (hash(i * 17 + $seed) % 5000000)::BIGINT) AS evaluation_time,
        'user_' || (hash(i * 3 + $seed) % {IDENTITIES})::VARCHAR AS identity_identifier,
        '{{"plan":"' || (['free', 'pro', 'team'])[1 + (hash(i * 5 + $seed) % 3)::INTEGER]
            || '","country":"' || (['CH', 'DE', 'FR', 'US', 'JP'])[1 + (hash(i * 11 + $seed) % 5)::INTEGER]
            || '","age":' || (hash(i * 23 + $seed) % 60)::VARCHAR || '}}' AS identity_traits,
        ['segment_' || (hash(i * 41 + $seed) % 10)::VARCHAR, 'segment_' || (10 + hash(i * 43 + $seed) % 10)::VARCHAR]
            AS segment_names,
        (['control', 'a', 'b', ''])[1 + (hash(i * 13 + $seed) % 4)::INTEGER] AS variant,
        'TARGETING_MATCH' AS reason, NULL::VARCHAR AS metadata, 1::UINTEGER AS "count",
        'batch-' || ($entry + i // {BATCH_ROWS})::VARCHAR AS batch_id, make_timestamp(received) AS receive_time, 1 AS origin,
        (['flagsmith-python', 'flagsmith-js', 'flagsmith-go'])[1 + (hash($entry + i // {BATCH_ROWS}) % 3)::INTEGER] AS sdk_name,
        (['1.0.0', '1.1.0', '2.0.0'])[1 + (hash($entry + i // {BATCH_ROWS} + 7) % 3)::INTEGER] AS sdk_version,
        1.0::DOUBLE AS sample_rate
    FROM (SELECT i, $start + (i * $step)::BIGINT AS received FROM range(0, $rows) numbers(i))
    ORDER BY environment, feature_name, evaluation_time, position
"""

# Of one batch in ten something was not recorded: names of old features, names in another case or mistyped, and bad times.
_DISCARDS: Final = f"""
    SELECT ($entry + i) << {INDEX_BITS} AS position, '{batches.ENVIRONMENT}' AS environment,
        CASE kind WHEN 0 THEN 'invalid' ELSE 'unknown_feature' END AS reason,
        CASE kind WHEN 0 THEN 'evaluations[].evaluation_timestamp' WHEN 1 THEN 'Checkout_' || lpad(which, 2, '0')
            WHEN 2 THEN 'chekout_' || lpad(which, 2, '0') ELSE 'legacy_' || which END AS name,
        (1 + hash(i * 53 + $seed) % 5)::UINTEGER AS entry_count, 'batch-' || ($entry + i)::VARCHAR AS batch_id,
        make_timestamp($start + (i * {BATCH_ROWS} * $step)::BIGINT) AS receive_time, 1 AS origin,
        'flagsmith-js' AS sdk_name, '1.0.0' AS sdk_version
    FROM (
        SELECT i, hash(i * 47 + $seed) % 4 AS kind, (hash(i * 59 + $seed) % {len(batches.FEATURES)})::VARCHAR AS which
        FROM range(0, $rows // {BATCH_ROWS}) numbers(i) WHERE hash(i * 61 + $seed) % 10 = 0
    )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """
    A data directory that is ready to be served.

    Attributes:
        directory: Where it is.
        rows: Evaluations in its store.
        end: When the last of them was received, in microseconds since the epoch; the first, thirty days before.
        last_entry: Position of the last entry of its journal.
    """

    directory: Path
    rows: int
    end: int
    last_entry: int

    @property
    def store(self) -> Path:
        """The store's file."""
        return self.directory / "store.duckdb"

    @property
    def start(self) -> int:
        """When the first evaluation was received, or a little later."""
        return self.end - DAYS * DAY

    def behind(self, rows: int) -> int:
        """Return the position behind which the last *rows* evaluations lie, a multiple of `BATCH_ROWS`."""
        return ((self.last_entry - rows // BATCH_ROWS + 1) << INDEX_BITS) - 1

    def copy(self, directory: Path) -> Path:
        """
        Copy it to *directory*, which is missing, and return that.

        Raises:
            BenchError: There is no room for it.
        """
        _need_room(directory.parent, self.store.stat().st_size + _SPARE_BYTES)
        return Path(shutil.copytree(self.directory, directory, ignore=shutil.ignore_patterns(_MANIFEST)))


def make(directory: Path, rows: int, *, end: int | None = None) -> Data:
    """
    Fill *directory*, which is missing, with *rows* evaluations.

    Args:
        directory: Where to.
        rows: Evaluations; those beyond a multiple of `BATCH_ROWS` are left out.
        end: When the last one is received; None for a minute ago.

    Raises:
        BenchError: There is no room for them.
    """
    rows -= rows % BATCH_ROWS
    end = _now() - _GAP if end is None else end
    _need_room(directory.parent, rows * _ROW_BYTES + _SPARE_BYTES)
    directory.mkdir()
    journal = directory / "journal.db"
    identity = prepare(journal)
    last_entry = rows // BATCH_ROWS
    _fill(directory / "store.duckdb", identity, rows, end, _progress(rows))
    with contextlib.closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute("UPDATE state SET last_position = ?", [last_entry])
    return Data(directory=directory, rows=rows, end=end, last_entry=last_entry)


def kept(directory: Path, rows: int) -> Data:
    """
    Return what is kept in *directory*; where it is missing, made first, which may be repeated after it broke off.

    Raises:
        BenchError: There is no room, or something else is kept there.
    """
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        draft = directory.with_name(f"{directory.name}.draft")
        if draft.exists():
            shutil.rmtree(draft)
        made = make(draft, rows)
        manifest = {"rows": made.rows, "end": made.end, "last_entry": made.last_entry, "format": FORMAT}
        (draft / _MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
        draft.rename(directory)
    try:
        manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(f"{directory} was not made by this bench. Name a directory that is missing.") from None
    wanted = {"rows": rows - rows % BATCH_ROWS, "format": FORMAT}
    found = {name: manifest[name] for name in wanted}
    if found != wanted or _now() - manifest["end"] > _MAX_AGE:
        raise BenchError(
            f"{directory} holds {found}, not {wanted}, or is older than {_MAX_AGE // DAY} days. Remove it, or name another."
        )
    return Data(directory=directory, rows=manifest["rows"], end=manifest["end"], last_entry=manifest["last_entry"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Helping:
    """What the writer takes at a time: entries *first* to *last*, and what they became."""

    first: int
    last: int
    rows: pa.RecordBatch
    discards: pa.RecordBatch


def helpings(rows: int, end: int) -> Iterator[Helping]:
    """Yield *rows* evaluations of the thirty days before *end* as helpings, in the order of receipt."""
    step = DAYS * DAY / rows
    with contextlib.closing(duckdb.connect()) as maker:
        maker.execute("SET threads = 1")
        for first in range(0, rows, _HELPING_ROWS):
            count = min(_HELPING_ROWS, rows - first)
            entry = first // BATCH_ROWS + 1
            place = {
                "entry": entry,
                "seed": first,
                "start": end - round((rows - first) * step),
                "step": step,
                "rows": count,
            }
            yield Helping(
                first=entry,
                last=entry + count // BATCH_ROWS - 1,
                rows=_batch(maker, _ROWS, place, ROWS),
                discards=_batch(maker, _DISCARDS, place, DISCARDS),
            )


def _fill(path: Path, identity: str, rows: int, end: int, told: Callable[[int], None]) -> None:
    with contextlib.closing(DuckDBStore(path, memory_limit=_MEMORY_LIMIT)) as store:
        done = 0
        for helping in helpings(rows, end):
            store.apply(identity, helping.first, helping.last, helping.rows, helping.discards)
            store.maintain()
            done += helping.rows.num_rows
            told(done)


def _batch(
    maker: duckdb.DuckDBPyConnection, statement: str, place: Mapping[str, object], schema: pa.Schema
) -> pa.RecordBatch:
    table = maker.execute(statement, place).to_arrow_table().cast(schema)
    return pa.RecordBatch.from_arrays(
        [column.combine_chunks() if table.num_rows else pa.array([], column.type) for column in table.columns],
        schema=schema,
    )


def _progress(rows: int) -> Callable[[int], None]:
    """Return what tells people, about every ten seconds, how many of *rows* there are."""
    started = said = time.monotonic()

    def tell(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= 10 or done == rows:
            said = now
            console.print(f"{done:,} of {rows:,} rows are made, after {now - started:.0f} s", highlight=False)

    return tell


def _now() -> int:
    return time.time_ns() // 1000


def _need_room(directory: Path, wanted: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < wanted:
        raise BenchError(
            f"{directory} has {free / 1e9:.1f} GB free, and {wanted / 1e9:.1f} GB are needed. Make room, name another disk "
            "by --directory, or ask for fewer rows."
        )
