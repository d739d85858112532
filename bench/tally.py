"""What a load comes to: answers counted and checked, how long each took, and what it cost the processes watched."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """
    What to send.

    Attributes:
        transport: `unary`, `stream` or `json`.
        address: HOST:PORT.
        evaluations: Evaluations a batch.
        accepted: `accepted_count` that every answer must carry.
        in_flight: Batches without an answer at any moment.
        connections: Connections over which they are spread.
        warm_up: Seconds of load before the measured window.
        seconds: Seconds of the measured window.
        watched: Processes whose CPU time over the window is taken.
        status: HTTP status that every answer over `json` must carry.
    """

    transport: str
    address: str
    evaluations: int
    accepted: int
    in_flight: int
    connections: int
    warm_up: float
    seconds: float
    watched: Sequence[int]
    status: int = 202


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    What became of it. Only answers that arrived within the window count, except for `acknowledged`.

    Attributes:
        batches: Batches answered within the window.
        seconds: Length of the window.
        cpu: CPU-seconds, user and system, that each watched process used within the window, in the order watched.
        generator_cpu: The same of the generator itself.
        p50_ms: Median time from sending to the answer, in milliseconds.
        p99_ms: The same that 99 of 100 answers stayed within.
        acknowledged: Evaluations acknowledged in all, warm-up and last answers included.
        failures: Answers that were anything but what was expected, by what they said.
    """

    batches: int
    seconds: float
    cpu: list[float]
    generator_cpu: float
    p50_ms: float
    p99_ms: float
    acknowledged: int
    failures: dict[str, int]


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts answers while a load runs."""

    load: Load
    started: float = field(default_factory=time.perf_counter)
    _latencies: list[float] = field(default_factory=list)
    _answered: int = 0
    _failures: Counter[str] = field(default_factory=Counter)
    _measuring: bool = False
    _opened: float = 0.0
    _closed: float = 0.0
    _cpu: list[float] = field(default_factory=list)

    def going(self) -> bool:
        """Return whether to send on."""
        return not self._closed

    def open_window(self) -> None:
        """Begin to measure."""
        self._cpu = self._cpu_seconds()
        self._measuring = True
        self._opened = time.perf_counter()

    def close_window(self) -> None:
        """Stop measuring; what is in flight is still to be answered."""
        self._closed = time.perf_counter()
        self._measuring = False
        self._cpu = [after - before for before, after in zip(self._cpu, self._cpu_seconds(), strict=True)]

    def answered(self, sent_at: float) -> None:
        """Count one answer that was as expected, to a batch sent at *sent_at*."""
        self._answered += 1
        if self._measuring:
            self._latencies.append(time.perf_counter() - sent_at)

    def failed(self, what: str) -> None:
        """Count one answer that was not, under *what* it said."""
        self._failures[what[:300]] += 1

    def result(self) -> Result:
        """Return what it all came to."""
        latencies = sorted(self._latencies)
        *cpu, generator_cpu = self._cpu
        return Result(
            batches=len(latencies),
            seconds=self._closed - self._opened,
            cpu=cpu,
            generator_cpu=generator_cpu,
            p50_ms=_quantile(latencies, 0.50) * 1000,
            p99_ms=_quantile(latencies, 0.99) * 1000,
            acknowledged=self._answered * self.load.evaluations,
            failures=dict(self._failures),
        )

    def _cpu_seconds(self) -> list[float]:
        return [cpu_seconds(pid) for pid in self.load.watched] + [time.process_time()]


def cpu_seconds(pid: int) -> float:
    """Return the CPU-seconds, user and system, that process *pid* has used, all its threads included."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
