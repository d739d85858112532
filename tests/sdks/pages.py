"""Pages that a test writes, and the JavaScript SDKs beside them, from an origin of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_PAGE = """<!doctype html>
<title>An application</title>
<link rel="icon" href="data:,">
<script type="importmap">{{"imports": {{
  "@flagsmith/flagsmith": "/node_modules/@flagsmith/flagsmith/index.mjs",
  "flagsmith": "/node_modules/flagsmith/index.mjs"
}}}}</script>
<script type="module">
{script}
window.done = true;
</script>
"""


@dataclass
class Pages:
    """
    The pages.

    Attributes:
        url: Their origin.
        scripts: The module that runs in a page, by the page's path.
        installed: Folder that holds `node_modules`.
    """

    url: str = ""
    scripts: dict[str, str] = field(default_factory=dict)
    installed: Path | None = None

    @property
    def url_by_name(self) -> str:
        """The same server under another name, which to a browser is another origin."""
        return self.url.replace("127.0.0.1", "localhost")

    def content(self, path: str) -> tuple[str, bytes] | None:
        """Return type and content of what is at *path*; None for nothing."""
        if path in self.scripts:
            return "text/html; charset=utf-8", _PAGE.format(script=self.scripts[path]).encode()
        if self.installed is not None and path.startswith("/node_modules/") and ".." not in path:
            file = self.installed / path[1:]
            if file.is_file():
                return "text/javascript; charset=utf-8", file.read_bytes()
        return None


@contextlib.contextmanager
def pages() -> Iterator[Pages]:
    """Serve pages on a free port of this machine."""
    served = Pages()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content_type, content = served.content(self.path) or ("text/plain", b"")
            self.send_response(200 if content else 404)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
