"""What stands around the servicer in its tests: a catalog and a journal in memory, and the context of a call."""

# ruff: noqa: D102 - methods that implement a seam are described there
from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from flagledger.catalog.base import Environment, Grant, Token
from flagledger.errors import FlagledgerError, Reason
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.journal.base import Appended, Entry, Lag, Outcome
from flagledger.v1.evaluation_pb2 import Evaluation

# 2026-02-10T12:00:00Z, and an hour before.
NOW = 1_770_724_800.0
MOMENT = 1_770_721_200
CLIENT_KEY = "client-key"
SERVER_KEY = "ser.key"
FEATURES = frozenset({"new_dashboard", "checkout"})


def valid_evaluation(**fields: Any) -> Evaluation:
    """Return a valid evaluation, with *fields* set otherwise."""
    evaluation = Evaluation(feature_name="new_dashboard", enabled=True)
    evaluation.evaluation_timestamp.seconds = MOMENT
    evaluation.MergeFrom(Evaluation(**fields))
    return evaluation


class MemoryCatalog:
    """Two keys of one environment. `now` is what a fresh look sees, or the error it meets."""

    def __init__(self, features: frozenset[str] | None = FEATURES) -> None:
        environment = Environment(name="production", features=features)
        self.grants: dict[str, Grant | FlagledgerError] = {
            CLIENT_KEY: Grant(environment=environment, is_server=False),
            SERVER_KEY: Grant(environment=environment, is_server=True),
        }
        self.fresh: Grant | FlagledgerError | None = self.grants[CLIENT_KEY]
        self.looks: Counter[bool] = Counter()

    def add_feature(self, name: str) -> None:
        """Make a feature that only a fresh look sees."""
        assert isinstance(self.fresh, Grant)
        environment = self.fresh.environment
        self.fresh = replace(
            self.fresh, environment=replace(environment, features=(environment.features or frozenset()) | {name})
        )

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        self.looks[fresh] += 1
        answer = self.fresh if fresh else self.grants.get(key)
        if isinstance(answer, FlagledgerError):
            raise answer
        return answer

    async def environments(self) -> dict[str, Environment]:
        grants = [grant for grant in self.grants.values() if isinstance(grant, Grant)]
        return {grant.environment.name: grant.environment for grant in grants}

    async def token(self, token: str) -> Token | None:
        return None

    def ready(self) -> bool:
        return True


@dataclass
class MemoryJournal:
    """A journal that keeps everything, can be paused, and can be told to refuse."""

    identity: str = "memory"
    payloads: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    refusal: FlagledgerError | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    most_waiting: int = 0
    _seen: dict[tuple[str, str], tuple[bytes, Outcome]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def records(self) -> list[JournalRecord]:
        """What was appended, parsed."""
        return [JournalRecord.FromString(payload) for payload in self.payloads]

    async def append(
        self, environment: str, batch_id: str, digest: bytes, outcome: Outcome, payload: bytes
    ) -> Appended:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
        if self.refusal:
            raise self.refusal
        if batch_id:
            first_digest, first = self._seen.setdefault((environment, batch_id), (digest, outcome))
            if first_digest != digest:
                raise FlagledgerError(Reason.BATCH_ID_REUSED, "The batch id was used for another content.")
            if first is not outcome:
                return Appended(duplicate=True, outcome=first)
        self.payloads.append(payload)
        self.digests.append(digest)
        return Appended(duplicate=False, outcome=outcome)

    def read(self, after: int, max_bytes: int) -> list[Entry]:
        return []

    def trim(self, up_to: int) -> None:
        """Keep everything."""

    def lag(self) -> Lag:
        return Lag(bytes=0, entries=0, oldest_age=0.0)


class CallContext:
    """The context of a call, as far as the servicer asks."""

    def __init__(self, *metadata: tuple[str, str], key: str | None = CLIENT_KEY) -> None:
        self._metadata = (*metadata, *([("x-environment-key", key)] if key is not None else []))
        self.trailing: tuple[tuple[str, str], ...] = ()
        self.element_errors: tuple[tuple[int, str, str], ...] = ()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def set_trailing_metadata(self, trailing_metadata: Iterable[tuple[str, str]], /) -> None:
        self.trailing = tuple(trailing_metadata)


class Tally:
    """Metrics that are looked at afterwards."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def accepted(self, environment: str, entries: int) -> None:
        self.counts["accepted", environment] += entries

    def sampled_out(self, environment: str, entries: int) -> None:
        self.counts["sampled_out", environment] += entries

    def filtered(self, environment: str, entries: int) -> None:
        self.counts["filtered", environment] += entries

    def rejected(self, environment: str, field: str, entries: int) -> None:
        self.counts["rejected", environment, field] += entries

    def duplicate(self, environment: str) -> None:
        self.counts["duplicate", environment] += 1

    def refused(self, reason: Reason) -> None:
        self.counts["refused", reason.name] += 1
