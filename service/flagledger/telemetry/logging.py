"""
Logs: one JSON object a line on stderr, or coloured lines where stderr is a terminal. stdout belongs to the ready line.

Libraries that log through the standard library come out in the same form, from warnings up. Logging never raises: where
stderr is full, closed or gone the line is lost, and whoever logged goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import structlog

if TYPE_CHECKING:
    from typing import TextIO

    from structlog.typing import EventDict, Processor, WrappedLogger

_STDERR: Final = 2
_AGAIN_SECONDS: Final = 60.0
_MAX_TEXTS: Final = 4


class _Stream:
    """
    A file descriptor as a stream that loses what cannot be written.

    Past Python's own buffers: a line is one write, so that those of several processes do not mix, and nothing is left behind
    that would fail at exit and spoil the exit code.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> None:
        """Write *text* as far as possible."""
        rest = text.encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def flush(self) -> None:
        """Do nothing: nothing is held back."""


def configure(process: str) -> None:
    """
    Set up logging for this process; call it once, first.

    Args:
        process: Name of the process in the tree (`supervisor`, `writer`, `front-0`); every line carries it.
    """
    descriptor = _descriptor()
    stream = cast("TextIO", _Stream(descriptor))

    def add_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        # Not a context variable: those do not reach threads.
        event["process"] = process
        return event

    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor]
    if os.isatty(descriptor):
        # Plain tracebacks: the finer ones print local variables, and keys among them.
        rendering = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*common, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # Python's warnings too; and a record that cannot be formatted is lost like one that cannot be written.
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; `log.info("what happened", key=value)`. Keys and tokens MUST NOT be passed to it."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


class Sparing:
    """
    Says what may be met many times a second once a minute: an event with the same `error` and `cause`.

    Of these a few are told apart in a minute, or a server that words each failure anew would fill the log. The next line says how
    many were left out before it (`unsaid`), if that was not long ago. For one thread, or one event loop.
    """

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}

    def warning(self, event: str, **values: object) -> None:
        """Log *event* as a warning with *values*, or count it where the same was said just now."""
        self._say(logging.WARNING, event, values)

    def error(self, event: str, **values: object) -> None:
        """Log *event* as an error, likewise."""
        self._say(logging.ERROR, event, values)

    def renew(self, event: str) -> None:
        """Have the next *event* said whenever it comes: it is another matter, or has been well meanwhile."""
        if event in self._said:
            self._said[event].again = time.monotonic()

    def _say(self, level: int, event: str, values: dict[str, object]) -> None:
        now = time.monotonic()
        text = f"{values.get('error')} {values.get('cause')}"
        said = self._said.get(event)
        if said is None or now >= said.again:
            unsaid = said.unsaid if said is not None and now < said.again + _AGAIN_SECONDS else 0
            self._said[event] = _Said(again=now + _AGAIN_SECONDS, texts={text})
            get_logger().log(level, event, **values, **({"unsaid": unsaid} if unsaid else {}))
        elif text not in said.texts and len(said.texts) < _MAX_TEXTS:
            said.texts.add(text)
            get_logger().log(level, event, **values)
        else:
            said.unsaid += 1


@dataclass(slots=True)
class _Said:
    again: float
    texts: set[str]
    unsaid: int = 0


def _descriptor() -> int:
    """Return the file descriptor to write lines to: stderr, or /dev/null where that was closed when the process began."""
    if sys.stderr is not None:
        return _STDERR
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.fstat(_STDERR)
    except OSError:
        # Or the next file to be opened would get the number, and whatever else is written to stderr with it.
        os.dup2(null, _STDERR)
    return null
