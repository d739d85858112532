"""
A process of the service, a front or the writer, run by the supervisor as `python -m flagledger.app` with its settings on stdin.

See `flagledger.supervisor`. What either is made of is imported once it is known which it is: a writer that loaded HTTP would take
memory for nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys

import uvloop
from google.protobuf.internal import api_implementation

from flagledger.config import Config
from flagledger.journal.base import JournalError
from flagledger.supervisor import CannotRunError, ProcessSettings, die_with, read_line, report
from flagledger.telemetry.logging import configure


def main() -> int:
    """Read the settings from stdin, run what they say, and return the exit code."""
    parent = os.getppid()
    settings = ProcessSettings.from_json(read_line())
    die_with(parent)
    configure(settings.name())
    config = Config.from_json(settings.config)
    if api_implementation.Type() != "upb":
        # Twenty times slower, and admission reads the bytes as upb writes them.
        report(fatal="The installed protobuf runs without its compiled part (upb); install a wheel for this platform.")
        return 1
    if settings.role == "writer":
        from flagledger.app.writer import run  # noqa: PLC0415
    else:
        from flagledger.app.front import run  # noqa: PLC0415
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(config, settings))
    except (CannotRunError, JournalError) as error:
        report(fatal=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
