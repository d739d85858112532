"""What is under version control: sources, and nothing that belongs to the machine they were written on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
MAX_FILE_BYTES = 1024 * 1024

VIRTUAL_ENVIRONMENT = re.compile(r"\.?v?env(-.*)?|virtualenv|site-packages|pyvenv\.cfg|node_modules")
# Paths of somebody's machine, and hosts that packages come from: neither is any business of a reader elsewhere.
MACHINE_PATH = re.compile(rb"(?<![\w.~$}-])/(?:work|root|home|Users)/[\w.-]")
REGISTRY_HOST = re.compile(
    rb"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|yarnpkg\.com|crates\.io|rubygems\.org|proxy\.golang\.org)\b"
)


def tracked(root: Path) -> list[PurePosixPath]:
    """Return the paths of everything that git holds under *root*, but for what has been deleted since."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
    paths = (PurePosixPath(name) for name in listed.decode().split("\0") if name)
    return [path for path in paths if (root / path).is_symlink() or (root / path).exists()]


def offences(root: Path) -> list[str]:
    """Return a sentence for each thing that git holds under *root* and should not."""
    found: list[str] = []
    for path in tracked(root):
        if any(VIRTUAL_ENVIRONMENT.fullmatch(part) for part in path.parts):
            found.append(f"{path} belongs to an installation")
            continue
        file = root / path
        content = str(file.readlink()).encode() if file.is_symlink() else file.read_bytes()
        if len(content) > MAX_FILE_BYTES:
            found.append(f"{path} has {len(content):,} bytes")
        for pattern, what in ((MACHINE_PATH, "a path of a machine"), (REGISTRY_HOST, "the host of a registry")):
            if match := pattern.search(content):
                line = content.count(b"\n", 0, match.start()) + 1
                found.append(f"{path}, line {line}, names {what}: {match.group().decode()}")
    return found


@pytest.fixture
def git() -> None:
    """Skip where there is no git."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")


@pytest.mark.usefixtures("git")
def test_repository_holds_sources_alone() -> None:
    """Git holds no virtual environment, no file over 1 MiB, no path of a machine and no host of a package registry."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout (an sdist?): there is no list of files to look through")

    assert len(tracked(ROOT)) > 50
    assert [] == offences(ROOT)


@pytest.mark.usefixtures("git")
@pytest.mark.parametrize(
    ("path", "content", "offence"),
    [
        (".venv/pyvenv.cfg", b"", ".venv/pyvenv.cfg belongs to an installation"),
        (".venv-grpc/bin/x", b"", ".venv-grpc/bin/x belongs to an installation"),
        ("a/site-packages/b.py", b"", "a/site-packages/b.py belongs to an installation"),
        ("big.bin", bytes(MAX_FILE_BYTES + 1), "big.bin has 1,048,577 bytes"),
        ("a.txt", b"\nsee /" + b"work/main", "a.txt, line 2, names a path of a machine: /" + "work/m"),
        ("a.txt", b'"/' + b'root/x"', "a.txt, line 1, names a path of a machine: /" + "root/x"),
        ("a.txt", b"file:///" + b"home/x", "a.txt, line 1, names a path of a machine: /" + "home/x"),
        ("a.txt", b"https://pypi" + b".org/simple", "a.txt, line 1, names the host of a registry: pypi" + ".org"),
        ("a.txt", b"registry.npmjs" + b".org", "a.txt, line 1, names the host of a registry: npmjs" + ".org"),
    ],
)
def test_offences_are_found(tmp_path: Path, path: str, content: bytes, offence: str) -> None:
    """Each kind of thing that should not be there is named, with its place."""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(content)
    (tmp_path / "fine.md").write_bytes(b"From https://example.org/home/page, src/work/x and ~/work/y, over PyPI.")
    for command in (["init", "--quiet"], ["add", "--force", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)

    assert [offence] == offences(tmp_path)
