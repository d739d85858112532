"""The questions, as DuckDB is asked them. Every result is fetched whole: an open one would block its connection."""

from __future__ import annotations

from typing import Final

import duckdb

from flagledger.store.base import Cursor, Features, FeatureTotals, Filter, Page, RecordedRow

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
        arg_max_null(value, (evaluation_time, position))
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


def list_features(
    connection: duckdb.DuckDBPyConnection, environment: str, start: int | None, end: int | None
) -> Features:
    """Return the totals of every feature of *environment* evaluated in [start, end)."""
    parameters = {"environment": environment, "start": start, "end": end}
    # One transaction: both answers are of the same moment.
    connection.execute("BEGIN TRANSACTION READ ONLY").fetchall()
    try:
        rows = connection.execute(_FEATURES, parameters).fetchall()
        ((since,),) = connection.execute(_DATA_SINCE, {"environment": environment}).fetchall()
    finally:
        connection.execute("ROLLBACK").fetchall()
    totals = tuple(
        FeatureTotals(
            feature_name=name,
            evaluation_count=evaluations,
            enabled_count=enabled,
            identity_count=identities,
            first_evaluation_time=first,
            last_evaluation_time=last,
            last_value=value,
        )
        for name, evaluations, enabled, identities, first, last, value in rows
    )
    return Features(totals=totals, data_since=since)


def list_evaluations(
    connection: duckdb.DuckDBPyConnection,
    filter: Filter,  # noqa: A002  # the field's own word
    page_size: int,
    cursor: Cursor | None,
) -> Page:
    """Return at most *page_size* evaluations behind *cursor*, the newest first."""
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
    rows = connection.execute(
        f"SELECT {_RECORDED} FROM evaluations WHERE {' AND '.join(conditions)} "  # noqa: S608  # conditions are ours, values bound
        "ORDER BY evaluation_time DESC, position DESC LIMIT $limit",
        parameters,
    ).fetchall()
    page = tuple(RecordedRow(*row) for row in rows[:page_size])
    if len(rows) <= page_size:
        return Page(rows=page, next=None)
    return Page(rows=page, next=Cursor(evaluation_time=page[-1].evaluation_time, position=page[-1].position))
