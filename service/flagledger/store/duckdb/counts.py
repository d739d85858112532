"""Counts over time and by groups, as DuckDB is asked for them: one pass over the rows, and all the rest out of that."""

from __future__ import annotations

from typing import Final

import duckdb

from flagledger.store import buckets, shaping
from flagledger.store.conditions import Conditions
from flagledger.store.duckdb.sql import (
    bucket_index,
    filtered,
    is_sample,
    one_moment,
    sample_mask,
    with_trait,
    with_value_key,
)
from flagledger.store.questions import CountQuestion, Counts, Group

# Bytes of a trait beyond which its digest stands for it.
_LONGEST_TRAIT: Final = 4_096

# Rows are grouped by columns as they are kept, which DuckDB does by their dictionaries; what they come to is made of the parts.
_COUNTS: Final = """
    WITH grouped AS MATERIALIZED (
        SELECT {bucket} AS bucket, {columns} enabled, {identity} AS identity, sum("count")::BIGINT AS evaluations
        FROM {source} WHERE {where} GROUP BY ALL
    ), parts AS (
        SELECT bucket, {groups} enabled, identity, evaluations FROM grouped
    ), ranked AS MATERIALIZED (
        SELECT {names} row_number() OVER (ORDER BY sum(evaluations) DESC {order}) AS rank FROM parts {by}
    ), kept AS (
        SELECT bucket, CASE WHEN rank <= $series_limit THEN rank ELSE {rest} END AS series, identity, enabled, evaluations
        FROM parts {join}
    ), tallies AS (
        SELECT series, bucket, sum(evaluations)::BIGINT AS evaluations,
            coalesce(sum(evaluations) FILTER (WHERE enabled), 0)::BIGINT AS enabled,
            coalesce(sum(evaluations) FILTER (WHERE enabled IS NOT NULL), 0)::BIGINT AS known,
            count(DISTINCT identity) * {weight} AS identities
        FROM kept GROUP BY {sets}
    )
    SELECT tallies.*, {values} FROM tallies LEFT JOIN ranked ON series = rank
    ORDER BY series = {rest}, series, bucket NULLS FIRST
"""


def count_evaluations(connection: duckdb.DuckDBPyConnection, question: CountQuestion) -> Counts:
    """Return counts over time and by groups."""
    with one_moment(connection):
        asked = filtered(connection, question.filter)
        bucket_starts = buckets.of_period(
            (question.filter.start, question.filter.end),
            question.bucket,
            question.time_zone,
            lambda: reach(connection, asked, "evaluation_time"),
        )
        mask = sample_mask(connection, asked)
        lower_bound = is_sample(connection, asked)
        groups = [_group(connection, asked, group, index) for index, group in enumerate(question.group_by)]
        names = [f"group_{index}" for index in range(len(groups))]
        asked.parameters["series_limit"] = question.series_limit
        rows = connection.execute(
            _COUNTS.format(
                bucket=bucket_index("evaluation_time", bucket_starts) if bucket_starts else "0",
                columns="".join(
                    f"{column} AS {name}_{number}, "
                    for (columns, _), name in zip(groups, names, strict=True)
                    for number, column in enumerate(columns)
                ),
                groups="".join(
                    f"{sql.format(*(f'{name}_{number}' for number in range(len(columns))))} AS {name}, "
                    for (columns, sql), name in zip(groups, names, strict=True)
                ),
                identity=f"CASE WHEN identity_hash & {mask} = 0 THEN identity_hash END" if mask else "identity_hash",
                source=asked.source,
                where=asked.where,
                names="".join(f"{name}, " for name in names),
                order="".join(f", {name} NULLS FIRST" for name in names),
                by=f"GROUP BY {', '.join(names)}" if names else "",
                join="JOIN ranked ON "
                + (" AND ".join(f"parts.{name} IS NOT DISTINCT FROM ranked.{name}" for name in names) or "true"),
                rest=shaping.REST_SERIES,
                weight=mask + 1,
                sets="GROUPING SETS ((series, bucket), (series))" if bucket_starts else "series, bucket",
                values=", ".join(names) or "NULL",
            ),
            asked.parameters,
        ).fetchall()
    return Counts(
        series=shaping.series(rows, question, len(bucket_starts)),
        bucket_starts=bucket_starts,
        identities_approximate=bool(mask),
        identities_lower_bound=lower_bound,
    )


def reach(connection: duckdb.DuckDBPyConnection, asked: Conditions, column: str) -> tuple[int | None, int | None]:
    """Return the earliest and the latest time in *column* of the rows that are asked for; None where there are none."""
    ((first, last),) = connection.execute(
        f"SELECT epoch_us(min({column})), epoch_us(max({column})) FROM {asked.source} WHERE {asked.where}",  # noqa: S608  # ours
        asked.parameters,
    ).fetchall()
    return first, last


def _group(
    connection: duckdb.DuckDBPyConnection, asked: Conditions, group: Group, index: int
) -> tuple[tuple[str, ...], str]:
    """Return the columns that rows are told apart by, as SQL, and SQL for what they come to, NULL where there is none."""
    match group.kind:
        case "feature":
            return ("feature_name",), "{0}"
        case "enabled" | "origin" as name:
            return (name,), "{0}"
        case "value":
            return (with_value_key(connection, asked),), "nullif({0}, 'null')"
        case "variant" | "reason" as name:
            return (name,), "nullif({0}, '')"
        case "segment":
            # One row for each segment, and one where there is none.
            asked.source = (
                "(SELECT source.*, unnest(CASE WHEN len(segment_names) = 0 THEN [NULL] "  # noqa: S608  # our names
                f"ELSE list_distinct(segment_names) END) AS segment FROM {asked.source} source)"
            )
            return ("segment",), "nullif({0}, '')"
        case "sdk":
            named = "CASE WHEN {1} = '' THEN {0} ELSE {0} || '/' || {1} END"
            return ("sdk_name", "sdk_version"), f"nullif({named}, '')"
        case "trait":
            text = f"{with_trait(connection, asked, group.trait_key, f'trait_{index}')}::VARCHAR"
            # An answer has no room for long ones; those of values are digests already.
            digest = "'\"#' || md5({0}) || '\"'"
            return (text,), f"CASE WHEN strlen({{0}}) > {_LONGEST_TRAIT} THEN {digest} ELSE nullif({{0}}, 'null') END"
