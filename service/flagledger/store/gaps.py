"""Entries that the journal no longer holds and the store has not applied: refused, unless somebody accepts their loss by name."""

from __future__ import annotations

from flagledger.store.errors import BehindJournalError


def accepted(store: str, known: int, first: int, accept_gap: str | None) -> tuple[int, int] | None:
    """
    Return the first and the last entry that lie between what was applied and what is there; None where none do.

    Args:
        store: What a message calls the store.
        known: Position up to which entries have been applied.
        first: Position of the first entry that is there.
        accept_gap: Name of the gap whose loss is accepted; None for none.

    Raises:
        BehindJournalError: There are some, and it is not accepted.
    """
    if first <= known + 1:
        return None
    gap = (known + 1, first - 1)
    name = f"{gap[0]}-{gap[1]}"
    if name != accept_gap:
        raise BehindJournalError(
            f"{store} has applied entries up to {known}, but the journal begins at {first}: entries {name} are missing, as after "
            "a restored backup, something that was deleted, or where another store was in use before. Name that store again, or "
            "move what it holds here with `flagledger copy`; put the newer one back; or accept the loss of the gap "
            f"{name} by name: FLAGLEDGER_ACCEPT_GAP={name}, or accept_gap in the configuration file.",
            gap=name,
        )
    return gap
