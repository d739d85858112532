"""docs/transcoding.md: its ten lines serve the service that it shows, and its tables are what the code is."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flagledger.transcoding import Transcoder
from support.page import blocks

PAGE = (Path(__file__).parents[2] / "docs" / "transcoding.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8000"
SECONDS = 30


def section(heading: str) -> str:
    """Return what stands under *heading*."""
    _, found, behind = PAGE.partition(f"\n## {heading}\n")
    assert found, heading
    return behind.partition("\n## ")[0]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the page's service with the page's lines, and return where."""
    folder = tmp_path_factory.mktemp("greeter")
    (script,) = blocks(section("Ten lines"), "python")
    (proto,) = blocks(section("Ten lines"), "protobuf")
    (folder / "greeter.proto").write_text(proto)
    generate = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{sysconfig.get_path('purelib')}"]
    subprocess.run([*generate, "--python_out=.", "greeter.proto"], cwd=folder, check=True, timeout=SECONDS)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    assert "port=8000" in script
    (folder / "serve.py").write_text(script.replace("port=8000", f"port={port}"))
    with subprocess.Popen([sys.executable, "serve.py"], cwd=folder, env=dict(os.environ)) as process:
        try:
            wait_for(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until *process* listens."""
    last = time.monotonic() + SECONDS
    while time.monotonic() < last and process.poll() is None:
        with closing(socket.socket()) as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("Nothing listens.")


@pytest.mark.system
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: apt-get install curl")
def test_ten_lines(address: str) -> None:
    """Each command prints what stands below it."""
    session = blocks(section("Ten lines"), "console")[-1]
    expected = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)[1:]
    played = []
    for command in expected[::2]:
        moved = shlex.split(command.replace(ADDRESS, address))
        done = subprocess.run([*moved, "-sS"], capture_output=True, check=True, text=True, timeout=SECONDS)
        played += [command, done.stdout if done.stdout.endswith("\n") else f"{done.stdout}\n"]

    assert len(expected) >= 8
    assert expected == played


def test_router_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The example of templates prints what stands below it."""
    part = section("From a request to a message")
    (example,) = blocks(part, "python")
    exec(example, {})

    assert blocks(part, "text") == [capsys.readouterr().out]


def test_lines_are_few() -> None:
    """What serves a servicer is ten lines at most, beside the servicer itself."""
    (script,) = blocks(section("Ten lines"), "python")
    own = re.sub(r"^class .*?(?=^\w)", "", script, flags=re.MULTILINE | re.DOTALL)

    assert 0 < len([line for line in own.splitlines() if line.strip()]) <= 10


def test_keywords() -> None:
    """Each keyword of Transcoder has its line, with its default, in the order of its signature."""
    rows = re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", section("Keywords of Transcoder"), re.MULTILINE)
    keywords = [
        (name, shown(parameter.default))
        for name, parameter in inspect.signature(Transcoder).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]

    assert keywords == rows
    assert len(keywords) > 20


def shown(default: object) -> str:
    """Return a default as the page writes it."""
    if isinstance(default, tuple):
        return ", ".join(map(str, default)) or "none"
    if default is None:
        return "none"
    return {True: "on", False: "off"}[default] if isinstance(default, bool) else str(default)


def test_contents() -> None:
    """The table of contents has each section, in order."""
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == re.findall(r"^\* \[(.+)\]\(#", PAGE, re.MULTILINE)
