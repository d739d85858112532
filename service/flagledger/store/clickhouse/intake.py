"""Intake and what of it was not recorded, as ClickHouse is asked for it. Counts are of entries, times those of receipt."""

from __future__ import annotations

from typing import Final

from flagledger.store import buckets, shaping
from flagledger.store.clickhouse.client import Reader
from flagledger.store.clickhouse.sql import at_once, bucket_index, microseconds, period
from flagledger.store.conditions import Conditions
from flagledger.store.intake import Intake, IntakeQuestion, UnknownFeatures
from flagledger.store.questions import MAX_SDKS

_MINUTE: Final = 60_000_000

_REACH: Final = f"""
    SELECT {microseconds("minOrNull(receive_time)")}, {microseconds("maxOrNull(receive_time)")} FROM (
        SELECT receive_time FROM evaluations WHERE {{where}} UNION ALL SELECT receive_time FROM discards WHERE {{where}}
    )
"""  # noqa: S608  # ours

_UNKNOWN: Final = f"""
    SELECT name, sum(part) AS entries, {microseconds("min(part_first)")}, {microseconds("max(part_last)")},
        arraySlice(arraySort(groupArray((-toInt64(part), sdk_name, sdk_version, {microseconds("part_last")}))), 1, {MAX_SDKS})
    FROM (
        SELECT name, sdk_name, sdk_version, sum(entry_count) AS part, min(receive_time) AS part_first,
            max(receive_time) AS part_last
        FROM discards WHERE {{where}} GROUP BY name, sdk_name, sdk_version
    )
    WHERE name <> '' GROUP BY name ORDER BY entries DESC, name LIMIT {{limit}}
"""  # noqa: S608  # ours


def list_unknown_features(
    reader: Reader, environment: str, start: int | None, end: int | None, known: frozenset[str], limit: int
) -> UnknownFeatures:
    """Return at most *limit* names received in [start, end) that are not *known*."""
    asked = _received(reader, environment, start, end)
    asked.must("reason", shaping.UNKNOWN_FEATURE, "reason = {reason:String}")
    for index, some in enumerate(at_once(sorted(known), str)):
        asked.must(f"known_{index}", some, f"name NOT IN {{known_{index}:Array(String)}}")
    rows = reader.query(_UNKNOWN.format(where=asked.where, limit=limit), asked.parameters)
    ((total,),) = reader.query(
        f"SELECT sum(entry_count) FROM discards WHERE {asked.where}",  # noqa: S608  # ours
        asked.parameters,
    )
    return shaping.unknown_features(
        [(*row, [(sdk, version, -less, last_time) for less, sdk, version, last_time in sdks]) for *row, sdks in rows],
        total,
    )


def intake(reader: Reader, question: IntakeQuestion) -> Intake:
    """Return what came in."""
    asked = _received(reader, question.environment, question.start, question.end)

    def reach() -> tuple[int | None, int | None]:
        ((first, last),) = reader.query(_REACH.format(where=asked.where), asked.parameters)
        return first, last

    bucket_starts = buckets.of_period((question.start, question.end), question.bucket, question.time_zone, reach)
    index = bucket_index("receive_time", bucket_starts)
    recorded = reader.query(
        f"SELECT {index} AS bucket, count() FROM evaluations WHERE {asked.where} GROUP BY bucket",  # noqa: S608  # ours
        asked.parameters,
    )
    discarded = reader.query(
        f"SELECT {index} AS bucket, reason, if(reason = '{shaping.INVALID}', name, '') AS field, sum(entry_count) "  # noqa: S608  # ours
        f"FROM discards WHERE {asked.where} GROUP BY bucket, reason, field",
        asked.parameters,
    )
    last_minute = _received(reader, question.environment, question.now - _MINUTE, question.now)
    ((recent,),) = reader.query(
        f"SELECT count() FROM evaluations WHERE {last_minute.where}",  # noqa: S608  # ours
        last_minute.parameters,
    )
    return shaping.intake(
        ((bucket, entries) for bucket, entries in recorded),
        ((bucket, reason, field, entries) for bucket, reason, field, entries in discarded),
        recent,
        bucket_starts,
    )


def _received(reader: Reader, environment: str, start: int | None, end: int | None) -> Conditions:
    asked = Conditions()
    asked.must("environment", environment, "environment = {environment:String}")
    asked.must("visible", reader.visible, "position <= {visible:Int64}")
    period(asked, "receive_time", start, end)
    return asked
