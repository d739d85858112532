from __future__ import annotations

import pytest
from flagledger.ingest.admission import ElementError, Inspection, inspect
from flagledger.ingest.limits import Limits
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch
from google.protobuf.struct_pb2 import Value
from hypothesis import given, settings
from hypothesis import strategies as st
from support.intake import FEATURES, NOW, valid_evaluation


def inspected(*evaluations: Evaluation, errors: tuple[ElementError, ...] = (), batch_id: str = "") -> Inspection:
    """Inspect a batch of *evaluations* under a client key."""
    batch = EvaluationBatch(evaluations=evaluations, batch_id=batch_id)
    return inspect(batch, limits=Limits(), now=NOW, is_server=False, element_errors=errors)


def kept(inspection: Inspection, features: frozenset[str] | None = FEATURES) -> list[str]:
    """Return the feature names of what is kept."""
    batch = EvaluationBatch.FromString(inspection.judge(features).evaluations)
    return [evaluation.feature_name for evaluation in batch.evaluations]


KINDS = st.sampled_from(["known", "long", "unknown", "invalid", "error", "anonymous"])


def evaluation_of(kind: str) -> Evaluation:
    """Return an evaluation of a *kind*; an error leaves an empty one."""
    return {
        "known": valid_evaluation(),
        "long": valid_evaluation(feature_name="checkout", variant="x" * 1000),
        "unknown": valid_evaluation(feature_name="unheard_of"),
        "invalid": valid_evaluation(feature_name="unheard_of", variant="\0"),
        "error": Evaluation(),
        "anonymous": valid_evaluation(identity_identifier=""),
    }[kind]


@given(kinds=st.lists(KINDS, max_size=40))
@settings(deadline=None)
def test_each_evaluation_gets_its_own_verdict(kinds: list[str]) -> None:
    """Counts add up, each verdict is that of its evaluation, and what is kept is kept in its order."""
    errors = tuple(
        (index, f"evaluations[{index}].enabled", "It is no boolean.")
        for index, kind in enumerate(kinds)
        if kind == "error"
    )

    verdict = inspected(*map(evaluation_of, kinds), errors=errors).judge(FEATURES)

    accepted = [kind for kind in kinds if kind in {"known", "long", "anonymous"}]
    rejected = {
        index: "variant" if kind == "invalid" else "enabled"
        for index, kind in enumerate(kinds)
        if kind in {"invalid", "error"}
    }
    expected = EvaluationBatch(evaluations=map(evaluation_of, accepted))
    for evaluation in expected.evaluations:
        evaluation.ClearField("identity_identifier")
    assert verdict.evaluations == expected.SerializeToString(deterministic=True)
    assert verdict.outcome.accepted == len(accepted)
    assert verdict.outcome.filtered == kinds.count("unknown")
    assert verdict.outcome.rejected == len(rejected)
    assert [(fault.index, fault.field) for fault in verdict.faults] == [
        (index, f"evaluations[{index}].{field}") for index, field in rejected.items()
    ]
    assert dict(verdict.filtered) == ({"unheard_of": kinds.count("unknown")} if "unknown" in kinds else {})


def test_errors_of_the_transport_come_as_they_are() -> None:
    """The first error of an element stands, path and description clipped to what can be sent."""
    errors = (
        (1, "evaluations[1].enabled", "It is no boolean."),
        (1, "evaluations[1].value", "Second."),
        (0, "p" * 300, "d" * 500),
    )

    faults = inspected(Evaluation(), Evaluation(), valid_evaluation(), errors=errors).faults

    assert [(fault.index, fault.field, fault.description) for fault in faults] == [
        (0, "p" * 200, "d" * 400),
        (1, "evaluations[1].enabled", "It is no boolean."),
    ]


def test_an_element_error_counts_whatever_was_left_in_its_place() -> None:
    """An element that the transport could not read is rejected even if what it left there looks valid."""
    inspection = inspected(valid_evaluation(), errors=((0, "evaluations[0].value", "It is no JSON."),))

    assert [fault.field for fault in inspection.faults] == ["evaluations[0].value"]


def test_names_match_exactly() -> None:
    """A feature is known by its exact, case-sensitive name, long ones and short ones."""
    long_name = "x" * 500
    inspection = inspected(
        *(valid_evaluation(feature_name=name) for name in ("checkout", "Checkout", "checkout ", long_name, "é" * 70))
    )

    assert kept(inspection, frozenset({"checkout", long_name, "é" * 70})) == ["checkout", long_name, "é" * 70]


def test_an_environment_may_take_any_name() -> None:
    """Where the features are any, nothing is filtered; invalid is invalid still."""
    inspection = inspected(valid_evaluation(feature_name="whatever"), valid_evaluation(feature_name="\0"))

    assert kept(inspection, None) == ["whatever"]


def test_unknown_names_come_once_each_in_their_order() -> None:
    """Distinct unknown names are told by first appearance, also where one is examined and one is not."""
    names = ["b", "a", "b", "c", "a"]
    inspection = inspected(
        *(valid_evaluation(feature_name=name, variant="x" * (200 * n)) for n, name in enumerate(names))
    )

    assert [*inspection.unknown(FEATURES).values()] == ["b", "a", "c"]
    assert dict(inspection.judge(FEATURES).filtered) == {"b": 2, "a": 2, "c": 1}


def test_nothing_accepted_leaves_no_bytes() -> None:
    """A batch of which all was filtered keeps no evaluations."""
    assert inspected(valid_evaluation(feature_name="unheard_of")).judge(FEATURES).evaluations == b""


def test_the_digest_is_that_of_the_content() -> None:
    """The same content has the same digest, whatever its id, its form on the wire and its unknown fields."""
    evaluation = valid_evaluation(value=Value(struct_value={"fields": {k: Value(bool_value=True) for k in "abcdefg"}}))
    raw = EvaluationBatch(evaluations=[evaluation]).SerializeToString()
    name, rest = evaluation.SerializeToString()[:15], evaluation.SerializeToString()[15:] + b"\xa0\x06\x01"
    shuffled = Evaluation.FromString(rest + name)

    plain = inspected(evaluation)
    others = [
        inspected(evaluation, batch_id="b1"),
        inspected(shuffled),
        inspect(EvaluationBatch.FromString(raw + b"\xa0\x06\x01"), limits=Limits(), now=NOW, is_server=True),
        inspect(EvaluationBatch.FromString(raw), limits=Limits(count_client=0), now=0.0, is_server=False),
    ]

    assert len(plain.digest()) == 16
    assert {other.digest() for other in others} == {plain.digest()}


@given(
    first=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5), max_size=4),
    second=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5), max_size=4),
)
@settings(deadline=None)
def test_other_content_has_another_digest(first: list[str], second: list[str]) -> None:
    """Digests are equal exactly where contents are."""
    digests = [
        inspected(*(valid_evaluation(feature_name=name) for name in names)).digest() for names in (first, second)
    ]

    assert (digests[0] == digests[1]) == (first == second)


@pytest.mark.parametrize(
    "errors",
    [
        (),
        ((0, "evaluations[0].enabled", "It is a string."),),
        ((1, "evaluations[0].enabled", "It is a string."),),
        ((0, "evaluations[0].value", "It is a string."),),
        ((0, "evaluations[0].enabled", "It is a number."),),
        ((0, "evaluations[0].enabled", "It is a string."), (1, "evaluations[1].enabled", "It is a \ud800.")),
    ],
)
def test_what_could_not_be_read_counts_in_the_digest(errors: tuple[ElementError, ...]) -> None:
    """Two batches that differ only in what a transport could not read have different digests; equal ones have one."""
    reference = ((0, "evaluations[0].enabled", "It is a string."),)
    batch = [Evaluation(), Evaluation(), valid_evaluation()]

    digests = [inspected(*batch, errors=given).digest() for given in (errors, reference)]

    assert (digests[0] == digests[1]) == (errors == reference)


@pytest.mark.parametrize("errors", [(), ((0, "evaluations[0].enabled", "It is a string."),)])
def test_a_keyed_digest_proves_nothing_without_its_key(errors: tuple[ElementError, ...]) -> None:
    """Under a key the same content has one digest, and another than under any other key."""
    inspections = [inspected(valid_evaluation(identity_identifier="user_1"), errors=errors) for _ in range(2)]
    keyed = {inspection.digest(b"k" * 64) for inspection in inspections}

    assert len(keyed) == 1
    assert len(keyed | {inspections[0].digest(), inspections[0].digest(b"k"), inspections[0].digest(b"l")}) == 4


def test_an_empty_batch_is_inspected_too() -> None:
    """An empty batch keeps nothing and rejects nothing, and has a digest."""
    inspection = inspected()

    assert (inspection.content, list(inspection.names), inspection.faults) == (b"", [], ())
    assert len(inspection.digest()) == 16
