"""The floors that need no server: parsing alone, and the disk alone."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import batches
import orjson
from flagledger.v1 import evaluation_service_pb2

# Enough to defeat the processor's caches as a stream of different batches does.
_SAMPLES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What the disk does: batches a second that are durable, and milliseconds a sync (median, and 99 of 100)."""

    batches_per_second: float
    p50_ms: float
    p99_ms: float


def upb_parse(size: int, seconds: float) -> float:
    """Return microseconds of CPU that upb takes to parse a batch of *size* evaluations."""
    return _cost(evaluation_service_pb2.RecordEvaluationsRequest.FromString, batches.protobuf_batches(size), seconds)


def orjson_parse(size: int, seconds: float) -> float:
    """Return microseconds of CPU that orjson takes to parse a batch of *size* evaluations into Python objects."""
    return _cost(orjson.loads, batches.json_batches(size), seconds)


def disk(directory: Path, size: int, group: int, seconds: float) -> Disk:
    """Append serialised batches of *size* evaluations to a file in *directory*, one fdatasync for each *group*."""
    content = b"".join(itertools.islice(batches.protobuf_batches(size), group))
    path = directory / "floor.log"
    syncs = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        started = time.perf_counter()
        while (now := time.perf_counter()) - started < seconds:
            os.write(descriptor, content)
            os.fdatasync(descriptor)
            syncs.append(time.perf_counter() - now)
    finally:
        os.close(descriptor)
        path.unlink()
    ordered = sorted(syncs)
    return Disk(
        batches_per_second=group * len(syncs) / sum(syncs),
        p50_ms=statistics.median(ordered) * 1000,
        p99_ms=ordered[int(len(ordered) * 0.99)] * 1000,
    )


def _cost(parse: Callable[[bytes], object], serialised: Iterator[bytes], seconds: float) -> float:
    samples = list(itertools.islice(serialised, _SAMPLES))
    started = time.process_time()
    rounds = 0
    while (spent := time.process_time() - started) < seconds or not rounds:
        for sample in samples:
            parse(sample)
        rounds += 1
    return spent / (rounds * len(samples)) * 1e6
