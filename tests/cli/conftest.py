"""What the tests of the command share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flagledger.config import Config
from support.command import Peer, listening


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Serve HTTP on a free port of this machine."""
    with listening() as peer:
        yield peer


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty directory, with no variable of ours, in a wide terminal."""
    monkeypatch.chdir(tmp_path)
    for name in Config.model_fields:
        monkeypatch.delenv(f"FLAGLEDGER_{name.upper()}", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
