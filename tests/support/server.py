"""A whole service in processes of its own, for tests that speak to it from outside."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READ_TOKEN = "read-token-of-the-tests"
READY_SECONDS = 30.0
STOP_SECONDS = 15.0
KIT_ENVIRONMENTS = Path(__file__).parents[1] / "conformance" / "environments.toml"
COMMAND = Path(sys.executable).with_name("flagledger")


@dataclass(slots=True, kw_only=True)
class RunningServer:
    """
    A service that said it was ready.

    Attributes:
        http_url: Where HTTP is served, for example `http://127.0.0.1:40001`.
        grpc_target: Where gRPC is served, for example `127.0.0.1:40002`.
        read_token: Token of the role `read`.
        data: Its data directory.
        ready: The ready line, parsed.
        process: The parent process.
        stderr: The file that takes its stderr.
    """

    http_url: str
    grpc_target: str
    read_token: str
    data: Path
    ready: dict[str, str]
    process: subprocess.Popen[str]
    stderr: Path

    def stop(self) -> int:
        """Send SIGTERM, wait until the service has gone, and return its exit code. May be called again."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill(self) -> int:
        """Send SIGKILL to the parent, wait for it, and return its exit code. May be called again."""
        if self.process.poll() is None:
            self.process.kill()
        return self._wait()

    def log(self) -> str:
        """Return everything that the service has written to stderr."""
        return self.stderr.read_text(errors="replace")

    def _wait(self) -> int:
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
            message = f"the service had not ended {STOP_SECONDS:.0f} s after it was told to; its stderr:\n{self.log()}"
            raise AssertionError(message) from None
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def start_server(
    data: Path,
    *,
    environments: Path | None = None,
    variables: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> RunningServer:
    """
    Start `flagledger serve` on free ports and return once it is ready.

    Args:
        data: Data directory; made if it is missing.
        environments: Environments file; the demo environment where it is None.
        variables: `FLAGLEDGER_*` variables to set. None is taken over from the environment of the tests.
        arguments: Further arguments of `serve`.

    Raises:
        AssertionError: It ended, or was not ready within 30 s; the message holds its stderr.
    """
    command = [str(COMMAND), "serve", "--data", str(data), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    if environments is not None:
        command += ["--environments", str(environments)]
    command += ["--read-token", READ_TOKEN, *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLAGLEDGER_")}
    # A file rather than a pipe: nobody reads along, and a full pipe would stop the service.
    stderr = data.with_name(data.name + ".stderr")
    with stderr.open("a") as sink:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=sink, text=True, env={**inherited, **(variables or {})}
        )
    server = RunningServer(
        http_url="",
        grpc_target="",
        read_token=READ_TOKEN,
        data=data,
        ready={},
        process=process,
        stderr=stderr,
    )
    try:
        server.ready = _ready_line(process)
    except TimeoutError as error:
        server.kill()
        message = f"{error}; its stderr:\n{server.log()}"
        raise AssertionError(message) from None
    server.http_url = f"http://{server.ready['http']}"
    server.grpc_target = server.ready["grpc"]
    return server


def _ready_line(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        readable = _readable(process.stdout, left)
        if not readable:
            break
        line = process.stdout.readline()
        if not line:
            message = f"the service ended with {process.wait(STOP_SECONDS)} before it was ready"
            raise TimeoutError(message)
        try:
            said = json.loads(line)
        except ValueError:
            message = f"the service wrote something else than JSON to stdout: {line!r}"
            raise TimeoutError(message) from None
        if isinstance(said, dict) and said.get("event") == "ready":
            return said
    message = f"the service was not ready within {READY_SECONDS:.0f} s"
    raise TimeoutError(message)


def _readable(stream: Any, seconds: float) -> bool:
    """Wait for something to read. Not by select, which knows 1,024 files: engines that run in this process hold some."""
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(max(seconds, 0.0) * 1000))
