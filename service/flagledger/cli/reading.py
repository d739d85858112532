"""What the commands ask a server, over its REST API. Standard library only."""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from flagledger.cli.refusals import UNKNOWN_ENVIRONMENT, read_refusal

Query = Mapping[str, str | Sequence[str]]
"""Fields of a request by name; a repeated one holds several texts."""

ENVIRONMENTS_PATH: Final = "/api/v2/analytics/environments"
INTAKE_PATH: Final = "/api/v2/analytics/intake"
EXPORT_PATH: Final = "/api/v2/analytics/export"
IDENTITIES_PATH: Final = "/api/v2/analytics/identities"
LAST_POSITION_HEADER: Final = "X-Last-Position"

_TIMEOUT_SECONDS: Final = 60.0
# Erasing reads everything, and waits for what was sent before.
_ERASING_SECONDS: Final = 600.0
_PIECE_BYTES: Final = 256 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_NAMES_SHOWN: Final = 20
_NOT_UTF_8: Final = "What was given cannot be asked for: it is not UTF-8."
_TOKEN: Final = re.compile(r"[!-~]{1,512}")


class ReadingError(Exception):
    """
    A question that got no answer. Its text is for people, and free of control characters.

    Args:
        text: What went wrong.
        status: HTTP status, where the server refused.
    """

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """
    A token that may read.

    Attributes:
        text: The token itself.
        origin: Where it comes from, for people.

    Raises:
        ValueError: It cannot be one.
    """

    text: str = field(repr=False)
    origin: str

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.text):
            raise ValueError("a token is made of visible ASCII characters, 512 at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """
    A question that is answered with rows.

    Attributes:
        path: Where it is asked.
        field: Field of the answer that holds the rows.
        max_page_size: Rows that a page may hold; None where the answer is one page.
    """

    path: str
    field: str
    max_page_size: int | None = None


FEATURES: Final = Listing(path="/api/v2/analytics/features", field="features", max_page_size=10_000)
COUNTS: Final = Listing(path="/api/v2/analytics/counts", field="series")
EVALUATIONS: Final = Listing(path="/api/v2/analytics/evaluations", field="evaluations", max_page_size=1_000)
EXPOSURES: Final = Listing(path="/api/v2/analytics/exposures", field="exposures", max_page_size=10_000)
UNKNOWN_FEATURES: Final = Listing(path="/api/v2/analytics/unknown-features", field="unknown_features")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    One page, or several of them put together.

    Attributes:
        rows: What was asked for, in the order of the server.
        more: Whether there are more behind it.
        whole: The message of the first page, for what stands beside the rows.
    """

    rows: list[dict[str, Any]]
    more: bool
    whole: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """
    An export that has begun.

    Attributes:
        last_position: Position up to which it goes.
        pieces: The file, piece by piece. Reading on raises ReadingError where it breaks off: it was received whole only
            once this has come to its end.
    """

    last_position: int
    pieces: Iterator[bytes]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a redirect would carry the token to another server."""

    def redirect_request(self, *_args: Any, **_options: Any) -> None:
        return None


class Reader:
    """
    Asks one server.

    Args:
        url: Where it is: http or https, host, and the path it is served under, if any.
        token: A token that may read.

    Raises:
        ValueError: The URL cannot be one.
    """

    def __init__(self, url: str, token: Token) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("it must be a URL such as http://127.0.0.1:8080")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("it must hold a host and at most a path: no user, query or fragment")
        _ = parts.port  # a ValueError here names the port
        self.url = url.rstrip("/")
        self._token = token
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if _is_loopback(parts.hostname):
            # A proxy cannot reach it, and must not see the token.
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def pages(self, listing: Listing, query: Query, limit: int | None = None) -> Iterator[Answer]:
        """
        Yield the pages of a listing, of *limit* rows in all; every row where it is None.

        Raises:
            ReadingError: There is no answer.
        """
        left = limit
        page_token = ""
        while True:
            asked = dict(query)
            if listing.max_page_size is not None and left is not None:
                asked["page_size"] = str(min(left, listing.max_page_size))
            if page_token:
                asked["page_token"] = page_token
            answer = self._ask(listing.path, asked)
            rows = _rows(answer, listing.field, self.url)
            next_token = answer.get("next_page_token") or ""
            kept = rows[:left]
            left = None if left is None else left - len(kept)
            yield Answer(rows=kept, more=bool(next_token) or len(kept) < len(rows), whole=answer)
            if not next_token or left == 0:
                return
            if next_token == page_token:
                raise ReadingError(f"{self.url} answers with the same page again and again.")
            page_token = next_token

    def intake(self, query: Query) -> dict[str, Any]:
        """
        Return the answer of GetIntake.

        Raises:
            ReadingError: There is none.
        """
        return self._ask(INTAKE_PATH, query)

    def delete_identity(self, identifier: str, query: Query) -> dict[str, Any]:
        """
        Erase an identity, and return the answer of DeleteIdentity.

        Raises:
            ReadingError: There is none. It may have been erased all the same where the connection broke off.
        """
        return self._ask(f"{IDENTITIES_PATH}/{_segment(identifier)}", query, method="DELETE")

    @contextmanager
    def export(self, query: Query) -> Iterator[Download]:
        """
        Begin an export.

        Raises:
            ReadingError: There is no answer.
        """
        with self._answer(EXPORT_PATH, query, accept="*/*") as answer:
            position = answer.headers.get(LAST_POSITION_HEADER, "")
            # An answer that neither says how long it is nor comes in chunks ends wherever the connection does.
            bounded = answer.chunked or answer.length is not None
            if not (position.isascii() and position.isdigit() and bounded):
                raise ReadingError(f"{self.url} answered with something else than an export. Is that Flagledger?")
            yield Download(last_position=int(position), pieces=self._pieces(answer))

    def _pieces(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        expected = answer.length
        received = 0
        with self._sentences():
            while piece := answer.read1(_PIECE_BYTES):
                received += len(piece)
                yield piece
            # Where the length was given, http.client takes an early end for the end.
            if expected is not None and received != expected:
                raise http.client.HTTPException(f"{received:,} of {expected:,} bytes came")

    def _ask(self, path: str, query: Query, *, method: str = "GET") -> dict[str, Any]:
        with self._answer(path, query, method=method) as answer, self._sentences():
            content = answer.read()
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ReadingError(f"{self.url} answered with something else than JSON. Is that Flagledger?")
        return value

    @contextmanager
    def _answer(
        self, path: str, query: Query, *, method: str = "GET", accept: str = "application/json"
    ) -> Iterator[http.client.HTTPResponse]:
        request = urllib.request.Request(  # noqa: S310 - the constructor has checked the scheme
            f"{self.url}{path}{_parameters(query)}",
            headers={"Authorization": f"Bearer {self._token.text}", "Accept": accept},
            method=method,
        )
        with self._sentences():
            try:
                answer = self._opener.open(
                    request, timeout=_ERASING_SECONDS if method == "DELETE" else _TIMEOUT_SECONDS
                )
            except urllib.error.HTTPError as error:
                with error:
                    raise ReadingError(self._refusal(error, query), status=error.code) from None
        with answer:
            yield answer

    def _refusal(self, error: urllib.error.HTTPError, query: Query) -> str:
        """Return what the server answered *query* with, and what helps."""
        try:
            refusal = read_refusal(error.read(_MAX_ERROR_BYTES))
        except (OSError, http.client.HTTPException):
            refusal = None
        if refusal is None:
            return f"{self.url} answered {error.code} {visible(str(error.reason))}. Is that Flagledger?"
        if error.code == http.HTTPStatus.UNAUTHORIZED:
            return f"The server does not know this token. It comes from {visible(self._token.origin)}."
        lines = refusal.sentences(query)
        if refusal.reason == UNKNOWN_ENVIRONMENT:
            lines += self._environments()
        delay = error.headers.get("Retry-After")
        if delay is not None and delay.isascii() and delay.isdigit():
            lines.append(f"Try again in {delay} s.")
        return "\n".join(visible(line) for line in lines)

    def _environments(self) -> list[str]:
        """Return a sentence that names the environments that can be asked about; none where they are not known."""
        try:
            answer = self._ask(ENVIRONMENTS_PATH, {})
            names = [str(row.get("name")) for row in _rows(answer, "environments", self.url)]
        except ReadingError:
            return []
        shown = ", ".join(names[:_MAX_NAMES_SHOWN]) + (", …" if len(names) > _MAX_NAMES_SHOWN else "")
        return [f"The token reaches: {shown}."] if names else []

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn whatever goes wrong on the way into a ReadingError."""
        try:
            yield
        except TimeoutError:
            raise ReadingError(f"{self.url} did not answer in time.") from None
        except urllib.error.URLError as error:
            raise ReadingError(_unreachable(self.url, error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise ReadingError(f"{self.url} broke off its answer: {visible(str(error))}.") from None


def joined(pages: Iterator[Answer]) -> Answer:
    """
    Return *pages*, of which there is at least one, as one answer.

    Raises:
        ReadingError: One of them did not come.
    """
    first = next(pages)
    rows = list(first.rows)
    more = first.more
    for page in pages:
        rows += page.rows
        more = page.more
    return Answer(rows=rows, more=more, whole=first.whole)


def checks(answer: Answer) -> list[dict[str, Any]]:
    """Return the messages SampleRatioCheck that stand beside exposures; none where there is no list of them."""
    found = answer.whole.get("checks")
    return [check for check in found if isinstance(check, dict)] if isinstance(found, list) else []


def visible(text: str) -> str:
    """Return *text* with every control, format and other unprintable character written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _parameters(query: Query) -> str:
    try:
        return f"?{urlencode(query, doseq=True)}" if query else ""
    except UnicodeEncodeError:
        raise ReadingError(_NOT_UTF_8) from None


def _segment(text: str) -> str:
    """Return *text* as one segment of a path."""
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise ReadingError(_NOT_UTF_8) from None


def _rows(answer: dict[str, Any], field: str, url: str) -> list[dict[str, Any]]:
    rows = answer.get(field, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ReadingError(f"{url} answered with something else than a list of {field}. Is that Flagledger?")
    return rows


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unreachable(url: str, reason: Any) -> str:
    if isinstance(reason, TimeoutError):
        return f"{url} did not answer in time."
    why = visible(getattr(reason, "strerror", None) or str(reason))
    return f"There is no server at {url} ({why}). Start one with `flagledger serve`, or name another with --url."
