"""What is counted behind the journal, for whoever counts it."""

from __future__ import annotations

from typing import Protocol


class WriterMetrics(Protocol):
    """What the writer counts."""

    def applied(self, rows: int) -> None:
        """Count *rows* that were committed to the store."""

    def quarantined(self, entries: int) -> None:
        """Count *entries* that were set aside."""

    def store_failed(self) -> None:
        """Count an attempt that failed and is made again."""

    def dropped(self, rows: int) -> None:
        """Count *rows* that outlived their retention and were dropped."""


class NullWriterMetrics:
    """Counts nothing."""

    def applied(self, rows: int) -> None:
        """Ignore it."""

    def quarantined(self, entries: int) -> None:
        """Ignore it."""

    def store_failed(self) -> None:
        """Ignore it."""

    def dropped(self, rows: int) -> None:
        """Ignore it."""


class FeederMetrics(Protocol):
    """What the feeder counts."""

    def sent(self, lines: int, refused: int) -> None:
        """Count a range, *lines* of which the sink took and *refused* of which it never will."""

    def sink_failed(self) -> None:
        """Count an attempt that failed and is made again."""

    def behind(self, entries: int) -> None:
        """Set how many *entries* that the store holds have not been sent yet."""


class NullFeederMetrics:
    """Counts nothing."""

    def sent(self, lines: int, refused: int) -> None:
        """Ignore it."""

    def sink_failed(self) -> None:
        """Ignore it."""

    def behind(self, entries: int) -> None:
        """Ignore it."""
