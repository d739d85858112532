"""
Counts of flags: `/api/v1/analytics/flags/` and `/api/v2/analytics/flags/`.

Neither knows when a flag was evaluated, so that the time is that of receipt; version 1 does not know whether it was enabled.
What comes twice counts twice: `{"my_flag": 1}` of a thousand browsers is a thousand evaluations.
"""

from __future__ import annotations

import re
from typing import Any, Final

from flagledger.compat import fields
from flagledger.compat.answers import API, Answer, RefusedError, misfit
from flagledger.compat.call import Reading, set_time
from flagledger.compat.json_body import JsonError, load_strictly
from flagledger.errors import FlagledgerError, Reason
from flagledger.ingest.limits import Limits
from flagledger.v1.evaluation_pb2 import Evaluation

_MAX_COUNT: Final = (1 << 32) - 1
_NO_COUNT: Final = "It is no whole number above 0."
_NO_TEXT: Final = "It holds half of a surrogate pair, which is no text."
_ERRORS: Final = "non_field_errors"
_NO_DATA: Final = {_ERRORS: ["No data provided"]}

_JSON_TYPE: Final = re.compile(r"(?:application|\*)/(?:json|\*)\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_FORM_TYPE: Final = re.compile(
    r"(?:application/x-www-form-urlencoded|multipart/form-data)\s*(?:;.*)?", re.IGNORECASE | re.DOTALL
)


def read_counts(body: bytes, content_type: str, *, limits: Limits, now: float) -> Reading:
    """
    Read a body of version 1, `{"my_flag": 3}`.

    A count that is no whole number is dropped, and the sender is not told; nor is it told of a feature that does not exist.

    Raises:
        RefusedError: The body is not of that form.
        FlagledgerError: BATCH_TOO_LONG.
    """
    data = _data(body, content_type)
    if data is None:
        raise misfit(_NO_DATA)
    if not isinstance(data, dict):
        raise misfit({_ERRORS: ["Expected a JSON object."]})
    _check_size(len(data), limits)
    reading = Reading(answer=Answer(http_status=200))
    for name, count in data.items():
        _add(reading, Evaluation(), name, count, now)
    return reading


def read_evaluations(body: bytes, content_type: str, *, limits: Limits, now: float) -> Reading:
    """
    Read a body of version 2, `{"evaluations": [{"feature_name": …, "enabled_when_evaluated": …, "count": …}]}`.

    Raises:
        RefusedError: The body is not of that form; one entry that is not costs all of them.
        FlagledgerError: BATCH_TOO_LONG.
    """
    data = _data(body, content_type)
    if data is None:
        raise misfit(_NO_DATA)
    if not isinstance(data, dict):
        raise misfit(_no_dictionary(data))
    if "evaluations" not in data:
        raise misfit({"evaluations": [fields.REQUIRED]})
    entries = data["evaluations"]
    if entries is None:
        raise misfit({"evaluations": [fields.NULL]})
    if not isinstance(entries, list):
        description = f'Expected a list of items but got type "{type(entries).__name__}".'
        raise misfit({"evaluations": {_ERRORS: [description]}})
    _check_size(len(entries), limits)
    taken = [_take(entry) for entry in entries]
    errors = [error for error, _ in taken]
    if any(errors):
        raise misfit({"evaluations": errors})
    reading = Reading(answer=Answer(http_status=204))
    for _, entry in taken:
        evaluation = Evaluation(
            enabled=entry["enabled_when_evaluated"], identity_identifier=entry.get("identity_identifier")
        )
        _add(reading, evaluation, entry["feature_name"], entry["count"], now)
    return reading


def _add(reading: Reading, evaluation: Evaluation, name: str, count: Any, now: float) -> None:
    # A truth value is an int to Python, and no count to anybody.
    if type(count) is not int or not 0 < count <= _MAX_COUNT:
        reading.reject("count", _NO_COUNT)
        return
    try:
        evaluation.feature_name = name
    except UnicodeEncodeError:
        reading.reject("feature_name", _NO_TEXT)
        return
    evaluation.count = count
    set_time(evaluation, now)
    reading.batch.evaluations.append(evaluation)


_FIELDS: Final = {
    "feature_name": fields.take_text,
    "identity_identifier": fields.take_text,
    "enabled_when_evaluated": fields.take_boolean,
    "count": fields.take_integer,
}
_OPTIONAL: Final = frozenset({"identity_identifier"})


def _take(entry: Any) -> tuple[Any, dict[str, Any]]:
    """Return what is wrong with an entry, empty where nothing is, and its fields."""
    if entry is None:
        return [fields.NULL], {}
    if not isinstance(entry, dict):
        return _no_dictionary(entry), {}
    errors: dict[str, list[str]] = {}
    found: dict[str, Any] = {}
    for name, take in _FIELDS.items():
        if name not in entry:
            if name not in _OPTIONAL:
                errors[name] = [fields.REQUIRED]
            continue
        try:
            found[name] = take(entry[name])
        except fields.FieldError as error:
            errors[name] = [*error.args]
    return errors, found


def _no_dictionary(value: Any) -> dict[str, list[str]]:
    return {_ERRORS: [f"Invalid data. Expected a dictionary, but got {type(value).__name__}."]}


def _data(body: bytes, content_type: str) -> Any:
    """Return what a body holds: no body, like a form, holds nothing that could be taken."""
    if not body:
        return {}
    if _FORM_TYPE.fullmatch(content_type):
        # Its values are text, and text is no count.
        return {}
    if not _JSON_TYPE.fullmatch(content_type):
        raise _unsupported(content_type)
    try:
        return load_strictly(body)
    except JsonError as error:
        raise API.misfit(400, f"JSON parse error - {error}") from None


def _unsupported(content_type: str) -> RefusedError:
    refusal = API.misfit(415, f'Unsupported media type "{content_type}" in request.')
    return RefusedError(refusal.answer, by_http=True)


def _check_size(entries: int, limits: Limits) -> None:
    if entries > limits.max_evaluations:
        raise FlagledgerError(
            Reason.BATCH_TOO_LONG,
            f"The body has more than {limits.max_evaluations:,} entries. Send fewer at once.",
        )
