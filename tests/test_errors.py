from __future__ import annotations

import pytest
from flagledger.errors import (
    DOMAIN,
    MAX_STATUS_BYTES,
    MAX_VIOLATIONS,
    FieldViolation,
    FlagledgerError,
    Reason,
    to_status,
)
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED = 3, 4, 5, 6, 7
RESOURCE_EXHAUSTED, UNAVAILABLE, UNAUTHENTICATED = 8, 14, 16

TABLE = {
    "MALFORMED": (INVALID_ARGUMENT, None),
    "BATCH_TOO_LONG": (INVALID_ARGUMENT, None),
    "BATCH_ID_INVALID": (INVALID_ARGUMENT, None),
    "NOTHING_VALID": (INVALID_ARGUMENT, None),
    "QUERY_INVALID": (INVALID_ARGUMENT, None),
    "KEY_INVALID": (UNAUTHENTICATED, None),
    "TOKEN_INVALID": (UNAUTHENTICATED, None),
    "TOKEN_LACKS": (PERMISSION_DENIED, None),
    "ORIGIN_REFUSED": (PERMISSION_DENIED, None),
    "ENVIRONMENT_STOPPED": (PERMISSION_DENIED, None),
    "ENVIRONMENT_UNKNOWN": (NOT_FOUND, None),
    "BATCH_ID_REUSED": (ALREADY_EXISTS, None),
    "JOURNAL_FULL": (RESOURCE_EXHAUSTED, 5.0),
    "BYTES_IN_FLIGHT": (RESOURCE_EXHAUSTED, 1.0),
    "CALLS_IN_FLIGHT": (RESOURCE_EXHAUSTED, 1.0),
    "RATE_EXCEEDED": (RESOURCE_EXHAUSTED, 1.0),
    "DISK_FAILING": (UNAVAILABLE, 5.0),
    "CATALOG_UNREACHABLE": (UNAVAILABLE, 5.0),
    "STORE_UNAVAILABLE": (UNAVAILABLE, 2.0),
    "QUESTION_TOO_LONG": (DEADLINE_EXCEEDED, None),
    "READER_TOO_SLOW": (DEADLINE_EXCEEDED, None),
    "DRAINING": (UNAVAILABLE, 1.0),
}


def details(status: status_pb2.Status, kind: type[Message]) -> list[Message]:
    """Return the details of one kind."""
    found = []
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


def violations_of(status: status_pb2.Status) -> list[tuple[str, str]]:
    """Return field and description of every violation."""
    return [
        (violation.field, violation.description)
        for bad_request in details(status, error_details_pb2.BadRequest)
        for violation in bad_request.field_violations
    ]


def test_the_table_is_complete() -> None:
    """Every reason has a code and a delay, and there is no other reason."""
    assert {reason.name: (reason.code, reason.retry_after) for reason in Reason} == TABLE


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_every_reason_travels(reason: Reason) -> None:
    """A status carries code, message and reason, and RetryInfo exactly where a delay is given."""
    code, delay = TABLE[reason.name]

    status = to_status(FlagledgerError(reason, "It went wrong."))

    info = error_details_pb2.ErrorInfo(reason=reason.name, domain=DOMAIN)
    retry_infos = details(status, error_details_pb2.RetryInfo)
    assert (status.code, status.message) == (code, "It went wrong.")
    assert details(status, error_details_pb2.ErrorInfo) == [info]
    assert [info.retry_delay.ToMilliseconds() / 1000 for info in retry_infos] == ([] if delay is None else [delay])
    assert violations_of(status) == []


def test_a_better_known_delay_wins() -> None:
    """A delay given with the error travels instead of the reason's own, to the millisecond."""
    error = FlagledgerError(Reason.JOURNAL_FULL, "Full.", retry_after=0.25)

    (retry_info,) = details(to_status(error), error_details_pb2.RetryInfo)

    assert retry_info.retry_delay.ToMilliseconds() == 250


def test_a_delay_can_be_given_where_a_reason_has_none() -> None:
    """A zero delay is a delay: a client retries exactly where one is given."""
    error = FlagledgerError(Reason.MALFORMED, "Again.", retry_after=0.0)

    assert len(details(to_status(error), error_details_pb2.RetryInfo)) == 1


def test_violations_travel_in_order_up_to_twenty() -> None:
    """The first 20 violations travel, in their order."""
    violations = tuple(FieldViolation(field=f"f[{n}]", description=f"d{n}") for n in range(100))

    status = to_status(FlagledgerError(Reason.NOTHING_VALID, "No.", violations=violations))

    assert violations_of(status) == [(f"f[{n}]", f"d{n}") for n in range(MAX_VIOLATIONS)]


def test_long_texts_are_clipped_visibly() -> None:
    """A long path keeps 200 characters, message and description 400, with an ellipsis for the last."""
    violation = FieldViolation(field="f" * 201, description="d" * 401)

    status = to_status(FlagledgerError(Reason.MALFORMED, "m" * 401, violations=(violation,)))

    assert status.message == "m" * 399 + "…"
    assert violations_of(status) == [("f" * 199 + "…", "d" * 399 + "…")]


def test_texts_at_the_limit_are_kept() -> None:
    """What is just short enough is not clipped."""
    violation = FieldViolation(field="f" * 200, description="d" * 400)

    status = to_status(FlagledgerError(Reason.MALFORMED, "m" * 400, violations=(violation,)))

    assert (status.message, violations_of(status)) == ("m" * 400, [("f" * 200, "d" * 400)])


@given(
    reason=st.sampled_from(Reason),
    message=st.text(st.characters(exclude_categories=["Cs"]), max_size=500),
    width=st.sampled_from(["f", "ü", "€", "😀"]),
    count=st.integers(0, 120),
    length=st.integers(0, 500),
)
@settings(deadline=None)
def test_a_status_fits_into_trailers(reason: Reason, message: str, width: str, count: int, length: int) -> None:
    """However many and long the violations, a status stays within 4 KiB and keeps its code, reason and delay."""
    violations = (FieldViolation(field=width * length, description=width * length),) * count

    status = to_status(FlagledgerError(reason, message, violations=violations))

    assert status.ByteSize() <= MAX_STATUS_BYTES
    assert status.code == reason.code
    assert len(details(status, error_details_pb2.ErrorInfo)) == 1
    assert len(details(status, error_details_pb2.RetryInfo)) == (reason.retry_after is not None)


def test_as_many_violations_as_fit_travel() -> None:
    """Violations are left out one by one, so that no more are missing than must be."""
    violations = tuple(FieldViolation(field=f"f[{n}]", description="d" * 400) for n in range(20))

    status = to_status(FlagledgerError(Reason.NOTHING_VALID, "No.", violations=violations))

    kept = len(violations_of(status))
    assert 0 < kept < MAX_VIOLATIONS
    assert status.ByteSize() + 400 + 20 > MAX_STATUS_BYTES


def test_the_message_is_the_exceptions_text() -> None:
    """The exception reads as its message, so that logs say the same as the wire."""
    assert str(FlagledgerError(Reason.DRAINING, "Shutting down.")) == "Shutting down."
