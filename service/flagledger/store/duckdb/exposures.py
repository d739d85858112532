"""Exposures and the arms of features, as DuckDB is asked for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import duckdb

from flagledger.store import shaping
from flagledger.store.conditions import Conditions
from flagledger.store.duckdb import texts as duckdb_texts
from flagledger.store.duckdb.hashes import IDENTITY_HASH
from flagledger.store.duckdb.sql import conditions, is_sample, one_moment, with_value_key
from flagledger.store.questions import (
    MAX_ARMS,
    ArmTotals,
    ExposureCursor,
    ExposurePage,
    ExposureQuestion,
)

_ARM: Final = """
    CASE WHEN variant <> '' THEN variant
        WHEN {value}[1] = '"' THEN json_extract_string({value}, '$')
        ELSE coalesce({value}, '') END
"""

# Who is on the page: by hashes, since texts are dear where many rows are looked at.
_PAGE: Final = """
    SELECT DISTINCT feature_name, identity_hash FROM {source} WHERE {where} ORDER BY feature_name, identity_hash LIMIT $limit
"""

_EXPOSURES: Final = """
    SELECT feature_name, identity_identifier, epoch_us(first.evaluation_time), first.arm, first.variant, first.value,
        several, evaluations, first.position
    FROM (
        SELECT feature_name, identity_hash, identity_identifier, min({{
            'evaluation_time': evaluation_time, 'position': position, 'arm': arm, 'variant': variant, 'value': value
        }}) AS first, min(arm) <> max(arm) AS several, sum("count")::BIGINT AS evaluations
        FROM (SELECT *, {arm} AS arm FROM {source} WHERE {where} AND identity_hash IN ({hashes}))
        WHERE (feature_name, identity_hash) IN (SELECT (unnest($features), unnest($hashes::UBIGINT[])))
        GROUP BY feature_name, identity_hash, identity_identifier
    ) ORDER BY feature_name, identity_hash, identity_identifier
"""

_ARMS: Final = """
    WITH seen AS (
        SELECT feature_name, identity_hash, min(arm) AS arm, min(arm) <> max(arm) AS several
        FROM (SELECT feature_name, identity_hash, {arm} AS arm FROM {source} WHERE {where})
        WHERE feature_name IN (
            SELECT DISTINCT feature_name FROM {source} WHERE {where} ORDER BY feature_name LIMIT $feature_limit
        )
        GROUP BY feature_name, identity_hash
    ), arms AS (
        SELECT feature_name, CASE WHEN NOT several THEN arm END AS arm, count(*) AS identities FROM seen GROUP BY 1, 2
    )
    SELECT feature_name, arm, identities FROM arms
    QUALIFY row_number() OVER (PARTITION BY feature_name ORDER BY arm IS NULL DESC, identities DESC, arm) <= {most}
    ORDER BY feature_name, identities DESC, arm
"""

_VALUE: Final = ("value",)


def list_exposures(
    connection: duckdb.DuckDBPyConnection, question: ExposureQuestion, page_size: int, cursor: ExposureCursor | None
) -> ExposurePage:
    """Return at most *page_size* exposures behind *cursor*, as far as `PAGE_BYTES` go."""
    with one_moment(connection):
        asked, arm = _exposed(connection, question)
        # Also by rows without an identity: one that has it may have been left out.
        lower_bound = is_sample(connection, conditions(question.filter()))
        rows = _page(connection, asked, arm, page_size, cursor)
        apart = [row[-1] for row in rows if row[5] == duckdb_texts.APART]
        sizes = duckdb_texts.sizes(connection, apart, _VALUE)
        found = [shaping.exposure(*row[:-1]) for row in rows[:page_size]]
        fits = shaping.fitting(
            shaping.exposure_bytes(row) + sizes.get(raw[-1], 0) for row, raw in zip(found, rows, strict=False)
        )
        kept = rows[:fits]
        texts = duckdb_texts.read(connection, [row[-1] for row in kept if row[-1] in sizes], _VALUE)
    whole = [
        replace(row, value=texts.get((raw[-1], "value"), row.value)) for row, raw in zip(found, kept, strict=False)
    ]
    return shaping.exposure_page(whole, more=fits < len(rows), lower_bound=lower_bound)


def _page(
    connection: duckdb.DuckDBPyConnection, asked: Conditions, arm: str, page_size: int, cursor: ExposureCursor | None
) -> list[Any]:
    """Return what the answer is made of, of one identity more than the page takes where there are so many."""
    after = Conditions(source=asked.source, parameters=dict(asked.parameters))
    if cursor is not None:
        hashed = IDENTITY_HASH.format("$after_identity")
        after.must("after_feature", cursor.feature_name, "feature_name >= $after_feature")
        # Those that share a hash are told apart by their names, where the page before ended between them.
        after.must(
            "after_identity",
            cursor.identity_identifier,
            f"(feature_name > $after_feature OR identity_hash > {hashed} "
            f"OR (identity_hash = {hashed} AND identity_identifier > $after_identity))",
        )
    where = f"{asked.where} AND {after.where}" if after.where else asked.where
    after.parameters["limit"] = page_size + 1
    on_page = connection.execute(_PAGE.format(source=asked.source, where=where), after.parameters).fetchall()
    if not on_page:
        return []
    del after.parameters["limit"]
    features, hashes = zip(*on_page, strict=True)
    return connection.execute(
        _EXPOSURES.format(
            arm=arm, source=asked.source, where=where, hashes=", ".join(str(one) for one in sorted(set(hashes)))
        ),
        after.parameters | {"features": features, "hashes": hashes},
    ).fetchall()


def count_arms(
    connection: duckdb.DuckDBPyConnection, question: ExposureQuestion, feature_limit: int
) -> tuple[ArmTotals, ...]:
    """Return the arms of the first *feature_limit* features by name that have exposures."""
    with one_moment(connection):
        asked, arm = _exposed(connection, question)
        asked.parameters["feature_limit"] = feature_limit
        rows = connection.execute(
            _ARMS.format(
                arm=arm,
                source=asked.source,
                where=asked.where,
                # The first of each feature is of those that saw several arms, where there are any.
                most=MAX_ARMS + 2,
            ),
            asked.parameters,
        ).fetchall()
    return shaping.arm_totals(rows)


def _exposed(connection: duckdb.DuckDBPyConnection, question: ExposureQuestion) -> tuple[Conditions, str]:
    """Return which evaluations count, and SQL for the arm of one."""
    asked = conditions(question.filter())
    asked.require("identity_hash IS NOT NULL")
    return asked, _ARM.format(value=with_value_key(connection, asked))
