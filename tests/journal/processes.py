"""
Processes that append (appender.py), seen from outside: the oracle of what they were told was recorded.

And what makes disks fail.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Self


class Appender:
    """
    A process that appends; see appender.py for its arguments, behind *wrapper* and logging to *stderr* where they are given.

    Used as a context manager, it is killed at the end.

    Attributes:
        words: What it has said so far, by the first word of the line: `ok`, `duplicate`, `DISK_FAILING`, …
    """

    def __init__(
        self,
        path: Path,
        prefix: str,
        count: int = 0,
        *,
        wrapper: Sequence[str] = (),
        stderr: IO[bytes] | None = None,
        **options: object,
    ) -> None:
        self.words: dict[str, list[str]] = {}
        self._process = subprocess.Popen(
            [
                *wrapper,
                sys.executable,
                str(Path(__file__).with_name("appender.py")),
                str(path),
                prefix,
                str(count),
                *(f"{name}={value}" for name, value in options.items()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            # A wrapper that is killed must not leave the process behind.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        self._process.communicate()

    def hear(self, word: str, times: int = 1) -> None:
        """Read on until it has said *word* *times* more, or fail where it ends first."""
        assert self._process.stdout
        while times:
            line = self._process.stdout.readline()
            assert line, f"ended before it said {word!r}"
            times -= self._note(line) == word

    def say(self) -> None:
        """Write it a line."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """End it with SIGKILL and take in what it had said."""
        self._end()
        self._take_rest()

    def join(self) -> int:
        """Wait for its end, take in what it said, and return its exit code."""
        self._take_rest()
        return self._process.wait()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _take_rest(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            # What a full pipe took half of is no acknowledgement.
            if line.endswith("\n"):
                self._note(line)

    def _note(self, line: str) -> str:
        word, name = line.split()
        self.words.setdefault(word, []).append(name)
        return word


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size* bytes: what is written there fails, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
