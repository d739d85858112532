"""One Flagsmith, one Flagledger and a front before both, for all SDKs; an environment for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sdks.beside import FEATURES, Beside
from sdks.pages import Pages, pages
from support.flagsmith_stub import StubFeature, flagsmith_stub
from support.front import front_of
from support.server import RunningServer

# Environments by name, and the origins that may send to them: those of the test's pages, or another.
ENVIRONMENTS = {
    "counts": "pages",
    "exposures": "pages",
    "refused": "pages",
    "lost": "pages",
    "pipeline": "pages",
    "node": "pages",
    "node-local": "pages",
    "nginx": "pages",
    "browser": "pages",
    "browser-10": "pages",
    "browser-events": "pages",
    "elsewhere": "https://elsewhere.example",
}


def key_of(environment: str) -> str:
    """Return the client key of an environment; its server key is the same behind `ser.`."""
    return f"{environment}-key"


@pytest.fixture(scope="session")
def served_pages() -> Iterator[Pages]:
    """Serve pages from an origin of their own."""
    with pages() as served:
        yield served


@pytest.fixture(scope="session")
def beside(
    server_factory: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory, served_pages: Pages
) -> Iterator[Beside]:
    """
    Start all three.

    Every environment lists the origins of pages that may send. SDKs outside of browsers have none, and are no business of it.
    """
    file = tmp_path_factory.mktemp("sdks") / "environments.toml"
    with flagsmith_stub() as flagsmith:
        tables = []
        for name, origin in ENVIRONMENTS.items():
            key, origins = key_of(name), served_pages.url if origin == "pages" else origin
            tables.append(
                f'[[environments]]\nname = "{name}"\nkeys = ["{key}", "ser.{key}"]\n'
                f'features = ["{FEATURES[0]}", "{FEATURES[1]}", "{FEATURES[2]}"]\norigins = ["{origins}"]\n'
            )
            checkout, dark_mode, old_banner = FEATURES
            flagsmith.environment(
                key,
                f"ser.{key}",
                features=(checkout, StubFeature(dark_mode, value="dark"), StubFeature(old_banner, enabled=False)),
            )
        file.write_text("\n".join(tables))
        server = server_factory(environments=file)
        with front_of(flagsmith=f"http://127.0.0.1:{flagsmith.port}", flagledger=server.http_url) as front:
            yield Beside(flagsmith=flagsmith, flagledger=server, front=front)
