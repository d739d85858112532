"""Exports: rows a second for each format, and what they take of the memory of the processes that make them."""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import batches
import pyarrow as pa
import pyarrow.parquet
from processes import Service, console
from query_bare import Bare, NoAnswerError
from query_client import Client
from query_data import BATCH_ROWS, Data
from query_measure import Plan, peaks
from query_questions import time_text

FORMATS: Final = ("arrow", "parquet", "csv", "ndjson")
# What it is built to reach.
ROWS_PER_SECOND: Final = 500_000

_TRIAL_ROWS: Final = 100_000
_READ_BYTES: Final = 1 << 20
# A Parquet file's own description stands at its end; so long it is not, with so many rows.
_TAIL_PIECES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """
    One export. Memory is what a process has resident, in bytes.

    Attributes:
        format: Of the file.
        rows: Evaluations in it.
        size: Its bytes.
        seconds: How long it took.
        bare_rows_per_second: What DuckDB alone gives of the same rows, as Arrow batches in no format.
        writer: The writer's memory before, and at its most.
        front: The front's.
    """

    format: str
    rows: int
    size: int
    seconds: float
    bare_rows_per_second: float
    writer: tuple[int, int]
    front: tuple[int, int]


def export(format_: str, data: Data, target: Service, client: Client, bare: Bare, plan: Plan) -> Exported:
    """
    Export as many of the newest evaluations as come in about the time of *plan*, after a small export to find out.

    Raises:
        NoAnswerError: The file does not hold what was asked for, or breaks off.
    """
    trial = min(data.rows, _TRIAL_ROWS)
    _, _, seconds = _download(client, format_, data, trial)
    rows = min(data.rows, max(trial, round(trial / seconds * plan.seconds)))
    rows -= rows % BATCH_ROWS
    before = [process.memory_info().rss for process in (target.writer, target.front)]
    with peaks(target.writer, target.front) as most:
        found, size, seconds = _download(client, format_, data, rows)
    console.print(f"export, {format_}: {found:,} rows in {seconds:.1f} s", highlight=False)
    started = time.perf_counter()
    read = bare.rows_behind(data.behind(rows))
    bare_seconds = time.perf_counter() - started
    return Exported(
        format=format_,
        rows=found,
        size=size,
        seconds=seconds,
        bare_rows_per_second=read / bare_seconds,
        writer=(before[0], most[0]),
        front=(before[1], most[1]),
    )


def _download(client: Client, format_: str, data: Data, rows: int) -> tuple[int, int, float]:
    """Return the rows of the file, its bytes, and how long it took. What arrives meanwhile is no part of *data*, nor of it."""
    asked = {"environment": batches.ENVIRONMENT, "format": format_, "after_position": data.behind(rows)}
    started = time.perf_counter()
    with client.download("export", **asked, end_time=time_text(data.end)) as response:
        found, size = READERS[format_](response)
    seconds = time.perf_counter() - started
    if found != rows:
        raise NoAnswerError(f"An export of {rows:,} rows as {format_} holds {found:,}.")
    return found, size, seconds


def _lines(file: Any, *, head: int) -> tuple[int, int]:
    lines = size = 0
    while piece := file.read(_READ_BYTES):
        lines += piece.count(b"\n")
        size += len(piece)
    return lines - head, size


def _parquet(file: Any) -> tuple[int, int]:
    tail: deque[bytes] = deque(maxlen=_TAIL_PIECES)
    size = 0
    while piece := file.read(_READ_BYTES):
        tail.append(piece)
        size += len(piece)
    return pyarrow.parquet.read_metadata(io.BytesIO(b"".join(tail))).num_rows, size


class _Counted(io.RawIOBase):
    """A file that counts what is read of it."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self.size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece: bytes = self._file.read(size)
        self.size += len(piece)
        return piece


def _arrow(file: Any) -> tuple[int, int]:
    counted = _Counted(file)
    with pa.ipc.open_stream(pa.PythonFile(counted, mode="r")) as batches_:
        rows = sum(batch.num_rows for batch in batches_)
    return rows, counted.size


READERS: Final[dict[str, Callable[[Any], tuple[int, int]]]] = {
    "arrow": _arrow,
    "parquet": _parquet,
    "csv": lambda file: _lines(file, head=1),
    "ndjson": lambda file: _lines(file, head=0),
}
"""Read a file of each format to its end, and return its rows and its bytes. A row of the bench's data is one line."""
