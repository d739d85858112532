from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from flagledger.telemetry.logging import Sparing

CODE = """
import logging, threading, warnings
from flagledger.telemetry.logging import configure, get_logger
configure("front-0")
get_logger().info("something happened", number=1)
logging.getLogger("library").warning("of a %s", "library")
logging.getLogger("library").info("too fine")
thread = threading.Thread(target=lambda: get_logger().info("in a thread"))
thread.start()
thread.join()
secret = "hunter2"
try:
    1 / 0
except ZeroDivisionError as error:
    get_logger().error("it failed", exc_info=error)
    logging.getLogger("library").exception("it failed there")
warnings.warn("old", UserWarning)
logging.getLogger("library").error("badly %d", "put")
"""

# Logs in every way there is, more than any buffer holds, and says on stdout that it has come to its end.
STUBBORN = """
import logging, threading
from flagledger.telemetry.logging import configure, get_logger
configure("front-0")
for number in range(100):
    get_logger().error("it failed", padding="x" * 1000)
    logging.getLogger("library").error("it failed there")
    logging.getLogger("library").error("badly %d", "put")
print("at the end", flush=True)
"""


def test_lines() -> None:
    """Logs are lines of JSON on stderr, of threads and of libraries too, each with its process; stdout stays empty."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert "" == done.stdout
    assert [
        ("info", "something happened", None),
        ("warning", "of a library", "library"),
        ("info", "in a thread", None),
        ("error", "it failed", None),
        ("error", "it failed there", "library"),
        ("warning", "<string>:17: UserWarning: old", "py.warnings"),
    ] == [(line["level"], line["event"].strip().splitlines()[0], line.get("logger")) for line in lines]
    assert {"front-0"} == {line["process"] for line in lines}
    assert all("timestamp" in line for line in lines)
    assert 1 == lines[0]["number"]
    assert all("ZeroDivisionError" in line["exception"] for line in lines[3:5])


def said(logs: list[structlog.typing.EventDict]) -> list[tuple[object, ...]]:
    """Return what was logged: event, error, how many were left out before."""
    return [(log["event"], log.get("error"), log.get("unsaid", 0)) for log in logs]


def test_what_is_met_often_is_said_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line stands for those like it that follow within a minute; the next one counts them, and nothing else is hidden."""
    now = 100.0
    monkeypatch.setattr("flagledger.telemetry.logging.time.monotonic", lambda: now)
    sparing = Sparing()
    with structlog.testing.capture_logs() as logs:
        for error in ("away", "away", "broken", "away"):
            sparing.warning("it failed", error=error)
        sparing.error("it is late", error="away")
        now = 159.9
        sparing.warning("it failed", error="away")
        now = 160.0
        sparing.warning("it failed", error="broken")
        now = 220.0
        sparing.warning("it failed", error="broken")

    assert [
        ("it failed", "away", 0),
        ("it failed", "broken", 0),
        ("it is late", "away", 0),
        ("it failed", "broken", 3),
        ("it failed", "broken", 0),
    ] == said(logs)
    assert ["warning", "warning", "error", "warning", "warning"] == [log["log_level"] for log in logs]


def test_what_is_worded_anew_each_time_does_not_fill_the_log() -> None:
    """Of one event four different errors are said in a minute, and causes tell them apart as well."""
    sparing = Sparing()
    with structlog.testing.capture_logs() as logs:
        for number in range(100):
            sparing.warning("it failed", error="away", cause=f"cause {number}")

    assert [f"cause {number}" for number in range(4)] == [log["cause"] for log in logs]


def test_what_is_another_matter_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `renew` the next line comes whenever it comes, with the count of those before; one of long ago counts none."""
    now = 100.0
    monkeypatch.setattr("flagledger.telemetry.logging.time.monotonic", lambda: now)
    sparing = Sparing()
    with structlog.testing.capture_logs() as logs:
        sparing.renew("it failed")
        for _ in range(3):
            sparing.warning("it failed")
        sparing.renew("it failed")
        for _ in range(3):
            sparing.warning("it failed")
        now = 100_000.0
        sparing.warning("it failed")

    assert [("it failed", None, 0), ("it failed", None, 2), ("it failed", None, 0)] == said(logs)


def test_lines_on_a_terminal() -> None:
    """On a terminal all of that comes out for people, and no traceback prints what variables held."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", CODE], stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                # What Linux says once the other end is closed.
                break
            if not piece:
                break
            seen += piece
    os.close(ours)

    text = seen.decode()
    assert 0 == process.returncode
    for event in ("something happened", "of a library", "in a thread", "it failed", "it failed there", "UserWarning"):
        assert event in text
    assert "ZeroDivisionError" in text
    assert "hunter2" not in text
    assert '"event"' not in text


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_goes_on_where_nobody_can_be_told(redirection: str) -> None:
    """Where stderr is full, or was closed, lines are lost; whoever logs goes on, and the exit code is theirs."""
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, STUBBORN]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "at the end\n") == (done.returncode, done.stdout)


def test_goes_on_when_the_reader_has_gone() -> None:
    """A pipe that nobody reads from any more costs lines alone."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=writer, text=True, check=False
    )
    os.close(writer)

    assert (0, "at the end\n") == (done.returncode, done.stdout)


def test_writes_into_no_file_that_took_the_place_of_stderr(tmp_path: Path) -> None:
    """Where stderr was closed when the process began, no file opened since gets what is logged."""
    code = (
        f"early = open({str(tmp_path / 'early')!r}, 'wb')\n"
        + STUBBORN
        + f"late = open({str(tmp_path / 'late')!r}, 'wb')\nassert 2 == early.fileno() and 2 != late.fileno()\n"
        + "get_logger().error('it failed')\n"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "at the end\n") == (done.returncode, done.stdout)
    assert (0, 0) == tuple((tmp_path / name).stat().st_size for name in ("early", "late"))
