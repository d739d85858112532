"""The files of the page, read once: our own, and the charting library out of the package that brings it."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

# Where a browser finds the files. The page itself names them relatively, so that a proxy may put a prefix before it all.
PREFIX: Final = "/dashboard/"
PAGE: Final = "page.html"
CHARTS: Final = "d3.js"

# The package and the file in it. It is data to us: nothing of the package is imported.
_CHARTS_PACKAGE: Final = "xstatic.pkg.d3"
_CHARTS_FILE: Final = Path("data", "d3.js")

# A browser may be set up to take anything else as a download.
_CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """
    A file as it is sent.

    Attributes:
        body: What it holds.
        compressed: The same under gzip.
        content_type: Its media type.
        etag: A validator: it is another as soon as the content is.
    """

    body: bytes
    compressed: bytes
    content_type: str
    etag: str


def asset(name: str, body: bytes) -> Asset:
    """Return *body* as the asset that the ending of *name* says it is."""
    return Asset(
        body=body,
        compressed=gzip.compress(body),
        content_type=_CONTENT_TYPES[Path(name).suffix],
        # A weak one: it stands for both forms of the body.
        etag=f'W/"{hashlib.sha256(body).hexdigest()[:32]}"',
    )


def own() -> dict[str, bytes]:
    """Return the page and what it loads of our own, by name: `page.html`, `views/intake.js`."""
    return dict(_below(files(__package__) / "static", ""))


def charts(package: str = _CHARTS_PACKAGE) -> bytes | None:
    """Return the charting library out of the installed *package*; None where it is not there, or not as we know it."""
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:
        return None
    if spec is None or spec.origin is None:
        return None
    try:
        return (Path(spec.origin).parent / _CHARTS_FILE).read_bytes()
    except OSError:
        return None


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        elif Path(entry.name).suffix in _CONTENT_TYPES:
            yield f"{prefix}{entry.name}", entry.read_bytes()
