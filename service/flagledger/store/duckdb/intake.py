"""Intake and what of it was not recorded, as DuckDB is asked for it. Counts are of entries, times those of receipt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import duckdb

from flagledger.store import buckets, shaping
from flagledger.store.conditions import Conditions
from flagledger.store.duckdb.counts import reach
from flagledger.store.duckdb.sql import bucket_index, one_moment, period
from flagledger.store.intake import Intake, IntakeQuestion, UnknownFeatures
from flagledger.store.questions import MAX_SDKS

_RECEIVED: Final = """(
    SELECT environment, receive_time FROM evaluations UNION ALL SELECT environment, receive_time FROM discards
)"""
_MINUTE: Final = 60_000_000

_UNKNOWN: Final = """
    WITH parts AS MATERIALIZED (
        SELECT name, sdk_name, sdk_version, sum(entry_count)::BIGINT AS entries, epoch_us(min(receive_time)) AS first_time,
            epoch_us(max(receive_time)) AS last_time
        FROM discards WHERE {where} AND reason = $reason AND name NOT IN (SELECT unnest($known::VARCHAR[]))
        GROUP BY ALL
    ), names AS (
        SELECT name, sum(entries)::BIGINT AS entries, min(first_time) AS first_time, max(last_time) AS last_time
        FROM parts GROUP BY name
    ), kept AS (SELECT * FROM names WHERE name <> '' ORDER BY entries DESC, name LIMIT $limit)
    SELECT kept.name, kept.entries, kept.first_time, kept.last_time,
        list([sdk_name, sdk_version, parts.entries::VARCHAR, parts.last_time::VARCHAR]
            ORDER BY parts.entries DESC, sdk_name, sdk_version)[:{sdks}]
    FROM kept JOIN parts USING (name) GROUP BY ALL
    UNION ALL
    SELECT NULL, sum(entries)::BIGINT, NULL, NULL, NULL FROM names
    ORDER BY 2 DESC, 1
"""


def list_unknown_features(
    connection: duckdb.DuckDBPyConnection,
    environment: str,
    start: int | None,
    end: int | None,
    known: frozenset[str],
    limit: int,
) -> UnknownFeatures:
    """Return at most *limit* names received in [start, end) that are not *known*."""
    asked = _received(environment, start, end)
    asked.parameters |= {"reason": shaping.UNKNOWN_FEATURE, "known": sorted(known), "limit": limit}
    with one_moment(connection):
        rows = connection.execute(_UNKNOWN.format(where=asked.where, sdks=MAX_SDKS), asked.parameters).fetchall()
    total = next(entries for name, entries, *_ in rows if name is None) or 0
    return shaping.unknown_features([row for row in rows if row[0] is not None], total)


def intake(connection: duckdb.DuckDBPyConnection, question: IntakeQuestion) -> Intake:
    """Return what came in."""
    asked = _received(question.environment, question.start, question.end)
    with one_moment(connection):
        bucket_starts = buckets.of_period(
            (question.start, question.end),
            question.bucket,
            question.time_zone,
            lambda: reach(connection, replace(asked, source=_RECEIVED), "receive_time"),
        )
        index = bucket_index("receive_time", bucket_starts) if bucket_starts else "0"
        recorded: list[Any] = connection.execute(
            f"SELECT {index} AS bucket, count(*) FROM evaluations WHERE {asked.where} GROUP BY bucket",  # noqa: S608  # ours
            asked.parameters,
        ).fetchall()
        discarded: list[Any] = connection.execute(
            f"SELECT {index} AS bucket, reason, CASE WHEN reason = '{shaping.INVALID}' THEN name ELSE '' END AS field, "  # noqa: S608  # ours
            f"sum(entry_count)::BIGINT FROM discards WHERE {asked.where} GROUP BY ALL",
            asked.parameters,
        ).fetchall()
        ((recent,),) = connection.execute(
            "SELECT count(*) FROM evaluations WHERE environment = $environment "
            "AND receive_time >= make_timestamp($since) AND receive_time < make_timestamp($now)",
            {"environment": question.environment, "since": question.now - _MINUTE, "now": question.now},
        ).fetchall()
    return shaping.intake(recorded, discarded, recent, bucket_starts)


def _received(environment: str, start: int | None, end: int | None) -> Conditions:
    asked = Conditions()
    asked.must("environment", environment, "environment = $environment")
    period(asked, "receive_time", start, end)
    return asked
