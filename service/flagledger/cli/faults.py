"""How a command ends that cannot do what it was told."""

from __future__ import annotations

import sys
from typing import Any

import click


class Fault(click.ClickException):
    """Ends the command with a text for people. Exit code 1: it cannot be done now."""

    def __init__(self, text: object) -> None:
        super().__init__(str(text))

    def show(self, file: Any = None) -> None:
        """Print the text to stderr, with the name of the command before it."""
        click.echo(f"flagledger: {self.message}", file=file or sys.stderr)


class SetUpFault(Fault):
    """Ends the command likewise, with exit code 2: it was called or configured wrongly."""

    exit_code = 2
