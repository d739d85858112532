"""How the questions are measured: the service and DuckDB alone take turns, for a bounded time."""

from __future__ import annotations

import contextlib
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import psutil
from flagledger.store.sampling import mask_for
from processes import BenchError, console
from query_bare import Bare, NoAnswerError, Rows
from query_client import Client
from query_questions import Answer, Question

_FEWEST: Final = 3
# Times the plan's seconds after which not even those are waited for.
_PATIENCE: Final = 4
_PEAK_PAUSE: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    How long and how often.

    Attributes:
        calls: Times that each question is asked at most, once more before to warm up.
        seconds: Seconds after which it is asked no more, once that was done a few times; and the length of each export, about.
    """

    calls: int
    seconds: float


@dataclass(slots=True, kw_only=True)
class Asked:
    """
    One question under one condition. Times are in milliseconds, one for each call.

    Attributes:
        question: Which.
        ours: The service's.
        bare: Those of DuckDB alone, with a sample where the service takes one.
        exact: Those of DuckDB alone with every identity, where the service takes a sample and the answers are compared.
        estimated: Whether it does.
        off: The largest share by which an estimate is off; None where there is none.
        failure: Why there is nothing, or no more; empty where all went well.
    """

    question: Question
    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    exact: list[float] = field(default_factory=list)
    estimated: bool = False
    off: float | None = None
    failure: str = ""


def ask(question: Question, client: Client, bare: Bare, plan: Plan, *, compare: bool) -> Asked:
    """
    Ask *question* of the service and of DuckDB alone in turn.

    An answer that does not come, or is not DuckDB's, ends this question and not the bench.

    Args:
        question: Which.
        client: Asks the service.
        bare: Asks DuckDB alone, of the same rows.
        plan: How often.
        compare: Whether the answers must be the same; while evaluations arrive they need not.
    """
    asked = Asked(question=question)
    try:
        _ask(asked, client, bare, plan, compare=compare)
    except grpc.RpcError as error:
        asked.failure = f"{error.code().name}: {error.details()}"
    except NoAnswerError as error:
        asked.failure = str(error)
    if asked.failure:
        console.print(f"[red]{question.name}: {asked.failure}", highlight=False)
    return asked


def _ask(asked: Asked, client: Client, bare: Bare, plan: Plan, *, compare: bool) -> None:
    question = asked.question
    said = question.said(question.ask(client))
    asked.estimated = said.estimated
    turns: list[tuple[list[float], Callable[[], Any]]] = [(asked.ours, lambda: question.ask(client))]
    if question.statements is not None:
        sampled = question.statements(mask_for(question.rows(said)) if said.estimated else 0)
        found = question.found(bare.ask(sampled))
        if compare and not said.agrees(found):
            raise NoAnswerError(_differ(said, found))
        turns.append((asked.bare, lambda: bare.ask(sampled)))
    _take_turns(turns, plan, fewest=_FEWEST)
    if compare and said.estimated and question.statements is not None:
        _ask_exactly(asked, said, bare, question.statements(0), plan)


def _ask_exactly(asked: Asked, said: Answer, bare: Bare, statements: Sequence[str], plan: Plan) -> None:
    """Ask DuckDB alone for every identity, which may take long; given up, it leaves nothing."""
    found: list[list[Rows]] = []
    # Not being able to is what samples are for.
    with contextlib.suppress(NoAnswerError):
        _take_turns([(asked.exact, lambda: found.append(bare.ask(statements)))], plan, fewest=1)
    if found:
        asked.off = said.off(asked.question.found(found[0]))


def _take_turns(turns: Sequence[tuple[list[float], Callable[[], Any]]], plan: Plan, *, fewest: int) -> None:
    """Take the time of each of *turns*, one after the other, again and again; *fewest* times also if that takes longer."""
    started = time.perf_counter()
    for number in range(plan.calls):
        taken = time.perf_counter() - started
        if (number >= fewest and taken > plan.seconds) or (number and taken > plan.seconds * _PATIENCE):
            break
        for times, turn in turns:
            before = time.perf_counter()
            turn()
            times.append((time.perf_counter() - before) * 1000)


def _differ(said: Answer, found: Answer) -> str:
    return (
        "The service and DuckDB alone do not say the same.\n"
        f"Service: {str((said.exact, said.identities))[:1000]}\nDuckDB: {str((found.exact, found.identities))[:1000]}"
    )


def p50(times: Sequence[float]) -> float | None:
    """Return the median; None of nothing."""
    return statistics.median(times) if times else None


def p95(times: Sequence[float]) -> float | None:
    """Return the time that 95 of 100 stayed within, the longest of a few; None of nothing."""
    return sorted(times)[math.ceil(len(times) * 0.95) - 1] if times else None


@contextlib.contextmanager
def peaks(*processes: psutil.Process) -> Iterator[list[int]]:
    """Yield the most that each of *processes* has resident while the block runs, in bytes."""
    most = [process.memory_info().rss for process in processes]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_PEAK_PAUSE):
            for index, process in enumerate(processes):
                # Who has gone says so elsewhere.
                with contextlib.suppress(psutil.NoSuchProcess):
                    most[index] = max(most[index], process.memory_info().rss)

    watcher = threading.Thread(target=watch, name="peaks", daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def most_resident(process: psutil.Process) -> int:
    """Return the most that *process* ever had resident, in bytes, as the kernel has kept it."""
    for line in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"The kernel does not say what process {process.pid} had resident at most.")
