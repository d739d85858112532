"""
How far a sink has come: a small file beside the journal, made whole or not at all.

It says, for each journal and each target of a sink, up to which position entries were sent, what the sink has to remember, and
where the range ends that was begun. The beginning of a range is written, with the memory that decides its points, before
anything of it is sent. So whoever comes after a crash sends the same range again as the same points; what was sent already is
overwritten by itself.

Without the file, everything is sent anew and in other ranges, which an InfluxDB that holds them already counts twice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from flagledger.store.sinks import Memory, SinkError

FORMAT: Final = 1


class ProgressError(SinkError):
    """The file cannot be read or written. Nothing is sent until it can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    How far a sink has come.

    Attributes:
        position: Entries up to here were sent.
        begun: Last position of the range behind them that may have been sent in part; None where there is none.
        memory: What the sink has to remember, that of the range that was begun included.
    """

    position: int = 0
    begun: int | None = None
    memory: Memory = field(default_factory=dict)


class ProgressFile:
    """
    The progress of one sink with one journal; that of others in the same file stays.

    Args:
        path: The file; made where it is missing.
        stream: Identity of the journal.
        target: Where the sink sends to.
    """

    def __init__(self, path: Path, stream: str, target: str) -> None:
        self._path = path
        self._key = {"stream": stream, "target": target}
        self._others: list[dict[str, Any]] = []

    def load(self) -> Progress:
        """
        Return the progress; of a journal or a target that the file does not know, that of a beginning.

        Raises:
            ProgressError: The file cannot be read, or was written by a newer version.
        """
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            self._others = []
            return Progress()
        except OSError as error:
            raise ProgressError(f"{self._path} cannot be read: {error.strerror}.") from error
        try:
            whole = orjson.loads(content)
            if whole["format"] != FORMAT:
                raise ProgressError(
                    f"{self._path} has the format {whole['format']}, which a newer version wrote; this one knows {FORMAT}. "
                    "Install that version again.",
                    lasting=True,
                )
            mine = [entry for entry in whole["sinks"] if self._is_mine(entry)]
            self._others = [entry for entry in whole["sinks"] if not self._is_mine(entry)]
            return _progress(mine[0]) if mine else Progress()
        except (ValueError, KeyError, TypeError) as error:
            raise ProgressError(
                f"{self._path} is damaged. Put it back from a backup, or delete it: then everything that the store holds is sent "
                "anew, and should go into an empty database.",
                lasting=True,
            ) from error

    def save(self, progress: Progress) -> None:
        """
        Put *progress* into the file; it survives a power cut once this returns.

        Raises:
            ProgressError: It cannot be written. What the file said before, or this, is in force.
        """
        mine = {**self._key, "position": progress.position, "begun": progress.begun, "memory": progress.memory}
        content = orjson.dumps({"format": FORMAT, "sinks": [*self._others, mine]})
        # Always the same name, so that a draft left by a killed process is used up.
        draft = self._path.with_name(f"{self._path.name}.draft")
        try:
            _write(draft, content)
            os.replace(draft, self._path)  # noqa: PTH105  # beside os.fsync
            _sync(self._path.parent)
        except OSError as error:
            raise ProgressError(f"{self._path} cannot be written: {error.strerror}.") from error

    def _is_mine(self, entry: dict[str, Any]) -> bool:
        return {name: entry[name] for name in self._key} == self._key


def _progress(entry: dict[str, Any]) -> Progress:
    position, begun, memory = entry["position"], entry["begun"], entry["memory"]
    if not (isinstance(position, int) and isinstance(begun, int | None) and isinstance(memory, dict)):
        raise TypeError
    return Progress(position=position, begun=begun, memory=memory)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
