"""What is told: one document for machines, and tables of the same figures for people."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import measure
import psutil
from measure import Drain, Measured, Plan
from rich import box
from rich.console import Console
from rich.table import Table
from tally import Result

# What the service is built to reach, on one core, with the sync to disk included.
AIMS: Final = {
    ("unary", 100): 250_000,
    ("stream", 100): 350_000,
    ("json", 100): 100_000,
    "writer": 230_000,
    "idle_rss_mb": 350,
}


def document(plan: Plan, measured: Measured, drains: list[Drain], data: Path) -> dict[str, Any]:
    """Return every figure as plain values: medians over the rounds, with their units in their names."""
    disk_floor = _disk(measured, measure.IN_FLIGHT)["batches_per_second"]
    return {
        "machine": machine_facts(data),
        "plan": {name: getattr(plan, name) for name in Plan.__slots__},
        "intake": [_intake(measured, *key, disk_floor) for key in measured.loaded],
        "alone": [_alone(transport, results) for transport, results in measured.alone.items()],
        "disk": [_disk(measured, group) for group in measured.disks],
        "writer": {
            "rows": [drain.rows for drain in drains],
            "rows_per_second_per_core": _median(drain.rows / drain.cpu for drain in drains),
            "rows_per_second_wall": _median(drain.rows / drain.wall for drain in drains),
            "aim": AIMS["writer"],
        },
        "memory": {when: {"rss_mb": memory.rss, "pss_mb": memory.pss} for when, memory in measured.memory.items()}
        | {"aim_idle_rss_mb": AIMS["idle_rss_mb"]},
        "verified": {"acknowledged": measured.acknowledged, "recorded": measured.recorded},
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """Print *figures* as tables."""
    show_machine(figures["machine"], console)
    console.print(_intake_table(figures["intake"]))
    console.print(_alone_table(figures["alone"], figures["disk"]))
    console.print(_rest_table(figures))
    verified = figures["verified"]
    console.print(
        f"{verified['acknowledged']:,} evaluations were acknowledged, and {verified['recorded']:,} can be read back.",
        highlight=False,
    )


def show_machine(machine: dict[str, Any], console: Console) -> None:
    """Print what the figures were measured on, as `machine_facts` says it."""
    console.print(
        f"{machine['processors']} of {machine['processor']}, load {machine['load_average']:.1f} at the start; "
        f"Python {machine['python']}, {machine['kernel']}",
        highlight=False,
    )


def _intake(measured: Measured, transport: str, size: int, disk_floor: float) -> dict[str, Any]:
    loaded, framework = measured.loaded[transport, size], measured.frameworks[transport, size]
    cost = _median(_cpu_us(result) for result in loaded)
    framework_cost = _median(_cpu_us(result) for result in framework)
    parse_cost = _median(measured.parses_us[transport, size])
    batches_per_second = _median(result.batches / result.seconds for result in loaded)
    return {
        "transport": transport,
        "evaluations_per_batch": size,
        "evaluations_per_second_per_core": size / cost * 1e6,
        "evaluations_per_second_wall": size * batches_per_second,
        "aim": AIMS.get((transport, size)),
        "p50_ms": _median(result.p50_ms for result in loaded),
        "p99_ms": _median(result.p99_ms for result in loaded),
        "cpu_us_per_batch": cost,
        "cpu_us_per_batch_rounds": [_cpu_us(result) for result in loaded],
        "floor_framework_us_per_batch": framework_cost,
        "floor_parse_us_per_batch": parse_cost,
        "floor_framework_evaluations_per_second_per_core": size / framework_cost * 1e6,
        "floor_parse_evaluations_per_second_per_core": size / parse_cost * 1e6,
        "times_floor": cost / (framework_cost + parse_cost),
        "share_of_disk_floor": batches_per_second / disk_floor if size == 100 else None,
        "front_cores": _median(result.cpu[0] / result.seconds for result in loaded),
        "writer_cores": _median(result.cpu[1] / result.seconds for result in loaded),
        "generator_cores": _median(result.generator_cpu / result.seconds for result in loaded),
    }


def _alone(transport: str, results: list[Result]) -> dict[str, Any]:
    return {
        "transport": transport,
        "p50_ms": _median(result.p50_ms for result in results),
        "p99_ms": _median(result.p99_ms for result in results),
    }


def _disk(measured: Measured, group: int) -> dict[str, Any]:
    disks = measured.disks[group]
    return {
        "batches_per_sync": group,
        "batches_per_second": _median(disk.batches_per_second for disk in disks),
        "p50_ms": _median(disk.p50_ms for disk in disks),
        "p99_ms": _median(disk.p99_ms for disk in disks),
    }


def machine_facts(data: Path) -> dict[str, Any]:
    """Return what the figures were measured on; *data* lies on the disk that was written to."""
    partitions = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "processor": _processor(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "file_system": next((partitions[each] for each in (data, *data.parents) if each in partitions), ""),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _cpu_us(result: Result) -> float:
    return result.cpu[0] / result.batches * 1e6


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _intake_table(rows: list[dict[str, Any]]) -> Table:
    table = figures_table(
        f"Durable evaluations a second ({measure.IN_FLIGHT} batches in flight)",
        ("transport", "a batch", "per core", "aim", "wall", "p50 ms", "p99 ms"),
        ("µs/batch", "framework", "parse", "times floor", "of disk"),
    )
    for row in rows:
        table.add_row(
            row["transport"],
            f"{row['evaluations_per_batch']:,}",
            f"{row['evaluations_per_second_per_core']:,.0f}",
            _or_nothing(row["aim"], ",.0f"),
            f"{row['evaluations_per_second_wall']:,.0f}",
            f"{row['p50_ms']:.1f}",
            f"{row['p99_ms']:.1f}",
            f"{row['cpu_us_per_batch']:,.0f}",
            f"{row['floor_framework_us_per_batch']:,.0f}",
            f"{row['floor_parse_us_per_batch']:,.1f}",
            f"{row['times_floor']:.1f}",
            _or_nothing(row["share_of_disk_floor"], ".0%"),
        )
    return table


def _or_nothing(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _alone_table(alone: list[dict[str, Any]], disks: list[dict[str, Any]]) -> Table:
    table = figures_table("One batch of 100 at a time, and the disk's own floor", ("", "p50 ms", "p99 ms", "batches/s"))
    for row in alone:
        table.add_row(row["transport"], f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", "")
    for row in disks:
        table.add_row(
            f"append + fdatasync, {row['batches_per_sync']} a sync",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['batches_per_second']:,.0f}",
        )
    return table


def _rest_table(figures: dict[str, Any]) -> Table:
    writer, memory = figures["writer"], figures["memory"]
    table = figures_table("Writer and memory", ("", "measured", "aim"))
    table.add_row("writer, rows/s per core", f"{writer['rows_per_second_per_core']:,.0f}", f"{writer['aim']:,}")
    table.add_row("writer, rows/s wall", f"{writer['rows_per_second_wall']:,.0f}", "")
    for when in ("idle", "after"):
        aim = f"{memory['aim_idle_rss_mb']}" if when == "idle" else ""
        table.add_row(f"process tree {when}, MB resident, added up", f"{memory[when]['rss_mb']:.0f}", aim)
        table.add_row(f"process tree {when}, MB with shared pages once", f"{memory[when]['pss_mb']:.0f}", "")
    return table


def figures_table(title: str, *columns: tuple[str, ...]) -> Table:
    """Return an empty table in a form that docs/benchmarks.md can take as it is, its first column on the left."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.MARKDOWN)
    for index, name in enumerate(name for group in columns for name in group):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    return table
