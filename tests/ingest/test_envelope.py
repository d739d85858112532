from __future__ import annotations

from dataclasses import replace

from flagledger.catalog.base import Environment, Grant
from flagledger.catalog.policy import PLAIN, Policy
from flagledger.ingest.admission import Verdict, inspect
from flagledger.ingest.envelope import compose_payload
from flagledger.ingest.limits import Limits
from flagledger.ingest.sdk import Sdk
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch
from flagledger.v1.query_service_pb2 import ORIGIN_CLIENT, ORIGIN_SERVER
from support.intake import FEATURES, NOW, valid_evaluation


def verdict_of(*evaluations: Evaluation) -> Verdict:
    """Return the verdict of a batch."""
    batch = EvaluationBatch(evaluations=evaluations)
    return inspect(batch, limits=Limits(), now=NOW, is_server=False).judge(FEATURES)


def record_of(
    verdict: Verdict, *, batch_id: str = "", is_server: bool = False, now: float = NOW, policy: Policy = PLAIN
) -> JournalRecord:
    """Return the payload as a reader of the journal sees it."""
    environment = Environment(name="production", features=FEATURES, policy=policy)
    grant = Grant(environment=environment, is_server=is_server)
    sdk = Sdk(name="flagsmith-python-sdk", version="3.8.0")
    return JournalRecord.FromString(
        compose_payload(batch_id=batch_id, grant=grant, sdk=sdk, receive_time=now, verdict=verdict)
    )


def discards_of(record: JournalRecord) -> list[tuple[str, str, int]]:
    """Return reason, name and entries of what was not kept."""
    return [(discard.reason, discard.name, discard.entry_count) for discard in record.envelope.discards]


def test_a_record_holds_the_batch_and_where_it_came_from() -> None:
    """A reader finds the evaluations as admitted, the id, and the envelope, and nothing else."""
    evaluations = [valid_evaluation(), valid_evaluation(feature_name="checkout", identity_identifier="user_1")]

    record = record_of(verdict_of(*evaluations), batch_id="b1", is_server=True, now=NOW + 0.123_456)

    expected = JournalRecord(evaluations=evaluations, batch_id="b1")
    expected.envelope.environment = "production"
    expected.envelope.receive_time.FromNanoseconds(int(NOW) * 10**9 + 123_456_000)
    expected.envelope.origin = ORIGIN_SERVER
    expected.envelope.sdk_name = "flagsmith-python-sdk"
    expected.envelope.sdk_version = "3.8.0"
    assert record == expected


def test_a_client_key_is_told_from_a_server_key() -> None:
    """The origin is the kind of the key."""
    assert record_of(verdict_of()).envelope.origin == ORIGIN_CLIENT


def test_what_was_not_kept_is_counted_by_reason_and_name() -> None:
    """Discards name the field that was wrong, without its index, and the unknown feature."""
    record = record_of(
        verdict_of(
            valid_evaluation(feature_name="unheard_of"),
            valid_evaluation(segment_names=["ok", "\0"]),
            valid_evaluation(segment_names=["\0"]),
            valid_evaluation(feature_name="unheard_of"),
            valid_evaluation(),
        )
    )

    assert discards_of(record) == [("invalid", "segment_names", 2), ("unknown_feature", "unheard_of", 2)]
    assert len(record.evaluations) == 1


def test_names_of_discards_are_bounded() -> None:
    """Past 100 names the entries are counted under an empty name, so that made-up names fill no journal."""
    names = [f"made_up_{n}" for n in range(150)]

    discards = discards_of(
        record_of(verdict_of(*(valid_evaluation(feature_name=name) for name in [*names, *names]), Evaluation()))
    )

    assert discards[0] == ("invalid", "feature_name", 1)
    assert discards[1:100] == [("unknown_feature", name, 2) for name in names[:99]]
    assert discards[100:] == [("unknown_feature", "", 2 * 51)]


def test_long_names_of_discards_are_clipped() -> None:
    """Where longer feature names are permitted, a discard keeps 2,000 characters of them."""
    batch = EvaluationBatch(evaluations=[valid_evaluation(feature_name="x" * 5000)])
    verdict = inspect(batch, limits=Limits(feature_name_characters=9000), now=NOW, is_server=False).judge(FEATURES)

    assert discards_of(record_of(verdict)) == [("unknown_feature", "x" * 2000, 1)]


def test_a_sample_is_told_with_its_rate() -> None:
    """A reader learns at which rate evaluations were kept, and how many were left out; the rate is there where none was."""
    verdict = verdict_of(valid_evaluation())

    some = record_of(replace(verdict, sampled_out=7), policy=Policy(sample_every=10))
    none = record_of(verdict, policy=Policy(sample_every=3))

    assert (some.envelope.sample_rate, discards_of(some)) == (0.1, [("sampled_out", "", 7)])
    assert (none.envelope.sample_rate, discards_of(none)) == (1 / 3, [])
