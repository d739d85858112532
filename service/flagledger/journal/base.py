"""The journal's seam: what lies between the answer and the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class JournalError(Exception):
    """The journal cannot be opened: it is none, unreadable, or of a newer format. The message says which, where, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a batch was answered with: entries accepted, filtered and rejected."""

    accepted: int
    filtered: int
    rejected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What became of an append: whether the batch had been recorded before, and the outcome of the first time."""

    duplicate: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One journal entry: its position (from 1, growing, never used twice) and a serialised JournalRecord."""

    position: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """What waits to be applied: bytes of payload, entries, and the age of the oldest in seconds (0 where none waits)."""

    bytes: int
    entries: int
    oldest_age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What lies behind a position: entries, and the age of the oldest in seconds (0 where there is none)."""

    entries: int
    oldest_age: float


class Journal(Protocol):
    """
    A durable, ordered log of batches that remembers the batch ids it has seen.

    Attributes:
        identity: Names this journal for as long as its file lives; a store refuses any other.
    """

    identity: str

    async def append(
        self, environment: str, batch_id: str, digest: bytes, outcome: Outcome, payload: bytes
    ) -> Appended:
        """
        Append *payload* and return when it is on disk.

        A *batch_id* (empty for none) that *environment* has used before appends nothing: with the same *digest* the first
        outcome is returned as a duplicate.

        Raises:
            FlagledgerError: BATCH_ID_REUSED where the digest differs; JOURNAL_FULL at the size limit; DISK_FAILING where the
                disk is full or fails; DRAINING once closing. Nothing was appended then.
        """

    def read(self, after: int, max_bytes: int) -> list[Entry]:
        """Return entries behind position *after*, in order, up to *max_bytes* of payload but at least one where there is one."""

    def trim(self, up_to: int) -> None:
        """Forget the payloads of entries up to position *up_to*. Their batch ids stay known."""

    def lag(self) -> Lag:
        """Return what has not been trimmed yet."""
