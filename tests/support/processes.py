"""The processes of a running service, for tests that kill them."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil
from support.server import RunningServer

WRITER_SECONDS = 30.0
_POLL_SECONDS = 0.01


def tree(server: RunningServer) -> list[psutil.Process]:
    """Return the processes of the service, the supervisor first."""
    parent = psutil.Process(server.process.pid)
    return [parent, *parent.children(recursive=True)]


def role(process: psutil.Process) -> str:
    """Return `writer`, or what else a child is, by the socket on which the writer alone listens."""
    return (
        "writer" if any(str(one.laddr).endswith("query.sock") for one in process.net_connections("unix")) else "front"
    )


def writer_of(server: RunningServer) -> psutil.Process:
    """Return the writer, once there is one that listens."""
    deadline = time.monotonic() + WRITER_SECONDS
    while time.monotonic() < deadline:
        for process in tree(server)[1:]:
            with suppress(psutil.NoSuchProcess):
                if role(process) == "writer":
                    return process
        time.sleep(_POLL_SECONDS)
    message = f"no writer within {WRITER_SECONDS:.0f} s; the service's stderr:\n{server.log()}"
    raise AssertionError(message)
