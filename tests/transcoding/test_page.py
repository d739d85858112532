"""docs/transcoding.md: its ten lines serve the service that it shows, and its tables are what the code is."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from flagledger.transcoding import Transcoder
from support.page import blocks
from support.ports import free_port

PAGE = (Path(__file__).parents[2] / "docs" / "transcoding.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8000"
SECONDS = 30


def section(heading: str) -> str:
    """Return what stands under *heading*."""
    _, found, behind = PAGE.partition(f"\n## {heading}\n")
    assert found, heading
    return behind.partition("\n## ")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the code and the descriptors of the page's service."""
    folder = tmp_path_factory.mktemp("greeter")
    (proto,) = blocks(section("Ten lines"), "protobuf")
    (folder / "greeter.proto").write_text(proto)
    generate = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{sysconfig.get_path('purelib')}"]
    described = ["--include_source_info", "--include_imports", "--descriptor_set_out=greeter.binpb"]
    assert " ".join(described) in section("OpenAPI")
    subprocess.run(
        [*generate, "--python_out=.", "--grpc_python_out=.", *described, "greeter.proto"],
        cwd=folder, check=True, timeout=SECONDS,
    )  # fmt: skip
    return folder


def lines() -> str:
    """Return the page's ten lines."""
    (script,) = blocks(section("Ten lines"), "python")
    return script


@contextmanager
def served(folder: Path, script: str, **ports: int) -> Iterator[None]:
    """Run *script*, whose ports are replaced, until it listens on all of them and for the block."""
    for written, port in ports.items():
        assert written.removeprefix("port_") in script
        script = script.replace(written.removeprefix("port_"), str(port))
    with subprocess.Popen([sys.executable, "-c", script], cwd=folder, env=dict(os.environ)) as process:
        try:
            for port in ports.values():
                wait_for(port, process)
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Serve the page's service with the page's lines, and return where."""
    port = free_port()
    with served(folder, lines(), port_8000=port):
        yield f"127.0.0.1:{port}"


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


@pytest.mark.system
def test_both_protocols(folder: Path) -> None:
    """One servicer answers over gRPC and over HTTP, in the process that the page shows."""
    (example,) = blocks(section("Beside gRPC, below a prefix"), "python")
    # The same service and imports, and what the page leaves to its reader to import.
    script = f"import asyncio\nimport grpc\nimport greeter_pb2_grpc\n{lines().partition('app = ')[0]}\n{example}"
    http, port = free_port(), free_port()
    call = (
        "import greeter_pb2 as m, greeter_pb2_grpc as s, grpc, sys;"
        "print(s.GreeterStub(grpc.insecure_channel(sys.argv[1])).Greet(m.GreetRequest(name='Ada')).text)"
    )
    with served(folder, script, port_8000=http, port_50051=port):
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/v1/people/Ada:greet", timeout=SECONDS) as answer:
            text = json.load(answer)["text"]
        done = subprocess.run(
            [sys.executable, "-c", call, f"127.0.0.1:{port}"],
            cwd=folder, capture_output=True, check=True, text=True, timeout=SECONDS,
        )  # fmt: skip

    assert ("Hello, Ada!", "Hello, Ada!\n") == (text, done.stdout)


@pytest.mark.system
def test_openapi_example(folder: Path) -> None:
    """The lines that make an OpenAPI document make one, with comments and credentials."""
    (example,) = blocks(section("OpenAPI"), "python")
    script = f"{lines().partition('uvicorn.run')[0]}\n{example}\nimport json\nprint(json.dumps(document))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, check=True, text=True, timeout=SECONDS
    )
    operation = json.loads(done.stdout)["paths"]["/v1/people/{name}:greet"]["get"]

    assert "Greets somebody, as often as is asked for" == operation["summary"]
    assert [{"key": []}] == operation["security"]
    assert "The key is unknown." == operation["responses"]["401"]["description"]


def test_router_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The example of templates prints what stands below it."""
    part = section("From a request to a message")
    (example,) = blocks(part, "python")
    exec(example, {})

    assert blocks(part, "text") == [capsys.readouterr().out]


def test_lines_are_few() -> None:
    """What serves a servicer is ten lines at most, beside the servicer itself."""
    own = re.sub(r"^class .*?(?=^\w)", "", lines(), flags=re.MULTILINE | re.DOTALL)

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
