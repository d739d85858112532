"""What a journal payload holds beside the evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from flagledger.catalog.base import Grant
from flagledger.ingest.admission import Verdict
from flagledger.ingest.sdk import Sdk
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.v1.query_service_pb2 import ORIGIN_CLIENT, ORIGIN_SERVER

UNKNOWN_FEATURE: Final = "unknown_feature"
INVALID: Final = "invalid"
SAMPLED_OUT: Final = "sampled_out"
FOREIGN_EVENT: Final = "foreign_event"

_MAX_NAMES: Final = 100
_MAX_NAME_CHARACTERS: Final = 2_000
_MICROSECONDS: Final = 1_000_000


def compose_payload(
    *, batch_id: str, grant: Grant, sdk: Sdk, receive_time: float, verdict: Verdict, foreign_events: int = 0
) -> bytes:
    """
    Return a serialised JournalRecord.

    Its evaluations are the bytes of the verdict: serialised messages that stand behind each other are one message, so
    none of them is copied into another.

    Args:
        batch_id: Empty for none.
        grant: What the key permitted; names the environment, and the rate that its evaluations were sampled at.
        sdk: Who sent it.
        receive_time: The server's clock at receipt, in epoch seconds; kept to the microsecond.
        verdict: What is kept, and what is not.
        foreign_events: Events that came beside the evaluations and are none.
    """
    rest = JournalRecord(batch_id=batch_id)
    envelope = rest.envelope
    envelope.environment = grant.environment.name
    seconds, microseconds = divmod(round(receive_time * _MICROSECONDS), _MICROSECONDS)
    envelope.receive_time.seconds = seconds
    envelope.receive_time.nanos = microseconds * 1000
    envelope.origin = ORIGIN_SERVER if grant.is_server else ORIGIN_CLIENT
    envelope.sdk_name = sdk.name
    envelope.sdk_version = sdk.version
    if verdict.faults or verdict.filtered:
        for (reason, name), entries in _bounded(verdict).items():
            envelope.discards.add(reason=reason, name=name, entry_count=entries)
    if (every := grant.environment.policy.sample_every) > 1:
        envelope.sample_rate = 1 / every
    if verdict.sampled_out:
        envelope.discards.add(reason=SAMPLED_OUT, entry_count=verdict.sampled_out)
    if foreign_events:
        envelope.discards.add(reason=FOREIGN_EVENT, entry_count=foreign_events)
    return verdict.evaluations + rest.SerializeToString()


def _bounded(verdict: Verdict) -> Counter[tuple[str, str]]:
    """Return entries per reason and name, the names beyond the hundredth together under an empty one."""
    discards: Counter[tuple[str, str]] = Counter()
    for reason, name, entries in _discards(verdict):
        key = (reason, name[:_MAX_NAME_CHARACTERS])
        discards[key if key in discards or len(discards) < _MAX_NAMES else (reason, "")] += entries
    return discards


def _discards(verdict: Verdict) -> Iterator[tuple[str, str, int]]:
    # Faults first: their kinds are few, and a crowd of made-up names must not hide them.
    for kind, entries in verdict.rejected_by_kind().items():
        yield INVALID, kind, entries
    for name, entries in verdict.filtered.items():
        yield UNKNOWN_FEATURE, name, entries
