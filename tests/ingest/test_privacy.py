from __future__ import annotations

import random
from typing import Any

import pytest
from flagledger.catalog.base import Environment
from flagledger.catalog.policy import PLAIN, Policy, pseudonym
from flagledger.ingest.admission import Verdict, inspect
from flagledger.ingest.limits import Limits
from flagledger.ingest.privacy import Privacy
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch
from google.protobuf.struct_pb2 import Value
from hypothesis import given, settings
from hypothesis import strategies as st
from support.intake import NOW, valid_evaluation

SECRET = b"a secret of the tests"

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_keys = st.sampled_from(["plan", "country", "email", "Ärger", "plan "])
_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), _texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_keys, inner, max_size=3)),
    max_leaves=5,
)
_allowed = st.one_of(st.none(), st.frozensets(_keys))


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    """Draw a valid evaluation with any of its fields."""
    fields: dict[str, Any] = {
        "variant": draw(_texts),
        "reason": draw(_texts),
        "count": draw(st.integers(0, 10_000)),
        "segment_names": draw(st.lists(_texts, max_size=3)),
    }
    evaluation = valid_evaluation(**fields)
    if identity := draw(st.one_of(st.none(), _texts)):
        evaluation.identity_identifier = identity
    if draw(st.booleans()):
        evaluation.value.CopyFrom(value_of(draw(_values)))
    for key in draw(st.lists(_keys, max_size=4)):
        evaluation.identity_traits.add(trait_key=key, trait_value=value_of(draw(_values)))
    metadata = draw(st.dictionaries(_keys, _values, max_size=4))
    if metadata:
        evaluation.metadata.update(metadata)
    return evaluation


def value_of(value: Any) -> Value:
    """Return *value* as a message."""
    holder = Value()
    holder.list_value.extend([value])
    return Value.FromString(holder.list_value.values[0].SerializeToString())


def verdict_of(*evaluations: Evaluation) -> Verdict:
    """Return the verdict of valid evaluations."""
    batch = EvaluationBatch(evaluations=evaluations)
    verdict = inspect(batch, limits=Limits(), now=NOW, is_server=True).judge(None)
    assert len(evaluations) == verdict.outcome.accepted
    return verdict


def environment_of(**fields: Any) -> Environment:
    """Return an environment with a policy."""
    return Environment(name="production", features=None, policy=Policy(**fields))


def kept(*evaluations: Evaluation, chance: random.Random | None = None, **fields: Any) -> list[Evaluation]:
    """Return what a policy of *fields* keeps of valid evaluations."""
    verdict = Privacy(SECRET, chance).apply(verdict_of(*evaluations), environment_of(**fields))
    return list(EvaluationBatch.FromString(verdict.evaluations).evaluations)


@pytest.mark.parametrize("policy", [PLAIN, Policy(rate=1, origins=frozenset())])
def test_a_plain_policy_costs_nothing(policy: Policy) -> None:
    """Where nothing is hidden or sampled the verdict is passed on as it is."""
    verdict = verdict_of(valid_evaluation(identity_identifier="user_1"))
    environment = Environment(name="production", features=None, policy=policy)

    assert verdict is Privacy(b"").apply(verdict, environment)


def test_hashed_identity() -> None:
    """An identity is kept as its pseudonym, and one that is not there is not made up."""
    found = kept(valid_evaluation(identity_identifier="user_1"), valid_evaluation(), identity="hash")

    assert [
        valid_evaluation(identity_identifier=pseudonym(SECRET, "production", "user_1")),
        valid_evaluation(),
    ] == found
    assert not found[1].HasField("identity_identifier")


def test_empty_identity() -> None:
    """An identity that is empty is none, and has no pseudonym."""
    [found] = kept(valid_evaluation(identity_identifier=""), identity="hash")

    assert not found.HasField("identity_identifier")


def test_dropped_identity() -> None:
    """An identity is gone, and not empty."""
    [found] = kept(valid_evaluation(identity_identifier="user_1", variant="a"), identity="drop")

    assert (False, "a") == (found.HasField("identity_identifier"), found.variant)


def test_traits_that_are_kept() -> None:
    """Traits stay by their exact key, each time it is there, in their order; an empty list keeps none."""
    evaluation = valid_evaluation()
    for key in ("plan", "email", "plan ", "plan", "Plan"):
        evaluation.identity_traits.add(trait_key=key, trait_value=Value(string_value=key))

    keys = [
        [trait.trait_key for trait in kept(evaluation, traits=frozenset(allowed))[0].identity_traits]
        for allowed in ({"plan"}, {"Plan", "email"}, set())
    ]

    assert [["plan", "plan"], ["email", "Plan"], []] == keys


def test_metadata_that_is_kept() -> None:
    """Metadata stays by its keys at the top; where none is left it is gone."""
    evaluation = valid_evaluation()
    evaluation.metadata.update({"page": {"email": "a@b"}, "email": "a@b"})

    [some] = kept(evaluation, metadata=frozenset({"page"}))
    [none] = kept(evaluation, metadata=frozenset({"colour"}))
    [absent] = kept(valid_evaluation(), metadata=frozenset({"page"}))

    assert {"page": {"email": "a@b"}} == dict(some.metadata)
    assert [False, False] == [none.HasField("metadata"), absent.HasField("metadata")]


@given(
    batch=st.lists(evaluations(), max_size=4),
    identity=st.sampled_from(["plain", "hash", "drop"]),
    traits=_allowed,
    metadata=_allowed,
)
@settings(deadline=None)
def test_all_else_stays(
    batch: list[Evaluation], identity: str, traits: frozenset[str] | None, metadata: frozenset[str] | None
) -> None:
    """Beside what the policy names every evaluation stays byte for byte as it was, in its place."""
    before = [one.SerializeToString(deterministic=True) for one in batch]
    after = kept(*batch, identity=identity, traits=traits, metadata=metadata)
    assert len(before) == len(after)
    for content, one in zip(before, after, strict=True):
        expected = Evaluation.FromString(content)
        if identity != "plain":
            assert ("hmac:" in one.identity_identifier) == bool(identity == "hash" and expected.identity_identifier)
            one.ClearField("identity_identifier")
            expected.ClearField("identity_identifier")
        if traits is not None:
            stay = [trait for trait in expected.identity_traits if trait.trait_key in traits]
            expected = Evaluation.FromString(expected.SerializeToString())
            del expected.identity_traits[:]
            expected.identity_traits.extend(stay)
        if metadata is not None:
            for key in set(expected.metadata.fields) - metadata:
                del expected.metadata.fields[key]
            if not expected.metadata.fields:
                expected.ClearField("metadata")
        assert expected.SerializeToString(deterministic=True) == one.SerializeToString(deterministic=True)


def test_nothing_admitted() -> None:
    """A batch of which nothing was admitted needs no rewriting."""
    verdict = Privacy(SECRET).apply(verdict_of(), environment_of(identity="hash", sample_every=10))

    assert (b"", 0) == (verdict.evaluations, verdict.sampled_out)


def test_a_sample_stands_for_all() -> None:
    """One of N is kept, its count times N, so that the sum of counts is right in expectation; the rest is counted as left out."""
    batch = [valid_evaluation(variant="a", count=number % 4) for number in range(10_000)]
    verdict = verdict_of(*batch)

    applied = Privacy(b"", random.Random(5)).apply(verdict, environment_of(sample_every=10))
    sample = EvaluationBatch.FromString(applied.evaluations).evaluations

    # 0 stands for 1, so a count is 1.75 on average. Four standard deviations of a sample of a tenth either way.
    deviation = (10_000 * (1 + 1 + 4 + 9) / 4 * 9) ** 0.5
    assert 17_500 == pytest.approx(sum(one.count for one in sample), abs=4 * deviation)
    assert 1_000 == pytest.approx(len(sample), abs=120)
    assert {10, 20, 30} == {one.count for one in sample}
    assert (10_000, 10_000 - len(sample)) == (applied.outcome.accepted, applied.sampled_out)


def test_a_sample_hides_too() -> None:
    """What is kept of a sample is hidden as the rest of the policy says, and hiding changes no count."""
    batch = [valid_evaluation(identity_identifier=f"user_{number}", count=3) for number in range(100)]

    sample = kept(*batch, chance=random.Random(1), identity="hash", sample_every=4)

    assert 0 < len(sample) < 100
    assert {12} == {one.count for one in sample}
    assert {one.identity_identifier for one in sample} <= {
        pseudonym(SECRET, "production", f"user_{number}") for number in range(100)
    }


def test_the_largest_count_of_a_sample() -> None:
    """The most that a key may report, times the largest N, is a count that can be kept."""

    class Always(random.Random):
        def random(self) -> float:
            return 0.0

    most = Limits().of_older_sdks().count_client
    [found] = kept(valid_evaluation(count=most), chance=Always(), sample_every=1_000)

    assert 1_000_000_000 == found.count


@pytest.mark.parametrize("fields", [{"identity": "hash"}, {"identity": "drop"}, {"traits": frozenset()}])
def test_no_secret(fields: dict[str, Any]) -> None:
    """Nothing is hashed or keyed with an empty secret: it is an error, and nothing is kept."""
    privacy = Privacy(b"")
    environment = environment_of(**fields)

    with pytest.raises(RuntimeError, match="no secret"):
        privacy.digest_key(environment.policy)
    if environment.policy.identity == "hash":
        with pytest.raises(RuntimeError, match="no secret"):
            privacy.apply(verdict_of(valid_evaluation(identity_identifier="user_1")), environment)


def test_digest_keys() -> None:
    """Digests are keyed where something is hidden, with a secret of any length, and nowhere else."""
    hiding = Policy(identity="drop")
    keys = {Privacy(b"s" * length).digest_key(hiding) for length in (1, 64, 65, 512)}

    assert 4 == len(keys)
    assert max(map(len, keys)) <= 64
    assert [b"", b""] == [Privacy(SECRET).digest_key(policy) for policy in (PLAIN, Policy(sample_every=2))]
