"""A client that sends its body piece by piece and hears the answer as it comes, without a server."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from transcoding.kitchen import Answer

SECONDS = 10


class Conversation:
    """
    One request, as long as its body and its answer last.

    Attributes:
        taken: How many pieces of the body the application has asked for.
        is_whole: Whether the answer was ended.
    """

    def __init__(self, app: Any, target: str, headers: dict[str, str] | None = None, method: str = "POST") -> None:
        path, _, query = target.partition("?")
        self._app = app
        self._scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (b"transfer-encoding", b"chunked"),
                *((name.encode(), value.encode()) for name, value in (headers or {}).items()),
            ],
            "client": ("127.0.0.1", 50312),
        }
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._start: dict[str, Any] = {}
        self._pieces: list[bytes] = []
        self.taken = 0
        self.is_whole = False

    async def __aenter__(self) -> Self:
        """Make the request."""
        self._task = asyncio.create_task(self._app(self._scope, self._receive, self._send))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave, where the application has not ended before."""
        assert self._task is not None
        self.leave()
        await asyncio.wait([self._task], timeout=SECONDS)
        assert self._task.done()

    async def _receive(self) -> dict[str, Any]:
        message = await self._said.get()
        if message["type"] == "http.disconnect":
            self.leave()
        else:
            self.taken += 1
        return message

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._pieces.append(message.get("body", b""))
            self.is_whole = not message.get("more_body", False)
        self._heard.put_nowait(message)

    def say(self, *pieces: bytes, last: bool = False) -> None:
        """Send pieces of the body; it ends with the *last*."""
        for at, piece in enumerate(pieces, 1):
            self._said.put_nowait({"type": "http.request", "body": piece, "more_body": not last or at < len(pieces)})

    def finish(self) -> None:
        """End the body."""
        self.say(b"", last=True)

    def leave(self) -> None:
        """Close the connection."""
        self._said.put_nowait({"type": "http.disconnect"})

    async def hear(self) -> bytes:
        """Return the next piece of the answer that is not empty."""
        async with asyncio.timeout(SECONDS):
            while True:
                message = await self._heard.get()
                if message.get("body"):
                    return bytes(message["body"])

    async def answer(self) -> Answer:
        """Return what came back, once the application has ended."""
        assert self._task is not None
        async with asyncio.timeout(SECONDS):
            await asyncio.shield(self._task)
        return Answer(
            status=self._start["status"],
            headers={name.decode(): value.decode() for name, value in self._start["headers"]},
            body=b"".join(self._pieces),
        )


async def exchange(
    app: Any, method: str, target: str, body: bytes | list[bytes] = b"", headers: dict[str, str] | None = None
) -> Answer:
    """Send one request, a list in pieces, and return the answer; the client stays for it, however long it takes."""
    async with Conversation(app, target, headers, method) as conversation:
        conversation.say(*([body] if isinstance(body, bytes) else body), last=True)
        return await conversation.answer()
