"""The wheel, as somebody gets it who installs Flagledger and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
