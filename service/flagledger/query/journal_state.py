"""What is asked of the journal, which lies with whoever moves it into the store."""

from __future__ import annotations

from dataclasses import dataclass


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
