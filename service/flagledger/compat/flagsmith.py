"""
The routes of a Flagsmith that its SDKs report to, as thin adapters onto `EvaluationServicer`.

Each is served with and without its last slash and never redirects: a client that follows a redirect makes a GET of its POST.
Whether a key is valid is asked first of all, even before the method; what each of these clients is told is what the service would
have told it that it was made for. Limits, the budget of bytes and calls, and the metrics are those of every call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from google.rpc import code_pb2

from flagledger.catalog.base import Grant
from flagledger.compat import body as bodies_of_calls
from flagledger.compat.answers import API, EVENTS, Answer, Dialect, RefusedError
from flagledger.compat.call import Call, Reading
from flagledger.compat.events import BATCHED, EVENT, read_events
from flagledger.compat.flags import read_counts, read_evaluations
from flagledger.compat.resent import batch_id
from flagledger.errors import FlagledgerError, Reason
from flagledger.ingest.limits import Limits
from flagledger.ingest.servicer import EvaluationServicer
from flagledger.telemetry.logging import get_logger
from flagledger.transcoding import ByteBudget
from flagledger.transcoding import body as bodies

Scope = MutableMapping[str, Any]
App = Callable[[Scope, bodies.Receive, bodies.Send], Awaitable[None]]

_ALLOW: Final = (b"allow", b"POST, OPTIONS")
_CLOSE: Final = (b"connection", b"close")
_NO_CONTENT: Final = 204


class Calls(Protocol):
    """What bounds the calls that are worked on."""

    def enter(self) -> None:
        """Take a call, or raise `FlagledgerError`."""

    def leave(self) -> None:
        """Give a call back."""


class Metrics(Protocol):
    """What these routes count, beside what the servicer counts."""

    def call(self, protocol: str, method: str, code: int, seconds: float) -> None:
        """Count a call."""

    def refused(self, reason: Reason) -> None:
        """Count a call that was refused before the servicer."""

    def refused_by_http(self, status: int) -> None:
        """Count a request that HTTP itself refused with *status*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderSdks:
    """
    What is done with what older SDKs send.

    Attributes:
        servicer: Records it.
        limits: As the servicer has them.
        secret: That identities are hashed with.
        recognise_resends: Whether a body that comes again is recorded once, where its evaluations carry time and identity.
        clock: Epoch seconds of the server.
    """

    servicer: EvaluationServicer
    limits: Limits
    secret: bytes = field(default=b"", repr=False)
    recognise_resends: bool = True
    clock: Callable[[], float] = time.time


class _Read(Protocol):
    """Reads a body; raises `RefusedError` or `FlagledgerError`."""

    def __call__(self, body: bytes, content_type: str, *, limits: Limits, now: float) -> Reading: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """One route: its name in metrics, the words of its answers, and how its bodies are read."""

    name: str
    dialect: Dialect
    read: _Read


_ROUTES: Final = {
    "/api/v1/analytics/flags": _Route(name="compat.flags_v1", dialect=API, read=read_counts),
    "/api/v2/analytics/flags": _Route(name="compat.flags_v2", dialect=API, read=read_evaluations),
    "/v1/events": _Route(name="compat.events", dialect=EVENTS, read=partial(read_events, protocol=EVENT)),
    "/v1/analytics/batch": _Route(name="compat.batch", dialect=EVENTS, read=partial(read_events, protocol=BATCHED)),
}
_BY_PATH: Final = {path + slash: route for path, route in _ROUTES.items() for slash in ("", "/")}


class FlagsmithRoutes:
    """
    An ASGI application that answers these routes itself and leaves all else to another.

    Args:
        others: That other.
        older: What is done with what arrives.
        max_body_bytes: Limit of a body, after decompression too.
        calls: The budget of calls, shared with every other way in.
        byte_budget: That of bytes.
        metrics: Where calls are counted.
    """

    def __init__(
        self,
        others: App,
        older: OlderSdks,
        *,
        max_body_bytes: int,
        calls: Calls,
        byte_budget: ByteBudget,
        metrics: Metrics,
    ) -> None:
        self._others = others
        self._older = older
        self._max_body_bytes = max_body_bytes
        self._calls = calls
        self._byte_budget = byte_budget
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: bodies.Receive, send: bodies.Send) -> None:
        """Serve one ASGI scope."""
        route = _BY_PATH.get(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._others(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        code: int = code_pb2.CANCELLED
        unread = False
        try:
            answer = await self._call(route, scope, headers, receive)
            code = answer.code
        except bodies.ClientGoneError:
            return
        except RefusedError as refusal:
            answer, unread = refusal.answer, refusal.body_unread
            code = answer.code
            self._count(refusal)
        finally:
            self._metrics.call("http", route.name, code, time.perf_counter() - started)
        await _send(scope, headers, answer, receive, send, unread=unread)

    async def _call(
        self, route: _Route, scope: Scope, headers: Mapping[bytes, bytes], receive: bodies.Receive
    ) -> Answer:
        """Carry one call out; raises `RefusedError` for every refusal, and `ClientGoneError`."""
        call = Call(scope["headers"])
        try:
            self._calls.enter()
        except FlagledgerError as error:
            answer = route.dialect.refusal(error, has_key=call.has_key)
            raise RefusedError(answer, body_unread=True, reason=error.reason) from None
        reservation = bodies.Reservation(self._byte_budget)
        try:
            grant = await self._authenticate(route, call)
            if scope["method"] != "POST":
                return _other_method(route, scope["method"])
            body = await self._body(route, call, headers, receive, reservation)
            content_type = headers.get(b"content-type", b"").decode("latin-1").strip()
            return await self._record(self._read(route, call, body, content_type), route, call, grant)
        except (RefusedError, bodies.ClientGoneError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever it was, the client is told no more than that
            get_logger().error("a call failed", exc_info=error, route=route.name)
            sentence = "The server failed; its log says why."
            raise RefusedError(route.dialect.say(500, sentence, code=code_pb2.INTERNAL)) from None
        finally:
            reservation.release()
            self._calls.leave()

    async def _authenticate(self, route: _Route, call: Call) -> Grant:
        try:
            return await self._older.servicer.authenticate(call)
        except FlagledgerError as error:
            raise RefusedError(route.dialect.refusal(error, has_key=call.has_key), body_unread=True) from None

    async def _body(
        self,
        route: _Route,
        call: Call,
        headers: Mapping[bytes, bytes],
        receive: bodies.Receive,
        reservation: bodies.Reservation,
    ) -> bytes:
        try:
            return await bodies_of_calls.read(
                receive, headers, route.dialect, max_bytes=self._max_body_bytes, reservation=reservation
            )
        except FlagledgerError as error:
            # The budget's, which counts it.
            raise RefusedError(route.dialect.refusal(error, has_key=call.has_key), body_unread=True) from None

    def _read(self, route: _Route, call: Call, body: bytes, content_type: str) -> Reading:
        try:
            return route.read(body, content_type, limits=self._older.limits, now=self._older.clock())
        except FlagledgerError as error:
            raise RefusedError(route.dialect.refusal(error, has_key=call.has_key), reason=error.reason) from None

    async def _record(self, reading: Reading, route: _Route, call: Call, grant: Grant) -> Answer:
        older = self._older
        if reading.identified and older.recognise_resends:
            secret = older.secret if grant.environment.policy.hides else b""
            reading.batch.batch_id = batch_id(reading.batch, secret)
        call.element_errors = reading.errors
        try:
            await self._keep(reading, call)
        except FlagledgerError as error:
            raise RefusedError(route.dialect.refusal(error, has_key=call.has_key)) from None
        return reading.answer

    async def _keep(self, reading: Reading, call: Call) -> None:
        """Return once what is admitted is on disk, which may be nothing: the answer says so where this protocol can say it."""
        try:
            await self._older.servicer.record_of_older_sdk(reading.batch, call, foreign_events=reading.foreign_events)
        except FlagledgerError as error:
            # The same evaluations with other faults beside them: what can be kept has been.
            if error.reason is not Reason.BATCH_ID_REUSED:
                raise

    def _count(self, refusal: RefusedError) -> None:
        if refusal.by_http:
            self._metrics.refused_by_http(refusal.answer.http_status)
        elif refusal.reason is not None:
            self._metrics.refused(refusal.reason)


def _other_method(route: _Route, method: str) -> Answer:
    if method == "OPTIONS":
        return Answer(http_status=200, headers=(_ALLOW,))
    sentence = route.dialect.method_not_allowed.format(method)
    answer = route.dialect.say(405, sentence, code=code_pb2.UNIMPLEMENTED, headers=(_ALLOW,))
    raise RefusedError(answer, body_unread=True, by_http=True)


async def _send(
    scope: Scope,
    headers: Mapping[bytes, bytes],
    answer: Answer,
    receive: bodies.Receive,
    send: bodies.Send,
    *,
    unread: bool,
) -> None:
    found = [*answer.headers]
    if answer.content_type:
        found.append((b"content-type", answer.content_type))
    if answer.http_status != _NO_CONTENT:
        found.append((b"content-length", b"%d" % len(answer.body)))
    unread = unread and bodies_of_calls.may_be_large(headers)
    if unread and scope.get("http_version", "1.1").startswith("1"):
        found.append(_CLOSE)
    await send({"type": "http.response.start", "status": answer.http_status, "headers": found})
    content = b"" if scope["method"] == "HEAD" else answer.body
    if unread:
        # The answer goes out whole; a connection that closes on unread bytes would take it back.
        await send({"type": "http.response.body", "body": content, "more_body": True})
        await bodies.drain(receive)
        content = b""
    await send({"type": "http.response.body", "body": content})
