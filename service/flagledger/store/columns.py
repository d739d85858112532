"""
Journal entries into Arrow columns: the one place where each evaluation costs time.

`to_columns` lets ptars (compiled) read the protobuf bytes as ColumnarRecord, the wire-compatible twin of JournalRecord,
and does the rest with Arrow kernels over whole columns; only nested objects and arrays go through upb and orjson, once
per distinct value. `to_columns_plainly` (module `plain`) is the same from upb messages in a Python loop: what the tests
hold this one equal to.

What a row costs, as multiples of upb parsing alone (three traits, two segments, 137 bytes; one thread): ptars alone 2, this
5, the loop over messages 44. Where every row holds an object of its own as value: this 11, the loop 37.

JSON texts have the form of `json_texts`, in which integral numbers are integers (protobuf does not keep whether 1 or 1.0 was
sent). JSON null is the text `null`; an absent value is NULL.
Traits are one object in the order as sent, in which a key that was sent twice stands twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import struct_pb2

from flagledger.internal.v1 import journal_pb2
from flagledger.journal.base import Entry
from flagledger.store.json_texts import MAX_EXACT, json_text, plain_number, string_texts
from flagledger.store.questions import MAX_TIME, MIN_TIME

# A row's position is its entry's position and its index in the entry: unique, and growing with receipt.
INDEX_BITS: Final = 16
MAX_EVALUATIONS: Final = 1 << INDEX_BITS

_TIME: Final = pa.timestamp("us")  # UTC; with a zone, reading it back would need a library of zones
_NAME: Final = pa.dictionary(pa.int32(), pa.string())

ROWS: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("environment", _NAME, nullable=False),
        pa.field("feature_name", _NAME, nullable=False),
        pa.field("enabled", pa.bool_()),
        pa.field("value", pa.string()),
        pa.field("evaluation_time", _TIME, nullable=False),
        pa.field("identity_identifier", pa.string()),
        pa.field("identity_traits", pa.string()),
        pa.field("segment_names", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("metadata", pa.string()),
        pa.field("count", pa.uint32(), nullable=False),
        pa.field("batch_id", _NAME, nullable=False),
        pa.field("receive_time", _TIME, nullable=False),
        pa.field("origin", pa.int32(), nullable=False),
        pa.field("sdk_name", _NAME, nullable=False),
        pa.field("sdk_version", _NAME, nullable=False),
        pa.field("sample_rate", pa.float64(), nullable=False),
    ]
)
"""Recorded evaluations, sorted by environment, feature name, evaluation time and position. Times are UTC."""

DISCARDS: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("environment", _NAME, nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("entry_count", pa.uint32(), nullable=False),
        pa.field("batch_id", _NAME, nullable=False),
        pa.field("receive_time", _TIME, nullable=False),
        pa.field("origin", pa.int32(), nullable=False),
        pa.field("sdk_name", _NAME, nullable=False),
        pa.field("sdk_version", _NAME, nullable=False),
    ]
)
"""Evaluations that were not recorded, in the order of receipt, one row for each reason and name of a batch."""


_NO_DISCARDS: Final = pa.RecordBatch.from_pylist([], DISCARDS)


class ConversionError(Exception):
    """Some entry of those given cannot be made into rows. Which one is found by converting fewer."""


def to_columns(entries: Sequence[Entry]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """
    Return what *entries* hold as batches of the schemas `ROWS` and `DISCARDS`.

    Raises:
        ConversionError: A payload is not a JournalRecord, lacks its envelope or a time, holds a number that JSON has
            not, a time that google.protobuf.Timestamp has not, or more than `MAX_EVALUATIONS`.
    """
    try:
        return _convert(entries)
    except ConversionError:
        raise
    except BaseException as error:
        # A panic in compiled code arrives as a BaseException of its own.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ConversionError(f"{type(error).__name__}: {error}") from error
        raise


_HANDLER: Final = ptars.HandlerPool(
    [journal_pb2.DESCRIPTOR], config=ptars.PtarsConfig(timestamp_unit="us", timestamp_tz=None)
).get_for_message(journal_pb2.ColumnarRecord.DESCRIPTOR)


def _convert(entries: Sequence[Entry]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    records = _HANDLER.list_to_record_batch([entry.payload for entry in entries])
    envelopes = records.column("envelope")
    positions = pa.array([entry.position << INDEX_BITS for entry in entries], pa.int64())
    shared = {
        name: pc.struct_field(envelopes, name)
        for name in ("environment", "receive_time", "origin", "sdk_name", "sdk_version")
    }
    if shared["environment"].null_count:
        raise ConversionError("an entry has no envelope")
    _check_times(shared["receive_time"], "time of receipt")
    for name in ("environment", "sdk_name", "sdk_version"):
        shared[name] = shared[name].dictionary_encode()
    shared["batch_id"] = records.column("batch_id").dictionary_encode()
    rows = _rows(records.column("evaluations"), positions, shared | {"sample_rate": _sample_rates(envelopes)})
    return rows, _discards(pc.struct_field(envelopes, "discards"), positions, shared)


def _rows(evaluations: pa.ListArray, positions: pa.Array, shared: dict[str, pa.Array]) -> pa.RecordBatch:
    lengths = pc.list_value_length(evaluations)
    if len(lengths) and (pc.max(lengths).as_py() or 0) > MAX_EVALUATIONS:
        raise ConversionError(f"an entry holds more than {MAX_EVALUATIONS} evaluations")
    parents = pc.list_parent_indices(evaluations)
    flat = pc.list_flatten(evaluations)
    fields = dict(zip((field.name for field in flat.type), flat.flatten(), strict=True))
    _check_times(fields["evaluation_timestamp"], "time of evaluation")
    columns = {name: column.take(parents) for name, column in shared.items()}
    columns |= {
        "position": _row_positions(evaluations, positions, parents),
        "feature_name": _with_sorted_dictionary(fields["feature_name"].dictionary_encode()),
        "enabled": fields["enabled"],
        "value": _json_texts(fields["value"]),
        "evaluation_time": fields["evaluation_timestamp"],
        "identity_identifier": fields["identity_identifier"],
        "identity_traits": _traits_texts(fields["identity_traits"]),
        "segment_names": fields["segment_names"],
        "variant": fields["variant"],
        "reason": fields["reason"],
        "metadata": _nested_texts(fields["metadata"], _struct_text),
        "count": pc.max_element_wise(fields["count"], _ONE),
    }
    batch = pa.record_batch([columns[field.name].cast(field.type) for field in ROWS], schema=ROWS)
    return batch.take(
        _order(
            _with_sorted_dictionary(columns["environment"]), columns["feature_name"], batch.column("evaluation_time")
        )
    )


def _discards(discards: pa.ListArray, positions: pa.Array, shared: dict[str, pa.Array]) -> pa.RecordBatch:
    flat = pc.list_flatten(discards)
    if not len(flat):
        return _NO_DISCARDS
    parents = pc.list_parent_indices(discards)
    columns = {name: column.take(parents) for name, column in shared.items()}
    columns |= dict(zip((field.name for field in flat.type), flat.flatten(), strict=True))
    columns["position"] = _row_positions(discards, positions, parents)
    return pa.record_batch([columns[field.name].cast(field.type) for field in DISCARDS], schema=DISCARDS)


def _sample_rates(envelopes: pa.StructArray) -> pa.Array:
    """Return the rate of each entry; where there is none, each evaluation was kept."""
    rates = pc.struct_field(envelopes, "sample_rate")
    return pc.if_else(pc.equal(rates, _NO_RATE), _WHOLE, rates)


def _row_positions(lists: pa.ListArray, positions: pa.Array, parents: pa.Array) -> pa.Array:
    """Return position and index of each element of *lists* as one integer."""
    starts = pc.subtract(lists.offsets.slice(0, len(lists)), lists.offsets[0]).cast(pa.int64())
    return pc.add(pa.arange(0, len(parents)), pc.subtract(positions, starts).take(parents))


def _check_times(times: pa.Array, name: str) -> None:
    if not len(times):
        return
    if times.null_count:
        raise ConversionError(f"an entry lacks a {name}")
    bounds = pc.min_max(times.cast(pa.int64())).as_py()
    # The compiled reader saturates what does not fit, which lies outside too.
    if bounds["min"] < MIN_TIME or bounds["max"] > MAX_TIME:
        raise ConversionError(f"a {name} lies outside the years 1 to 9999")


def _with_sorted_dictionary(column: pa.DictionaryArray) -> pa.DictionaryArray:
    order = pc.array_sort_indices(column.dictionary)
    ranks = pc.array_sort_indices(order).cast(pa.int32())
    return pa.DictionaryArray.from_arrays(ranks.take(column.indices), column.dictionary.take(order))


def _order(environments: pa.DictionaryArray, features: pa.DictionaryArray, times: pa.Array) -> pa.Array:
    """Return the indices that sort by environment, feature and time; rows of equal time keep their order."""
    by_time = pc.array_sort_indices(times)
    width = pa.scalar(max(len(features.dictionary), 1), pa.int64())
    groups = pc.add(pc.multiply(environments.indices.cast(pa.int64()), width), features.indices.cast(pa.int64()))
    # Two stable sorts, the second over few distinct integers: cheaper than one that compares strings.
    return by_time.take(pc.array_sort_indices(groups.take(by_time)))


# Typed and made once: a kernel that is handed a Python value guesses its type, and looks for libraries that are not
# there to do so.
_ABSENT: Final = pa.scalar(None, pa.string())
_NOTHING: Final = pa.scalar("", pa.string())
_NULL, _TRUE, _FALSE = (pa.scalar(text, pa.string()) for text in ("null", "true", "false"))
_QUOTE, _COLON, _COMMA, _OPEN, _CLOSE = (pa.scalar(text, pa.string()) for text in '":,{}')
_ZERO: Final = pa.scalar(0, pa.int32())
_ONE: Final = pa.scalar(1, pa.uint32())
_NO: Final = pa.scalar(False, pa.bool_())  # noqa: FBT003  # a kernel's operand
_NO_NUMBER: Final = pa.scalar(None, pa.float64())
_NO_RATE: Final = pa.scalar(0.0, pa.float64())
_WHOLE: Final = pa.scalar(1.0, pa.float64())
_MAX_EXACT: Final = pa.scalar(MAX_EXACT, pa.float64())
_NEGATIVE_ZERO: Final = pa.scalar(-(1 << 63), pa.int64())  # the bits of the double -0.0


def _json_texts(values: pa.StructArray) -> pa.Array:
    """Return each ColumnarValue as JSON text, NULL where it is absent or of no kind."""
    null, number, string, boolean, struct, array = values.flatten()
    ways: tuple[tuple[pa.Array, Callable[[pa.Array], pa.Array]], ...] = (
        (string, string_texts),
        (number, _number_texts),
        (boolean, lambda column: pc.if_else(column, _TRUE, _FALSE)),
        (struct, lambda column: _nested_texts(column, _struct_text)),
        (array, lambda column: _nested_texts(column, _list_text)),
        (null, lambda column: pc.if_else(column.is_valid(), _NULL, _ABSENT)),
    )
    texts = [convert(column) for column, convert in ways if column.null_count < len(column)]
    return pc.coalesce(*texts) if texts else pa.nulls(len(values), pa.string())


def _traits_texts(traits: pa.ListArray) -> pa.Array:
    """Return each list of ColumnarTraits as the text of one JSON object, NULL where it is empty."""
    flat = pc.list_flatten(traits)
    if not len(flat):
        return pa.nulls(len(traits), pa.string())
    keys, values = flat.flatten()
    names = keys.dictionary_encode()
    keys = string_texts(names.dictionary).take(names.indices)
    members = pc.binary_join_element_wise(keys, pc.coalesce(_json_texts(values), _NULL), _COLON)
    offsets = pc.subtract(traits.offsets, traits.offsets[0])
    inner = pc.binary_join(pa.ListArray.from_arrays(offsets, members), _COMMA)
    texts = pc.binary_join_element_wise(_OPEN, inner, _CLOSE, _NOTHING)
    return pc.if_else(pc.equal(pc.list_value_length(traits), _ZERO), _ABSENT, texts)


def _number_texts(numbers: pa.Array) -> pa.Array:
    if not pc.all(pc.is_finite(numbers)).as_py():
        raise ConversionError("a number is infinite or NaN")
    integral = pc.and_(
        pc.and_(pc.equal(pc.trunc(numbers), numbers), pc.less_equal(pc.abs(numbers), _MAX_EXACT)),
        pc.not_equal(numbers.view(pa.int64()), _NEGATIVE_ZERO),
    )
    texts = pc.if_else(integral, numbers, _NO_NUMBER).cast(pa.int64()).cast(pa.string())
    others = pc.fill_null(pc.invert(integral), _NO)
    if pc.any(others).as_py():
        replacements = orjson.dumps(numbers.filter(others).to_pylist())[1:-1].decode().split(",")
        texts = pc.replace_with_mask(texts, others, pa.array(replacements, pa.string()))
    return texts


def _nested_texts(serialised: pa.Array, convert: Callable[[bytes], str]) -> pa.Array:
    if serialised.null_count == len(serialised):
        return pa.nulls(len(serialised), pa.string())
    distinct = serialised.dictionary_encode()
    texts = pa.array([convert(content) for content in distinct.dictionary.to_pylist()], pa.string())
    return texts.take(distinct.indices)


def _struct_text(serialised: bytes) -> str:
    return json_text(plain_struct(struct_pb2.Struct.FromString(serialised)))


def _list_text(serialised: bytes) -> str:
    return json_text([plain_value(value) for value in struct_pb2.ListValue.FromString(serialised).values])


def plain_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Return *struct* as plain Python values, integral numbers as integers."""
    return {key: plain_value(value) for key, value in struct.fields.items()}


def plain_value(value: struct_pb2.Value) -> Any:
    """
    Return *value* as a plain Python value, an integral number up to 2^53 as an integer; None too where it is of no
    kind.

    Raises:
        ConversionError: It holds a number that is infinite or NaN.
    """
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            if not math.isfinite(value.number_value):
                raise ConversionError("a number is infinite or NaN")
            return plain_number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return plain_struct(value.struct_value)
        case "list_value":
            return [plain_value(item) for item in value.list_value.values]
        case _:
            return None
