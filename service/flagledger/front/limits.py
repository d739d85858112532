"""What one front holds in its hands at a time: bytes of requests, calls, and streams."""

from __future__ import annotations

from typing import Final

from flagledger.errors import FlagledgerError, Reason

MAX_QUESTIONS: Final = 100
"""Questions and exports that one front works on at a time, apart from what it takes in: readers must not keep out senders."""

# A stream that is quiet costs its place on a connection and little else, so that there may be more of them than calls.
_STREAMS_A_CALL = 2


class InFlight:
    """
    Bounds the bytes, the calls and the streams that are being worked on, over both protocols together.

    A parsed message takes up to 24 times its bytes (4 MiB of empty sub-messages become 96 MiB), so that this, not the number
    of connections, is what bounds memory. One event loop uses it: there is no lock.

    Args:
        max_bytes: Bytes of requests.
        max_calls: Calls of one request each.
        max_streams: Open streams, idle ones too; twice *max_calls* where it is not given.
    """

    def __init__(self, *, max_bytes: int, max_calls: int, max_streams: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._max_calls = max_calls
        self._max_streams = _STREAMS_A_CALL * max_calls if max_streams is None else max_streams
        self.bytes = 0
        self.calls = 0
        self.streams = 0

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

    def open_stream(self) -> None:
        """
        Take a stream.

        Raises:
            FlagledgerError: CALLS_IN_FLIGHT where that would be too many; nothing was taken then.
        """
        if self.streams >= self._max_streams:
            raise FlagledgerError(
                Reason.CALLS_IN_FLIGHT, f"The server has {self.streams} streams open, as many as it takes at a time."
            )
        self.streams += 1

    def close_stream(self) -> None:
        """Give a stream back."""
        self.streams -= 1
