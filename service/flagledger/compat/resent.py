"""
Bodies that come again.

The SDKs that are out there name no batch: one that heard nothing sends its body a second time. Where each evaluation of a body
says whose it was and when it was, to the millisecond, two bodies with the same evaluations are one body that came twice; so they
get a batch id that is made of their evaluations, and the journal, which remembers batch ids for 24 hours (`dedup_hours`), does
the rest. A body that came back with more events in it is another body.
"""

from __future__ import annotations

import hmac
from typing import Final

from flagledger.v1.evaluation_pb2 import EvaluationBatch

_PREFIX: Final = "body:"
_BYTES: Final = 16


def batch_id(batch: EvaluationBatch, secret: bytes) -> str:
    """
    Return the batch id of *batch*: the same for the same evaluations, however their JSON was written.

    Args:
        batch: Without a batch id of its own.
        secret: Key of the digest where the environment keeps less than is sent: from what can be guessed, such as an identity,
            nobody else can tell then which batch it was in. Empty for none.
    """
    content = batch.SerializeToString(deterministic=True)
    return _PREFIX + hmac.digest(secret, content, "sha256")[:_BYTES].hex()
