"""Released SDKs as their registries have them, installed once and apart from everything else."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements"
NPM_FILES = ("package.json", "package-lock.json", ".npmrc")
SECONDS = 110

NODE = shutil.which("node")
NPM = shutil.which("npm")


def python_sdk(cache: pytest.Cache, version: str) -> Path:
    """Return a folder with the Python SDK *version*, and nothing but what it needs."""
    requirements = REQUIREMENTS / f"flagsmith-{version}.txt"

    def install(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = _run([*pip, "--requirement", str(requirements), "--target", str(folder)])
        assert done.returncode == 0, f"pip could not install {requirements.name}: {done.stderr[-1000:]}"

    return _cached(cache, f"python-{version}", (requirements,), install)


def node_modules(cache: pytest.Cache) -> Path:
    """Return a folder with the JavaScript SDKs; skip where nothing can install them."""
    if NODE is None or NPM is None:
        pytest.skip("Node.js or npm is not installed: apt-get install nodejs npm")

    def install(folder: Path) -> None:
        folder.mkdir()
        for name in NPM_FILES:
            shutil.copy(HERE / name, folder)
        done = _run([str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder=folder)
        if done.returncode:
            pytest.skip(f"npm could not install the SDKs, is its registry reachable? {done.stderr[-300:]}")

    return _cached(cache, "node", [HERE / name for name in NPM_FILES], install)


def _cached(cache: pytest.Cache, name: str, files: Sequence[Path], install: Callable[[Path], None]) -> Path:
    """Return the folder that *install* fills, once for the same *files* and Python."""
    said = b"".join(file.read_bytes() for file in files) + sys.version.encode()
    folder = cache.mkdir("sdks") / f"{name}-{hashlib.sha256(said).hexdigest()[:16]}"
    if not folder.exists():
        # Under another name until it is whole: an interrupted installation is none.
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        install(partial)
        partial.rename(folder)
    return folder


def _run(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, "CI": "1"}
    )
