"""What questions are asked with: a catalog, calls, and a store that answers what it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from flagledger.catalog.base import Environment, Grant, Token
from flagledger.errors import FlagledgerError, Reason
from flagledger.store.errors import Interrupt
from flagledger.store.intake import Intake, IntakeTally, UnknownFeatures
from flagledger.store.questions import (
    EXPORT,
    Counts,
    Export,
    Exposure,
    ExposureCursor,
    ExposurePage,
    Features,
    Page,
    Series,
)
from google.protobuf import timestamp_pb2

PRODUCTION = Environment(name="production", features=frozenset({"checkout", "never_asked"}))
STAGING = Environment(name="staging", features=None)
TOKENS = {
    "reader": Token(role="read"),
    "admin": Token(role="admin"),
    "writer": Token(role="write"),
    "staging": Token(role="read", environments=frozenset({"staging"})),
    "staging-admin": Token(role="admin", environments=frozenset({"staging"})),
}


class TableCatalog:
    """A catalog of what the tests need."""

    def __init__(self, *environments: Environment) -> None:
        self._environments = {environment.name: environment for environment in environments}

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        """Permit anything."""
        return Grant(environment=PRODUCTION, is_server=False)

    async def environments(self) -> dict[str, Environment]:
        """Return those of the table."""
        return self._environments

    async def token(self, token: str) -> Token | None:
        """Return that of the table."""
        return TOKENS.get(token)

    def ready(self) -> bool:
        """Return that it is."""
        return True


class Call:
    """A call's context: its metadata, and what was sent before the answer."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self._metadata = metadata
        self.sent: list[tuple[tuple[str, str], ...]] = []

    def invocation_metadata(self) -> Any:
        """Return what the call was made with."""
        return self._metadata

    async def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Keep *metadata*."""
        self.sent.append(metadata)


def call_of(token: str) -> Call:
    """Return a call with that token."""
    return Call(("authorization", f"Bearer {token}"))


READER = call_of("reader")


def counts_of(*series: Series, starts: tuple[int, ...] = (), doubtful: bool = False) -> Counts:
    """Return counts whose identities are exact, or both an estimate and a lower bound."""
    return Counts(series=series, bucket_starts=starts, identities_approximate=doubtful, identities_lower_bound=doubtful)


def exposures_of(*rows: Exposure, following: ExposureCursor | None = None, sampled: bool = False) -> ExposurePage:
    """Return a page of exposures, of evaluations that were all kept or *sampled*."""
    return ExposurePage(rows=rows, next=following, identities_lower_bound=sampled)


class FakeStore:
    """
    A store that keeps what it is asked, and answers what it is told to: by the method's name in `answers`, an exception too.

    What it is not told it answers as an empty store does.
    """

    def __init__(self, **answers: Any) -> None:
        self.asked: list[tuple[Any, ...]] = []
        empty = IntakeTally(recorded_count=0, filtered_count=0, rejected_count=0)
        self._answers = {
            "last_seen": {},
            "list_features": Features(totals=(), data_since=None),
            "count_evaluations": counts_of(),
            "list_evaluations": Page(rows=(), next=None),
            "list_exposures": exposures_of(),
            "count_arms": (),
            "list_unknown_features": UnknownFeatures(names=(), other_evaluation_count=0),
            "intake": Intake(
                total=empty,
                sampled_out_count=0,
                foreign_event_count=0,
                rejections=(),
                recent_count=0,
                bucket_starts=(),
                points=(),
            ),
            "export": Export(last_position=0, batches=iter(())),
        } | answers

    def __getattr__(self, name: str) -> Any:
        if name not in self._answers:
            raise AttributeError(name)

        def method(*arguments: Any) -> Any:
            self.asked.append((name, *(each for each in arguments if not isinstance(each, Interrupt))))
            answer = self._answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return method


async def refusal(call: Any) -> tuple[Reason, list[str]]:
    """Return the reason that *call* was refused for, and the fields that it named."""
    with pytest.raises(FlagledgerError) as caught:
        await call
    return caught.value.reason, [violation.field for violation in caught.value.violations]


def time_of(microseconds: int) -> timestamp_pb2.Timestamp:
    """Return *microseconds* since the epoch as a message."""
    time = timestamp_pb2.Timestamp()
    time.FromMicroseconds(microseconds)
    return time


def export_batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    """Return *rows* as a batch of an export; what they do not name is as it is where nothing was sent."""
    bare = {
        "feature_name": "checkout",
        "evaluation_timestamp": 0,
        "segment_names": [],
        "variant": "",
        "reason": "",
        "count": 1,
        "environment": "production",
        "batch_id": "",
        "receive_time": 0,
        "origin": 1,
        "sdk_name": "",
        "sdk_version": "",
        "sample_rate": 1.0,
    }
    columns = {name: [(bare | row).get(name) for row in rows] for name in EXPORT.names}
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in EXPORT], schema=EXPORT)


def batches_of(*batches: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield *batches*."""
    yield from batches
