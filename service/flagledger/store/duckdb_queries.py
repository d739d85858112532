"""
The questions, as DuckDB is asked them. Every result is fetched whole: an open one would block its connection.

Long texts are kept apart (module `duckdb_texts`) and a public key may send them, so that no question holds many: only those
are read that the answer has room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import duckdb

from flagledger.store import duckdb_texts
from flagledger.store.base import (
    LAST_VALUES_BYTES,
    PAGE_BYTES,
    Cursor,
    Features,
    FeatureTotals,
    Filter,
    Page,
    RecordedRow,
)

_PERIOD: Final = """
    AND ($start IS NULL OR evaluation_time >= make_timestamp($start::BIGINT))
    AND ($end IS NULL OR evaluation_time < make_timestamp($end::BIGINT))
"""

_FEATURES: Final = f"""
    SELECT
        feature_name,
        sum("count")::BIGINT,
        coalesce(sum("count") FILTER (WHERE enabled), 0)::BIGINT,
        count(DISTINCT identity_identifier),
        epoch_us(min(evaluation_time)),
        epoch_us(max(evaluation_time)),
        arg_max_null(value, (evaluation_time, position)),
        arg_max(position, (evaluation_time, position))
    FROM evaluations
    WHERE environment = $environment {_PERIOD}
    GROUP BY feature_name
    ORDER BY feature_name
"""  # noqa: S608  # made of constants alone

_DATA_SINCE: Final = "SELECT epoch_us(min(receive_time)) FROM evaluations WHERE environment = $environment"

# In the order of RecordedRow.
_RECORDED: Final = """
    position, feature_name, enabled, value, epoch_us(evaluation_time), identity_identifier, identity_traits,
    segment_names, variant, reason, metadata, "count", environment, batch_id, epoch_us(receive_time), origin, sdk_name,
    sdk_version
"""

_VALUE: Final = ("value",)

# What the names and numbers of a row take beside its texts.
_ROW_BYTES: Final = 300


def list_features(
    connection: duckdb.DuckDBPyConnection, environment: str, start: int | None, end: int | None
) -> Features:
    """Return the totals of every feature of *environment* evaluated in [start, end)."""
    parameters = {"environment": environment, "start": start, "end": end}
    with _one_moment(connection):
        rows = connection.execute(_FEATURES, parameters).fetchall()
        ((since,),) = connection.execute(_DATA_SINCE, {"environment": environment}).fetchall()
        values = _values(connection, [row[-2:] for row in rows])
    totals = tuple(
        FeatureTotals(
            feature_name=name,
            evaluation_count=evaluations,
            enabled_count=enabled,
            identity_count=identities,
            first_evaluation_time=first,
            last_evaluation_time=last,
            last_value=values.get(position),
        )
        for name, evaluations, enabled, identities, first, last, _, position in rows
    )
    return Features(totals=totals, data_since=since)


def list_evaluations(
    connection: duckdb.DuckDBPyConnection,
    filter: Filter,  # noqa: A002  # the field's own word
    page_size: int,
    cursor: Cursor | None,
) -> Page:
    """Return at most *page_size* evaluations behind *cursor*, the newest first, as far as `PAGE_BYTES` go."""
    conditions = ["environment = $environment"]
    parameters: dict[str, object] = {"environment": filter.environment, "limit": page_size + 1}

    def must(name: str, value: object, condition: str) -> None:
        if value is not None:
            conditions.append(condition)
            parameters[name] = value

    must("feature_name", filter.feature_name, "feature_name = $feature_name")
    must("identity_identifier", filter.identity_identifier, "identity_identifier = $identity_identifier")
    must("segment_name", filter.segment_name, "list_contains(segment_names, $segment_name)")
    must("start", filter.start, "evaluation_time >= make_timestamp($start)")
    must("end", filter.end, "evaluation_time < make_timestamp($end)")
    if cursor is not None:
        must("time", cursor.evaluation_time, "evaluation_time <= make_timestamp($time)")
        must("position", cursor.position, "(evaluation_time < make_timestamp($time) OR position < $position)")
    with _one_moment(connection):
        found = connection.execute(
            f"SELECT {_RECORDED} FROM evaluations WHERE {' AND '.join(conditions)} "  # noqa: S608  # conditions are ours, values bound
            "ORDER BY evaluation_time DESC, position DESC LIMIT $limit",
            parameters,
        ).fetchall()
        page = _fitting(connection, [RecordedRow(*row) for row in found[:page_size]])
    if len(page) == len(found):
        return Page(rows=page, next=None)
    return Page(rows=page, next=Cursor(evaluation_time=page[-1].evaluation_time, position=page[-1].position))


@contextmanager
def _one_moment(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let every statement of the block see the same rows."""
    connection.execute("BEGIN TRANSACTION READ ONLY").fetchall()
    try:
        yield
    finally:
        connection.execute("ROLLBACK").fetchall()


def _fitting(connection: duckdb.DuckDBPyConnection, rows: list[RecordedRow]) -> tuple[RecordedRow, ...]:
    """Return *rows* with their long texts, as many from the first on as `PAGE_BYTES` have room for, and one at least."""
    apart = [row.position for row in rows if duckdb_texts.APART in (row.value, row.traits, row.metadata)]
    long = duckdb_texts.sizes(connection, apart)
    total = 0
    for index, row in enumerate(rows):
        total += _short_bytes(row) + long.get(row.position, 0)
        if index and total > PAGE_BYTES:
            del rows[index:]
            break
    texts = duckdb_texts.read(connection, [row.position for row in rows if row.position in long])
    return tuple(_whole(row, texts) if row.position in long else row for row in rows)


def _short_bytes(row: RecordedRow) -> int:
    texts = (row.value, row.traits, row.metadata, row.identity_identifier, row.feature_name, row.variant, row.reason)
    return _ROW_BYTES + sum(len(text) for text in texts if text) + sum(len(name) for name in row.segment_names)


def _whole(row: RecordedRow, texts: Mapping[tuple[int, str], str]) -> RecordedRow:
    return replace(
        row,
        value=texts.get((row.position, "value"), row.value),
        traits=texts.get((row.position, "identity_traits"), row.traits),
        metadata=texts.get((row.position, "metadata"), row.metadata),
    )


def _values(connection: duckdb.DuckDBPyConnection, last: Sequence[tuple[str | None, int]]) -> dict[int, str | None]:
    """Return the values of *last*, pairs of value and position, as many from the first on as there is room for."""
    apart = [position for value, position in last if value == duckdb_texts.APART]
    long = duckdb_texts.sizes(connection, apart, _VALUE)
    kept: dict[int, str | None] = {}
    total = 0
    for value, position in last:
        total += len(value or "") + long.get(position, 0)
        if total > LAST_VALUES_BYTES:
            break
        kept[position] = value
    texts = duckdb_texts.read(connection, [position for position in apart if position in kept], _VALUE)
    return kept | {position: text for (position, _), text in texts.items()}
