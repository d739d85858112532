"""How much an evaluation and a batch may hold. The defaults are those that the contract's comments name."""

from __future__ import annotations

from dataclasses import dataclass, replace

_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What admission accepts at most.

    Characters are Unicode code points; bytes are those of the serialised protobuf field.

    Attributes:
        max_evaluations: Evaluations in a batch.
        batch_id_characters: Length of a batch id.
        feature_name_characters: Length of a feature name.
        identity_characters: Length of an identity identifier.
        trait_key_characters: Length of a trait's key.
        trait_string_characters: Length of a trait's value where that is a string.
        traits_bytes: Size of all traits of an evaluation together.
        segment_name_characters: Length of each segment name.
        segments_bytes: Size of all segment names of an evaluation together.
        label_characters: Length of `variant`, and of `reason`.
        value_bytes: Size of the value.
        metadata_bytes: Size of the metadata.
        depth: Levels of objects and arrays in a value, a trait's value or the metadata.
        count_client: `count` under a client key.
        count_server: `count` under a server key.
        earliest: Epoch seconds after which an evaluation must lie.
        ahead_seconds: How far before the caller's clock the server's may be.
        enabled_required: Whether an evaluation must say whether its feature was enabled.
        unanswered_batches: Batches of one stream that are read before the first of them is answered.
    """

    max_evaluations: int = 10_000
    batch_id_characters: int = 128
    feature_name_characters: int = 2_000
    identity_characters: int = 2_000
    trait_key_characters: int = 200
    trait_string_characters: int = 2_000
    traits_bytes: int = 32 * _KIB
    segment_name_characters: int = 2_000
    segments_bytes: int = 32 * _KIB
    label_characters: int = 2_000
    value_bytes: int = 128 * _KIB
    metadata_bytes: int = 8 * _KIB
    depth: int = 32
    count_client: int = 10_000
    count_server: int = 1_000_000
    earliest: int = 1_577_836_800  # 2020-01-01T00:00:00Z
    ahead_seconds: int = 86_400
    enabled_required: bool = True
    unanswered_batches: int = 64

    def of_older_sdks(self) -> Limits:
        """
        Return the limits of SDKs whose own protocols know less: they report counts, under any key, of more than one process's
        seconds, and some do not say whether a feature was enabled. What the limits before permit, these do too.
        """
        return replace(self, enabled_required=False, count_client=max(self.count_client, self.count_server))
