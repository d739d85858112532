"""
A Flagsmith as far as SDKs and catalogs see it: keys, flags, identities and environment documents, over real HTTP.

What it answers, with which status, headers and body, is what a Flagsmith answers; what it knows is set by the test.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Headers = dict[str, str]
Reply = tuple[int, Headers, bytes]

PREFIX = "/api/v1/"
KEY_HEADER = "X-Environment-Key"

_NO_KEY = "Invalid or missing Environment key"
_WRONG_KEY = "Invalid or missing Environment Key"
_STOPPED = "Organisation is disabled from serving flags."
_HTML = b"<!doctype html><title>Flagsmith</title><p>Not what you asked for.</p>"

_CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After", "Vary": "origin"}
_PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "accept, authorization, content-type, user-agent, x-csrftoken, x-requested-with, "
    "X-Environment-Key, X-E2E-Test-Auth-Token, Flagsmith-Application-Name, Flagsmith-Application-Version, "
    "Flagsmith-SDK-User-Agent, sentry-trace",
    "Access-Control-Allow-Methods": "DELETE, GET, OPTIONS, PATCH, POST, PUT",
    "Access-Control-Max-Age": "86400",
    "Vary": "origin",
}


@dataclass
class StubFeature:
    """A feature, and its state in the environment. One that is `server_key_only` is hidden from client keys."""

    name: str
    enabled: bool = True
    value: str | int | bool | None = None
    server_key_only: bool = False
    id: int = 0


@dataclass
class StubEnvironment:
    """An environment. `touch` it after a change of anything but its keys: `Last-Modified` says when that was."""

    client_key: str
    server_keys: list[str] = field(default_factory=list)
    name: str = "Production"
    project: str = "Shop"
    features: dict[str, StubFeature] = field(default_factory=dict)
    hide_disabled_flags: bool = False
    stop_serving_flags: bool = False
    id: int = 0
    # Long ago, so that the first document can be asked for conditionally.
    updated_at: float = field(default_factory=lambda: time.time() - 3600)

    def add(self, *features: StubFeature | str) -> None:
        """Add features; a name alone is an enabled one."""
        for feature in features:
            made = StubFeature(feature) if isinstance(feature, str) else feature
            made.id = made.id or 1000 * (self.id or 1) + len(self.features) + 1
            self.features[made.name] = made
        self.touch()

    def remove(self, name: str) -> None:
        """Remove a feature."""
        del self.features[name]
        self.touch()

    def touch(self) -> None:
        """Count as changed now."""
        self.updated_at = time.time()

    def shown_to(self, key: str) -> list[StubFeature]:
        """Return what `/flags/` shows under *key*."""
        return [
            feature
            for feature in self.features.values()
            if (feature.enabled or not self.hide_disabled_flags)
            and (key.startswith("ser.") or not feature.server_key_only)
        ]


@dataclass
class FlagsmithStub:
    """
    A Flagsmith on a port of this machine. Tests change it while it runs.

    Attributes:
        environments: What there is.
        delay: Seconds that each answer takes.
        broken: What is answered in place of everything else: a status (with JSON), "html" (200), "html 403", "json 403",
            "redirect", "empty document", "takes anything" (an empty list), "not json", "broken off" (half a body), or None
            for the truth.
        broken_paths: Below `/api/v1/`, what `broken` is confined to; empty for everything.
        broken_keys: Keys that `broken` is confined to; empty for all.
        asked: Requests by method and path: `GET /api/v1/flags/`.
        unchanged: Documents that were answered with 304.
        keys: Every key that was shown, by its number of requests.
    """

    environments: list[StubEnvironment] = field(default_factory=list)
    delay: float = 0.0
    broken: int | str | None = None
    broken_paths: tuple[str, ...] = ()
    broken_keys: tuple[str, ...] = ()
    asked: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    port: int = 0
    _server: _Server | None = field(default=None, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    def environment(self, client_key: str, *server_keys: str, features: tuple[StubFeature | str, ...] = ()) -> Any:
        """Add an environment, last changed an hour ago, and return it."""
        made = StubEnvironment(client_key, list(server_keys), id=len(self.environments) + 1)
        made.add(*features)
        made.updated_at -= 3600
        self.environments.append(made)
        return made

    def count(self, path: str, method: str = "GET") -> int:
        """Return how often *path*, below `/api/v1/`, was asked for."""
        return self.asked[f"{method} {PREFIX}{path}"]

    def start(self) -> None:
        """Listen: on a free port first, on the same one later."""
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Vanish as a killed process does: nothing listens, and open connections break off."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.break_off()
        self._server = None

    def reply(self, method: str, target: str, headers: Any, body: bytes) -> Reply:
        """Return what is answered."""
        parts = urlsplit(target)
        if parts.path.startswith(PREFIX) and self._is_broken(parts.path, headers.get(KEY_HEADER)):
            return self._broken_reply(parts.path)
        if not parts.path.startswith(PREFIX) or parts.path.rstrip("/") + "/" not in _ROUTES:
            return 404, {"Content-Type": "text/html; charset=utf-8"}, b"<h1>Not Found</h1>"
        if not parts.path.endswith("/"):
            return 301, {"Location": f"{parts.path}/", "Content-Type": "text/html; charset=utf-8"}, b""
        if method == "OPTIONS":
            return 200, _PREFLIGHT, b""
        return self._answer(method, parts.path, parse_qs(parts.query), headers, body)

    def _answer(self, method: str, path: str, query: dict[str, list[str]], headers: Any, body: bytes) -> Reply:
        key = headers.get(KEY_HEADER) or ""
        needs_server = path == f"{PREFIX}environment-document/"
        if not key or (needs_server and not key.startswith("ser.")):
            return _json({"detail": _NO_KEY}, 403)
        found = next((one for one in self.environments if key in (one.client_key, *one.server_keys)), None)
        if found is None:
            return _json({"detail": _WRONG_KEY}, 403)
        if found.stop_serving_flags:
            return _json({"detail": _STOPPED}, 403)
        if method not in _ROUTES[path]:
            allowed = ", ".join((*_ROUTES[path], "HEAD", "OPTIONS"))
            return _json({"detail": f'Method "{method}" not allowed.'}, 405, {"Allow": allowed})
        if needs_server:
            return self._document(found, headers)
        if path == f"{PREFIX}flags/":
            return _flags(found, key, query)
        return _identity(found, key, query, body if method == "POST" else None)

    def _document(self, environment: StubEnvironment, headers: Any) -> Reply:
        modified = int(environment.updated_at)
        said = {"Last-Modified": formatdate(modified, usegmt=True), **_updated(environment)}
        since = headers.get("If-Modified-Since")
        if since is not None and modified <= parsedate_to_datetime(since).timestamp():
            self.unchanged += 1
            return 304, said, b""
        return _json(document_of(environment), headers=said)

    def _is_broken(self, path: str, key: str | None) -> bool:
        is_meant = not self.broken_paths or path.removeprefix(PREFIX) in self.broken_paths
        return self.broken is not None and is_meant and (not self.broken_keys or key in self.broken_keys)

    def _broken_reply(self, path: str) -> Reply:
        html = {"Content-Type": "text/html; charset=utf-8"}
        match self.broken:
            case "html":
                return 200, html, _HTML
            case "html 403":
                return 403, html, _HTML
            case "json 403":
                return _json({"message": "Forbidden"}, 403)
            case "redirect":
                return 302, {**html, "Location": f"http://127.0.0.1:{self.port}/elsewhere{path}"}, b""
            case "empty document":
                return _json({})
            case "takes anything":
                return _json([])
            case "not json":
                return 200, {"Content-Type": "application/json"}, b'{"api_key": '
            case "broken off":
                return 200, {"Content-Type": "application/json", "Content-Length": "1000"}, b'{"api_key": '
            case int(status):
                return _json({"detail": "It is broken."}, status)
            case other:
                raise AssertionError(other)


_ROUTES = {
    f"{PREFIX}flags/": ("GET",),
    f"{PREFIX}identities/": ("GET", "POST"),
    f"{PREFIX}environment-document/": ("GET",),
}


def document_of(environment: StubEnvironment) -> dict[str, Any]:
    """Return the environment document, as SDKs that evaluate locally take it."""
    return {
        "id": environment.id,
        "api_key": environment.client_key,
        "name": environment.name,
        "updated_at": _moment(environment),
        "hide_disabled_flags": environment.hide_disabled_flags,
        "hide_sensitive_data": False,
        "project": {
            "id": 1,
            "name": environment.project,
            "segments": [],
            "hide_disabled_flags": environment.hide_disabled_flags,
            "enable_realtime_updates": False,
            "server_key_only_feature_ids": [one.id for one in environment.features.values() if one.server_key_only],
            "organisation": {
                "id": 1,
                "name": "Company",
                "feature_analytics": True,
                "stop_serving_flags": environment.stop_serving_flags,
                "persist_trait_data": True,
            },
        },
        "feature_states": [_document_state(feature) for feature in environment.features.values()],
        "identity_overrides": [],
        "segment_overrides": [],
        **{f"{name}_config": None for name in ("amplitude", "dynatrace", "heap", "mixpanel", "segment", "webhook")},
    }


def _document_state(feature: StubFeature) -> dict[str, Any]:
    return {
        "feature": {"id": feature.id, "name": feature.name, "type": "STANDARD"},
        "enabled": feature.enabled,
        "feature_state_value": feature.value,
        "django_id": feature.id,
        "featurestate_uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, str(feature.id))),
        "feature_segment": None,
        "multivariate_feature_state_values": [],
    }


def _flag(environment: StubEnvironment, feature: StubFeature) -> dict[str, Any]:
    return {
        "id": feature.id,
        "feature": {
            "id": feature.id,
            "name": feature.name,
            "created_date": "2026-01-01T00:00:00.000000Z",
            "description": None,
            "initial_value": None,
            "default_enabled": False,
            "type": "STANDARD",
        },
        "feature_state_value": feature.value,
        "environment": environment.id,
        "identity": None,
        "feature_segment": None,
        "enabled": feature.enabled,
    }


def _flags(environment: StubEnvironment, key: str, query: dict[str, list[str]]) -> Reply:
    shown = [_flag(environment, feature) for feature in environment.shown_to(key)]
    if "feature" not in query:
        return _json(shown, headers=_updated(environment))
    named = [flag for flag in shown if flag["feature"]["name"] == query["feature"][0]]
    if not named:
        return _json({"detail": "Given feature not found"}, 404)
    return _json(named[0], headers=_updated(environment))


def _identity(environment: StubEnvironment, key: str, query: dict[str, list[str]], body: bytes | None) -> Reply:
    try:
        asked = {"identifier": query.get("identifier", [""])[0]} if body is None else json.loads(body)
        identifier, traits = asked["identifier"], asked.get("traits") or []
    except (ValueError, KeyError, TypeError, AttributeError):
        return _json({"identifier": ["This field is required."]}, 400)
    flags = [_flag(environment, feature) for feature in environment.shown_to(key)]
    return _json({"identifier": identifier, "flags": flags, "traits": traits}, headers=_updated(environment))


def _updated(environment: StubEnvironment) -> Headers:
    return {"X-Flagsmith-Document-Updated-At": str(environment.updated_at)}


def _moment(environment: StubEnvironment) -> str:
    return datetime.fromtimestamp(environment.updated_at, UTC).isoformat()


def _json(value: Any, status: int = 200, headers: Headers | None = None) -> Reply:
    return status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode()


class _Server(ThreadingHTTPServer):
    """A thread for each connection, none of which keeps the tests from ending."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], stub: FlagsmithStub) -> None:
        self.stub = stub
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client may go when it likes."""

    def break_off(self) -> None:
        """End every connection."""
        for request in list(self.open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        stub = self.server.stub
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        stub.asked[f"{self.command} {urlsplit(self.path).path}"] += 1
        if KEY_HEADER in self.headers:
            stub.keys[self.headers[KEY_HEADER]] += 1
        if stub.delay:
            time.sleep(stub.delay)
        status, headers, content = stub.reply(self.command, self.path, self.headers, body)
        self.send_response(status)
        for name, text in {"Content-Length": str(len(content)), **_CORS, **headers}.items():
            if not (name == "Content-Length" and status == 304):
                self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)
        if headers.get("Content-Length", str(len(content))) != str(len(content)):
            self.close_connection = True

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 - the base class names them

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        pass


@contextlib.contextmanager
def flagsmith_stub() -> Iterator[FlagsmithStub]:
    """Run a Flagsmith that knows nothing yet, on a free port of this machine."""
    stub = FlagsmithStub()
    stub.start()
    try:
        yield stub
    finally:
        stub.stop()
