"""What is asked of the journal, which lies with whoever moves it into the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """
    What the journal holds while nobody knows how far the store has come.

    Attributes:
        bytes: Bytes that it holds.
        max_bytes: Bytes at which senders are told to wait.
        batches: Batches that it holds.
        seconds: Age of the oldest of them; 0 where there is none.
    """

    bytes: int
    max_bytes: int
    batches: int
    seconds: float

    def sentence(self) -> str:
        """Return it in words."""
        if not self.batches:
            return "The journal holds nothing that waits."
        return (
            f"The journal holds {self.batches:,} {'batch' if self.batches == 1 else 'batches'}, the oldest from "
            f"{self.seconds:,.0f} s ago, and is {100 * self.bytes / self.max_bytes:.1f} % full."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """
    How far the store is behind.

    Attributes:
        bytes: Bytes that the journal holds.
        max_bytes: Bytes at which senders are told to wait.
        waiting_batches: Batches that the store does not hold yet.
        lag_seconds: Age of the oldest of them; 0 where there is none.
    """

    bytes: int
    max_bytes: int
    waiting_batches: int
    lag_seconds: float
