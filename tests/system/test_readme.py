"""The README's session, word for word, against a service that was started as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.server import RunningServer

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the README's blocks of code in *language*."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with the output that is shown below it."""
    found: list[tuple[str, str]] = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        # A quote that is open goes on over the next lines.
        end = next(end for end in range(1, len(lines) + 1) if "\n".join(lines[:end]).count("'") % 2 == 0)
        found.append(("\n".join(lines[:end]), "\n".join(lines[end:]).strip()))
    return found


@pytest.fixture(scope="module")
def session(server_factory: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """Return a service that was started with no configuration of its environments."""
    return server_factory(data=tmp_path_factory.mktemp("readme") / "flagledger-data")


def run(command: str, server: RunningServer) -> str:
    """Run a command of the README where the service really is, and return what it prints."""
    key = re.search(r'"([^"]+)", "ser\.', (server.data / "environments.toml").read_text())
    assert key is not None
    real = (
        command.replace("127.0.0.1:8080", server.ready["http"])
        .replace("127.0.0.1:50051", server.ready["grpc"])
        .replace("$(cat flagledger-data/read-token)", server.read_token)
        .replace(".venv/bin/flagledger", f"{Path(sys.executable).with_name('flagledger')} ")
    )
    if command.startswith(".venv/bin/flagledger"):
        real += f" --url {server.http_url} --token {server.read_token}"
    done = subprocess.run(
        ["bash", "-c", real], capture_output=True, text=True, timeout=30, check=False, cwd=server.data.parent,
        env={**os.environ, "KEY": key.group(1), "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_session(session: RunningServer) -> None:
    """What the first screen shows is what happens: the same commands print the same answers and tables."""
    python = blocks("python")[0].replace("127.0.0.1:50051", session.ready["grpc"])
    console = [pair for block in blocks("console") for pair in commands(block)]
    [(curl, answer)] = [pair for pair in console if pair[0].startswith("curl -i")]
    # Those that print something: the others are about servers and stores of one's own.
    tables = [pair for pair in console if pair[0].startswith(".venv/bin/flagledger") and pair[1]]

    printed = run(curl, session)
    over_grpc = subprocess.run(
        [sys.executable, "-c", python], capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "KEY": re.findall(r'"([^"]+)", "ser\.', (session.data / "environments.toml").read_text())[0]},
    )  # fmt: skip

    for line in answer.splitlines():
        assert line in printed.replace("\r", "")
    assert ("1 False\n", "") == (over_grpc.stdout, over_grpc.stderr)
    assert 2 == len(tables)
    [reading] = [command for command, _ in console if command.startswith("curl -H")]
    deadline = time.monotonic() + 2
    for command, shown in tables:
        while squeezed(output := run(command, session)) != squeezed(shown) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert squeezed(shown) == squeezed(output)
    assert ["user_456"] == [one["identity_identifier"] for one in json.loads(run(reading, session))["evaluations"]]


def squeezed(table: str) -> list[list[str]]:
    """
    Return the words of each row: a column's width is the terminal's business, the moment of receipt is now, and versions
    of SDKs are those that are installed here.
    """
    lines = [
        re.sub(r"/[0-9][\w.]*", "/…", re.sub(r"(?<=^Recorded since )\S+Z\.$", "….", line)).split()
        for line in table.splitlines()
    ]
    return [words for words in lines if words and set(words[0]) != {"─"}]


def test_commands_exist() -> None:
    """Every make target that the README names is there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`?make ([a-z-]+)", README))

    assert {"serve", "test", "check", "bench"} <= named
    assert [] == [target for target in sorted(named - {"do"}) if f"\n{target}:" not in makefile]


def test_links() -> None:
    """Every file that the README links to is there."""
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target}

    assert len(targets) > 10
    assert [] == [target for target in sorted(targets) if target and not (ROOT / target).exists()]
