"""How a store is measured: filled as the writer fills it, then asked, in this process and by one thread."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import batches
import pyarrow as pa
from flagledger.store.base import Store
from flagledger.store.columns import DISCARDS, ROWS
from flagledger.store.questions import CountQuestion, ExposureQuestion, Filter, Group
from query_data import BATCH_ROWS, DAY, DAYS, Helping, helpings
from stores_kinds import Kind

# The same for every store and every run, so that answers can be compared; days of the past are dropped by nobody here.
END: Final = 1_790_000_000_000_000

_STREAM: Final = "bench"
_SMALL_ROWS: Final = 1_000
_SMALL_HELPINGS: Final = 20
_FEATURE: Final = batches.FEATURES[7]
_IDENTITY: Final = "user_4711"
_START: Final = END - DAYS * DAY
_ALL: Final = Filter(environment=batches.ENVIRONMENT, start=_START, end=END)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """
    What a store came to.

    Attributes:
        figures: Rows a second and bytes a row, by name.
        questions: Medians in milliseconds, by name.
        answers: What the questions were answered, by name; the same of every store.
    """

    figures: dict[str, float]
    questions: dict[str, float]
    answers: dict[str, object]


def measure(kind: Kind, rows: int, calls: int) -> Measured:
    """Fill the store of *kind* with *rows* evaluations, ask it each question *calls* times, and write some more."""
    rows -= rows % BATCH_ROWS
    with contextlib.closing(kind.open()) as store:
        taken = sum(_apply(store, helping) for helping in helpings(rows, END))
        store.checkpoint()
        size = kind.size(store)
        answers: dict[str, object] = {}
        questions: dict[str, float] = {}
        for name, ask in _questions().items():
            answers[name], questions[name] = _asked(lambda ask=ask: ask(store), calls)  # type: ignore[misc]
        exported, seconds = _export(store)
        small = _apply_small(store, rows)
    return Measured(
        figures={
            "rows/s, 170,000 at a time": rows / taken,
            f"rows/s, {_SMALL_ROWS:,} at a time": _SMALL_ROWS * _SMALL_HELPINGS / small,
            "bytes a row": size / rows,
            "export, rows/s": exported / seconds,
        },
        questions=questions,
        answers=answers,
    )


def _questions() -> dict[str, Callable[[Store], Any]]:
    """Return what is asked, by name."""
    day = END - DAY
    of_feature = dataclasses.replace(_ALL, feature_name=_FEATURE)
    exposures = ExposureQuestion(environment=batches.ENVIRONMENT, feature_name=_FEATURE, start=_START, end=END)

    def counts(asked: Filter, *groups: Group) -> Callable[[Store], Any]:
        return lambda store: store.count_evaluations(CountQuestion(filter=asked, group_by=groups, bucket="day"))

    return {
        "features, 24 h": lambda store: store.list_features(batches.ENVIRONMENT, day, END).totals,
        "features, 30 d": lambda store: store.list_features(batches.ENVIRONMENT, _START, END).totals,
        "counts by day, one feature": counts(of_feature),
        "counts by day and value, one feature": counts(of_feature, Group(kind="value")),
        "counts by day and segment, one feature": counts(of_feature, Group(kind="segment")),
        "counts by day and trait, one feature": counts(of_feature, Group(kind="trait", trait_key="plan")),
        "counts by day, all features": counts(_ALL),
        "newest 100 evaluations": lambda store: store.list_evaluations(_ALL, 100, None),
        "newest 100 of an identity": lambda store: store.list_evaluations(
            dataclasses.replace(_ALL, identity_identifier=_IDENTITY), 100, None
        ),
        "arms of a feature": lambda store: store.count_arms(exposures, 1),
        "unknown names, 30 d": lambda store: store.list_unknown_features(
            batches.ENVIRONMENT, _START, END, frozenset(), 100
        ),
    }


def _asked(ask: Callable[[], object], calls: int) -> tuple[object, float]:
    """Return an answer, asked once to warm up, and the median of so many *calls* in milliseconds."""
    answer = ask()
    times: list[float] = []
    for _ in range(calls):
        started = time.perf_counter()
        ask()
        times.append((time.perf_counter() - started) * 1000)
    return answer, statistics.median(times)


def _apply(store: Store, helping: Helping) -> float:
    """Apply *helping* and return how many seconds that took, what is due after it included."""
    started = time.perf_counter()
    store.apply(_STREAM, helping.first, helping.last, helping.rows, helping.discards)
    store.maintain()
    return time.perf_counter() - started


def _apply_small(store: Store, rows: int) -> float:
    """Apply as much as comes in while little does, behind *rows* that are there, and return how many seconds that took."""
    more = next(helpings(_SMALL_ROWS * _SMALL_HELPINGS, END + DAY))
    nothing = pa.RecordBatch.from_pylist([], DISCARDS)
    offset = (rows // BATCH_ROWS) << 16
    positions = pa.array([position + offset for position in more.rows.column("position").to_pylist()], pa.int64())
    columns = [positions, *more.rows.columns[1:]]
    shifted = pa.RecordBatch.from_arrays(columns, schema=ROWS)
    entries = _SMALL_ROWS // BATCH_ROWS
    taken = 0.0
    for number in range(_SMALL_HELPINGS):
        first = rows // BATCH_ROWS + 1 + number * entries
        last = first + entries - 1
        part = shifted.filter(pa.array([first <= position >> 16 <= last for position in positions.to_pylist()]))
        taken += _apply(store, Helping(first=first, last=last, rows=part, discards=nothing))
    return taken


def _export(store: Store) -> tuple[int, float]:
    """Export everything, and return how many rows that were and how many seconds it took."""
    started = time.perf_counter()
    rows = sum(batch.num_rows for batch in store.export(_ALL, 0).batches)
    return rows, time.perf_counter() - started
