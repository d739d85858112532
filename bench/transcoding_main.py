"""
Measures what the transcoding layer costs on this machine, each part beside what it is promised against.

    python bench/transcoding_main.py [--quick] [--json FILE]

Routing and codec run in this process; two servers that give the same answer, one of them without the layer, are loaded from
another. How to read the figures: docs/benchmarks.md.
"""

from __future__ import annotations

import contextlib
import json
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import click
import report
import transcoding_measure as measure
from processes import BenchError, Generator, standin
from rich.console import Console
from rich.table import Table
from transcoding_measure import Compared, Plan

_RESULTS: Final = Path(__file__).parent.parent / "bench-transcoding-results.json"
_SERVERS: Final = "transcoding_servers.py"
# What the layer is built to reach: so many times faster, and so many times the CPU of the bare server.
_FASTER: Final = {"JSON to message": 8.0, "message to JSON": 5.0}
_MOST_TIMES_BARE: Final = 2.0


@click.command()
@click.option("--quick", is_flag=True, help="Few and short rounds: some ten seconds.")
@click.option(
    "--json", "results", type=click.Path(path_type=Path), default=_RESULTS, help="File for the figures as JSON."
)
def main(*, quick: bool, results: Path) -> None:
    """Measure the transcoding layer, print a table, and write the figures as JSON."""
    # What was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="flagledger-bench-") as temporary:
        try:
            figures = _measure(measure.QUICK if quick else measure.FULL, Path(temporary))
        except BenchError as error:
            raise click.ClickException(str(error)) from error
    results.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console = Console(width=None if Console().is_terminal else 140)
    report.show_machine(figures["machine"], console)
    console.print(_table(figures["parts"]))
    console.print(f"The same figures as JSON: {results}", highlight=False)


def _measure(plan: Plan, data: Path) -> dict[str, Any]:
    machine = report.machine_facts(data)
    parts = [_route(each) for each in measure.routes(plan)]
    parts += [_faster(each) for each in measure.codec(plan)]
    with contextlib.ExitStack() as stack:
        generator = stack.enter_context(contextlib.closing(Generator()))
        servers = {
            kind: stack.enter_context(standin(kind, data / f"{kind}.log", program=_SERVERS))
            for kind in ("bare", "transcoder")
        }
        parts.append(_times(measure.http(plan, generator, servers)))
    return {"machine": machine, "plan": {name: getattr(plan, name) for name in Plan.__slots__}, "parts": parts}


def _route(compared: Compared) -> dict[str, Any]:
    return _part(compared) | {"times_reference": compared.times()}


def _faster(compared: Compared) -> dict[str, Any]:
    return _part(compared) | {"times_faster": compared.faster(), "aim_times_faster": _FASTER[compared.name]}


def _times(compared: Compared) -> dict[str, Any]:
    return _part(compared) | {"times_reference": compared.times(), "aim_times_reference": _MOST_TIMES_BARE}


def _part(compared: Compared) -> dict[str, Any]:
    return {
        "part": compared.name,
        "cpu_us": statistics.median(compared.ours),
        "cpu_us_rounds": compared.ours,
        "reference": compared.reference_name,
        "reference_cpu_us": statistics.median(compared.reference),
        "reference_cpu_us_rounds": compared.reference,
    }


def _table(parts: list[dict[str, Any]]) -> Table:
    table = report.figures_table(
        "The transcoding layer", ("", "µs", "beside", "its µs", "times faster", "aim", "times its CPU", "aim ")
    )
    for part in parts:
        faster, times = part.get("times_faster"), part.get("times_reference")
        table.add_row(
            part["part"],
            f"{part['cpu_us']:,.1f}",
            part["reference"],
            f"{part['reference_cpu_us']:,.1f}",
            "" if faster is None else f"{faster:.1f}",
            "" if faster is None else f"{part['aim_times_faster']:g}",
            "" if times is None else f"{times:.2f}",
            f"{part['aim_times_reference']:g}" if "aim_times_reference" in part else "",
        )
    return table


if __name__ == "__main__":
    main()
