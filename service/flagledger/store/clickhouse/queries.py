"""
Features and evaluations, as ClickHouse is asked for them.

Rows lie by environment, feature and time: what is asked of a feature reads its rows alone, and what a row holds is looked up by
these three once it is known which rows are wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Final

from flagledger.store import sampling, shaping
from flagledger.store.clickhouse import texts
from flagledger.store.clickhouse.client import Reader
from flagledger.store.clickhouse.sql import VALUE_KEY, at_once, conditions, microseconds, moment
from flagledger.store.conditions import Conditions
from flagledger.store.questions import (
    LAST_VALUES_BYTES,
    MAX_SDKS,
    Cursor,
    Features,
    Filter,
    Page,
    RecordedRow,
)

# One pass over the rows, grouped finely; all the rest is of these few.
_TOTALS: Final = f"""
    SELECT feature_name, sum(part), sum(part_enabled), sum(part_known), {microseconds("min(part_first)")},
        {microseconds("max(part_last)")},
        arraySlice(arraySort(groupArray((-toInt64(part), sdk_name, sdk_version, {microseconds("part_last")}))), 1, {MAX_SDKS}),
        sum(entries), max(part_sampled)
    FROM (
        SELECT feature_name, sdk_name, sdk_version, sum(count) AS part, sumIf(count, enabled) AS part_enabled,
            sumIf(count, enabled IS NOT NULL) AS part_known, count() AS entries, min(evaluation_time) AS part_first,
            max(evaluation_time) AS part_last, countIf(sample_rate < 1) > 0 AS part_sampled
        FROM evaluations WHERE {{where}} GROUP BY feature_name, sdk_name, sdk_version
    )
    GROUP BY feature_name ORDER BY feature_name
"""  # noqa: S608  # ours

# A value that is absent is one too.
_IDENTITIES: Final = f"""
    SELECT feature_name, count(), countIf(least_seen <> greatest_seen) FROM (
        SELECT feature_name, identity_hash, min(seen) AS least_seen, max(seen) AS greatest_seen
        FROM (
            SELECT feature_name, identity_hash, if(value IS NULL, 0, cityHash64(assumeNotNull({VALUE_KEY}))) AS seen
            FROM evaluations WHERE {{where}} AND identity_hash IS NOT NULL {{only}}
        ) GROUP BY feature_name, identity_hash
    ) GROUP BY feature_name
"""  # noqa: S608  # ours

_LAST: Final = f"""
    SELECT feature_name, last_position, last_row.1, ifNull(last_row.2, 0) FROM (
        SELECT feature_name, max(position) AS last_position,
            argMax(({texts.short("value")}, {texts.long_bytes("value")}), position) AS last_row
        FROM evaluations
        WHERE environment = {{environment:String}} AND position <= {{visible:Int64}} AND (feature_name, evaluation_time) IN (
            SELECT wanted_feature, {moment("wanted_time")}
            FROM (SELECT {{features:Array(String)}} AS features, {{times:Array(Int64)}} AS times)
            ARRAY JOIN features AS wanted_feature, times AS wanted_time
        )
        GROUP BY feature_name
    )
"""  # noqa: S608  # ours

_FIRST_RECEIVED: Final = f"""
    SELECT {microseconds("minOrNull(receive_time)")} FROM evaluations
    WHERE environment = {{environment:String}} AND position <= {{visible:Int64}}
"""  # noqa: S608  # ours

_PLACES: Final = f"""
    SELECT feature_name, {microseconds("evaluation_time")}, position FROM evaluations WHERE {{where}}
    ORDER BY evaluation_time DESC, position DESC LIMIT {{limit}}
"""  # noqa: S608  # ours

# In the order of RecordedRow, and behind that the bytes of long texts, which it does not have.
_RECORDED: Final = f"""
    SELECT position, feature_name, enabled, {texts.short("value")}, {microseconds("evaluation_time")}, identity_identifier,
        {texts.short("identity_traits")}, segment_names, variant, reason, {texts.short("metadata")}, count, environment, batch_id,
        {microseconds("receive_time")}, origin, sdk_name, sdk_version, sample_rate,
        {texts.long_bytes(*texts.COLUMNS)}
    FROM evaluations WHERE position <= {{visible:Int64}} AND {texts.PLACES}
    ORDER BY evaluation_time DESC, position DESC
"""  # noqa: S608  # ours

_DAY: Final = 86_400_000_000


def list_features(reader: Reader, question: Filter) -> Features:
    """Return the totals of every feature that *question* leaves, which asks for no trait."""
    asked = conditions(reader, question)
    rows = reader.query(_TOTALS.format(where=asked.where), asked.parameters)
    return Features(
        totals=shaping.feature_totals(
            [
                (*row[:6], [(name, version, -less, last_time) for less, name, version, last_time in row[6]])
                for row in rows
            ],
            sampling.identities({row[0]: row[7] for row in rows}, partial(_told_apart, reader, asked)),
            {row[0] for row in rows if row[8]},
            _last_values(reader, question.environment, {row[0]: row[5] for row in rows}),
        ),
        data_since=_data_since(reader, question.environment),
    )


def environments(reader: Reader) -> tuple[str, ...]:
    """Return the names of the environments that hold evaluations, ascending."""
    rows = reader.query(
        "SELECT DISTINCT environment FROM evaluations WHERE position <= {visible:Int64} ORDER BY environment",
        {"visible": reader.visible},
    )
    return tuple(name for (name,) in rows)


def last_seen(reader: Reader, question: Filter, names: Collection[str]) -> dict[str, int]:
    """Return the time of the last evaluation that *question* leaves of each of the features called *names* that has one."""
    asked = conditions(reader, question)
    return {
        name: last_time
        for some in at_once(sorted(names), str)
        for name, last_time in reader.query(
            f"SELECT feature_name, {microseconds('max(evaluation_time)')} FROM evaluations "  # noqa: S608  # ours
            f"WHERE {asked.where} AND feature_name IN {{names:Array(String)}} GROUP BY feature_name",
            asked.parameters | {"names": some},
        )
    }


def _data_since(reader: Reader, environment: str) -> int | None:
    """Return the first receipt that *environment* holds, in microseconds since the epoch."""
    asked = {"environment": environment, "visible": reader.visible}
    # Days are kept apart: the first that there is costs nothing to know, and mostly has rows of any environment.
    ((first,),) = reader.query(f"SELECT {microseconds('minOrNull(receive_time)')} FROM evaluations")  # noqa: S608  # ours
    if first is None:
        return None
    ((since,),) = reader.query(
        f"{_FIRST_RECEIVED} AND receive_time < {moment('{end:Int64}')}", asked | {"end": (first // _DAY + 1) * _DAY}
    )
    if since is None:
        ((since,),) = reader.query(_FIRST_RECEIVED, asked)
    return None if since is None else int(since)


def _told_apart(reader: Reader, asked: Conditions, mask: int, names: list[str] | None) -> list[tuple[str, int, int]]:
    """Return features, their identities that *mask* leaves, and how many of those saw several values; of *names*, or of all."""
    only = f"AND bitAnd(identity_hash, {mask}) = 0" if mask else ""
    if names is not None:
        only += " AND feature_name IN {names:Array(String)}"
    return [
        row
        for some in ([[]] if names is None else at_once(names, str))
        for row in reader.query(_IDENTITIES.format(where=asked.where, only=only), asked.parameters | {"names": some})
    ]


def _last_values(reader: Reader, environment: str, times: Mapping[str, int]) -> dict[str, str | None]:
    """Return the value of the last evaluation of each feature, whose time is known, as many by name as there is room for."""
    names = sorted(times)
    last: dict[str, tuple[int, str | None, int]] = {}
    for some in at_once(names, str):
        rows = reader.query(
            _LAST,
            {
                "environment": environment,
                "visible": reader.visible,
                "features": some,
                "times": [times[name] for name in some],
            },
        )
        last |= {name: (position, value, long) for name, position, value, long in rows}
    kept: dict[str, str | None] = {}
    total = 0
    for name in names:
        _, value, long = last[name]
        total += len(value or "") + long
        if total > LAST_VALUES_BYTES:
            break
        kept[name] = value
    apart = {last[name][0]: name for name in kept if last[name][2]}
    places = [(name, times[name], position) for position, name in apart.items()]
    whole = texts.read(reader, environment, places, ("value",))
    return kept | {apart[position]: text for (position, _), text in whole.items()}


def list_evaluations(
    reader: Reader,
    filter: Filter,  # noqa: A002  # the field's own word
    page_size: int,
    cursor: Cursor | None,
) -> Page:
    """Return at most *page_size* evaluations behind *cursor*, the newest first, as far as `PAGE_BYTES` go."""
    asked = conditions(reader, filter)
    if cursor is not None:
        before = moment("{before:Int64}")
        asked.must("before", cursor.evaluation_time, f"evaluation_time <= {before}")
        asked.must(
            "before_position",
            cursor.position,
            f"(evaluation_time < {before} OR position < {{before_position:Int64}})",
        )
    found = reader.query(_PLACES.format(where=asked.where, limit=page_size + 1), asked.parameters)
    rows = _recorded(reader, filter.environment, found[:page_size])
    return shaping.page(rows, more=len(rows) < len(found))


def _recorded(reader: Reader, environment: str, wanted: Sequence[texts.Place]) -> list[RecordedRow]:
    """Return the rows in places, as many from the first on as `PAGE_BYTES` have room for, and one at least."""
    found = [
        row
        for some in at_once(wanted, itemgetter(0))
        for row in reader.query(_RECORDED, {**texts.places(environment, some), "visible": reader.visible})
    ]
    rows = [RecordedRow(*row) for *row, _ in found]
    long = {row.position: size for row, (*_, size) in zip(rows, found, strict=True) if size}
    rows = rows[: shaping.fitting(shaping.row_bytes(row) + long.get(row.position, 0) for row in rows)]
    apart = [(row.feature_name, row.evaluation_time, row.position) for row in rows if row.position in long]
    whole = texts.read(reader, environment, apart)
    return [
        replace(
            row,
            value=whole[row.position, "value"],
            traits=whole[row.position, "identity_traits"],
            metadata=whole[row.position, "metadata"],
        )
        if row.position in long
        else row
        for row in rows
    ]
