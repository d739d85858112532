"""docs/flagsmith.md, word for word: its commands against a PostgreSQL with Flagsmith's tables, and against a stub of its API."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flagledger.config import Config
from support.flagsmith_database import flagsmith_tables
from support.flagsmith_stub import StubFeature, flagsmith_stub
from support.postgres import postgres_binaries, postgres_server
from support.server import READ_TOKEN, start_server

pytestmark = pytest.mark.system

PAGE = (Path(__file__).parents[2] / "docs" / "flagsmith.md").read_text(encoding="utf-8")
CLIENT_KEY = "B62qaMZNwfiqT76p38ggrQ"
SERVER_KEY = "ser.hjf8h3kf93"


def session(title: str) -> list[tuple[str, list[str]]]:
    """Return the commands below the heading *title*, each with the lines that it prints."""
    match = re.search(rf"^### {title}\n(.*?)(?=^##+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None
    blocks = re.findall(r"^```console\n(.*?)^```", match.group(1), re.MULTILINE | re.DOTALL)
    parts = [part.splitlines() for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(lines[0], [line for line in lines[1:] if line]) for lines in parts]


class Shell:
    """Somebody's shell: what is exported stays, addresses of the page become those of the test."""

    def __init__(self, folder: Path, addresses: dict[str, str], **variables: str) -> None:
        self.addresses = addresses
        self.variables = {**os.environ, **variables, "COLUMNS": "140"}
        self.variables["PATH"] = f"{Path(sys.executable).parent}:{variables.get('PATH', os.environ['PATH'])}"
        self._folder = folder

    def run(self, command: str) -> list[str]:
        """Run *command* and return the lines that it prints."""
        for shown, real in self.addresses.items():
            command = command.replace(shown, real)
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.variables[name] = value
            return []
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60, check=False,
            cwd=self._folder, env=self.variables,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        return [line.rstrip() for line in done.stdout.splitlines() if line.strip()]

    def follow(self, title: str) -> None:
        """Run what stands below *title*, up to the start of the service; what is shown is what comes."""
        for command, shown in session(title):
            if command == "flagledger serve":
                return
            printed = self.run(command)
            if shown:
                assert shown == printed


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Shell]:
    """Yield a shell beside a PostgreSQL with Flagsmith's tables."""
    with postgres_server() as server, flagsmith_tables(server, with_view=False) as tables:
        project = tables.project("Shop")
        features = [tables.feature(project, name) for name in ("my_flag", "checkout_v2")]
        environment = tables.environment(project, CLIENT_KEY, *features)
        tables.server_key(environment, SERVER_KEY)
        tables.server_key(environment, "ser.old93kf8h3", expires_at="2026-03-01T00:00:00Z")
        yield Shell(
            tmp_path,
            {"127.0.0.1:5432/flagsmith": f"127.0.0.1:{server.port}{urlsplit(tables.owner_url).path}"},
            FLAGSMITH_DATABASE=tables.owner_url,
            PATH=f"{postgres_binaries()}:{os.environ['PATH']}",
        )


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Shell]:
    """Yield a shell beside a stub of a Flagsmith."""
    with flagsmith_stub() as stub:
        features = (StubFeature(name="my_flag"), StubFeature(name="hidden_flag", server_key_only=True))
        environment = stub.environment(CLIENT_KEY, SERVER_KEY, features=features)
        environment.project, environment.name = "Shop", "Production"
        yield Shell(tmp_path, {"http://127.0.0.1:8000/api/v1/": stub.url})


@pytest.mark.parametrize(("source", "title"), [("database", "By its database"), ("api", "By its API")])
def test_five_minutes(request: pytest.FixtureRequest, tmp_path: Path, source: str, title: str) -> None:
    """From a Flagsmith to the first evaluation that is read back, the page's commands do what it shows."""
    shell = request.getfixturevalue(source)
    shell.follow(title)
    ours = {name: value for name, value in shell.variables.items() if name.startswith("FLAGLEDGER_")}
    server = start_server(tmp_path / "data", variables=ours)
    shell.addresses |= {
        "http://127.0.0.1:8080": server.http_url,
        "flagledger counts": f"flagledger counts --url {server.http_url} --token {READ_TOKEN}",
    }
    try:
        for command, shown in session("Then"):
            deadline = time.monotonic() + 5
            while shown != (printed := shell.run(command))[: len(shown)] and time.monotonic() < deadline:
                time.sleep(0.2)
            assert shown == printed[: len(shown)]
    finally:
        assert 0 == server.stop()
    assert "a-password" not in server.log()


def test_configuration_is_valid() -> None:
    """What the page puts into flagledger.toml is taken."""
    [text] = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    config = Config(**tomllib.loads(text))

    assert {"a-token-of-an-analyst": "read", "a-token-of-an-admin": "admin"} == {
        text: token.role for text, token in config.declared_tokens.items()
    }
    assert ("hash", "plain") == tuple(config.declared_policies.of(name).identity for name in (CLIENT_KEY, "another"))
