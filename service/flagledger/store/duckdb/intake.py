"""Intake and what of it was not recorded, as DuckDB is asked for it. Counts are of entries, times those of receipt."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Final

import duckdb

from flagledger.store.duckdb.counts import period_starts
from flagledger.store.duckdb.queries import sdk_uses
from flagledger.store.duckdb.sql import Conditions, bucket_index, one_moment, period
from flagledger.store.intake import MAX_REJECTIONS, Intake, IntakeQuestion, IntakeTally, UnknownFeature, UnknownFeatures
from flagledger.store.questions import MAX_SDKS

UNKNOWN_FEATURE: Final = "unknown_feature"
INVALID: Final = "invalid"
SAMPLED_OUT: Final = "sampled_out"
FOREIGN_EVENT: Final = "foreign_event"

_RECEIVED: Final = """(
    SELECT environment, receive_time FROM evaluations UNION ALL SELECT environment, receive_time FROM discards
)"""
_MINUTE: Final = 60_000_000
_NO_TALLY: Final = IntakeTally(recorded_count=0, filtered_count=0, rejected_count=0)

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
    asked.parameters |= {"reason": UNKNOWN_FEATURE, "known": sorted(known), "limit": limit}
    with one_moment(connection):
        rows = connection.execute(_UNKNOWN.format(where=asked.where, sdks=MAX_SDKS), asked.parameters).fetchall()
    total = next(entries for name, entries, *_ in rows if name is None) or 0
    names = tuple(
        UnknownFeature(
            feature_name=name,
            evaluation_count=entries,
            first_seen_time=first_time,
            last_seen_time=last_time,
            sdks=sdk_uses(sdks),
        )
        for name, entries, first_time, last_time, sdks in rows
        if name is not None
    )
    return UnknownFeatures(names=names, other_evaluation_count=total - sum(found.evaluation_count for found in names))


def intake(connection: duckdb.DuckDBPyConnection, question: IntakeQuestion) -> Intake:
    """Return what came in."""
    asked = _received(question.environment, question.start, question.end)
    with one_moment(connection):
        bucket_starts = period_starts(
            connection,
            replace(asked, source=_RECEIVED),
            "receive_time",
            (question.start, question.end),
            (question.bucket, question.time_zone),
        )
        index = bucket_index("receive_time", bucket_starts) if bucket_starts else "0"
        recorded: list[Any] = connection.execute(
            f"SELECT {index} AS bucket, count(*) FROM evaluations WHERE {asked.where} GROUP BY bucket",  # noqa: S608  # ours
            asked.parameters,
        ).fetchall()
        discarded: list[Any] = connection.execute(
            f"SELECT {index} AS bucket, reason, CASE WHEN reason = '{INVALID}' THEN name ELSE '' END AS field, "  # noqa: S608  # ours
            f"sum(entry_count)::BIGINT FROM discards WHERE {asked.where} GROUP BY ALL",
            asked.parameters,
        ).fetchall()
        ((recent,),) = connection.execute(
            "SELECT count(*) FROM evaluations WHERE environment = $environment "
            "AND receive_time >= make_timestamp($since) AND receive_time < make_timestamp($now)",
            {"environment": question.environment, "since": question.now - _MINUTE, "now": question.now},
        ).fetchall()
    counts: Counter[tuple[int, str]] = Counter()
    rejections: Counter[str] = Counter()
    for bucket, entries in recorded:
        counts[bucket, ""] += entries
    for bucket, reason, field, entries in discarded:
        counts[bucket, reason] += entries
        if reason == INVALID:
            rejections[field] += entries
    indices = range(max(len(bucket_starts), 1))
    points = tuple(_tally(counts, bucket) for bucket in indices)
    return Intake(
        total=IntakeTally(
            recorded_count=sum(point.recorded_count for point in points),
            filtered_count=sum(point.filtered_count for point in points),
            rejected_count=sum(point.rejected_count for point in points),
        ),
        sampled_out_count=sum(counts[bucket, SAMPLED_OUT] for bucket in indices),
        foreign_event_count=sum(counts[bucket, FOREIGN_EVENT] for bucket in indices),
        rejections=tuple(sorted(rejections.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_REJECTIONS]),
        recent_count=recent,
        bucket_starts=bucket_starts,
        points=points if bucket_starts else (),
    )


def _tally(counts: Counter[tuple[int, str]], bucket: int) -> IntakeTally:
    return IntakeTally(
        recorded_count=counts[bucket, ""],
        filtered_count=counts[bucket, UNKNOWN_FEATURE],
        rejected_count=counts[bucket, INVALID],
    )


def _received(environment: str, start: int | None, end: int | None) -> Conditions:
    asked = Conditions()
    asked.must("environment", environment, "environment = $environment")
    period(asked, "receive_time", start, end)
    return asked
