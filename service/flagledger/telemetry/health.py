"""Readiness: the conditions under which a front takes evaluations, read by `/readyz` and by gRPC health alike."""

from __future__ import annotations

from collections.abc import Callable


class Readiness:
    """
    Named conditions that must all hold.

    Conditions are asked when somebody asks, so that they cannot be stale.
    """

    def __init__(self, conditions: dict[str, Callable[[], bool]]) -> None:
        self._conditions = conditions
        self._draining = False

    def drain(self) -> None:
        """Turn unready for good: the process is going away."""
        self._draining = True

    def missing(self) -> list[str]:
        """Return the names of the conditions that do not hold, `not draining` among them; empty means ready."""
        missing = [name for name, holds in self._conditions.items() if not holds()]
        if self._draining:
            missing.append("not draining")
        return missing
