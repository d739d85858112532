"""One HTTP request from inside an event loop, with everything of its answer."""

from __future__ import annotations

import asyncio
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

# More than a test keeps waiting at a time; the loop's own pool has as few as the machine has cores.
_THREADS = ThreadPoolExecutor(max_workers=32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


async def request(
    address: tuple[str, int],
    method: str,
    path: str,
    body: bytes | object = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Send a request; a body that is not bytes goes as JSON."""

    def send() -> Response:
        connection = http.client.HTTPConnection(*address, timeout=10)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Response(status=response.status, headers=found, body=response.read())
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(_THREADS, send)
