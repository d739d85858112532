"""
`flagledger serve`: makes sure that the service can run here, starts the process tree, and says where it is.

What cannot be right is refused before anything starts: exit code 2 for the configuration, 1 for the machine (the directory is
held, a port is taken, a file is of a newer version).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO
from urllib.parse import quote

from flagledger.catalog.demo import READ_TOKEN_FILE, DemoKeys, ensure_demo, ensure_identity_secret, ensure_read_token
from flagledger.catalog.document import CatalogError
from flagledger.catalog.file import read_document
from flagledger.catalog.personal import kept_of_people
from flagledger.catalog.sources import check_source
from flagledger.config import Config
from flagledger.journal.base import JournalError
from flagledger.journal.sqlite import SqliteJournal
from flagledger.store.errors import StoreError
from flagledger.store.opening import check_store
from flagledger.store.sinks import check_installed as check_sink_installed
from flagledger.supervisor import CannotRunError, ProcessSettings, Supervisor
from flagledger.telemetry.logging import configure, get_logger

# The writer's socket lies in here, and a socket's path holds 107 bytes.
_RUNTIME_PREFIX: Final = "flagledger-"
_MAX_RUNTIME_PATH: Final = 90
_DEFAULT_PORT: Final = 8080
_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - nothing is bound to it here


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def serve(config: Config) -> int:
    """
    Run the service until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a stop that was asked for, 1 where it cannot run, 2 where the configuration is wrong.
    """
    configure("supervisor")
    # Everything that is made here and by the children is for this user alone: identities are among it.
    os.umask(0o077)
    try:
        with contextlib.ExitStack() as held:
            return _serve(config, held)
    except (CatalogError, StoreError) as error:
        _say(sys.stderr, f"flagledger: {error}\n")
        return 2
    except (CannotRunError, JournalError) as error:
        _say(sys.stderr, f"flagledger: {error}\n")
        return 1


def _say(stream: TextIO | None, text: str) -> None:
    """Write *text* to whoever listens: a stream may be closed, gone or on a full disk, which is no reason not to run."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()


def _serve(config: Config, held: contextlib.ExitStack) -> int:
    check_store(config.store_url)
    if config.sink is not None:
        check_sink_installed()
    data = config.data
    runtime = held.enter_context(_directory_held(data))
    # Before anything is made that only the start which made it tells of: keys and the token.
    http = held.enter_context(_port_held(config.http_address, "HTTP", "--http"))
    grpc = held.enter_context(_port_held(config.grpc_address, "gRPC", "--grpc"))
    demo = ensure_demo(data) if config.is_default_catalog else None
    read_token = config.read_token.get_secret_value() if config.read_token else ensure_read_token(data)
    secret = config.identity_secret.get_secret_value() if config.identity_secret else ensure_identity_secret(data)
    kept = _check_catalog(config, read_token)
    # Opened once before the children do: a journal that cannot be used is a sentence here, not a crash there.
    SqliteJournal.open(data / "journal.db", max_bytes=config.journal_max_bytes, dedup_hours=config.dedup_hours).close()

    metrics = runtime / "metrics"
    metrics.mkdir()
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    common = {
        "config": config.to_json(),
        "read_token": read_token,
        "identity_secret": secret,
        "http": str(http),
        "grpc": str(grpc),
        "runtime": str(runtime),
    }
    settings = [ProcessSettings(role="writer", index=0, **common)]
    settings += [ProcessSettings(role="front", index=index, **common) for index in range(config.fronts)]
    supervisor = Supervisor(settings, environment, drain_seconds=config.drain_seconds)
    banner = _banner(config, demo if demo is not None and demo.created else None, http, grpc, read_token, kept)
    line = json.dumps({"event": "ready", "http": str(http), "grpc": str(grpc), "data": str(data)})

    async def run() -> str:
        ready = asyncio.Event()
        announcing = asyncio.create_task(_announce(ready, banner, line, supervisor.lacking))
        try:
            return await supervisor.run(ready)
        finally:
            announcing.cancel()

    failed = asyncio.run(run())
    if failed:
        raise CannotRunError(failed)
    get_logger().info("stopped")
    return 0


def _check_catalog(config: Config, read_token: str) -> list[str]:
    """
    Refuse a catalog that cannot be right, as far as that can be told without asking anybody else.

    Returns:
        What is kept of people, in lines.

    Raises:
        CatalogError: The environments file is broken, a token is a key of it, or a library is missing.
    """
    if config.is_file_catalog:
        tokens = (read_token, *config.declared_tokens)
        document = read_document(config.environments_file, tokens=tokens)
        return kept_of_people({one.name: one.policy for one in document.environments.values()})
    check_source(config.catalog_url)
    return kept_of_people(config.declared_policies.named, config.declared_policies.of(""))


async def _announce(ready: asyncio.Event, banner: str, line: str, lacking: Callable[[], list[str]]) -> None:
    await ready.wait()
    _say(sys.stderr, banner)
    for sentence in lacking():
        _say(sys.stderr, f"{sentence}\n\n")
    _say(sys.stdout, line + "\n")


def _banner(
    config: Config, demo: DemoKeys | None, http: _Address, grpc: _Address, read_token: str, kept: list[str]
) -> str:
    """
    Return what a person needs who has just started the service and has read nothing.

    Keys and the token are shown once, when the demo environment is made: later the file may hold somebody's own.
    """
    command = _command()
    where = "" if str(config.data) == "flagledger-data" else f" --data {shlex.quote(str(config.data))}"
    visited = _to_visit(http)
    # What commands ask without being told.
    url = "" if http.port == _DEFAULT_PORT and http.host in {"127.0.0.1", "0.0.0.0"} else f" --url {visited}"  # noqa: S104
    lines = ["", f"Flagledger listens on http://{http} and grpc://{grpc}; its data is in {config.data}", ""]
    key, feature = "<key>", "new_dashboard" if config.is_file_catalog else "<feature>"
    if demo is None:
        source = config.environments_file if config.is_file_catalog else config.catalog_shown
        lines += [f"  keys and features come from {source}"]
    else:
        key, feature = demo.client_key or key, demo.feature or feature
        lines += [
            f"  environment {demo.environment!r}: key {demo.client_key}",
            f"  environment {demo.environment!r}: key {demo.server_key}",
            *([f"  read token: {read_token}"] if config.read_token is None else []),
        ]
    if config.store is not None:
        lines.append(f"  evaluations are kept in {config.store_shown}")
    if config.sink is not None:
        lines.append(f"  counts are sent to {config.shown('sink')}")
    lines += [
        f"  dashboard: {_dashboard(config, http, None if demo is None else read_token)}",
        f"  API, to read and to try: {visited}/docs",
        *(f"  {line}" for line in kept),
        "",
        "Record an evaluation:",
        "",
        f"  curl -i {visited}/api/v2/analytics/evaluations/ -H 'X-Environment-Key: {key}' \\",
        f"""    -H 'Content-Type: application/json' -d '{{"evaluations": [{{"feature_name": "{feature}", "enabled": true,""",
        '    "value": "variant_a", "evaluation_timestamp": "2026-02-10T11:00:00Z", "identity_identifier": "user_123"}]}\'',
        "",
        "and see it:",
        "",
        f"  {command} evaluations{where}{url}",
        "",
        *(
            [
                f"A feature of your own: add its name to `features` in {config.environments_file}; it counts within a second.",
                "",
            ]
            if config.is_file_catalog
            else []
        ),
    ]
    return "\n".join(lines) + "\n"


def _dashboard(config: Config, http: _Address, read_token: str | None) -> str:
    """Return where the dashboard is, with *read_token* where that is shown anyway, else how to come by it."""
    url = f"{_to_visit(http)}/"
    if config.read_token is not None:
        return f"{url} (it asks for the read token that you set)"
    if read_token is None:
        return f"{url} (it asks for the read token: cat {shlex.quote(str(config.data / READ_TOKEN_FILE))})"
    return f"{url}?token={quote(read_token, safe='')}"


def _to_visit(http: _Address) -> str:
    """Return the URL that one goes to on this machine: any address is one to listen on, and none to visit."""
    host = "localhost" if http.host in _ANY_ADDRESS else http.host
    return f"http://{_Address(host=host, port=http.port)}"


def _command() -> str:
    """Return the command as it can be typed in another terminal that stands in the same directory."""
    here = Path(sys.argv[0]).absolute()
    on_path = shutil.which("flagledger")
    if on_path is not None and Path(on_path).absolute() == here:
        return "flagledger"
    with contextlib.suppress(ValueError):
        return str(here.relative_to(Path.cwd()))
    return str(here)


@contextlib.contextmanager
def _directory_held(data: Path) -> Iterator[Path]:
    """Hold *data* for this process alone and yield a fresh runtime directory; clear away the one of a process that was killed."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise CannotRunError(f"The data directory {data} cannot be used: {error.strerror}.") from None
    with lock:
        lock.seek(0)
        holder = _holder(lock.read())
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotRunError(
                f"The data directory {data} is held by process {holder.get('pid', 'unknown')}; "
                "stop that one first, or name another directory with --data."
            ) from None
        _clear(holder.get("runtime"))
        runtime = _runtime_directory()
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid(), "runtime": str(runtime)}))
        lock.flush()
        try:
            yield runtime
        finally:
            shutil.rmtree(runtime, ignore_errors=True)


def _runtime_directory() -> Path:
    """Return a new directory with a path short enough for a socket in it."""
    runtime = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX))
    if len(os.fsencode(runtime)) > _MAX_RUNTIME_PATH:
        runtime.rmdir()
        try:
            runtime = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir="/tmp"))
        except OSError as error:
            raise CannotRunError(
                f"The temporary directory {tempfile.gettempdir()} has too long a name for a socket, and /tmp cannot be used: "
                f"{error.strerror}. Set TMPDIR to a shorter one."
            ) from None
    return runtime


def _holder(text: str) -> dict[str, str]:
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    return {}


def _clear(runtime: str | None) -> None:
    if runtime and Path(runtime).name.startswith(_RUNTIME_PREFIX):
        shutil.rmtree(runtime, ignore_errors=True)


@contextlib.contextmanager
def _port_held(address: tuple[str, int], protocol: str, flag: str) -> Iterator[_Address]:
    """
    Reserve a port for the children and yield its real number.

    With SO_REUSEPORT alone a second service would start without an error and take half the connections, so the port is first
    bound by itself; then it is bound again in the way that lets the children bind it too, and never listened on.
    """
    host, port = address
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            # Binding succeeds beside a socket that has not listened yet; listening does not.
            probe.listen(1)
            bound = probe.getsockname()
        holder = socket.socket(family)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(bound)
    except OSError as error:
        raise CannotRunError(
            f"The {protocol} address {host}:{port} cannot be bound: {error.strerror or error}. "
            f"Name another with {flag} HOST:PORT."
        ) from None
    with holder:
        yield _Address(host=bound[0], port=bound[1])
