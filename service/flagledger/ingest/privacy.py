"""What an environment's policy makes of admitted evaluations, before they are written anywhere."""

from __future__ import annotations

import random
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from flagledger.catalog.base import Environment
from flagledger.catalog.policy import Policy, pseudonym
from flagledger.ingest.admission import Verdict
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch

# What blake2b takes for a key.
_MAX_DIGEST_KEY: Final = blake2b.MAX_KEY_SIZE


class Privacy:
    """
    Rewrites evaluations as the policy of their environment says.

    Only identities, traits and metadata are hidden. What names a feature or a segment, values, variants and reasons stay as sent.

    Args:
        secret: That identities are hashed with, and that keys the digests of batches; empty where no policy hides anything.
        chance: Decides what is kept of a sample.
    """

    def __init__(self, secret: bytes, chance: random.Random | None = None) -> None:
        self._secret = secret
        self._chance = chance or random.Random()  # noqa: S311 - nobody gains by guessing what is sampled

    def apply(self, verdict: Verdict, environment: Environment) -> Verdict:
        """Return *verdict* with what is kept of its evaluations; what is left out of a sample is counted there."""
        policy = environment.policy
        if not policy.rewrites or not verdict.evaluations:
            return verdict
        batch = EvaluationBatch.FromString(verdict.evaluations)
        admitted = len(batch.evaluations)
        if policy.sample_every > 1:
            batch = self._sample(batch, policy.sample_every)
        if policy.hides:
            self._hide(batch, environment)
        content = batch.SerializeToString(deterministic=True)
        return replace(verdict, evaluations=content, sampled_out=admitted - len(batch.evaluations))

    def digest_key(self, policy: Policy) -> bytes:
        """
        Return what the digest of a batch is keyed with; empty for none.

        Where something is hidden, a digest that anybody can compute would confirm a guess of it.
        """
        if not policy.hides:
            return b""
        secret = self._secret_given()
        return secret if len(secret) <= _MAX_DIGEST_KEY else blake2b(secret).digest()

    def _sample(self, batch: EvaluationBatch, every: int) -> EvaluationBatch:
        chance = self._chance.random
        sample = EvaluationBatch(evaluations=[one for one in batch.evaluations if chance() * every < 1])
        for evaluation in sample.evaluations:
            evaluation.count = (evaluation.count or 1) * every
        return sample

    def _hide(self, batch: EvaluationBatch, environment: Environment) -> None:
        policy, evaluations = environment.policy, batch.evaluations
        if policy.identity == "hash":
            secret = self._secret_given()
            for evaluation in evaluations:
                if identity := evaluation.identity_identifier:
                    evaluation.identity_identifier = pseudonym(secret, environment.name, identity)
        elif policy.identity == "drop":
            for evaluation in evaluations:
                evaluation.ClearField("identity_identifier")
        if policy.traits is not None:
            for evaluation in evaluations:
                _keep_traits(evaluation, policy.traits)
        if policy.metadata is not None:
            for evaluation in evaluations:
                _keep_metadata(evaluation, policy.metadata)

    def _secret_given(self) -> bytes:
        if not self._secret:
            raise RuntimeError("A policy hides something, and there is no secret to hide it with.")
        return self._secret


def _keep_traits(evaluation: Evaluation, keys: frozenset[str]) -> None:
    traits = evaluation.identity_traits
    kept = [trait for trait in traits if trait.trait_key in keys]
    if len(kept) < len(traits):
        evaluation.ClearField("identity_traits")
        evaluation.identity_traits.extend(kept)


def _keep_metadata(evaluation: Evaluation, keys: frozenset[str]) -> None:
    if not evaluation.HasField("metadata"):
        return
    fields = evaluation.metadata.fields
    for key in [key for key in fields if key not in keys]:
        del fields[key]
    if not fields:
        evaluation.ClearField("metadata")
