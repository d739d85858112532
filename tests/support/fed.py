"""Evaluations that are recorded in a store and sent on into a sink, made by number: whoever counts them again gets the same."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from support.records import START, add_evaluation, entries_of, record_of

STREAM = "journal"

Key = tuple[str, str, str, str]
"""Environment, feature, enabled, variant, as tags have them."""

_ENABLED = (None, True, False)
_FEATURES = ("checkout", "new dashboard", "a,b=c", "é😀", '"quoted"')
_VARIANTS = ("", "blue", "red, or so", "other", "ü=1")


def record_at(position: int) -> JournalRecord:
    """Return the entry at *position*: twenty evaluations by chance, and one of a variant that no other entry has."""
    chance = random.Random(position)
    environment = chance.choice(("production", "staging env"))
    record = record_of(environment=environment, receive_time=START + position, batch_id=f"batch-{position}")
    for _ in range(20):
        _add(record, chance, chance.choice(_FEATURES), chance.choice(_VARIANTS))
    # At two digits, so that the first by position are the first by alphabet too.
    _add(record, chance, f"many variants {position % 2}", f"v{position:04}")
    return record


def apply(store: Store, first: int, last: int) -> None:
    """Apply entries *first* to *last* to *store*."""
    records = [record_at(position) for position in range(first, last + 1)]
    store.apply(STREAM, first, last, *to_columns(entries_of(records, first)))


def expected(last: int) -> Counter[Key]:
    """Return what entries up to *last* come to."""
    return counted([record_at(position) for position in range(1, last + 1)])


def counted(records: Sequence[JournalRecord]) -> Counter[Key]:
    """Return what *records* come to, from their messages and nothing of the code under test."""
    sums: Counter[Key] = Counter()
    named: dict[tuple[str, str], list[str]] = {}
    for record in records:
        environment = record.envelope.environment
        for evaluation in record.evaluations:
            enabled = "unknown"
            if evaluation.HasField("enabled"):
                enabled = "true" if evaluation.enabled else "false"
            known = named.setdefault((environment, evaluation.feature_name), [])
            variant = evaluation.variant
            if variant not in ("", "other", *known) and len(known) < 20:
                known.append(variant)
            shown = variant if variant in ("", *known) else "other"
            sums[environment, evaluation.feature_name, enabled, shown] += evaluation.count
    return sums


def _add(record: JournalRecord, chance: random.Random, feature: str, variant: str) -> None:
    enabled = chance.choice(_ENABLED)
    add_evaluation(
        record,
        feature_name=feature,
        time=START + chance.randrange(5_000_000),
        variant=variant,
        count=chance.randint(1, 1000),
        identity_identifier=f"user-{chance.random()}",
        **({} if enabled is None else {"enabled": enabled}),
    )
