from __future__ import annotations

import io
from typing import Any

import query_report
from query_export import Exported
from query_measure import Asked
from query_questions import Answer, Question
from rich.console import Console

QUESTION = Question(name="one", ask=lambda _: None, said=lambda _: Answer(exact=None), aim_ms=300)


def _figures(**asked: Any) -> dict[str, Any]:
    exported = Exported(
        format="csv",
        rows=1_000,
        size=250_000,
        seconds=0.5,
        bare_rows_per_second=1e6,
        writer=(100_000_000, 150_000_000),
        front=(50_000_000, 50_000_000),
    )
    condition = {
        "questions": [query_report.asked(Asked(question=QUESTION, **asked))],
        "exports": [query_report.exported(exported)],
    }
    load = {"wanted_evaluations_per_second": 20, "evaluations_per_second": 19.0, "acknowledged": 19, "failures": {}}
    held = {"writer_rss_mb": 1.0, "writer_pss_mb": 1.0, "tree_rss_mb": 1.0, "tree_pss_mb": 1.0}
    return {
        "machine": {"processors": 2, "processor": "X", "load_average": 0.0, "python": "3", "kernel": "Linux"},
        "data": {"rows": 1_000, "days": 30, "store_bytes_per_row": 43.0},
        "idle": condition,
        "intake": {**condition, "load": load},
        "memory": {"start": held, "end": held, "writer_most_rss_mb": 1.0},
        "erasure": query_report.erased([5.0], 2, ""),
    }


def test_overhead_is_what_the_service_adds() -> None:
    """The overhead is the difference of the medians, with an aim where there is something to compare with, and only there."""
    row = query_report.asked(Asked(question=QUESTION, ours=[30.0, 10.0, 20.0], bare=[7.0, 5.0, 6.0]))
    alone = query_report.asked(Asked(question=QUESTION, ours=[30.0, 10.0, 20.0]))

    assert (20.0, 30.0, 6.0, 14.0, 20) == tuple(
        row[name] for name in ("p50_ms", "p95_ms", "bare_p50_ms", "overhead_ms", "aim_overhead_ms")
    )
    assert (20.0, None, None) == tuple(alone[name] for name in ("p50_ms", "overhead_ms", "aim_overhead_ms"))


def test_failures_are_told() -> None:
    """Whatever went wrong is among the failures, under its condition; where nothing did, there are none."""
    figures = _figures(failure="UNAVAILABLE: too long")
    figures["idle"]["exports"].append({"format": "arrow", "failure": "broke off"})
    figures["intake"]["load"]["failures"] = {"UNAVAILABLE": 3}
    figures["erasure"]["failure"] = "INTERNAL: no"
    told = "\n".join(query_report.failures(figures))

    assert [] == query_report.failures(_figures())
    for said in (
        "idle, one: UNAVAILABLE: too long",
        "intake, one",
        "idle, arrow: broke off",
        "INTERNAL: no",
        "3 batches",
    ):
        assert said in told


def test_tables_hold_what_there_is() -> None:
    """What was measured stands in the tables, and what failed leaves its cells empty."""
    figures = _figures(ours=[1234.5], bare=[1000.0])
    figures["intake"]["exports"] = [{"format": "arrow", "failure": "broke off"}]
    shown = io.StringIO()
    query_report.show(figures, Console(file=shown, width=160))

    for text in ("1,234.5", "234.5", "300", "| csv", "2,000", "| arrow", "20"):
        assert text in shown.getvalue()
