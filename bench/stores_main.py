"""
Measures the stores beside one another on this machine: the same rows, the same questions, each as a ratio to DuckDB.

    python bench/stores_main.py [--rows ROWS] [--postgresql URL] [--clickhouse URL]

PostgreSQL is the one of the test's wheel, with its defaults and in a directory of its own, ClickHouse its engine within this
process (chDB); URLs name real ones instead, whose databases must hold nothing of Flagledger. How to read the figures:
docs/storage.md.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import click
import report
import stores_measure as measure
from flagledger.store.sampling import EXACT_ROWS
from processes import BenchError
from rich.console import Console
from rich.table import Table
from stores_kinds import Kind, chdb, duckdb, of_url, postgres

_RESULTS: Final = Path(__file__).parent.parent / "bench-stores-results.json"
_FEWEST_ROWS: Final = 10_000


@click.command()
@click.option("--rows", type=click.IntRange(_FEWEST_ROWS), default=1_000_000, help="Evaluations in each store.")
@click.option("--calls", type=click.IntRange(1), default=7, help="Times that each question is asked.")
@click.option("--postgresql", metavar="URL", help="PostgreSQL to measure instead of one of the bench's own.")
@click.option("--clickhouse", metavar="URL", help="ClickHouse to measure instead of its engine within this process.")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where to write.")
@click.option("--json", "results", type=click.Path(path_type=Path), default=_RESULTS, help="File for the figures.")
def main(
    *, rows: int, calls: int, postgresql: str | None, clickhouse: str | None, directory: Path | None, results: Path
) -> None:
    """Measure the stores, print tables, and write the figures as JSON."""
    # What was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if Console().is_terminal else 140)
    with (
        tempfile.TemporaryDirectory(prefix="flagledger-bench-", dir=directory) as temporary,
        contextlib.ExitStack() as own,
    ):
        try:
            kinds = [
                duckdb(Path(temporary)),
                of_url(postgresql) if postgresql else own.enter_context(postgres()),
                of_url(clickhouse) if clickhouse else chdb(Path(temporary)),
            ]
            figures = _measure(kinds, rows, calls, Path(temporary))
        except BenchError as error:
            raise click.ClickException(str(error)) from error
    results.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    report.show_machine(figures["machine"], console)
    console.print(f"{figures['rows']:,} rows over thirty days", highlight=False)
    console.print(_table("Writing and room", figures["stores"], "figures"))
    console.print(_table("Questions, p50 ms", figures["stores"], "questions"))
    console.print(f"The same figures as JSON: {results}", highlight=False)


def _measure(kinds: list[Kind], rows: int, calls: int, directory: Path) -> dict[str, Any]:
    machine = report.machine_facts(directory)
    stores: list[dict[str, Any]] = []
    answers: dict[str, object] | None = None
    for kind in kinds:
        measured = measure.measure(kind, rows, calls)
        # Beyond that identities are estimated, each store with a sample of its own.
        if answers is not None and rows <= EXACT_ROWS and answers != measured.answers:
            differing = [name for name, answer in answers.items() if answer != measured.answers[name]]
            raise BenchError(f"{kind.name} answers otherwise than {kinds[0].name}: {', '.join(differing)}.")
        answers = measured.answers
        stores.append({"store": kind.name, "figures": measured.figures, "questions": measured.questions})
    return {"machine": machine, "rows": rows - rows % 100, "calls": calls, "stores": stores}


def _table(title: str, stores: list[dict[str, Any]], part: str) -> Table:
    first, *others = stores
    headings = [first["store"], *(heading for each in others for heading in (each["store"], "times " + first["store"]))]
    table = report.figures_table(title, ("", *headings))
    for name, ours in first[part].items():
        cells = [_figure(ours)]
        for each in others:
            cells += [_figure(each[part][name]), f"{each[part][name] / ours:.2f}"]
        table.add_row(name, *cells)
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:,.1f}"


if __name__ == "__main__":
    main()
