"""Rows of the API as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flagledger.cli.cells import (
    LOWER_BOUND,
    boolean,
    cell,
    count,
    enabled_share,
    fixed,
    identities,
    integer,
    is_cut,
    json_cell,
    number,
    sdks,
    table,
    time,
)
from flagledger.cli.checks import checks_view
from flagledger.cli.reading import Answer, checks, visible

# Where there are fewer, a table that has much to show shows what matters most.
_WIDE_COLUMNS: Final = 120
_WIDER: Final = "A wider terminal shows more."
_PSEUDONYM_PREFIX: Final = "hmac:"
_PSEUDONYMS: Final = "hmac: marks pseudonyms; --identity takes the identity itself, too."
_KEPT: Final = {"hash": "pseudonyms", "drop": "none"}
_OF_A_SAMPLE: Final = (
    "Some of the evaluations are a sample: identities may be missing, and first exposures be later ones."
)


def environments_view(answer: Answer, width: int) -> RenderableType:
    """Return rows of EnvironmentSummary as a table."""
    if not answer.rows:
        return Text("No environments.")
    headings = {
        "environment!": True,
        # Where nobody calls any otherwise.
        "called": any(row.get("display_name") for row in answer.rows),
        "features!": True,
        "identities!": True,
        "evaluations!": True,
    }
    made = _table(width, headings, right=("features",))
    for row in answer.rows:
        cells = (
            cell(row.get("name")),
            cell(row.get("display_name")),
            fixed("any" if row.get("takes_any_feature") is True else count(row.get("feature_count"))),
            fixed(_KEPT.get(str(row.get("identity_policy")), "as sent")),
            fixed(_sampling(row)),
        )
        made.add_row(*_wanted(cells, headings))
    notes = [_WIDER] if is_cut(made, width) else []
    return Group(made, *map(Text, notes))


def _sampling(row: Mapping[str, Any]) -> str:
    rate = number(row.get("sample_rate"))
    return f"1 of {1 / rate:,.0f} is kept" if 0 < rate < 1 else "all are kept"


def evaluations_view(answer: Answer, width: int) -> RenderableType:
    """Return rows of RecordedEvaluation as a table."""
    if not answer.rows:
        return Text("No evaluations match.")
    # Most SDKs send no variant and no count, and the width is needed.
    headings = {
        "time!": True,
        "feature!": True,
        "enabled!": True,
        "value": True,
        "count!": any(integer(row.get("count")) > 1 for row in answer.rows),
        "identity": True,
        "segments": True,
        "variant": any(row.get("variant") for row in answer.rows),
    }
    made = _table(width, headings, right=("count",))
    for row in answer.rows:
        cells = (
            fixed(time(row.get("evaluation_timestamp"))),
            cell(row.get("feature_name")),
            fixed(boolean(row.get("enabled"))),
            json_cell(row, "value"),
            fixed(count(row.get("count", 1))),
            cell(row.get("identity_identifier")),
            cell(", ".join(str(name) for name in row.get("segment_names") or [])),
            cell(row.get("variant")),
        )
        made.add_row(*_wanted(cells, headings))
    notes = [f"The newest {len(answer.rows):,}; --limit shows more."] if answer.more else []
    notes += _pseudonyms(answer)
    if any(0 < number(row.get("sample_rate")) < 1 for row in answer.rows):
        notes.append("Some are a sample: their count stands for those that were left out, too.")
    if is_cut(made, width):
        notes.append(_WIDER)
    return Group(made, *map(Text, notes))


def features_view(answer: Answer, width: int) -> RenderableType:
    """Return rows of FeatureSummary as a table, and what its marks mean."""
    if not answer.rows:
        return Text("No features.")
    # What no row has would take width from what some have.
    several = any(integer(row.get("multiple_value_identity_count")) for row in answer.rows)
    sent = any(row.get("sdks") for row in answer.rows)
    wide = width >= _WIDE_COLUMNS
    marks = [_feature_mark(row) for row in answer.rows]
    headings = {
        "!": any(marks),
        "feature!": True,
        "evaluations!": True,
        "enabled!": True,
        "identities!": True,
        "several values!": several and wide,
        "last evaluated!": True,
        "last value": True,
        "SDKs": sent and wide,
    }
    made = _table(width, headings, right=("evaluations", "enabled", "identities", "several values"))
    for row, mark in zip(answer.rows, marks, strict=True):
        cells = (
            fixed(mark),
            cell(row.get("feature_name")),
            fixed(count(row.get("evaluation_count"))),
            fixed(enabled_share(row)),
            fixed(identities(row.get("identity_count"), row)),
            fixed(identities(row.get("multiple_value_identity_count"), row)),
            # Where there was none in the period, the last one before tells more than nothing.
            fixed(time(row.get("last_evaluation_time") or row.get("last_seen_time"))),
            json_cell(row, "last_value"),
            cell(sdks(row)),
        )
        made.add_row(*_wanted(cells, headings))
    before = any(row.get("last_seen_time") for row, mark in zip(answer.rows, marks, strict=True) if mark == "-")
    meanings = {
        "!": "! is not in the catalog of the environment.",
        "-": "- is in the catalog, and was not evaluated in the period"
        f"{': the last time was before' if before else ''}.",
    }
    notes = [meaning for mark, meaning in meanings.items() if mark in marks]
    if any(row.get("identities_lower_bound") is True for row in answer.rows):
        notes.append(LOWER_BOUND)
    if answer.more:
        notes.append(f"The first {len(answer.rows):,}; --limit shows more.")
    if answer.whole.get("data_since"):
        notes.append(f"Recorded since {visible(time(answer.whole['data_since']))}.")
    if ((several or sent) and not wide) or is_cut(made, width):
        notes.append(_WIDER)
    return Group(made, *map(Text, notes))


def unknown_features_view(answer: Answer, width: int) -> RenderableType:
    """Return rows of UnknownFeature as a table."""
    others = integer(answer.whole.get("other_evaluation_count"))
    if not answer.rows and not others:
        return Text("No unknown features.")
    wide = width >= _WIDE_COLUMNS
    headings = {
        "feature!": True,
        "likely meant!": True,
        "evaluations!": True,
        "first seen!": wide,
        "last seen!": True,
        "SDKs": True,
    }
    made = _table(width, headings, right=("evaluations",))
    for row in answer.rows:
        cells = (
            cell(row.get("feature_name")),
            cell(row.get("likely_match")),
            fixed(count(row.get("evaluation_count"))),
            fixed(time(row.get("first_seen_time"))),
            fixed(time(row.get("last_seen_time"))),
            cell(sdks(row)),
        )
        made.add_row(*_wanted(cells, headings))
    notes = [f"The first {len(answer.rows):,}; --limit shows more."] if answer.more else []
    if others:
        notes.append(f"{others:,} more evaluations, of names that are not listed.")
    if answer.rows and not wide:
        notes.append(_WIDER)
    return Group(made, *map(Text, notes))


def exposures_view(answer: Answer, width: int) -> RenderableType:
    """Return rows of Exposure as a table, and the checks of the shares below it."""
    if not answer.rows:
        return Text("No exposures match.")
    several = any(row.get("multiple_arms") is True for row in answer.rows)
    headings = {
        "!": several,
        "feature!": True,
        "identity": True,
        "first exposed!": True,
        "arm": True,
        "evaluations!": True,
    }
    made = _table(width, headings, right=("evaluations",))
    for row in answer.rows:
        cells = (
            fixed("!" if row.get("multiple_arms") is True else ""),
            cell(row.get("feature_name")),
            cell(row.get("identity_identifier")),
            fixed(time(row.get("exposure_time"))),
            cell(row.get("arm")),
            fixed(count(row.get("evaluation_count"))),
        )
        made.add_row(*_wanted(cells, headings))
    notes = []
    if several:
        notes.append("! saw more than one arm: leave it out of an experiment.")
    notes += _pseudonyms(answer) + _sampled(answer)
    if answer.more:
        notes.append(f"The first {len(answer.rows):,}; --limit shows more.")
    if is_cut(made, width):
        notes.append(_WIDER)
    return Group(made, *map(Text, notes), Text(), checks_view(checks(answer), width))


def shares_view(answer: Answer, width: int) -> RenderableType:
    """Return rows of SampleRatioCheck, which stood beside exposures."""
    return Group(checks_view(answer.rows, width), *map(Text, _sampled(answer)))


def _sampled(answer: Answer) -> list[str]:
    """Return what is to be said where the exposures of *answer* are out of a sample."""
    return [_OF_A_SAMPLE] if answer.whole.get("identities_lower_bound") is True else []


def _table(width: int, headings: Mapping[str, bool], *, right: tuple[str, ...]) -> Table:
    """Return an empty table with those of the headings that are wanted."""
    return table(width, *(heading for heading, wanted in headings.items() if wanted), right=right)


def _wanted(cells: Iterable[Text], headings: Mapping[str, bool]) -> list[Text]:
    """Return those of the cells, one for each heading, whose heading is wanted."""
    return [one for one, wanted in zip(cells, headings.values(), strict=True) if wanted]


def _pseudonyms(answer: Answer) -> list[str]:
    """Return what is to be said where identities of *answer* are pseudonyms."""
    held = any(str(row.get("identity_identifier") or "").startswith(_PSEUDONYM_PREFIX) for row in answer.rows)
    return [_PSEUDONYMS] if held else []


def _feature_mark(row: Mapping[str, Any]) -> str:
    if row.get("in_catalog") is not True:
        return "!"
    return "" if integer(row.get("evaluation_count")) else "-"
