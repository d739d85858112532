"""A real InfluxDB 1 for tests, as Debian packages it: in a folder of its own, on free ports of loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from support.ports import free_port

ADMINISTRATOR: Final = "admin"
USER: Final = "flagledger"
PASSWORD: Final = "p@ss/word of:the user"
_READY_SECONDS: Final = 30.0
_CONFIGURATION: Final = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  max-values-per-tag = {max_values}
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  auth-enabled = {auth}
  log-enabled = false
"""


class Influxd:
    """
    An InfluxDB server.

    Args:
        folder: Where it keeps everything.
        auth: Whether it wants a user.
        max_values: Values that a tag may have.

    Attributes:
        port: Its port of HTTP.
        password: Of the administrator who asks; None to ask without.
    """

    def __init__(self, folder: Path, *, auth: bool = False, max_values: int = 100_000) -> None:
        program = shutil.which("influxd")
        if program is None:
            pytest.skip("no InfluxDB here: apt-get install influxdb")
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "log"
        self._configuration = folder / "influxdb.conf"
        self.port = free_port()
        self.password: str | None = None
        self._configuration.write_text(
            _CONFIGURATION.format(
                folder=folder, rpc=free_port(), http=self.port, auth=str(auth).lower(), max_values=max_values
            )
        )

    def start(self) -> None:
        """Start it and return once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-config", self._configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            with suppress(URLError, ConnectionError), urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"InfluxDB does not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it, with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def ask(self, statement: str, database: str = "") -> list[dict[str, Any]]:
        """Return the series that *statement* finds."""
        body = urlencode({"q": statement, "db": database}).encode()
        request = Request(f"http://127.0.0.1:{self.port}/query", data=body)
        if self.password is not None:
            request.add_header(
                "Authorization", "Basic " + b64encode(f"{ADMINISTRATOR}:{self.password}".encode()).decode()
            )
        with urlopen(request, timeout=30) as response:
            (result,) = json.load(response)["results"]
        assert "error" not in result, result
        return list(result.get("series", []))

    def sums(self, database: str) -> Counter[tuple[str, str, str, str]]:
        """Return `SELECT sum("count")` by environment, feature, enabled and variant."""
        tags = ("environment", "feature", "enabled", "variant")
        series = self.ask(f'SELECT sum("count") FROM flag_evaluations GROUP BY {", ".join(tags)}', database)
        sums: Counter[tuple[str, str, str, str]] = Counter()
        for one in series:
            ((_, total),) = one["values"]
            sums[tuple(one["tags"][tag] for tag in tags)] += total  # type: ignore[index]
        return sums


@contextmanager
def influxd(folder: Path, **options: Any) -> Iterator[Influxd]:
    """Yield a server that runs, and kill it in the end."""
    server = Influxd(folder, **options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
