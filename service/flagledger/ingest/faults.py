"""
What is wrong with one evaluation: every rule of the contract, field by field.

This is the meaning of "valid". `flagledger.ingest.grammar` knows most valid evaluations by their bytes, and many times
faster; what it does not know comes here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value

from flagledger.ingest.limits import Limits
from flagledger.v1.evaluation_pb2 import Evaluation, IdentityTrait

_NANOS_PER_SECOND: Final = 1_000_000_000
_INDEX: Final = re.compile(r"\[\d*\]")
_KINDS: Final = frozenset(
    [*Evaluation.DESCRIPTOR.fields_by_name]
    + [f"identity_traits.{name}" for name in IdentityTrait.DESCRIPTOR.fields_by_name]
)

_REQUIRED: Final = "It is required."
_NUL: Final = "It holds U+0000, which cannot be kept."
_NOT_FINITE: Final = "It holds NaN or an infinity, which JSON does not have."
_KIND_MISSING: Final = "It holds a value that says nothing, not even null."


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    Why an evaluation is rejected.

    Attributes:
        index: Position of the evaluation in its batch, from 0.
        field: Path of the offending field, relative to the batch.
        description: A sentence that says what is wrong with it.
    """

    index: int
    field: str
    description: str

    @property
    def kind(self) -> str:
        """
        The path as far as it names fields of the contract, without indices: `identity_traits.trait_key`; maybe empty.

        Paths may go on with keys that the sender chose; of these kinds there are few.
        """
        _, *path = _INDEX.sub("", self.field).split(".")
        kind = ".".join(path[:2])
        return kind if kind in _KINDS else path[0] if path and path[0] in _KINDS else ""


def find_fault(evaluation: Evaluation, *, index: int, limits: Limits, now: float, is_server: bool) -> Fault | None:
    """
    Return the first fault of *evaluation* in the order of its fields, or None where it is valid.

    Args:
        evaluation: As parsed, its unknown fields discarded: their bytes would count.
        index: Its position in the batch.
        limits: What it may hold.
        now: The server's clock, in epoch seconds.
        is_server: Whether it came under a server key.
    """
    for field, description in _faults(evaluation, limits, now, is_server=is_server):
        return Fault(index=index, field=f"evaluations[{index}].{field}", description=description)
    return None


def _faults(  # noqa: C901, PLR0912 - the rules in the order of the contract, each on its own line
    evaluation: Evaluation, limits: Limits, now: float, *, is_server: bool
) -> Iterator[tuple[str, str]]:
    size = evaluation.ByteSize()  # no part of it is larger

    name = evaluation.feature_name
    if not name:
        yield "feature_name", _REQUIRED
    elif fault := _in_text(name, limits.feature_name_characters):
        yield "feature_name", fault
    if limits.enabled_required and not evaluation.HasField("enabled"):
        yield "enabled", "It is required: false must be sent, since absence is not false."
    if evaluation.HasField("value"):
        if fault := _in_value(evaluation.value, limits.depth):
            yield "value", fault
        elif size > limits.value_bytes and evaluation.value.ByteSize() > limits.value_bytes:
            yield "value", f"It is larger than {limits.value_bytes:,} bytes."
    if fault := _in_timestamp(evaluation, limits, now):
        yield "evaluation_timestamp", fault
    if fault := _in_text(evaluation.identity_identifier, limits.identity_characters):
        yield "identity_identifier", fault
    yield from _trait_faults(evaluation, limits, size)
    for number, segment in enumerate(evaluation.segment_names):
        if fault := _in_text(segment, limits.segment_name_characters):
            yield f"segment_names[{number}]", fault
    if size > limits.segments_bytes:
        together = Evaluation(segment_names=evaluation.segment_names).ByteSize()
        if together > limits.segments_bytes:
            yield "segment_names", f"Together they are larger than {limits.segments_bytes:,} bytes."
    if fault := _in_text(evaluation.variant, limits.label_characters):
        yield "variant", fault
    if fault := _in_text(evaluation.reason, limits.label_characters):
        yield "reason", fault
    if evaluation.HasField("metadata"):
        if fault := _in_struct(evaluation.metadata, limits.depth):
            yield "metadata", fault
        elif size > limits.metadata_bytes and evaluation.metadata.ByteSize() > limits.metadata_bytes:
            yield "metadata", f"It is larger than {limits.metadata_bytes:,} bytes."
    most = limits.count_server if is_server else limits.count_client
    if evaluation.count > most:
        yield "count", f"It is larger than {most:,}, the most that this kind of key may report at once."


def _trait_faults(evaluation: Evaluation, limits: Limits, size: int) -> Iterator[tuple[str, str]]:
    traits = evaluation.identity_traits
    for number, trait in enumerate(traits):
        key = trait.trait_key
        if not key:
            yield f"identity_traits[{number}].trait_key", _REQUIRED
        elif fault := _in_text(key, limits.trait_key_characters):
            yield f"identity_traits[{number}].trait_key", fault
        if not trait.HasField("trait_value"):
            yield f"identity_traits[{number}].trait_value", _REQUIRED
            continue
        value = trait.trait_value
        if value.WhichOneof("kind") == "string_value":
            fault = _in_text(value.string_value, limits.trait_string_characters)
        else:
            fault = _in_value(value, limits.depth)
        if fault:
            yield f"identity_traits[{number}].trait_value", fault
    if size > limits.traits_bytes and sum(trait.ByteSize() for trait in traits) > limits.traits_bytes:
        yield "identity_traits", f"Together they are larger than {limits.traits_bytes:,} bytes."


def _in_text(text: str, most: int) -> str | None:
    if len(text) > most:
        return f"It is longer than {most:,} characters."
    return _NUL if "\0" in text else None


def _in_timestamp(evaluation: Evaluation, limits: Limits, now: float) -> str | None:
    if not evaluation.HasField("evaluation_timestamp"):
        return _REQUIRED
    moment = evaluation.evaluation_timestamp
    seconds, nanos = moment.seconds, moment.nanos
    if not 0 <= nanos < _NANOS_PER_SECOND:
        return "Its nanos are not between 0 and 999,999,999."
    if (seconds, nanos) <= (limits.earliest, 0):
        return f"It is not after {datetime.fromtimestamp(limits.earliest, UTC):%Y-%m-%dT%H:%M:%SZ}."
    if seconds + nanos / _NANOS_PER_SECOND > now + limits.ahead_seconds:
        return f"It lies more than {limits.ahead_seconds / 3600:g} hours ahead of the server's clock."
    return None


def _in_value(value: Value, levels: int) -> str | None:
    match value.WhichOneof("kind"):
        case "string_value":
            return _NUL if "\0" in value.string_value else None
        case "number_value":
            return None if math.isfinite(value.number_value) else _NOT_FINITE
        case "struct_value":
            return _in_struct(value.struct_value, levels)
        case "list_value":
            if levels == 0:
                return "It is nested too deeply."
            inner = (_in_value(item, levels - 1) for item in value.list_value.values)
            return next(filter(None, inner), None)
        case None:
            return _KIND_MISSING
        case _:  # null and the booleans
            return None


def _in_struct(struct: Struct, levels: int) -> str | None:
    if levels == 0:
        return "It is nested too deeply."
    # Sorted, since a map has no order: of two faults always the same is named.
    for key in sorted(struct.fields):
        if "\0" in key:
            return _NUL
        if fault := _in_value(struct.fields[key], levels - 1):
            return fault
    return None
