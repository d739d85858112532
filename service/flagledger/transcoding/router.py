"""
From an HTTP method and a raw path to a target.

Routes form a tree of segments. At each segment a literal goes before `*`, and `*` before `**`; where a preferred
branch leads nowhere the next one is tried. A text after the last `:` of the path is first taken as a verb, then as
part of the last segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from flagledger.transcoding.template import DEEP_STAR, PathTemplate, TemplateError

ANY_METHOD: Final = "*"

_MALFORMED_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED_SLASH: Final = re.compile(r"%2[Ff]")


@dataclass(slots=True, kw_only=True)
class Match:
    """What a path was routed to: the target, and the decoded values of its variables by field path."""

    target: Any
    variables: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    template: PathTemplate
    target: Any


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    star: _Node | None = None
    deep: _Node | None = None
    # verb (None: no verb) → HTTP method → route
    routes: dict[str | None, dict[str, _Route]] = field(default_factory=dict)


class Router:
    """
    A table of routes.

    Args:
        fully_decode: Whether what a `**` inside a variable captures is percent-decoded wholly. Otherwise, and everywhere
            else in a variable of several segments, `%2F` stays as it came.

    Example:
        router = Router()
        router.add("GET", "/v1/{name=shelves/*}", "GetShelf")
        router.match("GET", "/v1/shelves/7").variables  # {"name": "shelves/7"}
    """

    def __init__(self, *, fully_decode: bool = False) -> None:
        self._fully_decode = fully_decode
        self._root = _Node()
        # Literal paths are looked up as they came, without being taken apart.
        self._exact: dict[str, dict[str, Match]] = {}

    def add(self, http_method: str, template_text: str, target: Any) -> PathTemplate:
        """
        Add a route, and return its template; the method `*` stands for any that has no route of its own.

        Raises:
            TemplateError: The text is not a template, or another route answers to exactly the same paths.
        """
        template = PathTemplate.parse(template_text)
        node = self._root
        for segment in template.segments:
            if not segment.wildcard:
                node = node.literals.setdefault(segment.text, _Node())
            elif segment.text == DEEP_STAR:
                node.deep = node.deep or _Node()
                node = node.deep
            else:
                node.star = node.star or _Node()
                node = node.star
        methods = node.routes.setdefault(template.verb, {})
        if http_method in methods:
            taken = methods[http_method].template.text
            raise TemplateError(f"{http_method} {template_text} answers to the same paths as {http_method} {taken}", 1)
        methods[http_method] = _Route(template=template, target=target)
        if template.literal_path is not None:
            exact = self._exact.setdefault(template.literal_path, {})
            exact[http_method] = Match(target=target, variables={})
        return template

    def match(self, http_method: str, raw_path: str) -> Match | None:
        """
        Return the route of a path, or None where there is none for this method.

        Args:
            http_method: In capitals.
            raw_path: The path as it came, percent-encoded, without a query. Trailing slashes do not count.
        """
        exact = self._exact.get(raw_path) or self._exact.get(raw_path.rstrip("/"))
        if exact is not None:
            found = exact.get(http_method) or exact.get(ANY_METHOD)
            if found is not None:
                # A copy, since variables belong to the caller.
                return Match(target=found.target, variables={})
        for methods, raw in self._candidates(raw_path):
            route = methods.get(http_method) or methods.get(ANY_METHOD)
            if route is None:
                continue
            variables = _capture(route.template, raw, fully_decode=self._fully_decode)
            if variables is not None:
                return Match(target=route.target, variables=variables)
        return None

    def methods(self, raw_path: str) -> frozenset[str]:
        """Return the HTTP methods that have a route for a path; `*` among them means any, and none means an unknown path."""
        found: set[str] = set()
        for methods, raw in self._candidates(raw_path):
            for http_method, route in methods.items():
                # Escapes that are no UTF-8 match nothing.
                if _capture(route.template, raw, fully_decode=self._fully_decode) is not None:
                    found.add(http_method)
        return frozenset(found)

    def _candidates(self, raw_path: str) -> Iterator[tuple[dict[str, _Route], list[str]]]:
        """Yield the route tables that a path reaches, the preferred first, each with the raw segments without the verb."""
        if not raw_path.startswith("/") or ("%" in raw_path and _MALFORMED_ESCAPE.search(raw_path)):
            return
        stripped = raw_path.rstrip("/")
        raw = stripped[1:].split("/") if stripped else []
        if raw and ":" in raw[-1]:
            last, _, verb = raw[-1].rpartition(":")
            verb_text = _decode(verb)
            if verb_text:
                shortened = [*raw[:-1], last]
                yield from self._walk(shortened, verb_text)
        yield from self._walk(raw, None)

    def _walk(self, raw: list[str], verb: str | None) -> Iterator[tuple[dict[str, _Route], list[str]]]:
        literals = [_decode(segment) for segment in raw]
        # A stack instead of recursion: a path may have thousands of segments. The preferred branch is pushed last.
        stack: list[tuple[_Node, int]] = [(self._root, 0)]
        while stack:
            node, at = stack.pop()
            if at == len(raw):
                if verb in node.routes:
                    yield node.routes[verb], raw
                if node.deep is not None and verb in node.deep.routes:
                    yield node.deep.routes[verb], raw
                continue
            if node.deep is not None and verb in node.deep.routes:
                # '**' is always last, so that it takes whatever is left.
                stack.append((_Node(routes=node.deep.routes), len(raw)))
            if node.star is not None and raw[at]:
                stack.append((node.star, at + 1))
            literal = literals[at]
            if literal is not None and literal in node.literals:
                stack.append((node.literals[literal], at + 1))


def _capture(template: PathTemplate, raw: list[str], *, fully_decode: bool) -> dict[str, str] | None:
    captured: dict[str, str] = {}
    for variable in template.variables:
        if not variable.multi:
            value = _decode(raw[variable.start])
        elif fully_decode and variable.end is None:
            value = _decode_deep(raw[variable.start :], single=len(template.segments) - 1 - variable.start)
        else:
            value = _decode_multi("/".join(raw[variable.start : variable.end]))
        if value is None:
            return None
        captured[variable.field_path] = value
    return captured


def _decode(text: str) -> str | None:
    """Return *text* percent-decoded, or None where the bytes are not UTF-8."""
    if "%" not in text:
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return None


def _decode_deep(raw: list[str], *, single: int) -> str | None:
    """Return segments joined and percent-decoded, apart from escaped slashes in the first *single*, which no `**` took."""
    return _decode("/".join([_keep_slashes("/".join(raw[:single])), *raw[single:]] if single else raw))


def _decode_multi(text: str) -> str | None:
    """Return *text* percent-decoded apart from escaped slashes, which would be taken for separators."""
    return _decode(_keep_slashes(text)) if "%" in text else text


def _keep_slashes(text: str) -> str:
    """Return *text* with escaped slashes escaped once more, so that decoding leaves them as they came."""
    return _ESCAPED_SLASH.sub(lambda match: "%25" + match.group()[1:], text)
