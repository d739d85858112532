"""
Journal entries into Arrow columns by upb and a Python loop: slow, short, and obviously right.

The tests hold `columns.to_columns` equal to this, and the writer tries it where the fast way refuses an entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
from google.protobuf import timestamp_pb2
from google.protobuf.message import DecodeError

from flagledger.internal.v1 import journal_pb2
from flagledger.journal.base import Entry
from flagledger.store.columns import (
    DISCARDS,
    INDEX_BITS,
    MAX_EVALUATIONS,
    ROWS,
    ConversionError,
    plain_struct,
    plain_value,
)
from flagledger.store.json_texts import json_text
from flagledger.store.questions import MAX_TIME, MIN_TIME
from flagledger.v1 import evaluation_pb2


def to_columns_plainly(entries: Sequence[Entry]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """
    Return what *entries* hold, as `columns.to_columns` does.

    Raises:
        ConversionError: Under the same conditions.
    """
    rows: list[dict[str, Any]] = []
    discards: list[dict[str, Any]] = []
    for entry in entries:
        try:
            record = journal_pb2.JournalRecord.FromString(entry.payload)
        except DecodeError as error:
            raise ConversionError(str(error)) from error
        shared = _shared(record)
        if len(record.evaluations) > MAX_EVALUATIONS:
            raise ConversionError(f"an entry holds more than {MAX_EVALUATIONS} evaluations")
        start = entry.position << INDEX_BITS
        rows.extend(
            _row(evaluation) | shared | {"position": start + i} for i, evaluation in enumerate(record.evaluations)
        )
        discards.extend(
            {"reason": discard.reason, "name": discard.name, "entry_count": discard.entry_count, "position": start + i}
            | shared
            for i, discard in enumerate(record.envelope.discards)
        )
    rows.sort(key=lambda row: (row["environment"], row["feature_name"], row["evaluation_time"], row["position"]))
    return _batch(rows, ROWS), _batch(discards, DISCARDS)


def _shared(record: journal_pb2.JournalRecord) -> dict[str, Any]:
    if not record.HasField("envelope"):
        raise ConversionError("an entry has no envelope")
    envelope = record.envelope
    if not envelope.HasField("receive_time"):
        raise ConversionError("an entry lacks a time of receipt")
    return {
        "environment": envelope.environment,
        "batch_id": record.batch_id,
        "receive_time": _microseconds(envelope.receive_time, "time of receipt"),
        "origin": int(envelope.origin),
        "sdk_name": envelope.sdk_name,
        "sdk_version": envelope.sdk_version,
        "sample_rate": envelope.sample_rate or 1.0,
    }


def _row(evaluation: evaluation_pb2.Evaluation) -> dict[str, Any]:
    if not evaluation.HasField("evaluation_timestamp"):
        raise ConversionError("an entry lacks a time of evaluation")
    return {
        "feature_name": evaluation.feature_name,
        "enabled": evaluation.enabled if evaluation.HasField("enabled") else None,
        "value": _value(evaluation),
        "evaluation_time": _microseconds(evaluation.evaluation_timestamp, "time of evaluation"),
        "identity_identifier": evaluation.identity_identifier if evaluation.HasField("identity_identifier") else None,
        "identity_traits": _traits(evaluation),
        "segment_names": list(evaluation.segment_names),
        "variant": evaluation.variant,
        "reason": evaluation.reason,
        "metadata": json_text(plain_struct(evaluation.metadata)) if evaluation.HasField("metadata") else None,
        "count": evaluation.count or 1,
    }


def _value(evaluation: evaluation_pb2.Evaluation) -> str | None:
    if evaluation.value.WhichOneof("kind") is None:
        return None
    return json_text(plain_value(evaluation.value))


def _traits(evaluation: evaluation_pb2.Evaluation) -> str | None:
    if not evaluation.identity_traits:
        return None
    members = (
        f"{orjson.dumps(trait.trait_key).decode()}:{json_text(plain_value(trait.trait_value))}"
        for trait in evaluation.identity_traits
    )
    return "{" + ",".join(members) + "}"


def _microseconds(time: timestamp_pb2.Timestamp, name: str) -> int:
    microseconds = time.seconds * 1_000_000 + time.nanos // 1000
    if not MIN_TIME <= microseconds <= MAX_TIME:
        raise ConversionError(f"a {name} lies outside the years 1 to 9999")
    return microseconds


def _batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        pa.array([row[field.name] for row in rows], _plain_type(field.type)).cast(field.type) for field in schema
    ]
    return pa.record_batch(columns, schema=schema)


def _plain_type(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_
