"""A call of an older SDK, as the servicer sees it, and what was read of its body."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flagledger.compat.answers import Answer
from flagledger.ingest.servicer import KEY_METADATA, SDK_METADATA
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch

# What could not be read as an evaluation: its index in the batch, a path there, and a description.
ElementError = tuple[int, str, str]

_MICROSECONDS: Final = 1_000_000
_METADATA: Final = {name.encode(): name for name in (KEY_METADATA, *SDK_METADATA, "origin")}


class Call:
    """
    The context of one call: its headers as metadata.

    Attributes:
        element_errors: What could not be read of the batch, once it has been read.
    """

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._metadata = tuple(
            (_METADATA[name], value.decode("latin-1")) for name, value in headers if name in _METADATA
        )
        self.element_errors: Sequence[ElementError] = ()

    @property
    def has_key(self) -> bool:
        """Whether it carries a key, valid or not."""
        return any(value for name, value in self._metadata if name == KEY_METADATA)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the headers that the servicer asks for."""
        return self._metadata

    def set_trailing_metadata(self, trailing_metadata: Any, /) -> None:
        """Ignore it: these answers have no place for it."""


@dataclass(slots=True, kw_only=True)
class Reading:
    """
    What was read of a body.

    Attributes:
        answer: What is sent once everything admitted is on disk. It hangs on the body alone, so that a body that comes again
            is answered as it was the first time.
        batch: Its evaluations, an empty one for each entry that could not be read.
        errors: Why those could not be.
        foreign_events: Entries that are no evaluations.
        identified: Whether each of its evaluations says whose it was, and when it was.
    """

    answer: Answer
    batch: EvaluationBatch = field(default_factory=EvaluationBatch)
    errors: list[ElementError] = field(default_factory=list)
    foreign_events: int = 0
    identified: bool = False

    def reject(self, name: str, description: str) -> None:
        """Leave an empty evaluation for an entry whose field *name* of an Evaluation is wrong; empty for the whole of it."""
        index = len(self.batch.evaluations)
        self.batch.evaluations.add()
        self.errors.append((index, f"evaluations[{index}].{name}" if name else f"evaluations[{index}]", description))


def set_time(evaluation: Evaluation, now: float) -> None:
    """Set the moment of *evaluation* to *now*, epoch seconds, to the microsecond."""
    seconds, microseconds = divmod(round(now * _MICROSECONDS), _MICROSECONDS)
    evaluation.evaluation_timestamp.seconds = seconds
    evaluation.evaluation_timestamp.nanos = microseconds * 1000
