"""The wheel, as somebody gets it who installs Flagledger and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import grpc_tools
import pytest
from google.api import annotations_pb2

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run *command* in *cwd*, which is nowhere near the sources."""
    return subprocess.run([str(part) for part in command], cwd=cwd, text=True, capture_output=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built by way of the sdist as a release is."""
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of a fresh environment that holds the wheel alone."""
    folder = tmp_path_factory.mktemp("venv")
    made = run(sys.executable, "-m", "venv", folder, cwd=folder)
    assert made.returncode == 0, made.stderr
    # Without dependencies: the base has none, and this fails where one crept in.
    done = run(folder / "bin" / "python", "-m", "pip", "install", "--no-index", "--no-deps", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_holds_one_package(wheel: Path) -> None:
    """The wheel holds `flagledger` and its own metadata: no top-level `service`, `gen` or `tests`."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert {"flagledger"} == {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert {
        "flagledger/py.typed",
        "flagledger/cli/__init__.py",
        "flagledger/v1/evaluation_pb2.py",
        "flagledger/v1/evaluation_pb2.pyi",
        "flagledger/v1/contract.binpb",
        "flagledger/dashboard/static/page.html",
        "flagledger/dashboard/static/style.css",
        "flagledger/dashboard/static/app.js",
        "flagledger/dashboard/static/views/features.js",
        "flagledger/transcoding/docs_static/page.html",
        "flagledger/transcoding/docs_static/style.css",
        "flagledger/transcoding/docs_static/app.js",
    } <= set(names)


def test_has_no_dependency(wheel: Path) -> None:
    """The base installs nothing else: every requirement belongs to an extra."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()

    assert [line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line] == []


def test_command_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    """Without the extra `server` the command prints the line that installs it, and exits 2."""
    done = run(installed / "flagledger", "serve", cwd=tmp_path)

    assert done.returncode == 2, done.stderr
    assert "flagledger[server]" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_contract_is_importable(installed: Path, wheel: Path, tmp_path: Path) -> None:
    """Where protobuf is there, the generated messages of the wheel can be used."""
    import google.protobuf

    packages = Path(str(google.protobuf.__file__)).parents[2]
    code = (
        # The wheel first: it is its own code that is tried, with the protobuf that is installed here.
        f"import sys; sys.path.append({str(packages)!r})\n"
        "from flagledger.v1 import evaluation_pb2, evaluation_service_pb2, query_service_pb2\n"
        "print(evaluation_pb2.__file__)\n"
        "print(evaluation_pb2.Evaluation(feature_name='a').feature_name)\n"
    )
    done = run(installed / "python", "-c", code, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    where, name = done.stdout.splitlines()
    assert str(installed.parent) in where
    assert name == "a"


STRANGER = """
syntax = "proto3";
package stranger.v1;
import "google/api/annotations.proto";
import "google/protobuf/timestamp.proto";

service Greeter {
  rpc Greet(GreetRequest) returns (Greeting) {
    option (google.api.http) = {post: "/v1/{name=people/*}:greet" body: "greeting"};
  }
}
message GreetRequest {
  string name = 1;
  Greeting greeting = 2;
}
message Greeting {
  string text = 1;
  google.protobuf.Timestamp time = 2;
}
"""

SERVES = """
import asyncio, json, sys, urllib.request
import uvicorn
from flagledger.transcoding import Transcoder
from flagledger.transcoding.pages import Pages
from stranger_pb2 import DESCRIPTOR

class Greeter:
    async def Greet(self, request, context):
        request.greeting.text += ", " + request.name
        return request.greeting

app = Pages(Transcoder([(DESCRIPTOR.services_by_name["Greeter"], Greeter())]), dict)

async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    address = "http://127.0.0.1:%d" % server.servers[0].sockets[0].getsockname()[1]
    ask = lambda *request: urllib.request.urlopen(urllib.request.Request(address + request[0], *request[1:])).read().decode()
    body = b'{"text": "Hello", "time": "2026-01-02T03:04:05+01:00"}'
    greeting = await asyncio.to_thread(ask, "/v1/people/Ada:greet", body, {"content-type": "application/json"})
    page = await asyncio.to_thread(ask, "/docs")
    server.should_exit = True
    await serving
    foreign = {"duckdb", "pyarrow", "starlette", "grpc_tools"} & {name.partition(".")[0] for name in sys.modules}
    print(json.dumps([json.loads(greeting), "</html>" in page, sorted(foreign)]))

asyncio.run(main())
"""


def test_transcoding_serves_a_stranger(wheel: Path, tmp_path: Path) -> None:
    """With the extra `transcoding` alone a proto that nobody here knows is served, and neither duckdb nor pyarrow is there."""
    (tmp_path / "stranger.proto").write_text(STRANGER, encoding="utf-8")
    includes = [
        tmp_path,
        Path(str(annotations_pb2.__file__)).parents[2],
        Path(str(grpc_tools.__file__)).parent / "_proto",
    ]
    compiled = run(
        sys.executable, "-m", "grpc_tools.protoc", *(f"-I{folder}" for folder in includes), f"--python_out={tmp_path}",
        "stranger.proto", cwd=tmp_path,
    )  # fmt: skip
    assert compiled.returncode == 0, compiled.stderr
    made = run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    python = tmp_path / "venv" / "bin" / "python"
    installed = run(python, "-m", "pip", "install", "--quiet", f"{wheel}[transcoding]", cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json", cwd=tmp_path).stdout)
    done = run(python, "-c", SERVES, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert [{"text": "Hello, people/Ada", "time": "2026-01-02T02:04:05Z"}, True, []] == json.loads(done.stdout)
    assert set() == {package["name"] for package in listed} & {"duckdb", "pyarrow", "starlette", "grpcio-tools"}
