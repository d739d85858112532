"""What all calls of a transcoder have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flagledger.transcoding import body as bodies
from flagledger.transcoding.context import TranscodedContext
from flagledger.transcoding.refusals import OnCodecError, ToStatus

Authorize = Callable[[str, TranscodedContext], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """What all calls of a transcoder have in common; see Transcoder."""

    max_body_bytes: int
    body_timeout: float
    body_deadline: float
    body_budget: bodies.ByteBudget | None
    authorize: Authorize | None
    to_status: ToStatus | None
    on_codec_error: OnCodecError | None
    on_ignored: Callable[[str], None] | None
