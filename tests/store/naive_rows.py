"""What was recorded, as plain values straight from the messages of the journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.columns import plain_struct, plain_value
from flagledger.store.json_texts import json_text
from flagledger.store.questions import Filter, RecordedRow
from flagledger.v1.evaluation_pb2 import Evaluation


@dataclass(frozen=True)
class Row(RecordedRow):
    """A recorded evaluation, and the message that it came from."""

    evaluation: Evaluation

    @property
    def recorded(self) -> RecordedRow:
        """The row as a store answers with it."""
        return RecordedRow(**{field.name: getattr(self, field.name) for field in fields(RecordedRow)})


@dataclass(frozen=True)
class Discard:
    """Entries of one batch that were not recorded, for one reason and name."""

    environment: str
    reason: str
    name: str
    entry_count: int
    receive_time: int
    sdk_name: str
    sdk_version: str


def rows_of(record: JournalRecord, position: int) -> list[Row]:
    """Return what *record* was recorded as, being the entry at *position*."""
    envelope = record.envelope
    return [
        Row(
            position=(position << 16) + index,
            feature_name=evaluation.feature_name,
            enabled=evaluation.enabled if evaluation.HasField("enabled") else None,
            value=json_text(plain_value(evaluation.value)) if evaluation.HasField("value") else None,
            evaluation_time=evaluation.evaluation_timestamp.ToMicroseconds(),
            identity_identifier=evaluation.identity_identifier if evaluation.HasField("identity_identifier") else None,
            traits=traits_text(evaluation),
            segment_names=list(evaluation.segment_names),
            variant=evaluation.variant,
            reason=evaluation.reason,
            metadata=json_text(plain_struct(evaluation.metadata)) if evaluation.HasField("metadata") else None,
            count=evaluation.count or 1,
            environment=envelope.environment,
            batch_id=record.batch_id,
            receive_time=envelope.receive_time.ToMicroseconds(),
            origin=envelope.origin,
            sdk_name=envelope.sdk_name,
            sdk_version=envelope.sdk_version,
            sample_rate=envelope.sample_rate or 1.0,
            evaluation=evaluation,
        )
        for index, evaluation in enumerate(record.evaluations)
    ]


def discards_of(record: JournalRecord) -> list[Discard]:
    """Return what of *record* was not recorded."""
    envelope = record.envelope
    return [
        Discard(
            environment=envelope.environment,
            reason=discard.reason,
            name=discard.name,
            entry_count=discard.entry_count,
            receive_time=envelope.receive_time.ToMicroseconds(),
            sdk_name=envelope.sdk_name,
            sdk_version=envelope.sdk_version,
        )
        for discard in envelope.discards
    ]


def traits_text(evaluation: Evaluation) -> str | None:
    """Return the traits as the text of one object, in the order as sent; None where there are none."""
    members = [
        f"{json_text(trait.trait_key)}:{json_text(plain_value(trait.trait_value))}"
        for trait in evaluation.identity_traits
    ]
    return "{" + ",".join(members) + "}" if members else None


def trait(row: Row, key: str) -> str | None:
    """Return the first trait of *key* as JSON text; None where there is none."""
    for each in row.evaluation.identity_traits:
        if each.trait_key == key:
            return json_text(plain_value(each.trait_value))
    return None


def within(time: int, start: int | None, end: int | None) -> bool:
    """Return whether *time* lies in [start, end)."""
    return (start is None or time >= start) and (end is None or time < end)


def matches(row: Row, asked: Filter) -> bool:
    """Return whether *row* is among those that are asked for."""
    return (
        row.environment == asked.environment
        and within(row.evaluation_time, asked.start, asked.end)
        and asked.feature_name in (None, row.feature_name)
        and asked.identity_identifier in (None, row.identity_identifier)
        and (asked.segment_name is None or asked.segment_name in row.segment_names)
        and asked.value in (None, row.value)
        and asked.variant in (None, row.variant)
        and asked.reason in (None, row.reason)
        and (asked.enabled is None or asked.enabled is row.enabled)
        and (asked.trait_key is None or trait(row, asked.trait_key) is not None)
        and (asked.trait_value is None or asked.trait_value == trait(row, asked.trait_key or ""))
        and asked.sdk_name in (None, row.sdk_name)
        and asked.sdk_version in (None, row.sdk_version)
        and asked.origin in (None, row.origin)
    )


def grouped(pairs: Iterable[tuple[Hashable, Any]]) -> dict[Any, list[Any]]:
    """Return the second of *pairs* by the first."""
    found: defaultdict[Hashable, list[Any]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return dict(found)
