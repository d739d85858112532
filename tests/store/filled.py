"""Stores that hold something: many rows, entries against the order of time, long texts."""

from __future__ import annotations

import random
from typing import Final

from flagledger.store.base import Store
from flagledger.v1.evaluation_pb2 import IdentityTrait
from store.recorded import Recorded
from support.records import START, add_evaluation, record_of, value_of

MANY: Final = 20_000
"""Rows of `many_rows`."""
ENTRIES: Final = 30
"""Entries of `against_time`."""
ROWS_EACH: Final = 4
"""Rows of each of those."""
LONG: Final = 5_000
"""Characters of a long text."""

_DAY: Final = 86_400_000_000
_IDENTITIES: Final = 3_000


def many_rows(store: Store) -> Recorded:
    """Fill *store* with many rows of two large features and a small one, a second apart."""
    chance = random.Random(4)
    ledger = Recorded(store)
    record = record_of(environment="production")
    for number in range(MANY):
        add_evaluation(
            record,
            feature_name="small" if number % 40 == 0 else chance.choice(["large", "larger", "larger"]),
            time=START + number * 1_000_000,
            identity_identifier=f"user_{chance.randrange(_IDENTITIES)}",
            enabled=chance.random() < 0.5,
            count=chance.randint(1, 3),
            value=value_of(chance.choice(["on", "off"])),
            identity_traits=[IdentityTrait(trait_key="plan", trait_value=value_of("pro"))],
        )
    ledger.apply([record])
    return ledger


def against_time(store: Store) -> Recorded:
    """Fill *store* with entries of some kilobytes of three days, whose features and times go against the order of receipt."""
    ledger = Recorded(store)
    records = []
    for number in range(ENTRIES):
        record = record_of(environment="production", receive_time=START + number % 3 * _DAY)
        for row in range(ROWS_EACH):
            add_evaluation(
                record,
                feature_name=f"feature-{9 - row}",
                time=START - number * _DAY,
                identity_identifier=f"user-{number}",
                value=value_of("v" * (10_000 if number % 7 == 0 else 100)),
            )
        records.append(record)
    ledger.apply(records)
    return ledger


def long_texts(store: Store, rows: int, size: int = LONG) -> Recorded:
    """
    Fill *store* with *rows* whose values, traits and metadata have some *size* of characters, each of a feature and an identity
    of its own, and with something that was not recorded.
    """
    ledger = Recorded(store)
    record = record_of(environment="production")
    record.envelope.discards.add(reason="unknown_feature", name="chekcout", entry_count=2)
    record.envelope.discards.add(reason="invalid", name="evaluations[].value", entry_count=1)
    for number in range(rows):
        add_evaluation(
            record,
            feature_name=f"feature-{number:03}",
            time=START + number,
            identity_identifier=f"user-{number}",
            value=value_of(f"{number % 10}" * size),
            identity_traits=[IdentityTrait(trait_key="k", trait_value=value_of("é" * size))],
        )
        record.evaluations[-1].metadata["k"] = "m" * size
    ledger.apply([record])
    return ledger
