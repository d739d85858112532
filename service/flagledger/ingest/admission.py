"""
A verdict for each evaluation of a batch, and what is kept of it.

A batch is inspected once (`inspect`), which finds what is invalid whatever the catalog says. Then it is judged against
the features of its environment (`Inspection.judge`). The evaluations stay bytes all the way: what is admitted is the
serialised batch, with what is not admitted cut out.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from google.protobuf.unknown_fields import UnknownFieldSet

from flagledger.ingest.faults import Fault, find_fault
from flagledger.ingest.grammar import SECONDS_SHIFT, compile_grammar
from flagledger.ingest.limits import Limits
from flagledger.journal.base import Outcome
from flagledger.v1.evaluation_pb2 import EvaluationBatch

_DIGEST_BYTES: Final = 16
_TAG: Final = b"\x0a"
_MORE: Final = 0x80
_LOW_BITS: Final = 0x7F
_MAX_FIELD_CHARACTERS: Final = 200
_MAX_DESCRIPTION_CHARACTERS: Final = 400

# What a transport could not read as an evaluation, and left an empty one for: index, path relative to the batch, and a
# description.
ElementError = tuple[int, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What is kept of a batch and what is not.

    Attributes:
        outcome: How many entries of each.
        evaluations: The admitted ones, serialised as field 1 of an EvaluationBatch.
        faults: Why the others were rejected, by ascending index.
        filtered: Entries per unknown feature, by first appearance.
        sampled_out: Accepted entries that `evaluations` lacks: those that it holds stand for them.
    """

    outcome: Outcome
    evaluations: bytes
    faults: tuple[Fault, ...]
    filtered: Mapping[str, int]
    sampled_out: int = 0

    def rejected_by_kind(self) -> Counter[str]:
        """Return entries per kind of fault, by first appearance."""
        return Counter(fault.kind for fault in self.faults)


# One for each environment that is busy at a time; those of features that have changed since go by themselves.
@functools.lru_cache(maxsize=32)
def _known(features: frozenset[str]) -> frozenset[bytes]:
    """Return *features* as `Inspection.names` spells them, and the empty name of an invalid evaluation."""
    return frozenset({b"", *(bytes((min(len(name), 0xFF),)) + name for name in map(str.encode, features))})


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """
    A batch of which is known what is valid.

    Attributes:
        content: The batch as sent, serialised deterministically, without its id and without unknown fields.
        names: Per evaluation its feature's name as UTF-8, with one byte of length before it; empty where it is invalid.
        faults: What is invalid, by ascending index.
        element_errors: What the transport could not read.
        mended: Index to bytes, for evaluations that are kept in another form than sent.
    """

    content: bytes
    names: Sequence[bytes]
    faults: tuple[Fault, ...] = ()
    element_errors: tuple[ElementError, ...] = ()
    mended: Mapping[int, bytes]

    def digest(self, key: bytes = b"") -> bytes:
        """
        Return 16 bytes that are the same for the same content and *key*, over either protocol and whatever the catalog says.

        Of what a transport could not read its errors count, so that two batches that differ only there mostly differ.
        """
        if not self.element_errors:
            return blake2b(self.content, digest_size=_DIGEST_BYTES, key=key).digest()
        # Another hash function in effect, so that no batch without errors has the same input.
        digest = blake2b(self.content, digest_size=_DIGEST_BYTES, key=key, person=b"element errors")
        for index, path, description in self.element_errors:
            digest.update(f"\0{index}\0{path}\0{description}".encode("utf-8", "surrogatepass"))
        return digest.digest()

    def unknown(self, features: frozenset[str] | None) -> dict[bytes, str]:
        """Return the valid names that *features* lacks, by first appearance; no name is unknown where that is None."""
        if features is None or self.distinct_names <= _known(features):
            return {}
        return {
            name: text for name in dict.fromkeys(self.names) if name and (text := name[1:].decode()) not in features
        }

    @functools.cached_property
    def distinct_names(self) -> frozenset[bytes]:
        """The different ones of `names`: it is asked before and after a second look at the catalog."""
        return frozenset(self.names)

    def judge(self, features: frozenset[str] | None) -> Verdict:
        """Return the verdict in an environment that has *features*; None for any."""
        unknown = self.unknown(features)
        total, rejected = len(self.names), len(self.faults)
        if not (unknown or rejected or self.mended):
            outcome = Outcome(accepted=total, filtered=0, rejected=0)
            return Verdict(outcome=outcome, evaluations=self.content, faults=(), filtered={})
        dropped = [index for index, name in enumerate(self.names) if name in unknown] if unknown else []
        changes = {**self.mended, **dict.fromkeys((fault.index for fault in self.faults), b"")}
        changes.update(dict.fromkeys(dropped, b""))
        outcome = Outcome(accepted=total - rejected - len(dropped), filtered=len(dropped), rejected=rejected)
        return Verdict(
            outcome=outcome,
            evaluations=_replace(self.content, _starts(self.content), changes) if outcome.accepted else b"",
            faults=self.faults,
            filtered=Counter(unknown[self.names[index]] for index in dropped),
        )


def inspect(
    batch: EvaluationBatch,
    *,
    limits: Limits,
    now: float,
    is_server: bool,
    element_errors: Iterable[ElementError] = (),
    older: bool = False,
) -> Inspection:
    """
    Find what is invalid in *batch*.

    Args:
        batch: As parsed. Its id and unknown fields are cleared, and an empty identity of it.
        limits: What an evaluation may hold.
        now: The server's clock, in epoch seconds.
        is_server: Whether it came under a server key.
        element_errors: What the transport could not read; each index names an evaluation of *batch*.
        older: Whether the SDK is one that `Limits.of_older_sdks` hold for. The grammar knows what they permit in any case.
    """
    batch.ClearField("batch_id")
    if len(UnknownFieldSet(batch)):
        # Behind the last evaluation the grammar could take them for its fields. Those within evaluations it recognises.
        batch.DiscardUnknownFields()
    content = batch.SerializeToString(deterministic=True)
    errors = tuple(element_errors)
    found = compile_grammar(limits).findall(content)
    if not errors and len(found) == len(batch.evaluations) and (not found or found[-1][0]):
        names, highs = zip(*found, strict=True) if found else ((), ())
        if all(_is_timely(high, limits, now) for high in set(highs)):
            return Inspection(content=content, names=names, mended={})
    rules = limits.of_older_sdks() if older else limits
    starts = _starts(content)
    all_names, doubtful = _sort_out(content, starts, found, limits, now)
    purged: dict[int, bytes] = {}
    mended: dict[int, bytes] = {}
    faults: list[Fault] = []
    unreadable = {index: (path, description) for index, path, description in reversed(errors)}
    for index in sorted(doubtful.union(unreadable)):
        evaluation = batch.evaluations[index]
        evaluation.DiscardUnknownFields()
        purged[index] = _framed(evaluation.SerializeToString(deterministic=True))
        if index in unreadable:
            fault: Fault | None = _of_element(index, *unreadable[index])
        else:
            fault = find_fault(evaluation, index=index, limits=rules, now=now, is_server=is_server)
        if fault is not None:
            all_names[index] = b""
            faults.append(fault)
            continue
        name = evaluation.feature_name.encode()
        all_names[index] = bytes((min(len(name), 0xFF),)) + name
        if evaluation.HasField("identity_identifier") and not evaluation.identity_identifier:
            evaluation.ClearField("identity_identifier")
            mended[index] = _framed(evaluation.SerializeToString(deterministic=True))
    if any(len(bytes_) != starts[index + 1] - starts[index] for index, bytes_ in purged.items()):
        content = _replace(content, starts, purged)
    return Inspection(content=content, names=all_names, faults=tuple(faults), element_errors=errors, mended=mended)


def _sort_out(
    content: bytes, starts: Sequence[int], found: list[tuple[bytes, bytes]], limits: Limits, now: float
) -> tuple[list[bytes], set[int]]:
    """Return the names of the evaluations, empty for those whose validity is in doubt, and the indices of these."""
    total = len(starts) - 1
    findall = compile_grammar(limits).findall
    names: list[bytes] = []
    highs: list[bytes] = []
    while True:
        # The last one found may stand for the first that the grammar does not know: go on behind it.
        names += [name for name, _ in found]
        highs += [high for _, high in found]
        if len(names) >= total:
            break
        found = findall(content, starts[len(names)])
    in_doubt = {high for high in set(highs) if not high or not _is_timely(high, limits, now)}
    return names, {index for index, high in enumerate(highs) if high in in_doubt}


def _of_element(index: int, path: str, description: str) -> Fault:
    return Fault(index=index, field=path[:_MAX_FIELD_CHARACTERS], description=description[:_MAX_DESCRIPTION_CHARACTERS])


def _is_timely(high: bytes, limits: Limits, now: float) -> bool:
    """Return whether every timestamp with these three high bytes of seconds is certainly within the window."""
    low_end = (high[0] & _LOW_BITS | (high[1] & _LOW_BITS) << 7 | high[2] << 14) << SECONDS_SHIFT
    # Up to the next block, whose first moment nanos do not reach.
    return limits.earliest < low_end and low_end + (1 << SECONDS_SHIFT) <= now + limits.ahead_seconds


def _starts(content: bytes) -> list[int]:
    """Return where each evaluation of a serialised batch starts, its tag included, and at last where they end."""
    starts = []
    at, end = 0, len(content)
    while at < end:
        starts.append(at)
        size = content[at + 1]
        at += 2
        if size & _MORE:
            size &= _LOW_BITS
            shift = 7
            while (byte := content[at]) & _MORE:
                size |= (byte & _LOW_BITS) << shift
                shift += 7
                at += 1
            size |= byte << shift
            at += 1
        at += size
    starts.append(end)
    return starts


def _framed(evaluation: bytes) -> bytes:
    """Return a serialised evaluation with its tag and length before it."""
    size = len(evaluation)
    prefix = bytearray(_TAG)
    while size > _LOW_BITS:
        prefix.append(size & _LOW_BITS | _MORE)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + evaluation


def _replace(content: bytes, starts: Sequence[int], changes: Mapping[int, bytes]) -> bytes:
    """Return *content* with the evaluations at the indices of *changes* replaced."""
    pieces: list[bytes] = []
    at = 0
    for index in sorted(changes):
        pieces += (content[at : starts[index]], changes[index])
        at = starts[index + 1]
    pieces.append(content[at:])
    return b"".join(pieces)
