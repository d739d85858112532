"""The processes under test: the service as it is really started, who is who in its tree, and the stand-ins."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import batches
import psutil
import rich.console
from tally import Load, Result, cpu_seconds

_HERE: Final = Path(__file__).parent
_READY_WITHIN: Final = 30.0
_GONE_WITHIN: Final = 15.0
_DRAINED_WITHIN: Final = 120.0
TOKEN: Final = "bench-read-token"

# What the bench has to say to people goes to stderr, so that stdout can be piped.
console: Final = rich.console.Console(stderr=True)


class BenchError(Exception):
    """The bench cannot go on, or what it saw was not correct."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of a process tree in MB: resident sets added up, and proportional ones (shared pages count once)."""

    rss: float
    pss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    A running service.

    Attributes:
        http: HOST:PORT of the HTTP server.
        grpc: HOST:PORT of the gRPC server.
        tree: The parent process.
        front: The process that answers SDKs.
        writer: The process that owns the store.
    """

    http: str
    grpc: str
    tree: psutil.Process
    front: psutil.Process
    writer: psutil.Process

    def memory(self) -> Memory:
        """Return what the whole tree holds now."""
        infos = [each.memory_full_info() for each in (self.tree, *self.tree.children(recursive=True))]
        return Memory(rss=sum(info.rss for info in infos) / 1e6, pss=sum(info.pss for info in infos) / 1e6)

    def recorded(self) -> int:
        """Return how many evaluations can be read back, as ListFeatures counts them."""
        request = urllib.request.Request(
            f"http://{self.http}/api/v2/analytics/features?environment={batches.ENVIRONMENT}",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            features = json.load(response)["features"]
        return sum(int(feature["evaluation_count"]) for feature in features)

    def applied(self) -> int:
        """Return how many rows the writer has committed, by the metric; asking costs the front, not the writer."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=30) as response:
            for line in response.read().decode().splitlines():
                if line.startswith("flagledger_applied_rows_total "):
                    return int(float(line.partition(" ")[2]))
        raise BenchError("The metrics do not name the rows that were applied.")

    def wait_until_applied(self, rows: int) -> float:
        """
        Wait until the writer has committed *rows* in its life, and return when (monotonic seconds).

        Raises:
            BenchError: It takes too long.
        """
        deadline = time.monotonic() + _DRAINED_WITHIN
        while (applied := self.applied()) < rows:
            if time.monotonic() > deadline:
                raise BenchError(f"After {_DRAINED_WITHIN:g} s the writer had applied {applied} of {rows} rows.")
            time.sleep(0.02)
        return time.monotonic()

    def wait_until_recorded(self, acknowledged: int) -> None:
        """
        Wait until exactly *acknowledged* evaluations can be read back.

        It asks only when the writer has gone quiet: the question costs the process that is waited for.

        Raises:
            BenchError: There are more, or there are fewer and no more come.
        """
        deadline = time.monotonic() + _DRAINED_WITHIN
        recorded = -1
        while recorded != acknowledged:
            self.wait_until_quiet()
            recorded = self.recorded()
            if recorded > acknowledged or time.monotonic() > deadline:
                raise BenchError(f"{acknowledged} evaluations were acknowledged, but {recorded} can be read back.")

    def wait_until_quiet(self) -> None:
        """Wait until the writer does nothing, for as long as it may linger for more."""
        step = 0.05
        quiet = 0
        before = cpu_seconds(self.writer.pid)
        while quiet < 6:
            time.sleep(step)
            after = cpu_seconds(self.writer.pid)
            # One clock tick is what an idle process may show.
            quiet = quiet + 1 if after - before < 0.011 else 0
            before = after


@contextlib.contextmanager
def service(data: Path, *, role: str = "read") -> Iterator[Service]:
    """Run `flagledger serve` over *data*, with one front and a token of *role*, until the block ends."""
    data.mkdir(parents=True, exist_ok=True)
    environments = data / "environments.toml"
    names = ", ".join(f'"{name}"' for name in batches.FEATURES)
    environments.write_text(
        f'[[environments]]\nname = "{batches.ENVIRONMENT}"\nkeys = ["{batches.KEY}"]\nfeatures = [{names}]\n\n'
        f'[[tokens]]\ntoken = "{TOKEN}"\nrole = "{role}"\n',
        encoding="utf-8",
    )
    command = [Path(sys.executable).with_name("flagledger"), "serve", "--data", data, "--environments", environments]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--fronts", "1"]
    # The journal must take what a round sends while the writer has less than a core.
    variables = {"FLAGLEDGER_JOURNAL_MAX_BYTES": str(8 << 30)}
    with _running([str(part) for part in command], log=data / "service.log", variables=variables) as (tree, ready):
        front, writer = _who_is_who(tree, int(str(ready["grpc"]).rpartition(":")[2]), data)
        yield Service(http=str(ready["http"]), grpc=str(ready["grpc"]), tree=tree, front=front, writer=writer)


@contextlib.contextmanager
def standin(kind: str, log: Path, *, program: str = "standins.py") -> Iterator[tuple[str, int]]:
    """Run the server of *kind* that *program* has until the block ends; yield its address and process id."""
    command = [sys.executable, str(_HERE / program), kind]
    with _running(command, log=log, variables={}) as (process, ready):
        yield str(ready["address"]), process.pid


class Generator:
    """The load generator's process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE / "generator.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, load: Load) -> Result:
        """
        Run *load*.

        Raises:
            BenchError: An answer was not as expected, or none was counted.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        fields = {name: getattr(load, name) for name in Load.__slots__}
        self._process.stdin.write(json.dumps(fields) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("The load generator ended; what it had to say stands above.")
        outcome = json.loads(line)
        if "error" in outcome:
            raise BenchError(f"The {load.transport} load broke off: {outcome['error']}.")
        result = Result(**outcome)
        if result.failures or not result.batches:
            raise BenchError(
                f"Answers to {load.transport} that were not as expected: {result.failures or 'none came'}."
            )
        return result

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_GONE_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def held(process: psutil.Process) -> Iterator[None]:
    """
    Hold *process* still for the block.

    It goes on afterwards whatever happens: a process that is held does not heed SIGTERM.
    """
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@contextlib.contextmanager
def _running(
    command: list[str], *, log: Path, variables: dict[str, str]
) -> Iterator[tuple[psutil.Process, dict[str, object]]]:
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, env=os.environ | variables, start_new_session=True
        )
        tree = psutil.Process(process.pid)
        try:
            yield tree, _ready_line(process, Path(command[0]).name, log)
        finally:
            _end(process, tree)


def _end(process: subprocess.Popen[bytes], tree: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        tree.terminate()
    try:
        process.wait(_GONE_WITHIN)
    except subprocess.TimeoutExpired:
        console.print(f"[red]Process {process.pid} did not end within {_GONE_WITHIN:g} s of SIGTERM and was killed.")
        for each in (*tree.children(recursive=True), tree):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _ready_line(process: subprocess.Popen[bytes], name: str, log: Path) -> dict[str, object]:
    assert process.stdout is not None
    deadline = time.monotonic() + _READY_WITHIN
    while (left := deadline - time.monotonic()) > 0:
        if _readable(process.stdout, left):
            line = process.stdout.readline()
            if not line:
                break
            event = json.loads(line)
            if event.get("event") == "ready":
                return dict(event)
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise BenchError(f"{name} was not ready within {_READY_WITHIN:g} s. Its log ends:\n{tail}")


def _who_is_who(tree: psutil.Process, grpc_port: int, data: Path) -> tuple[psutil.Process, psutil.Process]:
    """Return the front, which listens at *grpc_port*, and the writer, which alone has the store's file open."""
    fronts, writers = [], []
    for process in (tree, *tree.children(recursive=True)):
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == grpc_port for c in process.net_connections("tcp")):
            fronts.append(process)
        if any(Path(file.path) == (data / "store.duckdb").resolve() for file in process.open_files()):
            writers.append(process)
    if len(fronts) != 1 or len(writers) != 1:
        raise BenchError(
            f"The tree of the service has {len(fronts)} fronts and {len(writers)} writers; one each was expected."
        )
    return fronts[0], writers[0]


def _readable(stream: Any, seconds: float) -> bool:
    """Wait for something to read. Not by select, which knows 1,024 files: engines that run in this process hold some."""
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(max(seconds, 0.0) * 1000))
