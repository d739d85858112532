"""What a server says when it refuses, in the words of the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

UNKNOWN_ENVIRONMENT: Final = "ENVIRONMENT_UNKNOWN"
"""The reason of a refusal that other names of environments help with."""

# Field of a request → the option that sets it.
_OPTIONS: Final = {
    "environment": "--environment",
    "feature_name": "--feature",
    "identity_identifier": "--identity",
    "segment_name": "--segment",
    "start_time": "--start",
    "end_time": "--end",
    "page_size": "--limit",
    "value": "--value",
    "variant": "--variant",
    "reason": "--reason",
    "enabled": "--enabled",
    "trait_key": "--trait",
    "trait_value": "--trait",
    "sdk_name": "--sdk",
    "sdk_version": "--sdk",
    "origin": "--origin",
    "bucket": "--bucket",
    "time_zone": "--time-zone",
    "group_by": "--by",
    "series_limit": "--limit",
    "weights": "--weight",
    "format": "--format",
    "after_position": "--after-position",
}
_FIELD: Final = re.compile(r"(\w+)(?:\[([0-9]{1,6})\])?")
# Of a word alone it is not known whether it is a field.
_FIELD_IN_TEXT: Final = re.compile(rf"\b(?:{'|'.join(name for name in _OPTIONS if '_' in name)})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """
    A google.rpc.Status as the API writes it.

    Attributes:
        message: The server's sentence.
        reason: The server's word for it; empty where there is none.
        violations: Fields that were wrong, each with what is wrong with it.
    """

    message: str
    reason: str
    violations: tuple[tuple[str, str], ...]

    def sentences(self, query: Mapping[str, str | Sequence[str]]) -> list[str]:
        """Return the refusal of the request *query*, the options named that its fields were set with."""
        lines = [f"  {_option(field, query)}: {_in_options(text)}" for field, text in self.violations]
        if not lines:
            return [self.message]
        # The server names the fields in its sentence too.
        fields = ", ".join(dict.fromkeys(field for field, _ in self.violations))
        head = self.message.removesuffix(f": {fields}.")
        return [self.message if head == self.message else f"{head}:", *lines]


def read_refusal(content: bytes) -> Refusal | None:
    """Return the refusal that *content* is; None where it is something else."""
    try:
        status = json.loads(content)
        message = status["message"]
        details = status.get("details") or []
        reasons = [detail["reason"] for detail in details if isinstance(detail.get("reason"), str)]
        violations = tuple(
            (str(violation["field"]), str(violation["description"]))
            for detail in details
            for violation in detail.get("field_violations") or detail.get("fieldViolations") or []
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(message, str) or not message:
        return None
    return Refusal(message=message, reason=next(iter(reasons), ""), violations=violations)


def _option(field: str, query: Mapping[str, str | Sequence[str]]) -> str:
    """Return the option that *field* was set with, with what was given where it may be given several times."""
    match = _FIELD.fullmatch(field)
    if match is None or match[1] not in _OPTIONS:
        return field
    given: Any = query.get(match[1])
    if match[2] is None or isinstance(given, str) or given is None or int(match[2]) >= len(given):
        return _OPTIONS[match[1]]
    return f"{_OPTIONS[match[1]]} {given[int(match[2])]}"


def _in_options(text: str) -> str:
    return _FIELD_IN_TEXT.sub(lambda match: _OPTIONS[match[0]], text)
