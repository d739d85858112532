"""The order of measurements: floors and service take turns, round after round."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import floors
import standins
from processes import Generator, Memory, Service, console, held, service
from tally import Load, Result, cpu_seconds

SIZES: Final = (1, 100, 1000)
# Connections: several, as several SDKs would have; over HTTP/1.1 each holds one request.
CONNECTIONS: Final = {"unary": 8, "stream": 4, "json": 64}
IN_FLIGHT: Final = 64

# Evaluations a second at which a journal is filled, about: it decides how long a filling lasts, and nothing measured.
_EXPECTED_RATE: Final = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    How long and how often.

    Attributes:
        rounds: Times that everything is measured.
        warm_up: Seconds of load before a window.
        seconds: Seconds of a window.
        floor_seconds: Seconds for each floor that needs no server.
        writer_rows: Evaluations that the writer is given at once, at least.
        writer_rounds: Times that it is.
    """

    rounds: int
    warm_up: float
    seconds: float
    floor_seconds: float
    writer_rows: int
    writer_rounds: int


FULL: Final = Plan(rounds=3, warm_up=0.4, seconds=1.5, floor_seconds=0.15, writer_rows=1_000_000, writer_rounds=2)
QUICK: Final = Plan(rounds=1, warm_up=0.2, seconds=0.7, floor_seconds=0.1, writer_rows=300_000, writer_rounds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """What the writer made of a full journal: rows, and the seconds, of the wall and of its own CPU, that they took."""

    rows: int
    wall: float
    cpu: float


@dataclass(slots=True, kw_only=True)
class Measured:
    """Everything measured, one value a round, by transport and evaluations a batch; disks by batches a sync."""

    loaded: dict[tuple[str, int], list[Result]] = field(default_factory=lambda: defaultdict(list))
    frameworks: dict[tuple[str, int], list[Result]] = field(default_factory=lambda: defaultdict(list))
    parses_us: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    alone: dict[str, list[Result]] = field(default_factory=lambda: defaultdict(list))
    disks: dict[int, list[floors.Disk]] = field(default_factory=lambda: defaultdict(list))
    drains: list[Drain] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)
    acknowledged: int = 0
    recorded: int = 0


def intake(
    plan: Plan, target: Service, stand_ins: dict[str, tuple[str, int]], generator: Generator, data: Path
) -> Measured:
    """
    Measure what SDKs see of *target*, and the floors beside it.

    Args:
        plan: How long and how often.
        target: A service that holds nothing yet.
        stand_ins: Address and process id of the stand-in for each transport.
        generator: The load generator.
        data: A directory on the disk that the service writes to.

    Raises:
        BenchError: An answer was not as expected, or what was acknowledged cannot be read back.
    """
    measured = Measured()
    time.sleep(1)
    measured.memory["idle"] = target.memory()
    for number in range(plan.rounds):
        for size in SIZES:
            for transport in CONNECTIONS:
                console.print(f"round {number + 1} of {plan.rounds}: {transport}, {size} a batch", highlight=False)
                load = _load(plan, transport, size, target)
                address, pid = stand_ins[transport]
                floor = dataclasses.replace(load, address=address, accepted=standins.ACCEPTED, watched=[pid])
                parse = floors.orjson_parse if transport == "json" else floors.upb_parse
                measured.parses_us[transport, size].append(parse(size, plan.floor_seconds))
                measured.frameworks[transport, size].append(generator.run(floor))
                measured.loaded[transport, size].append(_serve(load, target, generator, measured))
        for transport in CONNECTIONS:
            load = dataclasses.replace(_load(plan, transport, 100, target), in_flight=1, connections=1)
            measured.alone[transport].append(_serve(load, target, generator, measured))
        for group in (1, IN_FLIGHT):
            measured.disks[group].append(floors.disk(data, 100, group, plan.floor_seconds * 2))
    measured.recorded = target.recorded()
    time.sleep(1)
    measured.memory["after"] = target.memory()
    return measured


def drains(plan: Plan, generator: Generator, data: Path) -> list[Drain]:
    """
    Fill a journal while the writer is held, let it go, and see how long it takes; with a new service each time.

    Raises:
        BenchError: An answer was not as expected, or what was acknowledged cannot be read back.
    """
    results = []
    for number in range(plan.writer_rounds):
        console.print(f"writer, round {number + 1} of {plan.writer_rounds}", highlight=False)
        with service(data / f"writer-{number}") as target:
            # A little first, so that what the writer makes only once is made.
            sent = _stream(plan, target, generator, seconds=0.1)
            target.wait_until_recorded(sent)
            rows = 0
            with held(target.writer):
                while rows < plan.writer_rows:
                    seconds = min(2.0, max(0.2, (plan.writer_rows - rows) / _EXPECTED_RATE))
                    rows += _stream(plan, target, generator, seconds=seconds)
                before = cpu_seconds(target.writer.pid)
            started = time.monotonic()
            ended = target.wait_until_applied(sent + rows)
            # Trimming the journal is work of the writer for these rows, too.
            target.wait_until_quiet()
            cpu = cpu_seconds(target.writer.pid) - before
            target.wait_until_recorded(sent + rows)
            results.append(Drain(rows=rows, wall=ended - started, cpu=cpu))
    return results


def _stream(plan: Plan, target: Service, generator: Generator, *, seconds: float) -> int:
    load = dataclasses.replace(_load(plan, "stream", 100, target), warm_up=0.0, seconds=seconds)
    return generator.run(load).acknowledged


def _serve(load: Load, target: Service, generator: Generator, measured: Measured) -> Result:
    result = generator.run(load)
    measured.acknowledged += result.acknowledged
    # The next load starts with an empty journal, and nothing stays unaccounted for.
    target.wait_until_recorded(measured.acknowledged)
    return result


def _load(plan: Plan, transport: str, size: int, target: Service) -> Load:
    return Load(
        transport=transport,
        address=target.http if transport == "json" else target.grpc,
        evaluations=size,
        accepted=size,
        in_flight=IN_FLIGHT,
        connections=CONNECTIONS[transport],
        warm_up=plan.warm_up,
        seconds=plan.seconds,
        watched=[target.front.pid, target.writer.pid],
    )
