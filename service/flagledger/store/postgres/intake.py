"""Intake and what of it was not recorded, as PostgreSQL is asked for it. Counts are of entries, times those of receipt."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from flagledger.store import buckets, shaping
from flagledger.store.conditions import Conditions
from flagledger.store.intake import Intake, IntakeQuestion, UnknownFeatures
from flagledger.store.postgres.counts import bucket_index, reach
from flagledger.store.postgres.sql import Reader, ask, environment_of, period, storable
from flagledger.store.questions import MAX_SDKS

_RECEIVED: Final = """(
    SELECT environment, receive_time FROM evaluations UNION ALL SELECT environment, receive_time FROM discards
) AS received"""
_MINUTE: Final = 60_000_000

_UNKNOWN: Final = "{where} AND reason = %(reason)s AND name <> ALL (%(known)s::text[])"

_NAMES: Final = """
    WITH parts AS MATERIALIZED (
        SELECT name, sdk_name, sdk_version, sum(entry_count)::bigint AS entries, min(receive_time) AS first_time,
            max(receive_time) AS last_time
        FROM discards WHERE {unknown} AND name <> '' GROUP BY name, sdk_name, sdk_version
    ), kept AS (
        SELECT name, sum(entries)::bigint AS entries, min(first_time) AS first_time, max(last_time) AS last_time
        FROM parts GROUP BY name ORDER BY entries DESC, name LIMIT %(limit)s
    ), sdks AS (
        SELECT name, sdk_name, sdk_version, parts.entries, (extract(epoch FROM parts.last_time) * 1000000)::bigint AS last_time,
            row_number() OVER (PARTITION BY name ORDER BY parts.entries DESC, sdk_name, sdk_version) AS rank
        FROM kept JOIN parts USING (name)
    ), listed AS (
        SELECT name, array_agg(ARRAY[sdk_name, sdk_version, entries::text, last_time::text] ORDER BY rank) AS sdks
        FROM sdks WHERE rank <= {sdks} GROUP BY name
    )
    SELECT kept.*, sdks FROM kept JOIN listed USING (name) ORDER BY entries DESC, name
"""


def list_unknown_features(
    reader: Reader, environment: str, start: int | None, end: int | None, known: frozenset[str], limit: int
) -> UnknownFeatures:
    """Return at most *limit* names received in [start, end) that are not *known*."""
    asked = _received(environment, start, end)
    asked.parameters |= {"reason": shaping.UNKNOWN_FEATURE, "known": storable(sorted(known)), "limit": limit}
    unknown = _UNKNOWN.format(where=asked.where)
    names = ask(reader, _NAMES.format(unknown=unknown, sdks=MAX_SDKS), asked.parameters)
    ((total,),) = ask(
        reader,
        f"SELECT coalesce(sum(entry_count), 0)::bigint FROM discards WHERE {unknown}",  # noqa: S608  # our conditions
        asked.parameters,
    )
    return shaping.unknown_features(names, total)


def intake(reader: Reader, question: IntakeQuestion) -> Intake:
    """Return what came in."""
    asked = _received(question.environment, question.start, question.end)
    bucket_starts = buckets.of_period(
        (question.start, question.end),
        question.bucket,
        question.time_zone,
        lambda: reach(reader, replace(asked, source=_RECEIVED), "receive_time"),
    )
    index = bucket_index(asked, "receive_time", bucket_starts) if bucket_starts else "0"
    recorded = ask(
        reader,
        f"SELECT {index} AS bucket, count(*) FROM evaluations WHERE {asked.where} GROUP BY 1",  # noqa: S608  # ours
        asked.parameters,
    )
    discarded = ask(
        reader,
        f"SELECT {index} AS bucket, reason, CASE WHEN reason = '{shaping.INVALID}' THEN name ELSE '' END AS field, "  # noqa: S608  # ours
        f"sum(entry_count)::bigint FROM discards WHERE {asked.where} GROUP BY 1, 2, 3",
        asked.parameters,
    )
    lately = _received(question.environment, question.now - _MINUTE, question.now)
    ((recent,),) = ask(
        reader,
        f"SELECT count(*) FROM evaluations WHERE {lately.where}",  # noqa: S608  # our conditions
        lately.parameters,
    )
    return shaping.intake(recorded, discarded, recent, bucket_starts)


def _received(environment: str, start: int | None, end: int | None) -> Conditions:
    asked = environment_of(environment)
    period(asked, "receive_time", start, end)
    return asked
