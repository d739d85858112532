"""A budget of bytes for tests, and what it refuses with."""

from __future__ import annotations


class RefusalError(Exception):
    """The application's own refusal."""


class Budget:
    """A budget that counts."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.peak = 0

    def acquire(self, n: int) -> None:
        """Reserve."""
        if self.held + n > self.limit:
            raise RefusalError("Too many bytes are in flight.")
        self.held += n
        self.peak = max(self.peak, self.held)

    def release(self, n: int) -> None:
        """Give back."""
        self.held -= n
