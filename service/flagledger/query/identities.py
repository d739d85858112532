"""Identities as they were sent, and as they are kept where an environment's policy keeps pseudonyms."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from flagledger.catalog.base import Environment
from flagledger.catalog.policy import PSEUDONYM_PREFIX, pseudonym
from flagledger.store.questions import ExposureQuestion, Filter

_Q = TypeVar("_Q", Filter, ExposureQuestion)


class Identities:
    """
    Says under what an identity is kept.

    Args:
        secret: What pseudonyms are made with; empty where none are.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def as_kept(self, environment: Environment, question: _Q) -> _Q:
        """Return *question* about what *environment* keeps of the identity that it names, if it names one; a pseudonym stays."""
        identity = question.identity_identifier
        if not identity or environment.policy.identity != "hash" or identity.startswith(PSEUDONYM_PREFIX):
            return question
        return replace(question, identity_identifier=pseudonym(self._secret, environment.name, identity))

    def forms(self, environment: Environment, identity: str) -> tuple[str, ...]:
        """
        Return everything that *identity* may be kept under in *environment*: itself, and its pseudonym.

        Whatever the policy is today, there may be rows of another.
        """
        if not self._secret:
            return (identity,)
        return identity, pseudonym(self._secret, environment.name, identity)
