"""What is kept of people, in words: for whoever starts the service, and whoever checks it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from flagledger.catalog.policy import Policy

_IDENTITIES: Final = {"plain": "identities as sent", "hash": "pseudonyms of identities", "drop": "no identities"}
_MAX_NAMES: Final = 5


def in_words(policy: Policy) -> str:
    """Return what *policy* lets be kept of people: `identities as sent, all traits, all metadata`."""
    return ", ".join(
        (_IDENTITIES[policy.identity], _fields("traits", policy.traits), _fields("metadata", policy.metadata))
    )


def kept_of_people(policies: Mapping[str, Policy], others: Policy | None = None) -> list[str]:
    """
    Return lines that say what is kept of people in which environments.

    Args:
        policies: By name of the environment.
        others: The policy of environments that are not among these; None where there are none.
    """
    names: dict[str, list[str]] = {}
    for name, policy in policies.items():
        names.setdefault(in_words(policy), []).append(name)
    lines = [f"kept of people in {_listed(some)}: {words}" for words, some in names.items()]
    if others is not None:
        lines.append(f"kept of people in {'every other' if names else 'every'} environment: {in_words(others)}")
    return lines


def _fields(noun: str, names: Iterable[str] | None) -> str:
    if names is None:
        return f"all {noun}"
    found = sorted(names)
    return f"{noun} {_listed(found)}" if found else f"no {noun}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMES])
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown
