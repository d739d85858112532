"""One direction: which room may import which, held by reading the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[1] / "service" / "flagledger"

# Room → the rooms that it may import. Nothing imports leftwards: towards the fronts, that is.
EDGES: dict[str, set[str]] = {
    "telemetry": set(),
    "errors": set(),
    "tomlfile": set(),
    "transcoding": set(),
    "config": {"catalog", "store", "errors", "tomlfile"},
    "catalog": {"errors", "telemetry", "tomlfile"},
    "journal": {"errors", "telemetry"},
    "store": {"journal", "errors", "telemetry"},
    "upkeep": {"store", "errors", "telemetry"},
    "writer": {"journal", "store", "upkeep", "errors", "telemetry"},
    "feeder": {"store", "errors", "telemetry"},
    "ingest": {"catalog", "journal", "errors", "telemetry"},
    "query": {"catalog", "store", "errors", "telemetry"},
    "dashboard": {"catalog", "errors", "telemetry"},
    "compat": {"ingest", "catalog", "transcoding", "errors", "telemetry"},
    "front": {"transcoding", "compat", "dashboard", "ingest", "query", "catalog", "config", "errors", "telemetry"},
    "supervisor": {"config", "catalog", "journal", "errors", "telemetry"},
    "serve": {"supervisor", "config", "catalog", "journal", "store", "errors", "telemetry"},
    "cli": {"serve", "config", "catalog", "store", "errors", "telemetry"},
}
# Where the parts are put together: it may import every room.
COMPOSITION = "app"
GENERATED = {"v1", "internal"}

# Library → the rooms that may import it. What is not listed is anybody's.
LIBRARIES: dict[str, set[str]] = {
    "grpc": {"transcoding", "front", "app"},
    "duckdb": {"store"},
    "ptars": {"store"},
    "pyarrow": {"store", "writer", "feeder", "query"},
    "starlette": {"dashboard", "front"},
    "uvicorn": {"front", "transcoding"},
    "aiohttp": {"catalog"},
    "psycopg": {"store", "catalog"},
    "psycopg_pool": {"store", "catalog"},
    "clickhouse_connect": {"store"},
    "chdb": {"store"},
    "urllib3": {"store"},
    "pydantic": {"config"},
    "pydantic_settings": {"config"},
    "click": {"cli"},
    "rich": {"cli"},
    "sqlite3": {"journal"},
}


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the full name of everything that *tree* imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test can read them"
            # `from flagledger import errors` names its module only together with the alias.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (file, its room, imported name) for everything that the code under *root* imports."""
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name in imports(tree):
            yield str(place), place.parts[0].removesuffix(".py"), name


def offences(root: Path) -> list[str]:
    """Return every import under *root* that the tables do not allow."""
    found: list[str] = []
    for place, room, name in edges(root):
        first, _, rest = name.partition(".")
        if first == "flagledger":
            other = rest.partition(".")[0]
            if other != room and other not in GENERATED and room != COMPOSITION and other not in EDGES.get(room, set()):
                found.append(f"{place} imports {name}")
        elif room not in LIBRARIES.get(first, {room}):
            found.append(f"{place} imports {first}")
    return found


def test_every_room_is_in_the_table() -> None:
    """A new room says here whom it may import."""
    rooms = {
        path.name.removesuffix(".py")
        for path in SERVICE.iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))
    }

    assert set() == rooms - set(EDGES) - {COMPOSITION}


def test_table_has_one_direction() -> None:
    """The table itself has no circle: each room can be understood without those that use it."""
    left = dict(EDGES)
    while left:
        free = [room for room, others in left.items() if not others & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for room in free:
            del left[room]


def test_rooms_import_in_one_direction() -> None:
    """No room imports another that its row in the table lacks, and no library outside its own rooms."""
    assert offences(SERVICE) == []


@pytest.mark.parametrize(
    ("place", "code", "offence"),
    [
        ("store/base.py", "from flagledger.front import http", "store/base.py imports flagledger.front.http"),
        ("journal/base.py", "import flagledger.store.base", "journal/base.py imports flagledger.store.base"),
        ("errors.py", "from flagledger import config", "errors.py imports flagledger.config"),
        ("ingest/servicer.py", "def f():\n    import grpc", "ingest/servicer.py imports grpc"),
        ("query/servicer.py", "from duckdb import connect", "query/servicer.py imports duckdb"),
    ],
)
def test_offences_are_found(tmp_path: Path, place: str, code: str, offence: str) -> None:
    """An import in the wrong direction is named, also inside of a function."""
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(code, encoding="utf-8")

    assert [offence] == offences(tmp_path)


def test_transcoding_stands_alone() -> None:
    """`flagledger.transcoding` is usable on its own: it loads no store, no web framework and nothing of the service."""
    code = """
import pkgutil, importlib, sys
import flagledger.transcoding as transcoding
for module in pkgutil.iter_modules(transcoding.__path__):
    importlib.import_module(f"flagledger.transcoding.{module.name}")
strangers = {"duckdb", "pyarrow", "ptars", "starlette", "pydantic", "pydantic_settings", "structlog"}
rooms = {name for name in sys.modules if name.startswith("flagledger.") and "flagledger.transcoding" not in name}
print(sorted(strangers & set(sys.modules)) + sorted(rooms))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
