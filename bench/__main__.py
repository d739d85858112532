"""
Measures what the service does on this machine, beside the floors that it cannot get under.

    python bench [--quick] [--json FILE]

It starts the service as it is really started, loads it from a process of its own over 127.0.0.1, and checks every
answer and, after each load, that exactly what was acknowledged can be read back. How to read the figures:
docs/benchmarks.md.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path

import click
import measure
import report
from processes import BenchError, Generator, console, service, standin
from rich.console import Console

_RESULTS = Path(__file__).parent.parent / "bench-results.json"


@click.command()
@click.option("--quick", is_flag=True, help="One short round instead of three: about a minute.")
@click.option(
    "--json", "results", type=click.Path(path_type=Path), default=_RESULTS, help="File for the figures as JSON."
)
@click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), help="Where to write, to measure another disk."
)
def main(*, quick: bool, results: Path, directory: Path | None) -> None:
    """Measure the service and its floors, print tables, and write the figures as JSON."""
    # What was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = measure.QUICK if quick else measure.FULL
    with tempfile.TemporaryDirectory(prefix="flagledger-bench-", dir=directory) as temporary:
        data = Path(temporary)
        try:
            figures = _measure(plan, data)
        except BenchError as error:
            raise click.ClickException(str(error)) from error
    results.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    report.show(figures, Console(width=None if Console().is_terminal else 140))
    console.print(f"The same figures as JSON: {results}", highlight=False)


def _measure(plan: measure.Plan, data: Path) -> dict[str, object]:
    with contextlib.ExitStack() as stack:
        generator = stack.enter_context(contextlib.closing(Generator()))
        null_grpc = stack.enter_context(standin("grpc", data / "grpc.log"))
        null_http = stack.enter_context(standin("http", data / "http.log"))
        stand_ins = {"unary": null_grpc, "stream": null_grpc, "json": null_http}
        with service(data / "intake") as target:
            measured = measure.intake(plan, target, stand_ins, generator, data)
        drains = measure.drains(plan, generator, data)
    return report.document(plan, measured, drains, data)


if __name__ == "__main__":
    main()
