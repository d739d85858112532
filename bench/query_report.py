"""What is told of questions: one document for machines, and tables of the same figures for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from processes import Service
from query_data import DAYS, Data
from query_export import ROWS_PER_SECOND, Exported
from query_measure import Asked, Plan, p50, p95
from query_questions import OVERHEAD_MS
from report import figures_table, show_machine
from rich.console import Console
from rich.table import Table

WRITER_MB: Final = 2_000
_TITLES: Final = {"idle": "Questions while nothing else happens", "intake": "Questions while intake runs"}


def document(plan: Plan, data: Data) -> dict[str, Any]:
    """Return what was asked, and of what."""
    size = data.store.stat().st_size
    return {
        "plan": {"calls": plan.calls, "seconds": plan.seconds},
        "data": {"rows": data.rows, "days": DAYS, "store_bytes": size, "store_bytes_per_row": size / data.rows},
    }


def asked(figures: Asked) -> dict[str, Any]:
    """Return what one question came to, with units in the names; None is what was not measured or means nothing."""
    ours, bare = p50(figures.ours), p50(figures.bare)
    return {
        "question": figures.question.name,
        "calls": len(figures.ours),
        "p50_ms": ours,
        "p95_ms": p95(figures.ours),
        "aim_p50_ms": figures.question.aim_ms,
        "bare_p50_ms": bare,
        "bare_p95_ms": p95(figures.bare),
        "overhead_ms": None if ours is None or bare is None else ours - bare,
        "aim_overhead_ms": None if bare is None else OVERHEAD_MS,
        "identities_estimated": figures.estimated,
        "identities_off_at_most": figures.off,
        "bare_exact_p50_ms": p50(figures.exact),
        "failure": figures.failure,
    }


def exported(figures: Exported) -> dict[str, Any]:
    """Return what one export came to."""
    return {
        "format": figures.format,
        "rows": figures.rows,
        "bytes_per_row": figures.size / figures.rows,
        "rows_per_second": figures.rows / figures.seconds,
        "aim_rows_per_second": ROWS_PER_SECOND,
        "bare_rows_per_second": figures.bare_rows_per_second,
        "writer_before_rss_mb": figures.writer[0] / 1e6,
        "writer_most_rss_mb": figures.writer[1] / 1e6,
        "front_before_rss_mb": figures.front[0] / 1e6,
        "front_most_rss_mb": figures.front[1] / 1e6,
        "failure": "",
    }


def erased(times: Sequence[float], rows: int, failure: str) -> dict[str, Any]:
    """Return what erasing came to."""
    return {"calls": len(times), "rows": rows, "p50_ms": p50(times), "p95_ms": p95(times), "failure": failure}


def memory(target: Service) -> dict[str, float]:
    """Return what the writer and the whole tree hold now."""
    writer, tree = target.writer.memory_full_info(), target.memory()
    return {
        "writer_rss_mb": writer.rss / 1e6,
        "writer_pss_mb": writer.pss / 1e6,
        "tree_rss_mb": tree.rss,
        "tree_pss_mb": tree.pss,
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """Print *figures* as tables."""
    data = figures["data"]
    show_machine(figures["machine"], console)
    console.print(f"{data['rows']:,} rows over {data['days']} days", highlight=False)
    for condition, title in _TITLES.items():
        console.print(_questions_table(title, figures[condition]["questions"]))
    for condition, title in _TITLES.items():
        console.print(_exports_table(title.replace("Questions", "Exports"), figures[condition]["exports"]))
    console.print(_rest_table(figures))


def failures(figures: dict[str, Any]) -> list[str]:
    """Return what went wrong, a sentence each."""
    found = [
        f"{condition}, {row.get('question', row.get('format'))}: {row['failure']}"
        for condition in _TITLES
        for row in (*figures[condition]["questions"], *figures[condition]["exports"])
        if row["failure"]
    ]
    if figures["erasure"]["failure"]:
        found.append(f"DeleteIdentity: {figures['erasure']['failure']}")
    return found + [
        f"{count} batches that were sent meanwhile: {said}"
        for said, count in figures["intake"]["load"]["failures"].items()
    ]


def _questions_table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = figures_table(
        title,
        ("", "calls", "p50 ms", "p95 ms", "aim"),
        ("bare p50", "bare p95", "overhead", "aim "),
        ("estimate off", "bare exact p50"),
    )
    for row in rows:
        table.add_row(
            row["question"],
            str(row["calls"]),
            *(_ms(row[name]) for name in ("p50_ms", "p95_ms")),
            _or_nothing(row["aim_p50_ms"], ",.0f"),
            *(_ms(row[name]) for name in ("bare_p50_ms", "bare_p95_ms", "overhead_ms")),
            _or_nothing(row["aim_overhead_ms"], ",.0f"),
            _or_nothing(row["identities_off_at_most"], ".1%"),
            _ms(row["bare_exact_p50_ms"]),
        )
    return table


def _exports_table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = figures_table(
        title,
        ("format", "rows", "bytes/row", "rows/s", "aim", "bare rows/s"),
        ("writer MB before", "at most", "front MB before", "at most "),
    )
    for row in rows:
        if row["failure"]:
            table.add_row(row["format"])
            continue
        table.add_row(
            row["format"],
            f"{row['rows']:,}",
            f"{row['bytes_per_row']:.0f}",
            *(f"{row[name]:,.0f}" for name in ("rows_per_second", "aim_rows_per_second", "bare_rows_per_second")),
            *(
                f"{row[f'{process}_{when}_rss_mb']:.0f}"
                for process in ("writer", "front")
                for when in ("before", "most")
            ),
        )
    return table


def _rest_table(figures: dict[str, Any]) -> Table:
    memories, load, erasure = figures["memory"], figures["intake"]["load"], figures["erasure"]
    table = figures_table("Writer, store and what arrived meanwhile", ("", "measured", "aim"))
    table.add_row("writer at its most, MB resident", f"{memories['writer_most_rss_mb']:.0f}", f"{WRITER_MB:,}")
    for when in ("start", "end"):
        table.add_row(f"writer at the {when}, MB resident", f"{memories[when]['writer_rss_mb']:.0f}", "")
        table.add_row(f"writer at the {when}, MB with shared pages once", f"{memories[when]['writer_pss_mb']:.0f}", "")
    table.add_row("store, bytes a row", f"{figures['data']['store_bytes_per_row']:.1f}", "")
    table.add_row(
        "arrived while intake ran, evaluations/s",
        f"{load['evaluations_per_second']:,.0f}",
        f"{load['wanted_evaluations_per_second']:,}",
    )
    table.add_row(f"DeleteIdentity, p50 ms of {erasure['calls']}", _ms(erasure["p50_ms"]), "")
    return table


def _ms(value: float | None) -> str:
    return _or_nothing(value, ",.1f")


def _or_nothing(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
