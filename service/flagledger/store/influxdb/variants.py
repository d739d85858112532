"""
Which variants of a feature have a tag of their own.

Whoever evaluates names variants, and each is a series that InfluxDB keeps for good: so the first 20 of a feature in an
environment have names, of up to 64 characters, and all others are counted as `other`. Which ones those are decides lines, and
is remembered before any is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from flagledger.store.sinks import Memory

OTHER: Final = "other"
MAX_VARIANTS: Final = 20
MAX_CHARACTERS: Final = 64
MAX_FEATURES: Final = 10_000
"""Features whose variants are remembered; with an environment that takes any name there may be more. Theirs are `other`."""

_VARIANTS: Final = "variants"


def learn(memory: Memory, seen: Iterable[tuple[str, str, str]]) -> Memory:
    """
    Return *memory* with what is new in *seen*, triples of environment, feature and variant; *memory* itself where nothing is.

    Of variants that come together the first in alphabet are taken: whatever order they are seen in, it is the same.
    """
    known: dict[str, dict[str, list[str]]] = dict(memory.get(_VARIANTS, {}))
    features = sum(map(len, known.values()))
    touched: set[str] = set()
    for environment, feature, variant in sorted(set(seen)):
        if not _may_be_named(variant):
            continue
        of_environment = known.get(environment, {})
        of_feature = of_environment.get(feature)
        if of_feature is None:
            if features == MAX_FEATURES:
                continue
            features, of_feature = features + 1, []
        if variant in of_feature or len(of_feature) == MAX_VARIANTS:
            continue
        if environment not in touched:
            # A copy of what is changed, and of nothing else.
            of_environment = known[environment] = dict(of_environment)
            touched.add(environment)
        of_environment[feature] = [*of_feature, variant]
    return {**memory, _VARIANTS: known} if touched else memory


def named(memory: Memory, environment: str, feature: str, variant: str) -> str:
    """Return *variant* where it has a name or is empty, else `other`."""
    if not variant:
        return variant
    known: Mapping[str, Any] = memory.get(_VARIANTS, {})
    return variant if variant in known.get(environment, {}).get(feature, ()) else OTHER


def _may_be_named(variant: str) -> bool:
    # One that is called so needs no place among the 20.
    return variant not in ("", OTHER) and len(variant) <= MAX_CHARACTERS
