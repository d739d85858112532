from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

import pytest
from flagledger.dashboard import assets

OWN = assets.own()
MAX_LINES = 400


def test_modules_import_what_is_there() -> None:
    """Every file that the page or a module loads is among those that are served, and every module is loaded."""
    loaded = {
        source.removeprefix("dashboard/")
        for source in re.findall(r'(?:src|href)="(dashboard/[^"]+)"', OWN["page.html"].decode())
    }
    wanted, found = set(loaded), set(loaded)
    while wanted:
        name = wanted.pop()
        assert name in OWN, f"{name} is imported and not there"
        folder = Path(name).parent
        for target in re.findall(
            r'^(?:import|export) .*? from "(\.[^"]+)";$', OWN[name].decode(), re.MULTILINE | re.DOTALL
        ):
            other = str(Path(*(part for part in _resolved(folder / target))))
            if other not in found:
                found.add(other)
                wanted.add(other)

    assert set(OWN) - {"page.html"} == found


def _resolved(path: Path) -> list[str]:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return parts


@pytest.mark.parametrize("name", sorted(OWN))
def test_nothing_becomes_markup(name: str) -> None:
    """What was sent cannot become markup or code: our files use no function that would make it so, and no inline style."""
    text = OWN[name].decode()

    assert [] == re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|createContextualFragment|\sstyle=",
        text,
    )


@pytest.mark.parametrize("name", sorted(OWN))
def test_nothing_comes_from_elsewhere(name: str) -> None:
    """Our files name no other host but those of two XML vocabularies, which nobody loads."""
    hosts = set(re.findall(r"(?:https?:)?//([\w.-]+\.[a-z]+)", OWN[name].decode()))

    assert hosts <= {"www.w3.org"}


@pytest.mark.parametrize("name", sorted(OWN))
def test_files_stay_readable(name: str) -> None:
    """A file has fewer than 400 lines."""
    assert len(OWN[name].splitlines()) < MAX_LINES


def test_charts() -> None:
    """The charting library comes out of the installed package, with what the charts use of it."""
    library = assets.charts()

    assert library is not None
    assert b"d3.scale.linear" in library
    assert b"d3_time.scale" in library or b"d3.time.scale" in library


def test_charts_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed, or that has no such file, is no error."""
    (tmp_path / "emptied_charts").mkdir()
    (tmp_path / "emptied_charts" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    assert [None] * 3 == [assets.charts(name) for name in ("no_such_package", "no_such.package", "emptied_charts")]


def test_asset() -> None:
    """An asset holds the same twice, and another content has another validator."""
    one, other = assets.asset("a.js", b"one"), assets.asset("a.js", b"other")

    assert (b"one", b"one") == (one.body, gzip.decompress(one.compressed))
    assert "text/javascript; charset=utf-8" == one.content_type
    assert one.etag == assets.asset("b.css", b"one").etag != other.etag
