"""
Features and evaluations, as PostgreSQL is asked for them.

A public key may send long texts. PostgreSQL keeps those apart from their rows and knows their sizes without reading them, so that
each statement adds sizes up first and returns only those texts that the answer has room for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Final

from flagledger.store import sampling, shaping
from flagledger.store.conditions import Conditions
from flagledger.store.postgres.sql import SAMPLED, VALUE, Moment, Reader, ask, conditions, room, storable
from flagledger.store.questions import (
    LAST_VALUES_BYTES,
    MAX_SDKS,
    PAGE_BYTES,
    Cursor,
    Features,
    Filter,
    Page,
    RecordedRow,
)

# One pass over the rows, grouped finely; all the rest is of these few.
_TOTALS: Final = """
    WITH parts AS MATERIALIZED (
        SELECT feature_name, sdk_name, sdk_version, enabled, sum("count")::bigint AS evaluations, count(*) AS entries,
            min(evaluation_time) AS first_time, max(evaluation_time) AS last_time, bool_or({sampled}) AS sampled
        FROM evaluations WHERE {where} GROUP BY 1, 2, 3, 4
    ), sdks AS (
        SELECT feature_name, sdk_name, sdk_version, sum(evaluations)::bigint AS evaluations,
            (extract(epoch FROM max(last_time)) * 1000000)::bigint AS last_time,
            row_number() OVER (
                PARTITION BY feature_name ORDER BY sum(evaluations) DESC, sdk_name, sdk_version
            ) AS rank
        FROM parts GROUP BY feature_name, sdk_name, sdk_version
    ), listed AS (
        SELECT feature_name,
            array_agg(ARRAY[sdk_name, sdk_version, evaluations::text, last_time::text] ORDER BY rank) AS sdks
        FROM sdks WHERE rank <= {sdks} GROUP BY feature_name
    ), totals AS (
        SELECT feature_name, sum(evaluations)::bigint, coalesce(sum(evaluations) FILTER (WHERE enabled), 0)::bigint,
            coalesce(sum(evaluations) FILTER (WHERE enabled IS NOT NULL), 0)::bigint, min(first_time), max(last_time),
            sum(entries)::bigint, bool_or(sampled)
        FROM parts GROUP BY feature_name
    )
    SELECT totals.*, sdks FROM totals JOIN listed USING (feature_name) ORDER BY feature_name
"""

# JSON text is never empty.
_IDENTITIES: Final = """
    SELECT feature_name, count(*), count(*) FILTER (WHERE least <> greatest) FROM (
        SELECT feature_name, min(value_hash) AS least, max(value_hash) AS greatest
        FROM (
            SELECT feature_name, identity_hash, hashtextextended(coalesce({value}, ''), 0) AS value_hash
            FROM evaluations WHERE {where} AND identity_hash IS NOT NULL {sampled}
        ) AS seen GROUP BY feature_name, identity_hash
    ) AS identities GROUP BY feature_name
"""

_LAST_VALUES: Final = """
    SELECT feature_name, value FROM (
        SELECT asked.feature_name, last.value,
            sum(coalesce(octet_length(last.value), 0)) OVER (ORDER BY asked.feature_name COLLATE "C") AS total
        FROM unnest(%(names)s::text[], %(times)b) AS asked (feature_name, evaluation_time)
        CROSS JOIN LATERAL (
            SELECT value FROM evaluations
            WHERE environment = %(environment)s
                AND hashtextextended(feature_name, 0) = hashtextextended(asked.feature_name, 0)
                AND feature_name = asked.feature_name AND evaluation_time = asked.evaluation_time
            ORDER BY position DESC LIMIT 1
        ) AS last
    ) AS sized WHERE total <= {room}
"""

# From one name to the next by an index, however many rows each has.
_ENVIRONMENTS: Final = """
    WITH RECURSIVE found AS (
        SELECT min(environment) AS environment FROM evaluations
        UNION ALL
        SELECT (SELECT min(environment) FROM evaluations WHERE environment > found.environment)
        FROM found WHERE environment IS NOT NULL
    )
    SELECT environment FROM found WHERE environment IS NOT NULL ORDER BY environment
"""

_LAST_SEEN: Final = """
    SELECT name, seen.last_time
    FROM unnest(%(names)s::text[]) AS name
    CROSS JOIN LATERAL (
        SELECT max(evaluation_time) FROM evaluations
        WHERE {where} AND hashtextextended(feature_name, 0) = hashtextextended(name, 0) AND feature_name = name
    ) AS seen (last_time)
    WHERE seen.last_time IS NOT NULL
"""

# In the order of RecordedRow.
_RECORDED: Final = """
    position, feature_name, enabled, value, evaluation_time, identity_identifier, identity_traits, segment_names, variant, reason,
    metadata, "count", environment, batch_id, receive_time, origin, sdk_name, sdk_version, sample_rate
"""

_PAGE: Final = """
    SELECT found, {recorded} FROM (
        SELECT *, count(*) OVER () AS found, row_number() OVER newest AS number, sum({bytes}) OVER newest AS total
        FROM (
            SELECT * FROM evaluations WHERE {where} ORDER BY evaluation_time DESC, position DESC LIMIT %(page_size)s + 1
        ) AS page
        WINDOW newest AS (ORDER BY evaluation_time DESC, position DESC ROWS UNBOUNDED PRECEDING)
    ) AS sized
    WHERE number <= %(page_size)s AND (number = 1 OR total <= {room})
    ORDER BY evaluation_time DESC, position DESC
"""

_ROOM: Final = room(
    shaping.ROW_BYTES,
    "value",
    "identity_traits",
    "metadata",
    "identity_identifier",
    "feature_name",
    "variant",
    "reason",
    "array_to_string(segment_names, '')",
)


def list_features(reader: Reader, question: Filter) -> Features:
    """Return the totals of every feature that *question* leaves, which asks for no trait."""
    asked = conditions(question)
    rows = ask(reader, _TOTALS.format(where=asked.where, sdks=MAX_SDKS, sampled=SAMPLED), asked.parameters)
    totals = shaping.feature_totals(
        [(*row[:6], row[8]) for row in rows],
        sampling.identities({row[0]: row[6] for row in rows}, partial(_told_apart, reader, asked)),
        {row[0] for row in rows if row[7]},
        _last_values(reader, question.environment, {row[0]: row[5] for row in rows}),
    )
    return Features(totals=totals, data_since=data_since(reader, question.environment))


def environments(reader: Reader) -> tuple[str, ...]:
    """Return the names of the environments that hold evaluations, ascending."""
    return tuple(name for (name,) in ask(reader, _ENVIRONMENTS))


def last_seen(reader: Reader, question: Filter, names: Collection[str]) -> dict[str, int]:
    """Return the time of the last evaluation that *question* leaves of each of the features called *names* that has one."""
    asked = conditions(question)
    asked.parameters["names"] = storable(sorted(set(names)))
    return dict(ask(reader, _LAST_SEEN.format(where=asked.where), asked.parameters))


def data_since(reader: Reader, environment: str) -> int | None:
    """Return the first receipt that *environment* holds, in microseconds since the epoch."""
    asked = conditions(Filter(environment=environment))
    ((since,),) = ask(reader, f"SELECT min(receive_time) FROM evaluations WHERE {asked.where}", asked.parameters)  # noqa: S608  # ours
    return None if since is None else int(since)


def _told_apart(reader: Reader, asked: Conditions, mask: int, names: list[str] | None) -> list[tuple[str, int, int]]:
    """Return features, their identities that *mask* leaves, and how many of those saw several values; of *names*, or of all."""
    sampled = f"AND identity_hash & {mask} = 0" if mask else ""
    parameters = dict(asked.parameters)
    if names is not None:
        sampled += " AND feature_name = ANY (%(names)s)"
        parameters["names"] = names
    return ask(reader, _IDENTITIES.format(value=VALUE, where=asked.where, sampled=sampled), parameters)


def _last_values(reader: Reader, environment: str, times: Mapping[str, int]) -> dict[str, str | None]:
    """
    Return the value of the last evaluation of each feature by name, as many from the first on as there is room for.

    Args:
        reader: Of one's own.
        environment: Name of the environment.
        times: Of each feature, in the order of names, the time of that evaluation; of several then the last received counts.
    """
    if not times:
        return {}
    asked = {"environment": environment, "names": list(times), "times": [Moment(time) for time in times.values()]}
    return dict(ask(reader, _LAST_VALUES.format(room=LAST_VALUES_BYTES), asked))


def list_evaluations(
    reader: Reader,
    filter: Filter,  # noqa: A002  # the field's own word
    page_size: int,
    cursor: Cursor | None,
) -> Page:
    """Return at most *page_size* evaluations behind *cursor*, the newest first, as far as `PAGE_BYTES` go."""
    asked = conditions(filter)
    if cursor is not None:
        asked.parameters |= {"time": Moment(cursor.evaluation_time), "position": cursor.position}
        asked.require("(evaluation_time, position) < (%(time)s, %(position)s)")
    asked.parameters["page_size"] = page_size
    found = ask(
        reader,
        _PAGE.format(recorded=_RECORDED, bytes=_ROOM, where=asked.where, room=PAGE_BYTES),
        asked.parameters,
    )
    return shaping.page([RecordedRow(*row[1:]) for row in found], more=bool(found) and len(found) < found[0][0])
