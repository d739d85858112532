"""A reserve of disk beside the journal, so that trimming, which needs a little room to make much, works on a full disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Reserve:
    """
    A file of allocated blocks that is given up when trimming finds the disk full, and made again afterwards.

    While it is given up, appends are refused unless there is ample room: otherwise they would eat what trimming was given.
    The file's presence is the only state, so every process sees the same.

    Args:
        path: Where the file lies: on the journal's own disk.
        size: Bytes held back; 0 for none.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size

    def admits(self, log_bytes: int) -> bool:
        """
        Return whether appends may go on: the reserve is there, or room for it twice over, and the log fits into the file.

        Args:
            log_bytes: Length of the write-ahead log. Without room for the file to grow by that, appends would fill the log
                with what cannot be moved out of it, and trimming would then need more than the reserve.
        """
        free = self._free()
        return free >= log_bytes and (self.size == 0 or free >= 2 * self.size or os.access(self.path, os.F_OK))

    def is_ample(self) -> bool:
        """Return whether the disk has room for the reserve twice over."""
        return self._free() >= 2 * self.size

    def _free(self) -> int:
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:
            return -1
        return disk.f_bavail * disk.f_frsize

    def make(self) -> bool:
        """Make the reserve as large as the disk allows, down to an eighth of its size; return whether it is there."""
        if self.size == 0 or self.path.exists():
            return True
        return any(self._allocate(self.size >> halvings) for halvings in range(4))

    def release(self) -> bool:
        """Give the reserve up; return whether there was one."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True

    def _allocate(self, size: int) -> bool:
        # Under another name first: a file of the right name and no blocks would count as a reserve. Always the same one, so
        # that a draft left by a killed process is used up and does not add to the next.
        draft = self.path.with_name(f"{self.path.name}.draft")
        try:
            descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)
            finally:
                os.close(descriptor)
            draft.rename(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            return False
        return True
