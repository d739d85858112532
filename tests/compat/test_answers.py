from __future__ import annotations

import pytest
from flagledger.compat.answers import API, EVENTS, Dialect, as_json
from flagledger.errors import FlagledgerError, Reason
from flagledger.transcoding import http_status


@pytest.mark.parametrize("dialect", [API, EVENTS])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_an_answer(dialect: Dialect, reason: Reason) -> None:
    """Whatever is refused, the status is a refusal, and there is a delay exactly where trying again makes sense."""
    answer = dialect.refusal(FlagledgerError(reason, "Wait."), has_key=True)

    assert answer.http_status >= 400
    assert (reason.retry_after is not None) == any(name == b"retry-after" for name, _ in answer.headers)
    assert reason.code == answer.code
    if reason not in {Reason.KEY_INVALID, Reason.BATCH_TOO_LONG}:
        assert http_status(reason.code) == answer.http_status


def test_as_json() -> None:
    """An answer is ASCII: what its reader sent, it can be told."""
    answer = as_json(400, {"é": ["\ud800", "\u2028"]})

    assert b'{"\\u00e9":["\\ud800","\\u2028"]}' == answer.body
    assert b"application/json" == answer.content_type
