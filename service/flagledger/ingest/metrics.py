"""What intake counts. Bad input is counted here and never logged: its sender decides how much of it there is."""

from __future__ import annotations

from typing import Protocol

from flagledger.errors import Reason


class IngestMetrics(Protocol):
    """
    Counters of intake.

    Entries are those of a batch, not sums of `count`. Those of a duplicate are not counted again.
    """

    def accepted(self, environment: str, entries: int) -> None:
        """Count a batch that was recorded, and *entries* of it that were accepted and kept; maybe none."""

    def sampled_out(self, environment: str, entries: int) -> None:
        """Count *entries* that were accepted, and left out of a sample."""

    def filtered(self, environment: str, entries: int) -> None:
        """Count *entries* whose feature the environment does not have."""

    def foreign(self, environment: str, entries: int) -> None:
        """Count *entries* of an older SDK that are no evaluations, and are not kept."""

    def rejected(self, environment: str, field: str, entries: int) -> None:
        """Count *entries* that were invalid in *field*: a path of the contract without indices, so a bounded set."""

    def duplicate(self, environment: str) -> None:
        """Count a batch that had been recorded before."""

    def refused(self, reason: Reason) -> None:
        """Count a batch of which nothing was recorded."""


class NullMetrics:
    """Counts nothing."""

    def accepted(self, environment: str, entries: int) -> None:
        """Ignore it."""

    def sampled_out(self, environment: str, entries: int) -> None:
        """Ignore it."""

    def filtered(self, environment: str, entries: int) -> None:
        """Ignore it."""

    def foreign(self, environment: str, entries: int) -> None:
        """Ignore it."""

    def rejected(self, environment: str, field: str, entries: int) -> None:
        """Ignore it."""

    def duplicate(self, environment: str) -> None:
        """Ignore it."""

    def refused(self, reason: Reason) -> None:
        """Ignore it."""
