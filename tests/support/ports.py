"""Ports for servers that cannot be told to take any that is free, or that have to come back to the one they had."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """Return a free port of those that no outgoing connection gets, not even while the server is down."""
    while True:
        # Not seeded: two processes of tests must not try the same ones.
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
