"""What is asked of every store is asked of each kind in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flagledger.store.base import Store
from store import stores


@pytest.fixture(params=stores.kinds())
def kind(request: pytest.FixtureRequest) -> str:
    """Return a kind of store."""
    return str(request.param)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return where the store of this test is."""
    return tmp_path / "store"


@pytest.fixture
def open_store(kind: str, place: Path) -> Iterator[Callable[..., Store]]:
    """Open the store of this test, again and again where the test closes it."""
    opened: list[Store] = []

    def open_(**options: object) -> Store:
        opened.append(stores.open_store(kind, place, **options))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    """Return an empty store."""
    return open_store()
