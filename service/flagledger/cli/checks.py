"""Checks of the shares of an experiment's arms, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from flagledger.cli.cells import DASH, cell, count, fixed, integer, number, share, table
from flagledger.cli.reading import visible

# As the contract says: below it the assignment, or its recording, is broken.
_BROKEN: Final = 0.001
# As the contract says: of more arms there is no check, and this many are listed.
_MAX_ARMS: Final = 50
_MIN_ARMS: Final = 2

# Below it chance explains nearly every split.
_FEW_IDENTITIES: Final = 20
# An identity that sees several arms was moved from one to another: by accident a few, in a rollout many.
_ROLLOUT: Final = 0.05


def checks_view(found: list[dict[str, Any]], width: int) -> RenderableType:
    """Return messages SampleRatioCheck as a table each, with a sentence on what it says."""
    if not found:
        return Text("No shares to check.")
    parts: list[RenderableType] = []
    for check in found:
        arms = [arm for arm in check.get("arms") or [] if isinstance(arm, dict)]
        # Where nobody gave weights, equal shares were meant.
        default = DASH if any(number(arm.get("weight")) for arm in arms) else "1"
        right = ("weight", "identities", "expected")
        made = table(width, "arm", "weight!", "identities!", "expected!", right=right)
        for arm in arms:
            made.add_row(
                cell(arm.get("arm")),
                fixed(f"{number(arm['weight']):g}" if number(arm.get("weight")) else default),
                fixed(count(arm.get("identity_count"))),
                fixed(f"{number(arm.get('expected_count')):,.1f}" if "p_value" in check else DASH),
            )
        title = Text(f"Shares of {visible(str(check.get('feature_name', '')))}", style="bold")
        parts += [*([Text()] if parts else []), title, made, *map(Text, _said(check, arms))]
    return Group(*parts)


def _said(check: Mapping[str, Any], arms: list[dict[str, Any]]) -> list[str]:
    """Return what the check of one feature says, in sentences."""
    several = integer(check.get("multiple_arm_identity_count"))
    alone = sum(integer(arm.get("identity_count")) for arm in arms)
    said = []
    if several:
        of_all = f" of {several + alone:,} ({share(several, several + alone)})" if alone else ""
        said.append(f"Left out: {several:,}{of_all} that saw more than one arm.")
    if _is_rollout(alone, several):
        said.append("So many are moved from arm to arm by a rollout rather than by an experiment.")
    return [*said, _verdict(check, arms, alone, several)]


def _is_rollout(alone: int, several: int) -> bool:
    return several > _ROLLOUT * (several + alone)


def _verdict(check: Mapping[str, Any], arms: list[dict[str, Any]], alone: int, several: int) -> str:
    if "p_value" not in check:
        return f"There is nothing to compare: {_why_not(arms, alone, several)}."
    p_value = number(check["p_value"])
    figure = f"p = {p_value:.2g}"
    unmeant = [
        visible(str(arm.get("arm", "")))
        for arm in arms
        if not number(arm.get("expected_count")) and integer(arm.get("identity_count"))
    ]
    if unmeant:
        return (
            f"The shares are not those that were meant ({figure}): {', '.join(unmeant)} "
            f"{'has' if len(unmeant) == 1 else 'have'} no weight, and {'was' if len(unmeant) == 1 else 'were'} seen."
        )
    if alone < _FEW_IDENTITIES:
        return f"{alone:,} {'identity is' if alone == 1 else 'identities are'} too few to tell ({figure})."
    if _is_rollout(alone, several):
        return f"The shares of the others say little of the assignment then ({figure})."
    if p_value < _BROKEN:
        return (
            f"The shares are not those that were meant ({figure}): the assignment or its recording is broken, "
            "and results are not to be trusted."
        )
    return f"Chance alone makes shares as uneven as these ({figure}): nothing speaks against the assignment."


def _why_not(arms: list[dict[str, Any]], alone: int, several: int) -> str:
    """Return why a check has no figure."""
    if several and not alone:
        return "all identities saw several arms"
    if len(arms) >= _MAX_ARMS:
        return f"there are more than {_MAX_ARMS} arms"
    if len(arms) < _MIN_ARMS:
        return "there are fewer than two arms" + (" that an identity saw alone" if several else "")
    return "no identity saw one of these arms"
