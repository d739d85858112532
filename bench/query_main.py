"""
Measures what questions take on this machine, each beside the same asked of DuckDB alone.

    python bench/query_main.py [--rows ROWS] [--keep DIRECTORY]

It fills a store, serves a copy of it as it is really served, and asks: first while nothing else happens, then while evaluations
arrive at a steady rate. Answers are compared with DuckDB's. How to read the figures: docs/benchmarks.md.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import batches
import click
import grpc
import query_report
import report
from flagledger.v1 import query_service_pb2 as contract
from processes import BenchError, Service, console, service
from query_bare import Bare, NoAnswerError, bare
from query_client import Client
from query_data import Data, kept, make
from query_export import FORMATS, export
from query_load import SteadyLoad
from query_measure import Plan, ask, most_resident
from query_questions import questions
from rich.console import Console

_RESULTS: Final = Path(__file__).parent.parent / "bench-query-results.json"
_FEWEST_ROWS: Final = 10_000
_ERASED: Final = 5
# Time for the writer to fall into step with what arrives.
_SETTLE_SECONDS: Final = 2.0


@click.command()
@click.option("--rows", type=click.IntRange(_FEWEST_ROWS), default=10_000_000, help="Evaluations in the store.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Directory to keep the store in.")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where to write.")
@click.option("--json", "results", type=click.Path(path_type=Path), default=_RESULTS, help="File for the figures.")
@click.option("--calls", type=click.IntRange(1), default=15, help="Times that each question is asked at most.")
@click.option("--seconds", type=click.FloatRange(0), default=12.0, help="Seconds for each question, about.")
@click.option("--rate", type=click.IntRange(100), default=20_000, help="Evaluations a second that arrive meanwhile.")
def main(
    *, rows: int, keep: Path | None, directory: Path | None, results: Path, calls: int, seconds: float, rate: int
) -> None:
    """Measure questions, print tables, and write the figures as JSON."""
    # What was started is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = Plan(calls=calls, seconds=seconds)
    # A kept store is copied beside where it is kept: the copy is written to, and should not meet another disk.
    beside = directory or (None if keep is None else keep.absolute().parent)
    if beside is not None:
        beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="flagledger-bench-", dir=beside) as temporary:
        try:
            data = make(Path(temporary) / "made", rows) if keep is None else kept(keep.absolute(), rows)
            figures = _measure(plan, data, Path(temporary), rate, results)
        except BenchError as error:
            raise click.ClickException(str(error)) from error
    query_report.show(figures, Console(width=None if Console().is_terminal else 160))
    console.print(f"The same figures as JSON: {results}", highlight=False)
    if failures := query_report.failures(figures):
        raise click.ClickException("\n".join(["Not everything went well.", *failures]))


def _measure(plan: Plan, data: Data, temporary: Path, rate: int, results: Path) -> dict[str, Any]:
    """Measure everything; what there is so far is written to *results* after each part."""
    figures: dict[str, Any] = {"machine": report.machine_facts(temporary)} | query_report.document(plan, data)
    with contextlib.ExitStack() as stack:
        floor = stack.enter_context(bare(data.store, temporary / "spill"))
        target = stack.enter_context(service(data.copy(temporary / "served"), role="admin"))
        client = stack.enter_context(contextlib.closing(Client(target)))
        figures["memory"] = {"start": query_report.memory(target)}
        figures["idle"] = _condition("idle", plan, data, target, client, floor)
        _keep(figures, results)
        figures["intake"] = _while_intake_runs(plan, data, target, client, floor, rate)
        figures["memory"]["end"] = query_report.memory(target)
        figures["memory"]["writer_most_rss_mb"] = most_resident(target.writer) / 1e6
        _keep(figures, results)
        figures["erasure"] = _erase(client)
        _keep(figures, results)
    return figures


def _condition(
    name: str, plan: Plan, data: Data, target: Service, client: Client, floor: Bare
) -> dict[str, list[dict[str, Any]]]:
    asked = []
    for question in questions(data):
        console.print(f"{name}: {question.name}", highlight=False)
        asked.append(query_report.asked(ask(question, client, floor, plan, compare=name == "idle")))
    exported = []
    for format_ in FORMATS:
        try:
            exported.append(query_report.exported(export(format_, data, target, client, floor, plan)))
        except NoAnswerError as error:
            exported.append({"format": format_, "failure": str(error)})
    return {"questions": asked, "exports": exported}


def _while_intake_runs(
    plan: Plan, data: Data, target: Service, client: Client, floor: Bare, rate: int
) -> dict[str, Any]:
    with contextlib.closing(SteadyLoad(target.grpc, rate)) as load:
        time.sleep(_SETTLE_SECONDS)
        figures: dict[str, Any] = dict(_condition("while intake runs", plan, data, target, client, floor))
        outcome = load.stop()
    target.wait_until_applied(outcome.acknowledged)
    if not outcome.failures and (applied := target.applied()) != outcome.acknowledged:
        raise BenchError(f"{outcome.acknowledged:,} evaluations were acknowledged meanwhile, but {applied:,} recorded.")
    return figures | {
        "load": {
            "wanted_evaluations_per_second": rate,
            "evaluations_per_second": outcome.acknowledged / outcome.seconds,
            "acknowledged": outcome.acknowledged,
            "failures": dict(outcome.failures),
        }
    }


def _erase(client: Client) -> dict[str, Any]:
    """Erase a few identities; last, since it changes what is asked."""
    times: list[float] = []
    erased, failure = 0, ""
    for number in range(_ERASED):
        request = contract.DeleteIdentityRequest(environment=batches.ENVIRONMENT, identity_identifier=f"user_{number}")
        started = time.perf_counter()
        try:
            erased += client.stub.DeleteIdentity(request).deleted_evaluation_count
        except grpc.RpcError as error:
            failure = f"{error.code().name}: {error.details()}"
            break
        times.append((time.perf_counter() - started) * 1000)
    return query_report.erased(times, erased, failure)


def _keep(figures: dict[str, Any], results: Path) -> None:
    results.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
