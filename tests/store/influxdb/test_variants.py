from __future__ import annotations

import json
import random

import pytest
from flagledger.store.influxdb import variants
from flagledger.store.influxdb.variants import MAX_CHARACTERS, MAX_VARIANTS, learn, named


def of(feature: str, *names: str, environment: str = "production") -> list[tuple[str, str, str]]:
    """Return what is seen of a feature."""
    return [(environment, feature, name) for name in names]


def test_the_first_twenty_have_names() -> None:
    """The first twenty variants of a feature keep their names, whatever comes later; the rest are `other`."""
    early = [f"v{i:02}" for i in range(15)]
    late = [f"a{i:02}" for i in range(15)]
    memory = learn(learn({}, of("checkout", *early)), of("checkout", *late))

    shown = [named(memory, "production", "checkout", name) for name in early + late]

    assert [*early, *late[:5], *["other"] * 10] == shown
    assert MAX_VARIANTS == len(set(shown)) - 1


def test_each_feature_of_each_environment_has_its_own() -> None:
    """Variants of one feature take no place of another's, nor of the same in another environment."""
    many = [f"v{i:02}" for i in range(MAX_VARIANTS)]
    memory = learn({}, of("a", *many) + of("b", "x") + of("a", "x", environment="staging"))

    assert ["other", "x", "x"] == [
        named(memory, "production", "a", "x"),
        named(memory, "production", "b", "x"),
        named(memory, "staging", "a", "x"),
    ]
    assert "other" == named(memory, "staging", "b", "x")


def test_long_names_are_other() -> None:
    """A name of more than 64 characters is none; it takes no place."""
    short, long = "é" * MAX_CHARACTERS, "é" * (MAX_CHARACTERS + 1)
    memory = learn({}, of("a", short, long))

    assert (short, "other") == (named(memory, "production", "a", short), named(memory, "production", "a", long))
    assert {"variants": {"production": {"a": [short]}}} == memory


def test_none_and_other_take_no_place() -> None:
    """No variant stays none, and one that is called `other` is that."""
    memory = learn({}, of("a", "", "other"))

    assert {} == memory
    assert ("", "other") == (named(memory, "production", "a", ""), named(memory, "production", "a", "other"))


def test_whatever_order_they_are_seen_in() -> None:
    """The same variants make the same memory, so that a range that is read again becomes the same lines."""
    seen = [one for feature in "abc" for one in of(feature, *(f"v{i}" for i in range(30)))]
    shuffled = random.Random(1).sample(seen * 2, len(seen) * 2)

    assert learn({}, seen) == learn({}, shuffled)


def test_what_was_known_is_not_changed() -> None:
    """Learning makes a new memory, as JSON carries it; the old one stays, and is returned where nothing is new."""
    before = learn({"more": 1}, of("a", "x") + of("b", "y"))
    text = json.dumps(before)
    after = learn(before, of("a", "z") + of("c", "z"))

    assert text == json.dumps(before)
    assert {"more": 1, "variants": {"production": {"a": ["x", "z"], "b": ["y"], "c": ["z"]}}} == after
    assert after == json.loads(json.dumps(after))
    assert after is learn(after, of("a", "x", "z", ""))


def test_features_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more features than are remembered, those that were there first keep their variants, and others have `other`."""
    monkeypatch.setattr(variants, "MAX_FEATURES", 3)
    memory = learn({}, of("a", "x") + of("b", "x", environment="staging"))
    memory = learn(memory, of("c", "x") + of("d", "x") + of("a", "y"))

    assert ["x", "y", "x", "other"] == [
        named(memory, "production", "a", "x"),
        named(memory, "production", "a", "y"),
        named(memory, "production", "c", "x"),
        named(memory, "production", "d", "x"),
    ]
