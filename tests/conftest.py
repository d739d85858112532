"""What tests of more than one room share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from support.server import KIT_ENVIRONMENTS, RunningServer, start_server

# How long an example takes is the machine's business.
hypothesis.settings.register_profile("flagledger", deadline=None)
hypothesis.settings.load_profile("flagledger")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Put back what commands that are run within this process have set for theirs."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def server_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningServer]]:
    """
    Start services with `support.server.start_server`, in a data directory of their own unless one is given.

    Every service is told to end when the session ends, if the test has not done so.
    """
    servers: list[RunningServer] = []

    def start(*, data: Path | None = None, **options: object) -> RunningServer:
        server = start_server(data or tmp_path_factory.mktemp("data"), **options)  # type: ignore[arg-type]
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def running_server(server_factory: Callable[..., RunningServer]) -> RunningServer:
    """Return one service with the environments of the conformance kit, shared by the session."""
    return server_factory(environments=KIT_ENVIRONMENTS)
