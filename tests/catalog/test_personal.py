from __future__ import annotations

import pytest
from flagledger.catalog.personal import in_words, kept_of_people
from flagledger.catalog.policy import PLAIN, Policy


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (PLAIN, "identities as sent, all traits, all metadata"),
        (
            Policy(identity="hash", traits=frozenset({"plan", "country"})),
            "pseudonyms of identities, traits country, plan, all metadata",
        ),
        (Policy(identity="drop", traits=frozenset(), metadata=frozenset()), "no identities, no traits, no metadata"),
        (Policy(traits=frozenset("abcdefg")), "identities as sent, traits a, b, c, d, e and 2 more, all metadata"),
    ],
)
def test_a_policy_is_told_in_words(policy: Policy, words: str) -> None:
    """What is kept of identities, traits and metadata is said, each."""
    assert words == in_words(policy)


def test_environments_of_one_policy_share_a_line() -> None:
    """Each policy has one line that names its environments, and the others one of their own."""
    drop = Policy(identity="drop")

    assert [
        "kept of people in a, c: identities as sent, all traits, all metadata",
        "kept of people in b: no identities, all traits, all metadata",
    ] == kept_of_people({"a": PLAIN, "b": drop, "c": PLAIN})
    assert ["kept of people in every environment: no identities, all traits, all metadata"] == kept_of_people({}, drop)
    assert [
        "kept of people in b: no identities, all traits, all metadata",
        "kept of people in every other environment: identities as sent, all traits, all metadata",
    ] == kept_of_people({"b": drop}, PLAIN)
