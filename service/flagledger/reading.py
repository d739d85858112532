"""What the reading commands ask a server, over its REST API. Standard library only."""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

FEATURES_PATH: Final = "/api/v2/analytics/features"
EVALUATIONS_PATH: Final = "/api/v2/analytics/evaluations"
MAX_PAGE_SIZE: Final = 1000

_TIMEOUT_SECONDS: Final = 60.0
_MAX_ERROR_BYTES: Final = 64 * 1024
_TOKEN: Final = re.compile(r"[!-~]{1,512}")


class ReadingError(Exception):
    """A question that got no answer. Its text is for people, and free of control characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of evaluations, the newest first, and whether there are more behind it."""

    evaluations: list[dict[str, Any]]
    more: bool


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
        ValueError: The URL or the token cannot be one.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("it must be a URL such as http://127.0.0.1:8080")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("it must hold a host and at most a path: no user, query or fragment")
        _ = parts.port  # a ValueError here names the port
        if not _TOKEN.fullmatch(token):
            raise ValueError("a token is made of visible ASCII characters")
        self.url = url.rstrip("/")
        self._token = token
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if _is_loopback(parts.hostname):
            # A proxy cannot reach it, and must not see the token.
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def features(self, query: Mapping[str, str]) -> dict[str, Any]:
        """
        Return the answer of ListFeatures.

        Raises:
            ReadingError: There is none.
        """
        return self._get(FEATURES_PATH, query)

    def evaluations(self, query: Mapping[str, str], limit: int) -> Iterator[Page]:
        """
        Yield pages of ListEvaluations, of *limit* evaluations in all.

        Raises:
            ReadingError: There is no answer.
        """
        page_token = ""
        while True:
            asked = {**query, "page_size": str(min(limit, MAX_PAGE_SIZE))}
            if page_token:
                asked["page_token"] = page_token
            answer = self._get(EVALUATIONS_PATH, asked)
            rows = _rows(answer, "evaluations", self.url)
            next_token = answer.get("next_page_token") or ""
            kept = rows[:limit]
            limit -= len(kept)
            yield Page(evaluations=kept, more=bool(next_token) or len(kept) < len(rows))
            if not next_token or limit == 0:
                return
            if next_token == page_token:
                raise ReadingError(f"{self.url} answers with the same page again and again.")
            page_token = next_token

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the constructor has checked the scheme
            f"{self.url}{path}?{urlencode(query)}",
            headers={"Authorization": f"Bearer {self._token}", "Accept": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise ReadingError(_refusal(self.url, error)) from None
        except TimeoutError:
            raise ReadingError(f"{self.url} did not answer within {_TIMEOUT_SECONDS:.0f} s.") from None
        except urllib.error.URLError as error:
            raise ReadingError(_unreachable(self.url, error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise ReadingError(f"{self.url} broke off its answer: {visible(str(error))}.") from None
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ReadingError(f"{self.url} answered with something else than JSON. Is that Flagledger?")
        return value


def visible(text: str) -> str:
    """Return *text* with every control, format and other unprintable character written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _rows(answer: dict[str, Any], field: str, url: str) -> list[dict[str, Any]]:
    rows = answer.get(field, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ReadingError(f"{url} answered with something else than a list of {field}. Is that Flagledger?")
    return rows


def feature_rows(answer: dict[str, Any], url: str) -> list[dict[str, Any]]:
    """
    Return the features of an answer of ListFeatures.

    Raises:
        ReadingError: It holds none because it is no such answer.
    """
    return _rows(answer, "features", url)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unreachable(url: str, reason: Any) -> str:
    if isinstance(reason, TimeoutError):
        return f"{url} did not answer within {_TIMEOUT_SECONDS:.0f} s."
    why = visible(getattr(reason, "strerror", None) or str(reason))
    return f"There is no server at {url} ({why}). Start one with `flagledger serve`, or name another with --url."


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    """Return the sentence that the server answered with, and the fields it named."""
    try:
        status = json.loads(error.read(_MAX_ERROR_BYTES))
        message = status["message"]
        details = status.get("details") or []
        violations = [
            f"  {violation['field']}: {violation['description']}"
            for detail in details
            for violation in detail.get("field_violations") or detail.get("fieldViolations") or []
        ]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        message = None
        violations = []
    if not isinstance(message, str) or not message:
        return f"{url} answered {error.code} {visible(str(error.reason))}. Is that Flagledger?"
    delay = error.headers.get("Retry-After")
    again = [f"Try again in {delay} s."] if delay is not None and delay.isascii() and delay.isdigit() else []
    return "\n".join(visible(line) for line in [message, *violations, *again])
