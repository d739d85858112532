r"""
Counts as line protocol.

```text
flag_evaluations,environment=production,feature=checkout,enabled=true,variant=blue count=17i 1790000000000000042
```

One line for each environment, feature, enabled (true, false, unknown), variant and second of evaluation. What is empty has no
tag, which InfluxDB takes for empty; so has an evaluation without a variant. The timestamp is that second, with nanoseconds
that tell the ranges of entries apart: InfluxDB keeps one point for a series and a timestamp.

Line protocol cannot carry every text, and versions of InfluxDB differ in how they read a backslash before `\`, a comma, a
space, `=` or the end: such a backslash becomes `/`, and every control character, line breaks among them, a space. Texts that
come to be the same are counted together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa

from flagledger.store.influxdb import variants
from flagledger.store.sinks import Memory

MEASUREMENT: Final = "flag_evaluations"
# Seconds whose nanoseconds fit into 64 bits, with any nanoseconds added: the years 1677 to 2262.
MAX_SECOND: Final = 9_223_372_035

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_AMBIGUOUS: Final = re.compile(r"\\(?![^\\,= ])")
_SPECIAL: Final = re.compile(r"[,= ]")
_ENABLED: Final = {True: "true", False: "false", None: "unknown"}


def lines_of(counts: pa.Table, memory: Memory, nanoseconds: int) -> tuple[list[str], int]:
    """
    Return the lines of *counts*, in an order of their own, and how many points have a time that InfluxDB cannot hold.

    Args:
        counts: Of the schema `applied.TALLY`.
        memory: Variants that are known by name (module `variants`).
        nanoseconds: What is added to each second.
    """
    sums: Counter[tuple[str, int]] = Counter()
    for row in rows_of(counts):
        variant = variants.named(memory, row["environment"], row["feature_name"], row["variant"])
        tags = (
            ("environment", tag_text(row["environment"])),
            ("feature", tag_text(row["feature_name"])),
            ("enabled", _ENABLED[row["enabled"]]),
            ("variant", tag_text(variant)),
        )
        # Before they are counted: two lines of one series and timestamp would overwrite each other.
        series = "".join(f",{name}={escaped(value)}" for name, value in tags if value)
        sums[series, row["second"]] += row["evaluation_count"]
    lines = [
        f"{MEASUREMENT}{series} count={count}i {second * 1_000_000_000 + nanoseconds}"
        for (series, second), count in sorted(sums.items())
        if abs(second) <= MAX_SECOND
    ]
    return lines, len(sums) - len(lines)


def rows_of(counts: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of *counts*, some thousands at a time in memory."""
    for batch in counts.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


@lru_cache(maxsize=4096)
def tag_text(text: str) -> str:
    """Return *text* as far as a tag can carry it."""
    return _AMBIGUOUS.sub("/", _CONTROLS.sub(" ", text))


@lru_cache(maxsize=4096)
def escaped(value: str) -> str:
    """Return *value*, of `tag_text`, as it stands in a line."""
    return _SPECIAL.sub(r"\\\g<0>", value)
