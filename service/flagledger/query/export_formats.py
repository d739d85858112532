"""
Recorded evaluations as files: NDJSON, CSV, Parquet and Arrow's IPC stream.

Each is written batch by batch with kernels over whole columns, and no row is ever a Python object. What all have in common: the
columns of the contract in its order, times to the microsecond and in UTC, origins by name.

* Parquet and Arrow keep the types of `store.questions.EXPORT`, times with the zone UTC.
* CSV has a header; every text is quoted, so that what is absent (nothing) differs from what is empty (`""`).
* NDJSON embeds JSON as JSON, and leaves out what is absent, and empty texts and lists too, as the JSON of the API does.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flagledger.store.json_texts import list_texts, needs_no_escapes, string_texts
from flagledger.store.questions import EXPORT
from flagledger.v1.query_service_pb2 import Origin

ROW_GROUP_ROWS: Final = 100_000
ROW_GROUP_BYTES: Final = 32 << 20

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """
    A kind of file.

    Attributes:
        content_type: Its MIME type.
        encode: Turns batches of the schema `EXPORT` into the contents of the file, which last until the next is asked for.
            Closing it closes the batches.
    """

    content_type: str
    encode: Callable[[Batches], Generator[memoryview, None, None]]


# Typed and made once: a kernel that is handed a Python value guesses its type.
_ABSENT: Final = pa.scalar(None, pa.string())
_NOTHING: Final = pa.scalar("", pa.string())
_START: Final = pa.scalar('{"position":', pa.string())
_LINE_END: Final = pa.scalar("}\n", pa.string())
_UTC: Final = pa.scalar("Z", pa.string())
_ZERO, _ONE = (pa.scalar(number, pa.int32()) for number in (0, 1))
_SECOND: Final = pa.scalar(1_000_000, pa.int64())
_FIRST: Final = pa.array([True])
_REPLACE: Final = pc.JoinOptions(null_handling="replace", null_replacement="")
# Between the day and the time of day.
_SEPARATOR: Final = (10, 11)

_TYPES: Final = {pa.timestamp("us"): pa.timestamp("us", "UTC")}
_TYPED: Final = pa.schema(
    [
        pa.field("origin", pa.string(), nullable=False)
        if field.name == "origin"
        else field.with_type(_TYPES.get(field.type, field.type))
        for field in EXPORT
    ]
)
_ORIGIN_NUMBERS: Final = pa.array(Origin.values(), pa.int32())
_ORIGIN_NAMES: Final = pa.array(Origin.keys(), pa.string())

# The same for all rows of a batch that was sent.
_SHARED: Final = ("environment", "batch_id", "origin", "sdk_name", "sdk_version", "sample_rate")
_JSON: Final = frozenset({"value", "identity_traits", "metadata"})


class _Sink(io.RawIOBase):
    """Takes what a writer writes, and gives away what has come in since the last time."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        part = bytes(content)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def taken(self) -> memoryview:
        content = b"".join(self._parts)
        self._parts.clear()
        return memoryview(content)


def _ndjson(batches: Batches) -> Generator[memoryview, None, None]:
    for batch in _in_order(batches):
        lines = _lines(batch)
        yield memoryview(lines.buffers()[2])[: pc.sum(pc.binary_length(lines)).as_py()]


def _lines(batch: pa.RecordBatch) -> pa.Array:
    """Return each row as the text of one JSON object and the end of its line."""
    begins = _runs(batch)
    runs, run = batch.select(_SHARED).filter(begins), pc.subtract(pc.cumulative_sum(begins.cast(pa.int32())), _ONE)
    pieces = [_START, batch.column("position").cast(pa.string())]
    for name in batch.schema.names[1:]:
        if name in _SHARED:
            # Made once for each run of rows.
            pieces.append(pc.binary_join_element_wise(*_member(runs, name), _NOTHING, options=_REPLACE).take(run))
        else:
            pieces += _member(batch, name)
    return pc.binary_join_element_wise(*pieces, _LINE_END, _NOTHING, options=_REPLACE)


def _runs(batch: pa.RecordBatch) -> pa.Array:
    """Return of each row whether it differs from the row before in what most rows share."""
    columns = [batch.column(name) for name in _SHARED]
    differ = [pc.not_equal(column.slice(1), column.slice(0, len(column) - 1)) for column in columns]
    return pa.concat_arrays([_FIRST, functools.reduce(pc.or_, differ)])


def _member(batch: pa.RecordBatch, name: str) -> list[pa.Array | pa.Scalar]:
    """Return the pieces of a member of an object, a comma before it; of rows that leave it out they are NULL."""
    field, column = batch.schema.field(name), batch.column(name)
    start, texts, end = f',"{name}":', column, ""
    if pa.types.is_boolean(field.type):
        members = (pa.scalar(f"{start}{text}", pa.string()) for text in ("true", "false"))
        return [pc.if_else(column, *members)]
    if name == "origin":
        texts = pc.if_else(pc.equal(column, _ZERO), _ABSENT, string_texts(_origins(column)))
    elif pa.types.is_timestamp(field.type):
        start, texts, end = start + '"', _times(column), '"'
    elif pa.types.is_list(field.type):
        texts = pc.if_else(pc.equal(pc.list_value_length(column), _ZERO), _ABSENT, list_texts(column))
    elif not pa.types.is_string(field.type):
        texts = column.cast(pa.string())
    elif name not in _JSON:
        # What can be absent is sent where it is empty.
        sent = column if field.nullable else pc.if_else(pc.equal(column, _NOTHING), _ABSENT, column)
        if needs_no_escapes(sent):
            start, texts, end = start + '"', sent, '"'
        else:
            texts = string_texts(sent)
    pieces = [pa.scalar(start, pa.string()), texts, pa.scalar(end, pa.string())]
    return [pc.binary_join_element_wise(*pieces, _NOTHING)] if texts.null_count else pieces


def _csv(batches: Batches) -> Generator[memoryview, None, None]:
    from pyarrow import csv  # noqa: PLC0415  # fronts load this module too, and write no files

    options = csv.WriteOptions(include_header=False, batch_size=16_384)
    yield memoryview((",".join(EXPORT.names) + "\n").encode())
    for batch in _with_rows(batches):
        sink = pa.BufferOutputStream()
        csv.write_csv(_texts(batch), sink, options)
        yield memoryview(sink.getvalue())


def _texts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return *batch* with what CSV does not know as texts."""
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if field.name == "origin":
            columns.append(_origins(column))
        elif pa.types.is_timestamp(field.type):
            columns.append(_times(column))
        elif pa.types.is_list(field.type):
            columns.append(list_texts(column))
        else:
            columns.append(column)
    return pa.record_batch(columns, names=batch.schema.names)


def _parquet(batches: Batches) -> Generator[memoryview, None, None]:
    from pyarrow import parquet  # noqa: PLC0415  # eleven MiB; fronts load this module too, and write no files

    sink = _Sink()
    with parquet.ParquetWriter(sink, _TYPED, compression="zstd") as writer:
        for table in _row_groups(batches):
            writer.write_table(table, row_group_size=table.num_rows)
            yield sink.taken()
    yield sink.taken()


def _row_groups(batches: Batches) -> Iterator[pa.Table]:
    """Yield the rows of *batches* in tables of some `ROW_GROUP_ROWS`, or fewer where they are long."""
    waiting: list[pa.RecordBatch] = []
    for batch in _with_rows(batches):
        waiting.append(_typed(batch))
        if (
            sum(each.num_rows for each in waiting) >= ROW_GROUP_ROWS
            or sum(each.nbytes for each in waiting) >= ROW_GROUP_BYTES
        ):
            yield pa.Table.from_batches(waiting)
            waiting.clear()
    if waiting:
        yield pa.Table.from_batches(waiting)


def _arrow(batches: Batches) -> Generator[memoryview, None, None]:
    sink = _Sink()
    with pa.ipc.new_stream(sink, _TYPED) as writer:
        for batch in _with_rows(batches):
            writer.write_batch(_typed(batch))
            yield sink.taken()
    yield sink.taken()


def _typed(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        _origins(column) if field.name == "origin" else column.cast(field.type)
        for field, column in zip(_TYPED, batch.columns, strict=True)
    ]
    return pa.record_batch(columns, schema=_TYPED)


def _with_rows(batches: Batches) -> Batches:
    """Yield *batches* but for empty ones."""
    return (batch for batch in batches if batch.num_rows)


def _in_order(batches: Batches) -> Batches:
    """Yield *batches*, but for empty ones, in the order of receipt: rows of what was sent together stand together then."""
    for batch in _with_rows(batches):
        positions = batch.column("position")
        # Of a single row this is NULL.
        in_order = pc.all(pc.less(positions.slice(0, len(positions) - 1), positions.slice(1))).as_py()
        yield batch.take(pc.array_sort_indices(positions)) if in_order is False else batch


def _origins(numbers: pa.Array) -> pa.Array:
    """Return the names of origins; of one that a newer version wrote, the number."""
    known = pc.index_in(numbers, value_set=_ORIGIN_NUMBERS)
    return pc.coalesce(_ORIGIN_NAMES.take(known), numbers.cast(pa.string()))


def _times(times: pa.Array) -> pa.Array:
    """Return *times* as RFC 3339 writes them."""
    seconds = pc.floor_temporal(times, unit="second")
    distinct = seconds.dictionary_encode()
    texts = pc.binary_replace_slice(distinct.dictionary.cast(pa.timestamp("s")).cast(pa.string()), *_SEPARATOR, "T")
    # With a leading 1 the rest has all its zeros.
    rest = pc.add(pc.subtract(times, seconds).cast(pa.int64()), _SECOND).cast(pa.string())
    fractions = pc.binary_replace_slice(rest, 0, 1, ".")
    return pc.binary_join_element_wise(texts.take(distinct.indices), fractions, _UTC, _NOTHING)


FORMATS: Final = {
    "ndjson": Format(content_type="application/x-ndjson", encode=_ndjson),
    "csv": Format(content_type="text/csv; charset=utf-8", encode=_csv),
    "parquet": Format(content_type="application/vnd.apache.parquet", encode=_parquet),
    "arrow": Format(content_type="application/vnd.apache.arrow.stream", encode=_arrow),
}
"""Formats by the names of the contract; the first one is the default."""
