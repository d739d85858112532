"""
Path templates as OpenAPI has paths: a parameter is one segment there, whole, and tools write a slash in it as `%2F`.

So `/v1/{name=shelves/*}` is written `/v1/shelves/{name}`, each wildcard a parameter of its own. Paths that differ in the
names of their parameters alone are one path to OpenAPI, whose names are then those of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from flagledger.transcoding.template import DEEP_STAR, PathTemplate, Variable

# What a segment may hold as it is: a colon in it would begin a verb, and a star be a wildcard.
_AS_IT_IS: Final = "-._~!$&'()+,;=@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wildcard:
    """
    One wildcard of a template.

    Attributes:
        name: What a parameter for it is called, where nothing else is.
        field_path: Of the field that it sets, or a part of it; None where nothing is captured.
        whole: Whether it alone is the value of that field.
        pattern: What is captured for that field, `shelves/*`; empty where it is the wildcard alone.
        deep: Whether it takes any number of segments.
    """

    name: str
    field_path: str | None
    whole: bool
    pattern: str
    deep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenApiPath:
    """
    A template as OpenAPI has it.

    Attributes:
        shape: With a `{}` for each wildcard: the same for templates that are one path there.
        wildcards: In their order.
    """

    shape: str
    wildcards: tuple[Wildcard, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the parameters are called where this template names them."""
        return tuple(wildcard.name for wildcard in self.wildcards)

    @property
    def deep(self) -> bool:
        """Whether it answers for more than its path says: any number of segments at its end."""
        return any(wildcard.deep for wildcard in self.wildcards)

    def text(self, names: tuple[str, ...]) -> str:
        """Return the path with its parameters called by *names*."""
        pieces = self.shape.split("{}")
        named = "".join(f"{piece}{{{name}}}" for piece, name in zip(pieces, names, strict=False))
        return named + pieces[-1]


def openapi_path(template: PathTemplate) -> OpenApiPath:
    """Return *template* as OpenAPI has it."""
    segments = []
    wildcards: list[Wildcard] = []
    used: set[str] = set()
    for at, segment in enumerate(template.segments):
        if not segment.wildcard:
            segments.append(quote(segment.text, safe=_AS_IT_IS))
            continue
        segments.append("{}")
        variable = next((each for each in template.variables if _covers(each, at)), None)
        wildcards.append(_wildcard(template, variable, used, deep=segment.text == DEEP_STAR))
    verb = "" if template.verb is None else f":{quote(template.verb, safe=_AS_IT_IS)}"
    return OpenApiPath(shape="/" + "/".join(segments) + verb, wildcards=tuple(wildcards))


def _covers(variable: Variable, at: int) -> bool:
    return variable.start <= at and (variable.end is None or at < variable.end)


def _wildcard(template: PathTemplate, variable: Variable | None, used: set[str], *, deep: bool) -> Wildcard:
    # Without dots: tools take what is behind one for an attribute.
    base = "segment" if variable is None else variable.field_path.replace(".", "_")
    name, at = base, 1
    while name in used:
        at += 1
        name = f"{base}_{at}"
    used.add(name)
    if variable is None:
        return Wildcard(name=name, field_path=None, whole=False, pattern="", deep=deep)
    captured = template.segments[variable.start : variable.end]
    whole = len(captured) == 1
    pattern = "" if whole else "/".join(segment.text for segment in captured)
    return Wildcard(name=name, field_path=variable.field_path, whole=whole, pattern=pattern, deep=deep)
