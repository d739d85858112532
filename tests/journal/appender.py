"""
A process that appends: `appender.py PATH PREFIX COUNT [option=value …]`.

Appends batches PREFIX-0, PREFIX-1, … with 16 clients, each of which waits for its answer, and writes a line for each answer:
`ok ID`, `duplicate ID`, or `REASON ID`. COUNT 0 means until killed. Options: `size` of a payload, `first` number,
`max_bytes`, `breath`, `fsize` (RLIMIT_FSIZE in bytes), `reserve`, `clients`, `pause` (seconds between appends of a client).

With `fsize`, a line on stdin lifts the limit; with `steer=1` too, a line on stdin is the only thing that ends it.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import resource
import sys
from pathlib import Path

from flagledger.errors import FlagledgerError
from flagledger.journal.base import Outcome
from flagledger.journal.sqlite import SqliteJournal
from flagledger.telemetry import logging

OUTCOME = Outcome(accepted=1, filtered=0, rejected=0)


def payload_of(name: str, size: int) -> bytes:
    """Return the payload that belongs to batch *name*: its name, and content that follows from it."""
    head = name.encode() + b"\n"
    return head + hashlib.shake_128(head).digest(size)


def say(*words: object) -> None:
    """Write a line as one piece, so that a kill cuts none in half."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def main(path: Path, prefix: str, count: int, options: dict[str, str]) -> None:
    """Append as the arguments say."""
    size = int(options.get("size", "3000"))
    pause = float(options.get("pause", "0"))
    journal = SqliteJournal.open(
        path,
        max_bytes=int(options.get("max_bytes", str(1 << 40))),
        breath=float(options.get("breath", "0")),
        reserve_bytes=int(options.get("reserve", "0")),
    )
    numbers = itertools.count(int(options.get("first", "0")))

    async def client() -> None:
        for number in numbers:
            if count and number >= count:
                return
            name = f"{prefix}-{number}"
            payload = payload_of(name, size)
            try:
                appended = await journal.append("env", name, hashlib.md5(payload).digest(), OUTCOME, payload)
            except FlagledgerError as error:
                say(error.reason.name, name)
            else:
                say("duplicate" if appended.duplicate else "ok", name)
            await asyncio.sleep(pause)

    say("open", journal.identity)
    clients = asyncio.gather(*(client() for _ in range(int(options.get("clients", "16")))))
    if "fsize" in options:
        limit = int(options["fsize"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        await asyncio.to_thread(sys.stdin.readline)
        say("writable", journal.writable())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        say("lifted", "-")
    await clients
    say("writable", journal.writable())
    await asyncio.to_thread(journal.close)


if __name__ == "__main__":
    # Logs to stderr: stdout carries the answers.
    logging.configure("appender")
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), dict(word.split("=") for word in sys.argv[4:])))
