"""
Metrics of the whole process tree, for Prometheus.

Every process writes into files of the runtime directory (prometheus-client's multiprocess mode, switched on by the
`PROMETHEUS_MULTIPROC_DIR` that the supervisor sets); any front adds them up when `/metrics` is asked.
"""

from __future__ import annotations

import functools
from enum import Enum

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

EVALUATIONS = Counter(
    "flagledger_evaluations",
    "Evaluations by what became of them: accepted, sampled_out (accepted, and left out of a sample), filtered (unknown feature), "
    "rejected (invalid); and foreign, events of older SDKs that are none.",
    ["environment", "outcome"],
)
REJECTIONS = Counter(
    "flagledger_rejections", "Rejected evaluations by the field that was wrong, indices left out.", ["field"]
)
BATCHES = Counter(
    "flagledger_batches", "Batches by what became of them: recorded, duplicate.", ["environment", "outcome"]
)
REFUSALS = Counter("flagledger_refusals", "Calls and batches refused as a whole, by reason.", ["reason"])
IGNORED_FIELDS = Counter(
    "flagledger_ignored_fields", "JSON fields that the contract does not know and that were ignored."
)
CALLS = Histogram(
    "flagledger_call_seconds",
    "Duration of calls by protocol, rpc and code (google.rpc.Code).",
    ["protocol", "method", "code"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
CATALOG_LOADS = Counter("flagledger_catalog_loads", "Loads of the environments, by outcome: ok, failed.", ["outcome"])
CATALOG_LOOKUPS = Counter(
    "flagledger_catalog_lookups",
    "Questions to a Flagsmith, by outcome: found, unknown, failed, refused (beyond what it may be asked in a second).",
    ["outcome"],
)
IN_FLIGHT_BYTES = Gauge(
    "flagledger_in_flight_bytes", "Bytes of requests that are being worked on.", multiprocess_mode="livesum"
)
JOURNAL_BYTES = Gauge("flagledger_journal_bytes", "Bytes in the journal.", multiprocess_mode="livemax")
JOURNAL_ENTRIES = Gauge("flagledger_journal_entries", "Entries in the journal.", multiprocess_mode="livemax")
JOURNAL_AGE = Gauge(
    "flagledger_journal_oldest_seconds", "Age of the oldest entry in the journal.", multiprocess_mode="livemax"
)
UNAPPLIED = Gauge(
    "flagledger_unapplied_entries",
    "Entries of the journal that the store does not hold yet.",
    multiprocess_mode="livemax",
)
APPLIED_ROWS = Counter("flagledger_applied_rows", "Evaluations applied to the store.")
DROPPED_ROWS = Counter(
    "flagledger_dropped_rows",
    "Evaluations, discards and entries set aside that outlived `retention_days` and were dropped from the store.",
)
QUARANTINED = Counter("flagledger_quarantined", "Journal entries that could not be converted and were set aside.")
STORE_FAILURES = Counter("flagledger_store_failures", "Attempts to apply to the store that failed and are tried again.")
SINK_POINTS = Counter(
    "flagledger_sink_points", "Points of counts sent to the sink, by outcome: taken, refused (for good).", ["outcome"]
)
SINK_RANGES = Counter("flagledger_sink_ranges", "Ranges of entries whose counts the sink was sent to their end.")
SINK_FAILURES = Counter("flagledger_sink_failures", "Attempts to send to the sink that failed and are made again.")
SINK_UNSENT = Gauge(
    "flagledger_sink_unsent_entries",
    "Entries that the store holds and whose counts the sink was not sent yet.",
    multiprocess_mode="livemax",
)


def exposition() -> tuple[bytes, str]:
    """Return the metrics of all processes in the text format, and its content type."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def observe_journal(size: int, entries: int, oldest_age: float, unapplied: int) -> None:
    """Set the gauges of the journal: bytes, entries, the age of the oldest in seconds, and entries that the store lacks."""
    UNAPPLIED.set(unapplied)
    JOURNAL_BYTES.set(size)
    JOURNAL_ENTRIES.set(entries)
    JOURNAL_AGE.set(oldest_age)


class FrontMetrics:
    """What the fronts count. Children of labels are looked up once each: `labels()` takes a lock and a sort every time."""

    def __init__(self) -> None:
        self._evaluations = functools.lru_cache(maxsize=4096)(EVALUATIONS.labels)
        self._rejections = functools.lru_cache(maxsize=256)(REJECTIONS.labels)
        self._refusals = functools.lru_cache(maxsize=64)(REFUSALS.labels)
        self._batches = functools.lru_cache(maxsize=4096)(BATCHES.labels)
        self._calls = functools.lru_cache(maxsize=1024)(CALLS.labels)

    def call(self, protocol: str, method: str, code: int, seconds: float) -> None:
        """Count a call that was answered with *code* after *seconds*."""
        self._calls(protocol, method, str(code)).observe(seconds)

    def accepted(self, environment: str, entries: int) -> None:
        """Count *entries* that were recorded, and their batch."""
        self._evaluations(environment, "accepted").inc(entries)
        self._batches(environment, "recorded").inc()

    def sampled_out(self, environment: str, entries: int) -> None:
        """Count *entries* that were accepted, and left out of a sample."""
        self._evaluations(environment, "sampled_out").inc(entries)

    def filtered(self, environment: str, entries: int) -> None:
        """Count *entries* whose feature the environment does not have."""
        self._evaluations(environment, "filtered").inc(entries)

    def foreign(self, environment: str, entries: int) -> None:
        """Count *entries* that are events of another kind."""
        self._evaluations(environment, "foreign").inc(entries)

    def rejected(self, environment: str, field: str, entries: int) -> None:
        """Count *entries* that were invalid in *field*."""
        self._evaluations(environment, "rejected").inc(entries)
        self._rejections(field).inc(entries)

    def duplicate(self, environment: str) -> None:
        """Count a batch that had been recorded before."""
        self._batches(environment, "duplicate").inc()

    def refused(self, reason: Enum) -> None:
        """Count a batch of which nothing was recorded."""
        self._refusals(reason.name).inc()

    def refused_by_http(self, status: int) -> None:
        """Count a request that HTTP itself refused, as `HTTP_404` and the like."""
        self._refusals(f"HTTP_{status}").inc()

    def ignored(self, fields: int) -> None:
        """Count JSON fields that were ignored."""
        IGNORED_FIELDS.inc(fields)

    def loaded(self, ok: bool) -> None:  # noqa: FBT001 - the one thing there is to say
        """Count a load of the environments."""
        CATALOG_LOADS.labels("ok" if ok else "failed").inc()

    def looked_up(self, outcome: str) -> None:
        """Count a question to a remote catalog."""
        CATALOG_LOOKUPS.labels(outcome).inc()


class WriterMetrics:
    """What the writer counts."""

    def applied(self, rows: int) -> None:
        """Count *rows* that were committed to the store."""
        APPLIED_ROWS.inc(rows)

    def quarantined(self, entries: int) -> None:
        """Count *entries* that were set aside."""
        QUARANTINED.inc(entries)

    def store_failed(self) -> None:
        """Count an attempt that failed and is made again."""
        STORE_FAILURES.inc()

    def dropped(self, rows: int) -> None:
        """Count *rows* that outlived their retention and were dropped."""
        DROPPED_ROWS.inc(rows)

    def call(self, protocol: str, method: str, code: int, seconds: float) -> None:
        """Ignore it: the front that forwarded the call counts it."""

    def refused(self, reason: Enum) -> None:
        """Count a question that was refused before it was asked."""
        REFUSALS.labels(reason.name).inc()


class FeederMetrics:
    """What the feeder counts."""

    def sent(self, lines: int, refused: int) -> None:
        """Count a range and its points, *lines* of which the sink took and *refused* of which it never will."""
        SINK_RANGES.inc()
        SINK_POINTS.labels("taken").inc(lines)
        if refused:
            SINK_POINTS.labels("refused").inc(refused)

    def sink_failed(self) -> None:
        """Count an attempt that failed and is made again."""
        SINK_FAILURES.inc()

    def behind(self, entries: int) -> None:
        """Set how many *entries* that the store holds have not been sent yet."""
        SINK_UNSENT.set(entries)
