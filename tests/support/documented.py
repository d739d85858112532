"""
A service called with what its OpenAPI document describes, and with what it does not.

All checks of schemathesis are made but two, which cannot hold for any document of ours:

* `positive_data_acceptance`: much of what a schema lets through is refused for what JSON Schema has no word for. Which
  refusals may be is for each test to say.
* `negative_data_rejection`: of two spellings of one field the last counts, whatever the first one is; a parameter that is
  null is not sent, and one that is a list of one thing is sent as that thing. `refused` is the same check but for those.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

Check = Callable[[Any, Any, Any], Any]

# What is said of a moment that a `date-time` of JSON Schema can be and a Timestamp cannot, and how that begins.
_NO_TIMESTAMPS = {
    "lies outside the years 0001 to 9999": re.compile("0001-01-01T|9999-12-31T"),
    "is not a moment of the calendar": re.compile("T[0-9]{2}:[0-9]{2}:60"),
}


def play(operation: Any, cases: int, *checks: Check, **how: Any) -> Counter[int]:
    """
    Send so many *cases* that fit the document, and as many that do not, and check every answer.

    Args:
        operation: One of the document.
        cases: Of each kind.
        checks: Beside those that are always made.
        how: How requests are sent.

    Returns:
        How often each status was answered.
    """
    seen: Counter[int] = Counter()
    for mode in GenerationMode:

        @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            answer = case.call_and_validate(
                excluded_checks=[positive_data_acceptance, negative_data_rejection],
                additional_checks=list(checks),
                **how,
            )
            seen[answer.status_code] += 1

        send()
    return seen


def is_no_timestamp(case: Any, description: str) -> bool:
    """Tell whether *description* is what is said of a moment that no Timestamp can be, and such a one is in the case."""
    moment = _NO_TIMESTAMPS.get(description)
    return moment is not None and moment.search(f"{case.path_parameters} {case.query} {case.body}") is not None


def fits(case: Any) -> bool:
    """Tell whether a case was made to fit the document."""
    return case.meta is not None and case.meta.generation.mode.is_positive


def refused(context: Any, response: Any, case: Any) -> None:
    """Check that what does not fit the document is refused, unless another spelling hides it, or it is not sent as it is."""
    if not spelled_twice(case.body) and not any(map(sent_otherwise, (case.query or {}).values())):
        negative_data_rejection(context, response, case)


def sent_otherwise(value: Any) -> bool:
    """Tell whether a parameter's *value* looks like another one in a query: `[0.0]` is sent as `0.0`, null and `[]` are not."""
    return value is None or (isinstance(value, list) and len(value) <= 1)


def spelled_twice(value: Any) -> bool:
    """Tell whether an object in *value* has two spellings of one name."""
    if isinstance(value, list):
        return any(map(spelled_twice, value))
    if not isinstance(value, dict):
        return False
    names = {name.replace("_", "").lower() for name in value}
    return len(names) < len(value) or any(map(spelled_twice, value.values()))
