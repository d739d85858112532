"""Logs: one JSON object a line on stderr, or coloured lines where stderr is a terminal. stdout belongs to the ready line."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(process: str) -> None:
    """
    Set up logging for this process; call it once, first.

    Args:
        process: Name of the process in the tree (`supervisor`, `writer`, `front-0`); every line carries it.
    """
    pretty = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    # Libraries log through the standard library: the same stream, from warnings up.
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True
    )


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger; `log.info("what happened", key=value)`. Keys and tokens MUST NOT be passed to it."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger
