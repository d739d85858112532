"""What one front holds in its hands at a time: bytes of requests, and calls."""

from __future__ import annotations

from flagledger.errors import FlagledgerError, Reason


class InFlight:
    """
    Bounds the bytes and the calls that are being worked on, over both protocols together.

    A parsed message takes up to 24 times its bytes (4 MiB of empty sub-messages become 96 MiB), so that this, not the number
    of connections, is what bounds memory. One event loop uses it: there is no lock.
    """

    def __init__(self, *, max_bytes: int, max_calls: int) -> None:
        self._max_bytes = max_bytes
        self._max_calls = max_calls
        self.bytes = 0
        self.calls = 0

    def acquire(self, size: int) -> None:
        """
        Take *size* bytes.

        Raises:
            FlagledgerError: BYTES_IN_FLIGHT where that would be too many; nothing was taken then.
        """
        # A single request always fits, whatever the settings say of each other.
        if self.bytes and self.bytes + size > self._max_bytes:
            raise FlagledgerError(
                Reason.BYTES_IN_FLIGHT,
                f"The server is working on {self.bytes} bytes of requests, of {self._max_bytes} it takes at a time.",
            )
        self.bytes += size

    def release(self, size: int) -> None:
        """Give *size* bytes back."""
        self.bytes -= size

    def enter(self) -> None:
        """
        Take a call.

        Raises:
            FlagledgerError: CALLS_IN_FLIGHT where that would be too many; nothing was taken then.
        """
        if self.calls >= self._max_calls:
            raise FlagledgerError(
                Reason.CALLS_IN_FLIGHT, f"The server is working on {self.calls} calls, as many as it takes at a time."
            )
        self.calls += 1

    def leave(self) -> None:
        """Give a call back."""
        self.calls -= 1
