"""How long batch ids are remembered: by generations, each of which is forgotten as a whole."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

_BY_TIME: Final = 24
_BY_COUNT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """
    The window in which a batch id is known: a duration or a number of batches, whichever is less.

    A generation covers a 24th of the duration or an eighth of the number. It is forgotten once all of it lies outside the
    window, so that an id is known for the window at least, and for one generation more at most where batches keep coming.

    Attributes:
        milliseconds: The duration.
        batches: The number of batches.
    """

    milliseconds: int
    batches: int

    def turn(
        self, connection: sqlite3.Connection, now: int, generation: int, started_at: int, batches: int, oldest: int
    ) -> tuple[int, int, int]:
        """
        Close the current generation if it is due, within the transaction of *connection*.

        Args:
            connection: Inside a write transaction.
            now: Epoch milliseconds.
            generation: Number of the current generation.
            started_at: When it began, in epoch milliseconds.
            batches: Batch ids in it.
            oldest: Number of the oldest generation that is still known.

        Returns:
            The current generation, the batch ids in it, and the oldest generation still known.
        """
        period = max(1, self.milliseconds // _BY_TIME)
        if now < started_at + period and batches < max(1, self.batches // _BY_COUNT):
            return generation, batches, oldest
        if batches:
            connection.execute("INSERT INTO generations VALUES (?, ?, ?)", (generation, started_at, batches))
            generation += 1
        closed = connection.execute(
            "SELECT number, started_at, batches FROM generations WHERE number >= ? ORDER BY number DESC", (oldest,)
        ).fetchall()
        later = 0
        for number, began_at, size in closed:
            # The first append past its period closes a generation, so nothing in it is younger than that.
            if later >= self.batches or began_at + period + self.milliseconds <= now:
                oldest = number + 1
                break
            later += size
        connection.execute(
            "UPDATE state SET generation = ?, generation_started_at = ?, generation_batches = 0, oldest_generation = ?",
            (generation, now, oldest),
        )
        return generation, 0, oldest
