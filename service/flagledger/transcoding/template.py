"""
Path templates of google.api.http, parsed strictly.

```text
Template  = "/" Segments [ Verb ] ;
Segments  = Segment { "/" Segment } ;
Segment   = "*" | "**" | LITERAL | Variable ;
Variable  = "{" FieldPath [ "=" Segments ] "}" ;
FieldPath = IDENT { "." IDENT } ;
Verb      = ":" LITERAL ;
```

What the grammar leaves open is decided here: a LITERAL is one or more characters that RFC 3986 allows in a path
segment, without `*` and `:` unless percent-encoded; `**` stands last, apart from a verb; variables neither nest nor
repeat; a trailing slash is not a template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import unquote

_LITERAL: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=@]|%[0-9A-Fa-f]{2})+")
_IDENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

STAR: Final = "*"
DEEP_STAR: Final = "**"


class TemplateError(ValueError):
    """
    A path template that cannot be used.

    Args:
        message: A sentence that says what is wrong.
        column: Where, counted from 1; length + 1 at the end of the text.
    """

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"column {column}: {message}")
        self.message = message
        self.column = column


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """
    One segment: a wildcard (`*`, `**`) or a literal.

    `text` of a literal is percent-decoded; `wildcard` tells a literal `%2A` from a wildcard.
    """

    text: str
    wildcard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable: its field path, and the segments `[start, end)` that it captures; `end` is None where they end in `**`."""

    field_path: str
    start: int
    end: int | None

    @property
    def multi(self) -> bool:
        """Whether it may capture more than one segment, and so keeps `%2F` as it came."""
        return self.end is None or self.end - self.start > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTemplate:
    """A parsed template."""

    text: str
    segments: tuple[Segment, ...]
    variables: tuple[Variable, ...]
    verb: str | None

    @classmethod
    def parse(cls, text: str) -> PathTemplate:
        """
        Return the template that *text* spells.

        Raises:
            TemplateError: It is not a template; the column says where.
        """
        return _Parser(text).template()

    @property
    def literal_path(self) -> str | None:
        """The one path that this template matches as it is spelled, or None where it has wildcards, a verb or escapes."""
        if self.verb is not None or "%" in self.text or any(segment.wildcard for segment in self.segments):
            return None
        return self.text


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.segments: list[Segment] = []
        self.variables: list[Variable] = []
        self.deep_at: int | None = None

    def template(self) -> PathTemplate:
        if not self._take("/"):
            self._fail("a template starts with '/'")
        self._list_segments(inside_variable=False)
        verb = None
        if self._take(":"):
            verb = self._literal("a verb")
        if self.at < len(self.text):
            self._fail(f"unexpected {self.text[self.at]!r}")
        return PathTemplate(text=self.text, segments=tuple(self.segments), variables=tuple(self.variables), verb=verb)

    def _list_segments(self, *, inside_variable: bool) -> None:
        self._segment(inside_variable=inside_variable)
        while self._take("/"):
            self._segment(inside_variable=inside_variable)

    def _segment(self, *, inside_variable: bool) -> None:
        if self.deep_at is not None:
            self._fail("'**' has to be the last segment", self.deep_at)
        if self._peek("{"):
            if inside_variable:
                self._fail("a variable cannot stand inside another")
            self._variable()
            return
        start = self.at
        if self._take("**"):
            self.deep_at = start
            self.segments.append(Segment(text=DEEP_STAR, wildcard=True))
        elif self._take("*"):
            self.segments.append(Segment(text=STAR, wildcard=True))
        else:
            self.segments.append(Segment(text=self._literal("a segment")))
            return
        if self.at < len(self.text) and self.text[self.at] not in "/:}":
            self._fail(f"unexpected {self.text[self.at]!r} after a wildcard")

    def _variable(self) -> None:
        self.at += 1
        path_at = self.at
        names = [self._ident()]
        while self._take("."):
            names.append(self._ident())
        field_path = ".".join(names)
        for other in self.variables:
            if other.field_path == field_path:
                self._fail(f"the variable '{field_path}' is there twice", path_at)
        start = len(self.segments)
        if self._take("="):
            self._list_segments(inside_variable=True)
        else:
            self.segments.append(Segment(text=STAR, wildcard=True))
        if not self._take("}"):
            self._fail("a variable ends with '}'")
        end = None if self.deep_at is not None else len(self.segments)
        self.variables.append(Variable(field_path=field_path, start=start, end=end))
        if self.at < len(self.text) and self.text[self.at] not in "/:":
            self._fail(f"unexpected {self.text[self.at]!r} after a variable")

    def _literal(self, what: str) -> str:
        match = _LITERAL.match(self.text, self.at)
        if match is None:
            if self._peek("%"):
                self._fail("'%' starts an escape of two hexadecimal digits")
            self._fail(
                f"{what} is missing here" if self._ended() else f"{what} cannot start with {self.text[self.at]!r}"
            )
        start = self.at
        self.at = match.end()
        try:
            return unquote(match.group(), errors="strict")
        except UnicodeDecodeError:
            self._fail("the escapes are not UTF-8", start)

    def _ended(self) -> bool:
        return self.at >= len(self.text)

    def _ident(self) -> str:
        match = _IDENT.match(self.text, self.at)
        if match is None:
            self._fail("the name of a field is missing here")
        self.at = match.end()
        return match.group()

    def _peek(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def _take(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def _fail(self, message: str, at: int | None = None) -> NoReturn:
        raise TemplateError(message, (self.at if at is None else at) + 1)
