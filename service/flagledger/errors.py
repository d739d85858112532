"""
Every refusal of ours: one exception, and one table from our reasons to gRPC codes.

The transports turn a `FlagledgerError` into what goes over the wire with `to_status`; HTTP statuses follow from the code
(`flagledger.transcoding.status`). Sources: google.rpc.Code, google.rpc.BadRequest, RetryInfo and ErrorInfo.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN: Final = "flagledger"

# Details travel in gRPC trailers, base64-coded, where 8 KiB is the usual end: past it INVALID_ARGUMENT turns into
# RESOURCE_EXHAUSTED at random.
MAX_STATUS_BYTES: Final = 4096
MAX_VIOLATIONS: Final = 20
_MAX_FIELD_CHARACTERS: Final = 200
_MAX_TEXT_CHARACTERS: Final = 400


class Reason(Enum):
    """Why something was refused. The name goes out in ErrorInfo."""

    MALFORMED = auto()
    BATCH_TOO_LONG = auto()
    BATCH_ID_INVALID = auto()
    NOTHING_VALID = auto()
    QUERY_INVALID = auto()
    KEY_INVALID = auto()
    TOKEN_INVALID = auto()
    TOKEN_LACKS = auto()
    ORIGIN_REFUSED = auto()
    ENVIRONMENT_STOPPED = auto()
    ENVIRONMENT_UNKNOWN = auto()
    BATCH_ID_REUSED = auto()
    JOURNAL_FULL = auto()
    BYTES_IN_FLIGHT = auto()
    CALLS_IN_FLIGHT = auto()
    RATE_EXCEEDED = auto()
    DISK_FAILING = auto()
    CATALOG_UNREACHABLE = auto()
    STORE_UNAVAILABLE = auto()
    QUESTION_TOO_LONG = auto()
    READER_TOO_SLOW = auto()
    DRAINING = auto()

    @property
    def code(self) -> int:
        """The gRPC code, as an integer of google.rpc.Code."""
        return _TABLE[self][0]

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to try again; None where trying again is pointless."""
        return _TABLE[self][1]


# reason → gRPC code, delay in seconds. A client retries exactly where a delay is given.
_TABLE: Final[dict[Reason, tuple[int, float | None]]] = {
    Reason.MALFORMED: (code_pb2.INVALID_ARGUMENT, None),
    Reason.BATCH_TOO_LONG: (code_pb2.INVALID_ARGUMENT, None),
    Reason.BATCH_ID_INVALID: (code_pb2.INVALID_ARGUMENT, None),
    Reason.NOTHING_VALID: (code_pb2.INVALID_ARGUMENT, None),
    Reason.QUERY_INVALID: (code_pb2.INVALID_ARGUMENT, None),
    Reason.KEY_INVALID: (code_pb2.UNAUTHENTICATED, None),
    Reason.TOKEN_INVALID: (code_pb2.UNAUTHENTICATED, None),
    Reason.TOKEN_LACKS: (code_pb2.PERMISSION_DENIED, None),
    Reason.ORIGIN_REFUSED: (code_pb2.PERMISSION_DENIED, None),
    Reason.ENVIRONMENT_STOPPED: (code_pb2.PERMISSION_DENIED, None),
    Reason.ENVIRONMENT_UNKNOWN: (code_pb2.NOT_FOUND, None),
    Reason.BATCH_ID_REUSED: (code_pb2.ALREADY_EXISTS, None),
    Reason.JOURNAL_FULL: (code_pb2.RESOURCE_EXHAUSTED, 5.0),
    Reason.BYTES_IN_FLIGHT: (code_pb2.RESOURCE_EXHAUSTED, 1.0),
    Reason.CALLS_IN_FLIGHT: (code_pb2.RESOURCE_EXHAUSTED, 1.0),
    Reason.RATE_EXCEEDED: (code_pb2.RESOURCE_EXHAUSTED, 1.0),
    Reason.DISK_FAILING: (code_pb2.UNAVAILABLE, 5.0),
    Reason.CATALOG_UNREACHABLE: (code_pb2.UNAVAILABLE, 5.0),
    Reason.STORE_UNAVAILABLE: (code_pb2.UNAVAILABLE, 2.0),
    # The same would take as long again.
    Reason.QUESTION_TOO_LONG: (code_pb2.DEADLINE_EXCEEDED, None),
    Reason.READER_TOO_SLOW: (code_pb2.DEADLINE_EXCEEDED, None),
    Reason.DRAINING: (code_pb2.UNAVAILABLE, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """A field that was wrong: its path relative to the batch or request, and a sentence that says what is wrong."""

    field: str
    description: str


class FlagledgerError(Exception):
    """
    A refusal, with everything that the sender is told.

    Args:
        reason: Which refusal; decides code and default delay.
        message: A sentence for developers. It MUST NOT quote keys or tokens.
        violations: Fields that were wrong; of these the first 20 travel.
        retry_after: Seconds to wait, where it is better known than the reason's default.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = violations
        self.retry_after = reason.retry_after if retry_after is None else retry_after


def to_status(error: FlagledgerError) -> status_pb2.Status:
    """Return *error* as google.rpc.Status with ErrorInfo, BadRequest and RetryInfo as they apply, within 4 KiB."""
    violations = list(error.violations[:MAX_VIOLATIONS])
    status = _status(error, violations)
    while violations and status.ByteSize() > MAX_STATUS_BYTES:
        violations.pop()
        status = _status(error, violations)
    return status


def _status(error: FlagledgerError, violations: list[FieldViolation]) -> status_pb2.Status:
    status = status_pb2.Status(code=error.reason.code, message=_clip(error.message, _MAX_TEXT_CHARACTERS))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason.name, domain=DOMAIN))
    if violations:
        bad_request = error_details_pb2.BadRequest()
        for violation in violations:
            bad_request.field_violations.add(
                field=_clip(violation.field, _MAX_FIELD_CHARACTERS),
                description=_clip(violation.description, _MAX_TEXT_CHARACTERS),
            )
        status.details.add().Pack(bad_request)
    if error.retry_after is not None:
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromMilliseconds(round(error.retry_after * 1000))
        status.details.add().Pack(retry_info)
    return status


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
