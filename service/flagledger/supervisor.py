"""
The process tree: one supervisor, one writer, one or more fronts.

The supervisor holds the data directory and the ports, starts the others, starts them again when they die, and alone writes to
stdout. It loads neither gRPC nor the store: what is started must be started before any gRPC object exists.

Each child gets its settings as one line of JSON on stdin, which then stays open: its end tells the child that the supervisor is
gone, `kill -9` included. Each child reports with lines of JSON on stdout: `{"ready": true, "lacking": "sentence"}`, empty where
it lacks nothing, or `{"fatal": "sentence"}` before it exits.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from flagledger.telemetry.logging import get_logger

_START_SECONDS: Final = 60.0
# What the writer gets after the fronts have drained. With the default of `drain_seconds` all is over within ten seconds.
_WRITER_SECONDS: Final = 1.5
# What a front gets beyond the time in which it drains by itself.
_LEEWAY_SECONDS: Final = 0.4
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_STEADY_SECONDS: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1
_PIPE_BYTES: Final = 65_536


class CannotRunError(Exception):
    """The service cannot run here; the text is a sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """What the supervisor tells a child: the configuration, and where it stands in the tree."""

    role: str
    index: int
    config: str
    read_token: str
    identity_secret: str
    http: str
    grpc: str
    runtime: str

    def name(self) -> str:
        """Return the name that logs and metrics carry."""
        return f"{self.role}-{self.index}" if self.role == "front" else self.role

    def to_json(self) -> str:
        """Return the settings as one line. It holds secrets."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: bytes) -> ProcessSettings:
        """Return what `to_json` wrote."""
        return cls(**json.loads(line))


@dataclass(slots=True, kw_only=True)
class _Child:
    settings: ProcessSettings
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    fatal: str = ""
    lacking: str = ""


class Supervisor:
    """Starts the children, keeps them running, and ends them in the order in which data flows."""

    def __init__(self, settings: list[ProcessSettings], environment: dict[str, str], *, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._children = [_Child(settings=one) for one in settings]
        self._environment = environment
        self._stopping = asyncio.Event()
        self._failed = ""
        self._log = get_logger()

    async def run(self, on_ready: asyncio.Event) -> str:
        """
        Run until told to stop; set *on_ready* when every child is ready.

        Returns:
            Empty after a stop that was asked for, else a sentence that says why the service cannot run.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        starting = asyncio.create_task(self._all_ready(on_ready))
        await self._stopping.wait()
        starting.cancel()
        await self._stop(keepers)
        return self._failed

    def lacking(self) -> list[str]:
        """Return what children said that they lacked when they became ready, as sentences."""
        return [child.lacking for child in self._children if child.lacking]

    async def _all_ready(self, on_ready: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                for child in self._children:
                    await child.ready.wait()
        except TimeoutError:
            late = [child.settings.name() for child in self._children if not child.ready.is_set()]
            self._fail(f"Not ready within {_START_SECONDS:.0f} s: {', '.join(late)}.")
        else:
            on_ready.set()

    def _fail(self, sentence: str) -> None:
        self._failed = self._failed or sentence
        self._stopping.set()

    async def _keep(self, child: _Child) -> None:
        """Start *child*, and start it again whenever it dies, with pauses that grow while it keeps dying."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                code: int | str = await self._run_once(child)
            except OSError as error:
                # No process, memory or file to be had for it just now: the others go on, and it is tried again.
                code = f"not started: {error}"
            if self._stopping.is_set():
                return
            if child.fatal and not child.ready.is_set():
                self._fail(child.fatal)
                return
            if time.monotonic() - started > _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            self._log.error(
                "a process ended and is started again", ended=child.settings.name(), code=code, pause=pause,
                reason=child.fatal or None,
            )  # fmt: skip
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _run_once(self, child: _Child) -> int:
        child.fatal = ""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "flagledger.app",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            # A terminal's Ctrl-C reaches the whole group; only the supervisor may act on it.
            start_new_session=True,
        )
        child.process = process
        if self._stopping.is_set():
            process.kill()
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101
        with contextlib.suppress(ConnectionError):
            process.stdin.write(child.settings.to_json().encode() + b"\n")
            await process.stdin.drain()
        async for line in process.stdout:
            with contextlib.suppress(ValueError):
                report = json.loads(line)
                child.fatal = report.get("fatal", "")
                if report.get("ready"):
                    child.lacking = report.get("lacking", "")
                    child.ready.set()
        code = await process.wait()
        self._forget_gauges(process.pid)
        return code

    def _forget_gauges(self, pid: int) -> None:
        """Remove the gauges of a process that has ended: what it held last is not what is held. Its counters stay."""
        for file in Path(self._environment["PROMETHEUS_MULTIPROC_DIR"]).glob(f"gauge_live*_{pid}.db"):
            file.unlink(missing_ok=True)

    async def _stop(self, keepers: list[asyncio.Task[None]]) -> None:
        """End the fronts, then the writer, so that what was acknowledged last is applied if time allows."""
        for role, seconds in (("front", self._drain_seconds + _LEEWAY_SECONDS), ("writer", _WRITER_SECONDS)):
            running = [
                child.process
                for child in self._children
                if child.settings.role == role and child.process is not None and child.process.returncode is None
            ]
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
            await _ended(running, seconds)
        await asyncio.gather(*keepers)


async def _ended(processes: list[asyncio.subprocess.Process], seconds: float) -> None:
    if not processes:
        return
    waits = [asyncio.create_task(process.wait()) for process in processes]
    _, late = await asyncio.wait(waits, timeout=seconds)
    if late:
        for process in processes:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        await asyncio.wait(waits)


def report(**said: object) -> None:
    """Tell the supervisor; for its children, as are the two functions below."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def read_line() -> bytes:
    """Return the first line of stdin, past Python's buffers: a thread that waits within those makes an exit abort."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), _PIPE_BYTES)
        if not piece:
            sys.exit(1)
        line += piece
    return line


def die_with(parent: int) -> None:
    """Make sure that this process does not outlive its supervisor: it would keep the port and go on acknowledging."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        while os.read(sys.stdin.fileno(), _PIPE_BYTES):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="supervisor watch", daemon=True).start()
