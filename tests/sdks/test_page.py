"""The page shows the code that is tested here, word for word, and the versions that it is tested with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sdks.beside import BLOCKS
from sdks.installed import HERE, REQUIREMENTS

PAGE = (Path(__file__).parents[2] / "docs" / "flagsmith.md").read_text(encoding="utf-8")
LANGUAGES = {".py": "python", ".mjs": "js", ".conf": "nginx"}


@pytest.mark.parametrize("block", sorted(path.name for path in BLOCKS.iterdir() if path.is_file()))
def test_blocks(block: str) -> None:
    """Every block stands on the page as it is."""
    path = BLOCKS / block

    assert f"```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}```\n" in PAGE


def test_versions() -> None:
    """The page says which releases are tested."""
    newest, older = (
        path.stem.removeprefix("flagsmith-") for path in sorted(REQUIREMENTS.glob("flagsmith-*.txt"), reverse=True)
    )
    npm = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    node, browser = npm["flagsmith-nodejs"], npm["@flagsmith/flagsmith"]

    assert f"Python {newest} and {older}, Node {node}, the browser's {browser} in Chromium" in " ".join(PAGE.split())
