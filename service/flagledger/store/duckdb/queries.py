"""
Features and evaluations, as DuckDB is asked for them. Every result is fetched whole: an open one would block its connection.

Long texts are kept apart (module `texts`) and a public key may send them, so that no question holds many: only those
are read that the answer has room for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import duckdb

from flagledger.store import sampling, shaping
from flagledger.store.conditions import Conditions
from flagledger.store.duckdb import texts as duckdb_texts
from flagledger.store.duckdb.hashes import FEATURE_HASH
from flagledger.store.duckdb.sql import (
    SAMPLED,
    conditions,
    filtered,
    one_moment,
    with_value_key,
)
from flagledger.store.questions import (
    LAST_VALUES_BYTES,
    MAX_SDKS,
    Cursor,
    Features,
    Filter,
    Page,
    RecordedRow,
)

_T = TypeVar("_T")

# One pass over the rows, grouped finely; all the rest is of these few.
_TOTALS: Final = """
    WITH parts AS MATERIALIZED (
        SELECT feature_name, sdk_name, sdk_version, enabled, sum("count")::BIGINT AS evaluations, count(*) AS entries,
            min(evaluation_time) AS first_time, max(evaluation_time) AS last_time
        FROM evaluations WHERE {where} GROUP BY ALL
    ), sdks AS (
        SELECT feature_name, sdk_name, sdk_version, sum(evaluations)::BIGINT AS evaluations,
            epoch_us(max(last_time)) AS last_time
        FROM parts GROUP BY feature_name, sdk_name, sdk_version
        QUALIFY row_number() OVER (PARTITION BY feature_name ORDER BY sum(evaluations) DESC, sdk_name, sdk_version) <= {sdks}
    ), listed AS (
        SELECT feature_name,
            list([sdk_name, sdk_version, evaluations::VARCHAR, last_time::VARCHAR]
                ORDER BY evaluations DESC, sdk_name, sdk_version) AS sdks
        FROM sdks GROUP BY feature_name
    )
    SELECT feature_name, sum(evaluations)::BIGINT, coalesce(sum(evaluations) FILTER (WHERE enabled), 0)::BIGINT,
        coalesce(sum(evaluations) FILTER (WHERE enabled IS NOT NULL), 0)::BIGINT, sum(entries)::BIGINT,
        epoch_us(min(first_time)), epoch_us(max(last_time)), any_value(sdks)
    FROM parts JOIN listed USING (feature_name) GROUP BY feature_name ORDER BY feature_name
"""

_IDENTITIES: Final = """
    SELECT feature_name, count(*), count(*) FILTER (WHERE least <> greatest) FROM (
        SELECT feature_name, identity_hash, min(hash({value})) AS least, max(hash({value})) AS greatest
        FROM {source} WHERE {where} AND identity_hash IS NOT NULL {sampled} GROUP BY feature_name, identity_hash
    ) GROUP BY feature_name
"""

_OF_SAMPLES: Final = "SELECT DISTINCT feature_name FROM evaluations WHERE {where} AND {sampled}"

# In the order of RecordedRow.
_RECORDED: Final = """
    position, feature_name, enabled, value, epoch_us(evaluation_time), identity_identifier, identity_traits,
    segment_names, variant, reason, metadata, "count", environment, batch_id, epoch_us(receive_time), origin, sdk_name,
    sdk_version, sample_rate
"""

_VALUE: Final = ("value",)

# What is looked for at once: DuckDB skips what holds none of a list that it knows beforehand.
_AT_ONCE: Final = 200


def list_features(connection: duckdb.DuckDBPyConnection, question: Filter) -> Features:
    """Return the totals of every feature that *question* leaves, which asks for no trait."""
    environment, asked = question.environment, conditions(question)
    with one_moment(connection):
        rows = connection.execute(_TOTALS.format(where=asked.where, sdks=MAX_SDKS), asked.parameters).fetchall()
        since = data_since(connection, environment)
        identities = sampling.identities({row[0]: row[4] for row in rows}, partial(_told_apart, connection, asked))
        sampled = connection.execute(
            _OF_SAMPLES.format(where=asked.where, sampled=SAMPLED), asked.parameters
        ).fetchall()
        last = _last(connection, environment, {row[0]: row[6] for row in rows})
        values = last_values(connection, [last[row[0]] for row in rows])
    totals = shaping.feature_totals(
        [row[:4] + row[5:] for row in rows],
        identities,
        {name for (name,) in sampled},
        {name: values[position] for name, (_, position) in last.items() if position in values},
    )
    return Features(totals=totals, data_since=since)


def environments(connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    """Return the names of the environments that hold evaluations, ascending."""
    rows = connection.execute("SELECT DISTINCT environment FROM evaluations ORDER BY environment").fetchall()
    return tuple(name for (name,) in rows)


def last_seen(connection: duckdb.DuckDBPyConnection, question: Filter, names: Collection[str]) -> dict[str, int]:
    """Return the time of the last evaluation that *question* leaves of each of the features called *names* that has one."""
    asked = conditions(question)
    hashed = FEATURE_HASH.format("name")
    with one_moment(connection):
        found: list[Any] = []
        for some in _some(sorted(names)):
            # Beforehand, so that DuckDB skips what holds none of them.
            ((hashes,),) = connection.execute(
                f"SELECT list(DISTINCT {hashed}) FROM (SELECT unnest($names) AS name)",  # noqa: S608  # our expression
                {"names": some},
            ).fetchall()
            found += connection.execute(
                "SELECT feature_name, epoch_us(max(evaluation_time)) FROM evaluations "  # noqa: S608  # integers of ours
                f"WHERE {asked.where} AND feature_hash IN ({', '.join(map(str, hashes))}) "
                "AND feature_name IN (SELECT unnest($names)) GROUP BY feature_name",
                asked.parameters | {"names": some},
            ).fetchall()
    return dict(found)


def data_since(connection: duckdb.DuckDBPyConnection, environment: str) -> int | None:
    """Return the first receipt that *environment* holds, in microseconds since the epoch."""
    # The first row in the file is not the first that was received, but no row of a later block can lie before it, and blocks
    # are skipped by their least time.
    found = connection.execute(
        "SELECT epoch_us(receive_time) FROM evaluations WHERE environment = $environment LIMIT 1",
        {"environment": environment},
    ).fetchall()
    if not found:
        return None
    ((since,),) = connection.execute(
        "SELECT epoch_us(min(receive_time)) FROM evaluations "
        "WHERE environment = $environment AND receive_time <= make_timestamp($first)",
        {"environment": environment, "first": found[0][0]},
    ).fetchall()
    return int(since)


def _told_apart(
    connection: duckdb.DuckDBPyConnection, asked: Conditions, mask: int, names: list[str] | None
) -> list[tuple[str, int, int]]:
    """Return features, their identities that *mask* leaves, and how many of those saw several values; of *names*, or of all."""
    made = Conditions(source=asked.source, parameters=dict(asked.parameters))
    value = with_value_key(connection, made)
    sampled = f"AND identity_hash & {mask} = 0" if mask else ""
    if names is not None:
        sampled += " AND feature_name IN (SELECT unnest($names))"
        made.parameters["names"] = names
    return connection.execute(
        _IDENTITIES.format(value=value, source=made.source, where=asked.where, sampled=sampled), made.parameters
    ).fetchall()


def _last(
    connection: duckdb.DuckDBPyConnection, environment: str, times: Mapping[str, int]
) -> dict[str, tuple[str | None, int]]:
    """Return value and position of the last evaluation of each feature, whose time is known; of several then the highest."""
    found: dict[str, tuple[str | None, int]] = {}
    wanted = sorted(set(times.values()))
    for some in _some(wanted):
        listed = ", ".join(f"make_timestamp({time})" for time in some)
        rows: list[Any] = connection.execute(
            "SELECT feature_name, epoch_us(evaluation_time), arg_max_null(value, position), max(position) FROM evaluations "  # noqa: S608  # integers of ours
            f"WHERE environment = $environment AND evaluation_time IN ({listed}) GROUP BY feature_name, evaluation_time",
            {"environment": environment},
        ).fetchall()
        found |= {name: (value, position) for name, time, value, position in rows if times.get(name) == time}
    return found


def _some(wanted: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (wanted[start : start + _AT_ONCE] for start in range(0, len(wanted), _AT_ONCE))


def list_evaluations(
    connection: duckdb.DuckDBPyConnection,
    filter: Filter,  # noqa: A002  # the field's own word
    page_size: int,
    cursor: Cursor | None,
) -> Page:
    """Return at most *page_size* evaluations behind *cursor*, the newest first, as far as `PAGE_BYTES` go."""
    with one_moment(connection):
        asked = filtered(connection, filter)
        if cursor is not None:
            asked.must("time", cursor.evaluation_time, "evaluation_time <= make_timestamp($time)")
            asked.must("position", cursor.position, "(evaluation_time < make_timestamp($time) OR position < $position)")
        asked.parameters["limit"] = page_size + 1
        found = connection.execute(
            f"SELECT {_RECORDED} FROM {asked.source} WHERE {asked.where} "  # noqa: S608  # conditions are ours, values bound
            "ORDER BY evaluation_time DESC, position DESC LIMIT $limit",
            asked.parameters,
        ).fetchall()
        page = _fitting(connection, [RecordedRow(*row) for row in found[:page_size]])
    return shaping.page(page, more=len(page) < len(found))


def _fitting(connection: duckdb.DuckDBPyConnection, rows: list[RecordedRow]) -> tuple[RecordedRow, ...]:
    """Return *rows* with their long texts, as many from the first on as `PAGE_BYTES` have room for, and one at least."""
    apart = [row.position for row in rows if duckdb_texts.APART in (row.value, row.traits, row.metadata)]
    long = duckdb_texts.sizes(connection, apart)
    rows = rows[: shaping.fitting(shaping.row_bytes(row) + long.get(row.position, 0) for row in rows)]
    texts = duckdb_texts.read(connection, [row.position for row in rows if row.position in long])
    return tuple(_whole(row, texts) if row.position in long else row for row in rows)


def _whole(row: RecordedRow, texts: Mapping[tuple[int, str], str]) -> RecordedRow:
    return replace(
        row,
        value=texts.get((row.position, "value"), row.value),
        traits=texts.get((row.position, "identity_traits"), row.traits),
        metadata=texts.get((row.position, "metadata"), row.metadata),
    )


def last_values(connection: duckdb.DuckDBPyConnection, last: Sequence[tuple[str | None, int]]) -> dict[int, str | None]:
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
