"""Exposures and the arms of features, as ClickHouse is asked for them."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from typing import Any, Final

from flagledger.store import shaping
from flagledger.store.clickhouse import texts
from flagledger.store.clickhouse.client import Reader
from flagledger.store.clickhouse.sql import IDENTITY_HASH, VALUE_KEY, at_once, conditions, look, microseconds
from flagledger.store.conditions import Conditions
from flagledger.store.questions import (
    MAX_ARMS,
    ArmTotals,
    ExposureCursor,
    ExposurePage,
    ExposureQuestion,
)

# JSON of a string begins with its quotation mark.
_ARM: Final = f"""
    multiIf(variant <> '', toString(variant),
        startsWith(ifNull({VALUE_KEY}, ''), '"'), JSONExtractString(assumeNotNull({VALUE_KEY})),
        ifNull({VALUE_KEY}, ''))
"""

# Who is on the page: by hashes, since texts are dear where many rows are looked at.
_PAGE: Final = """
    SELECT DISTINCT feature_name, identity_hash FROM evaluations WHERE {where} ORDER BY feature_name, identity_hash LIMIT {limit}
"""

_EXPOSURES: Final = f"""
    SELECT feature_name, identity_identifier, {microseconds("first_time")}, first_row.1, first_row.2, first_row.3, several,
        evaluations_seen, first_row.4, ifNull(first_row.5, 0)
    FROM (
        SELECT feature_name, identity_hash, identity_identifier, min(evaluation_time) AS first_time,
            argMin((arm, variant, {texts.short("value")}, position, {texts.long_bytes("value")}), (evaluation_time, position))
                AS first_row,
            min(arm) <> max(arm) AS several, sum(count) AS evaluations_seen
        FROM (
            SELECT feature_name, identity_hash, identity_identifier, evaluation_time, position, variant, value, count,
                {_ARM} AS arm
            FROM evaluations WHERE {{where}} AND (feature_name, identity_hash) IN (
                SELECT page_feature, page_hash
                FROM (SELECT {{{{features:Array(String)}}}} AS features, {{{{hashes:Array(UInt64)}}}} AS hashes)
                ARRAY JOIN features AS page_feature, hashes AS page_hash
            )
        ) GROUP BY feature_name, identity_hash, identity_identifier
    ) ORDER BY feature_name, identity_hash, identity_identifier
"""  # noqa: S608  # ours

_ARMS: Final = f"""
    SELECT feature_name, only_arm, count() AS identities FROM (
        SELECT feature_name, identity_hash, if(min(arm) = max(arm), min(arm), NULL) AS only_arm
        FROM (
            SELECT feature_name, identity_hash, {_ARM} AS arm FROM evaluations WHERE {{where}} AND feature_name IN (
                SELECT DISTINCT feature_name FROM evaluations WHERE {{where}} ORDER BY feature_name LIMIT {{limit}}
            )
        ) GROUP BY feature_name, identity_hash
    ) GROUP BY feature_name, only_arm
    ORDER BY feature_name, only_arm IS NULL DESC, identities DESC, only_arm LIMIT {{most}} BY feature_name
"""  # noqa: S608  # ours


def list_exposures(
    reader: Reader, question: ExposureQuestion, page_size: int, cursor: ExposureCursor | None
) -> ExposurePage:
    """Return at most *page_size* exposures behind *cursor*, as far as `PAGE_BYTES` go."""
    # Also by rows without an identity: one that has it may have been left out.
    lower_bound = look(reader, conditions(reader, question.filter())).sampled
    rows = _page(reader, _exposed(reader, question), page_size, cursor)
    found = [shaping.exposure(*row[:8]) for row in rows[:page_size]]
    fits = shaping.fitting(shaping.exposure_bytes(one) + row[9] for one, row in zip(found, rows, strict=False))
    kept = list(zip(found[:fits], rows, strict=False))
    apart = [(one.feature_name, one.exposure_time, row[8]) for one, row in kept if row[9]]
    whole = texts.read(reader, question.environment, apart, ("value",))
    return shaping.exposure_page(
        [replace(one, value=whole.get((row[8], "value"), one.value)) for one, row in kept],
        more=fits < len(rows),
        lower_bound=lower_bound,
    )


def _page(reader: Reader, asked: Conditions, page_size: int, cursor: ExposureCursor | None) -> list[tuple[Any, ...]]:
    """Return what the answer is made of, of one identity more than the page takes where there are so many."""
    if cursor is not None:
        hashed = IDENTITY_HASH.format("{after_identity:String}")
        asked.must("after_feature", cursor.feature_name, "feature_name >= {after_feature:String}")
        # Those that share a hash are told apart by their names, where the page before ended between them.
        asked.must(
            "after_identity",
            cursor.identity_identifier,
            f"(feature_name > {{after_feature:String}} OR identity_hash > {hashed} "
            f"OR (identity_hash = {hashed} AND identity_identifier > {{after_identity:String}}))",
        )
    on_page = reader.query(_PAGE.format(where=asked.where, limit=page_size + 1), asked.parameters)
    found: list[tuple[Any, ...]] = []
    for some in at_once(on_page, itemgetter(0)):
        features, hashes = zip(*some, strict=True)
        found += reader.query(
            _EXPOSURES.format(where=asked.where),
            asked.parameters | {"features": list(features), "hashes": list(hashes)},
        )
    return found


def count_arms(reader: Reader, question: ExposureQuestion, feature_limit: int) -> tuple[ArmTotals, ...]:
    """Return the arms of the first *feature_limit* features by name that have exposures."""
    asked = _exposed(reader, question)
    # The first of each feature is of those that saw several arms, where there are any.
    rows = reader.query(_ARMS.format(where=asked.where, limit=feature_limit, most=MAX_ARMS + 2), asked.parameters)
    return shaping.arm_totals((name, arm, identities) for name, arm, identities in rows)


def _exposed(reader: Reader, question: ExposureQuestion) -> Conditions:
    """Return which evaluations count."""
    asked = conditions(reader, question.filter())
    asked.require("identity_hash IS NOT NULL")
    return asked
