from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import logging
from flagledger.telemetry.logging import configure, get_logger
configure("front-0")
get_logger().info("something happened", number=1)
logging.getLogger("library").warning("of a library")
try:
    1 / 0
except ZeroDivisionError as error:
    get_logger().error("it failed", exc_info=error)
"""


def test_lines() -> None:
    """Logs are lines of JSON on stderr, each with its process; stdout stays empty."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    first, library, failed = done.stderr.splitlines()
    assert "" == done.stdout
    assert ("something happened", 1, "front-0", "info") == tuple(
        json.loads(first)[name] for name in ("event", "number", "process", "level")
    )
    assert "of a library" in library
    assert "ZeroDivisionError" in json.loads(failed)["exception"]
