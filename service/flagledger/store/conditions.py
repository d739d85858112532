"""A WHERE clause that grows, for engines that are asked in SQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Conditions:
    """
    A WHERE clause that grows, and its parameters.

    Attributes:
        source: What follows FROM; has every column of `evaluations`.
        parameters: By name; an empty one was not asked for.
    """

    source: str = "evaluations"
    parameters: dict[str, Any] = field(default_factory=dict)
    _all: list[str] = field(default_factory=list)

    def must(self, name: str, value: object, *conditions: str) -> None:
        """Ask for *conditions*, in which *value* is the parameter *name*; not where *value* is None."""
        if value is not None:
            self._all.extend(conditions)
            self.parameters[name] = value

    def require(self, condition: str) -> None:
        """Ask for a *condition* without parameters of its own."""
        self._all.append(condition)

    @property
    def where(self) -> str:
        """The conditions, as they follow WHERE."""
        return " AND ".join(self._all)
