"""Exposures and the arms of features, as PostgreSQL is asked for them."""

from __future__ import annotations

from typing import Final

from flagledger.store import shaping
from flagledger.store.conditions import Conditions
from flagledger.store.postgres.sql import ARM, SAMPLED, Reader, ask, conditions, room, storable
from flagledger.store.questions import (
    MAX_ARMS,
    PAGE_BYTES,
    ArmTotals,
    ExposureCursor,
    ExposurePage,
    ExposureQuestion,
)

# Who is on the page: by hashes, since texts are dear where many rows are looked at.
_PAGE: Final = """
    SELECT DISTINCT feature_name, identity_hash FROM evaluations WHERE {where} AND identity_hash IS NOT NULL
    ORDER BY feature_name, identity_hash LIMIT %(limit)s
"""

_EXPOSURES: Final = """
    WITH seen AS (
        SELECT feature_name, identity_hash, identity_identifier, evaluation_time, position, variant, value, "count", {arm} AS arm
        FROM evaluations
        WHERE {where} AND identity_hash = ANY (%(hashes)s)
            AND (feature_name, identity_hash) IN (SELECT * FROM unnest(%(features)s::text[], %(hashes)s::bigint[]))
    ), exposed AS (
        SELECT DISTINCT ON (feature_name, identity_hash, identity_identifier) feature_name, identity_hash,
            identity_identifier, evaluation_time, arm, variant, value, min(arm) OVER own <> max(arm) OVER own AS several,
            (sum("count") OVER own)::bigint AS evaluations
        FROM seen WINDOW own AS (PARTITION BY feature_name, identity_hash, identity_identifier)
        ORDER BY feature_name, identity_hash, identity_identifier, evaluation_time, position
    ), sized AS (
        SELECT *, count(*) OVER () AS found, row_number() OVER listed AS number, sum({bytes}) OVER listed AS total
        FROM exposed
        WINDOW listed AS (ORDER BY feature_name, identity_hash, identity_identifier ROWS UNBOUNDED PRECEDING)
    )
    SELECT found, feature_name, identity_identifier, evaluation_time, arm, variant, value, several, evaluations FROM sized
    WHERE number <= %(page_size)s AND (number = 1 OR total <= {room})
    ORDER BY feature_name, identity_hash, identity_identifier
"""

_ARMS: Final = """
    WITH features AS (
        SELECT DISTINCT feature_name FROM evaluations WHERE {where} AND identity_hash IS NOT NULL
        ORDER BY feature_name LIMIT %(feature_limit)s
    ), seen AS (
        SELECT feature_name, min(arm) AS arm, min(arm) <> max(arm) AS several
        FROM (
            SELECT feature_name, identity_hash, {arm} AS arm FROM evaluations
            WHERE {where} AND identity_hash IS NOT NULL AND feature_name IN (SELECT feature_name FROM features)
        ) AS rows GROUP BY feature_name, identity_hash
    ), arms AS (
        SELECT feature_name, CASE WHEN NOT several THEN arm END AS arm, count(*) AS identities FROM seen GROUP BY 1, 2
    ), ranked AS (
        SELECT *, row_number() OVER (
            PARTITION BY feature_name ORDER BY arm IS NULL DESC, identities DESC, arm
        ) AS rank FROM arms
    )
    SELECT feature_name, arm, identities FROM ranked WHERE rank <= {most} ORDER BY feature_name, identities DESC, arm
"""

_ROOM: Final = room(shaping.EXPOSURE_BYTES, "feature_name", "identity_identifier", "arm", "variant", "value")


def list_exposures(
    reader: Reader, question: ExposureQuestion, page_size: int, cursor: ExposureCursor | None
) -> ExposurePage:
    """Return at most *page_size* exposures behind *cursor*, as far as `PAGE_BYTES` go."""
    asked = conditions(question.filter())
    # Also by rows without an identity: one that has it may have been left out.
    lower_bound = is_sample(reader, asked)
    if cursor is not None and len(storable([cursor.feature_name, cursor.identity_identifier])) < 2:  # noqa: PLR2004  # both
        # No page ever ended there.
        return ExposurePage(rows=(), next=None, identities_lower_bound=lower_bound)
    if cursor is not None:
        asked.parameters |= {"after_feature": cursor.feature_name, "after_identity": cursor.identity_identifier}
        # Those that share a hash are told apart by their names, where the page before ended between them.
        asked.require("feature_name >= %(after_feature)s")
        asked.require(
            "(feature_name, identity_hash, identity_identifier) "
            "> (%(after_feature)s, hashtextextended(%(after_identity)s, 0), %(after_identity)s)"
        )
    on_page = ask(reader, _PAGE.format(where=asked.where), asked.parameters | {"limit": page_size + 1})
    if not on_page:
        return ExposurePage(rows=(), next=None, identities_lower_bound=lower_bound)
    asked.parameters["features"], asked.parameters["hashes"] = map(list, zip(*on_page, strict=True))
    asked.parameters["page_size"] = page_size
    found = ask(reader, _EXPOSURES.format(arm=ARM, where=asked.where, bytes=_ROOM, room=PAGE_BYTES), asked.parameters)
    rows = [shaping.exposure(*row[1:]) for row in found]
    return shaping.exposure_page(rows, more=len(rows) < found[0][0], lower_bound=lower_bound)


def count_arms(reader: Reader, question: ExposureQuestion, feature_limit: int) -> tuple[ArmTotals, ...]:
    """Return the arms of the first *feature_limit* features by name that have exposures."""
    asked = conditions(question.filter())
    # The first of each feature is of those that saw several arms, where there are any.
    statement = _ARMS.format(arm=ARM, where=asked.where, most=MAX_ARMS + 2)
    return shaping.arm_totals(ask(reader, statement, asked.parameters | {"feature_limit": feature_limit}))


def is_sample(reader: Reader, asked: Conditions) -> bool:
    """
    Return whether some of the rows that are *asked* for were sampled.

    There is an index of those alone, so that where nothing was sampled this costs next to nothing.
    """
    ((found,),) = ask(
        reader,
        f"SELECT EXISTS (SELECT FROM evaluations WHERE {asked.where} AND {SAMPLED})",  # noqa: S608  # our conditions
        asked.parameters,
    )
    return bool(found)
