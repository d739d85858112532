"""What is said of a feature under whose name nothing was found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from flagledger.cli import reading
from flagledger.cli.cells import integer
from flagledger.cli.options import Server
from flagledger.cli.reading import ReadingError, visible


def nothing_found(
    server: Server, feature: str, period: Mapping[str, str], *, of: str = "evaluations", narrowed: bool = False
) -> str:
    """
    Return a sentence for an empty answer about *feature*; what helps is asked of the server.

    Args:
        server: Whom to ask.
        feature: The name that was given.
        period: Fields of the period that was asked about.
        of: What was asked for.
        narrowed: Whether other filters were given too, so that the feature may have been evaluated.
    """
    name = visible(feature)
    head = f"No {of} of {name}"
    try:
        listed = next(
            server.reader.pages(reading.FEATURES, {**server.query(), **period}, reading.FEATURES.max_page_size)
        )
    except ReadingError:
        # It was asked for as a help alone.
        return f"{head} match."
    counts = {str(row.get("feature_name")): integer(row.get("evaluation_count")) for row in listed.rows}
    if counts.get(feature) or (narrowed and feature in counts):
        return f"{head} match."
    if feature in counts:
        return f"{head} in the period." if period else f"{head}."
    match = _likely(feature, counts)
    meant = f" Did you mean {visible(match)}?" if match else ""
    # Of a long list only the beginning is known.
    return f"{head}.{meant}" if listed.more else f"{head}; the environment has no such feature.{meant}"


def _likely(feature: str, names: Iterable[str]) -> str | None:
    """Return the one of *names* that *feature* resembles most, whatever their case; None where none does."""
    folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(feature.casefold(), folded, n=1)
    return folded[found[0]] if found else None
