"""
A flood of wrong keys on a cache of its own, in a process of its own.

Run as `python wrong_keys.py KEYS SECONDS`: sends so many distinct keys over so many seconds at least, with known ones among
them, and writes what came of it as JSON to stdout.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import psutil
from flagledger.catalog.base import Environment, Grant, Token
from flagledger.catalog.cache import CachedCatalog
from flagledger.errors import FlagledgerError, Reason

_BUDGET = 50.0
_KNOWN = 5
_WAVE = 500


class Counting:
    """A source that knows a few keys, takes its time, and notes when it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        environment = Environment(name="one", features=frozenset({"a"}))
        self._keys = {f"known-{number}": Grant(environment=environment, is_server=False) for number in range(_KNOWN)}

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        """Answer, and note the time."""
        del fresh
        self.asked.append(time.monotonic())
        await asyncio.sleep(0.002)
        return self._keys.get(key)

    async def environments(self) -> dict[str, Environment]:
        """Return none."""
        return {}

    async def token(self, token: str) -> Token | None:
        """Return none."""
        del token

    def ready(self) -> bool:
        """Return True."""
        return True


async def flood(keys: int, seconds: float) -> dict[str, object]:
    """Return what came of *keys* wrong keys, sent over *seconds*."""
    source = Counting()
    outcomes: dict[str, int] = {}

    def note(outcome: str) -> None:
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    catalog = CachedCatalog(source, max_lookups_per_second=_BUDGET, refresh_seconds=1.0, on_lookup=note)
    answers = {"unknown": 0, "refused": 0, "known": 0, "wrong": 0}

    async def send(key: str) -> None:
        try:
            grant = await catalog.lookup(key)
        except FlagledgerError as error:
            right = error.reason is Reason.CATALOG_UNREACHABLE and (error.retry_after or 0) >= 1
            answers["refused" if right and not key.startswith("known") else "wrong"] += 1
            return
        if key.startswith("known"):
            answers["known" if grant is not None else "wrong"] += 1
        else:
            answers["unknown" if grant is None else "wrong"] += 1

    known = [f"known-{number}" for number in range(_KNOWN)]
    await asyncio.gather(*map(send, known))
    # What a first wave needs once is no growth.
    await asyncio.gather(*(send(f"first-{number}{'x' * 400}") for number in range(_WAVE)))
    process = psutil.Process()
    before = process.memory_info().rss
    started = time.monotonic()
    most = before
    for first in range(0, keys, _WAVE):
        wave = [f"{number}{'x' * 400}" for number in range(first, first + _WAVE)]
        await asyncio.gather(*map(send, [*wave, *known]))
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(max(0.0, started + seconds * first / keys - time.monotonic()))
    times = source.asked
    return {
        "grown": most - before,
        "seconds": time.monotonic() - started,
        "asked": len(times),
        "most_in_a_second": max(
            sum(start <= one < start + 1 for one in times[at : at + 200]) for at, start in enumerate(times)
        ),
        "answers": answers,
        "outcomes": outcomes,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(flood(int(sys.argv[1]), float(sys.argv[2])))))
