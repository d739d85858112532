from __future__ import annotations

import pytest
from flagledger.query.likely import LikelyMatches
from hypothesis import given
from hypothesis import strategies as st

FEATURES = ["checkout", "new-dashboard", "new_checkout_flow", "Beta", "beta.pricing", "straße", "x"]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("Checkout", "checkout"),
        ("STRASSE", "straße"),
        ("new_dashboard", "new-dashboard"),
        ("NewDashboard", "new-dashboard"),
        ("beta_pricing", "beta.pricing"),
        ("chekout", "checkout"),
        ("checkuot", "checkout"),
        ("checkouts", "checkout"),
        ("new_chekout_flow", "new_checkout_flow"),
        ("new-checkout-flows", "new_checkout_flow"),
        ("X", "x"),
        ("checks", None),
        ("payments", None),
        ("y", None),
        ("", None),
        ("---", None),
        ("checkout" * 20, None),
    ],
)
def test_matches(name: str, match: str | None) -> None:
    """Another case, other separators and a slip of the fingers are told; another name is not."""
    assert match == LikelyMatches(FEATURES).match(name)


def test_the_nearest_comes_first() -> None:
    """Case goes before separators, separators before slips, and of several that are alike the first by name is told."""
    features = LikelyMatches(["a-b-c-d-e-f", "abcdef", "ABCDEF", "abcdeg"])

    assert "ABCDEF" == features.match("AbCdEf")
    assert "ABCDEF" == features.match("a_b_c_d_e_f")
    assert "abcdeg" == features.match("abcdegg")


def test_an_environment_without_features_has_no_match() -> None:
    """Where there is nothing there is nothing that was meant."""
    assert LikelyMatches([]).match("checkout") is None


def test_a_slip_is_found_among_many() -> None:
    """The bound on what is compared leaves room for the right one among thousands that share most of the name."""
    features = LikelyMatches(f"team-{i % 40}-experiment-{i}-enabled" for i in range(10_000))

    assert "team-17-experiment-5737-enabled" == features.match("team-17-experiment-5737-enabeld")
    assert "team-17-experiment-5737-enabled" == features.match("team-17-experimnt-5737-enabled")


@given(st.sets(st.text(max_size=8), max_size=8), st.text(max_size=8))
def test_a_match_is_a_feature(features: set[str], name: str) -> None:
    """Whatever is asked for, what was meant is one of the features; each is meant by its own name."""
    likely = LikelyMatches(features)

    assert likely.match(name) in {None, *features}
    assert all(likely.match(feature) is not None for feature in features)


def test_comparing_has_an_end() -> None:
    """Long names that are all alike are compared as far as there is time; those of another case are told all the same."""
    features = LikelyMatches(f"{'a' * 60}-{i}-{'b' * 30}" for i in range(1_000))
    slips = [features.match(f"{'a' * 59}c-{i}-{'b' * 30}") for i in range(500)]

    assert slips[0] is not None
    assert slips[-1] is None
    assert f"{'a' * 60}-7-{'b' * 30}" == features.match(f"{'A' * 60}_7_{'b' * 30}")
