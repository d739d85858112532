"""What the senders of evaluations are told: the answer to a batch, and the refusals."""

from __future__ import annotations

from typing import Final

from flagledger.errors import MAX_VIOLATIONS, FieldViolation, FlagledgerError, Reason
from flagledger.ingest.admission import Verdict
from flagledger.journal.base import Appended
from flagledger.v1.evaluation_service_pb2 import RecordEvaluationsResponse, RejectedEvaluation

_MAX_REJECTED: Final = 100
_MAX_UNKNOWN_NAMES: Final = 20


def answer(appended: Appended, verdict: Verdict | None = None) -> RecordEvaluationsResponse:
    """Return the answer to a batch that is on disk; *verdict* is None where that is one of before."""
    outcome = appended.outcome
    response = RecordEvaluationsResponse(
        accepted_count=outcome.accepted,
        filtered_count=outcome.filtered,
        rejected_count=outcome.rejected,
        duplicate=appended.duplicate,
    )
    if verdict is not None and (verdict.faults or verdict.filtered):
        response.rejected_evaluations.extend(
            RejectedEvaluation(index=fault.index, field=fault.field, description=fault.description)
            for fault in verdict.faults[:_MAX_REJECTED]
        )
        response.unknown_feature_names.extend([*verdict.filtered][:_MAX_UNKNOWN_NAMES])
    return response


def key_invalid(metadata: str) -> FlagledgerError:
    """Return the refusal of a call whose key, in *metadata*, does not count."""
    # One answer for every cause: which keys once existed is nobody's business.
    return FlagledgerError(
        Reason.KEY_INVALID, f"The call carries no valid environment key in {metadata}. Do not retry."
    )


def stopped() -> FlagledgerError:
    """Return the refusal of an environment that is shut out."""
    return FlagledgerError(
        Reason.ENVIRONMENT_STOPPED,
        "Nothing is taken for this environment: its organisation is disabled. Do not retry.",
    )


def origin_refused() -> FlagledgerError:
    """Return the refusal of a page that its environment does not list."""
    return FlagledgerError(
        Reason.ORIGIN_REFUSED,
        "The environment of this key does not take evaluations from pages of this origin. Do not retry.",
    )


def no_batch() -> FlagledgerError:
    """Return the refusal of a request without its batch."""
    return FlagledgerError(
        Reason.MALFORMED,
        "The request holds no batch.",
        violations=(FieldViolation(field="batch", description="It is required; it may be empty."),),
    )


def batch_too_long(most: int) -> FlagledgerError:
    """Return the refusal of a batch of more than *most* evaluations."""
    return FlagledgerError(
        Reason.BATCH_TOO_LONG,
        f"The batch has more than {most:,} evaluations. Send smaller batches.",
        violations=(FieldViolation(field="evaluations", description=f"There are more than {most:,}."),),
    )


def batch_id_invalid(description: str) -> FlagledgerError:
    """Return the refusal of a batch id."""
    return FlagledgerError(
        Reason.BATCH_ID_INVALID,
        "The batch id is not valid.",
        violations=(FieldViolation(field="batch_id", description=description),),
    )


def nothing_valid(verdict: Verdict) -> FlagledgerError:
    """Return the refusal of a batch of which every evaluation is invalid."""
    first = verdict.faults[:MAX_VIOLATIONS]
    return FlagledgerError(
        Reason.NOTHING_VALID,
        # Many a client shows the message alone, and leaves the details in their trailer.
        f"Not one of the {verdict.outcome.rejected:,} evaluations is valid. The first fault, in {first[0].field}: "
        f"{first[0].description}",
        violations=tuple(FieldViolation(field=fault.field, description=fault.description) for fault in first),
    )
