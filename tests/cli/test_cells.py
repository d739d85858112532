from __future__ import annotations

from typing import Any

import pytest
from flagledger.cli.cells import identities, integer, number, share, size, time


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (3 << 40, "3.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_a_size_is_read_at_a_glance(amount: int, expected: str) -> None:
    """A number of bytes is shown in the unit that suits it."""
    assert expected == size(amount)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (12, 12),
        ("9007199254740993", 9007199254740993),
        (None, 0),
        ("x", 0),
        ([], 0),
        (float("inf"), 0),
        (float("nan"), 0),
    ],
)
def test_an_integer_is_what_json_makes_of_it(value: Any, expected: int) -> None:
    """A number, or a text of one; whatever else a server sends is no traceback."""
    assert expected == integer(value)


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), ("0.5", 0.5), (None, 0.0), ({}, 0.0)])
def test_a_double_is_what_json_makes_of_it(value: Any, expected: float) -> None:
    """So is a double."""
    assert expected == number(value)


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, ""),
        (0, 3, "0.0 %"),
        (1, 3, "33.3 %"),
        (1, 10**6, "<0.1 %"),
        (10**6 - 1, 10**6, ">99.9 %"),
        (3, 3, "100.0 %"),
    ],
)
def test_a_share_is_all_or_none_only_where_it_is(part: int, whole: int, expected: str) -> None:
    """Rounding makes neither all nor none of what is not."""
    assert expected == share(part, whole)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2026-02-10T11:00:00.123456Z", "2026-02-10T11:00:00Z"),
        ("2026-02-10T11:00:00.5+01:00", "2026-02-10T11:00:00+01:00"),
        ("2026-02-10T11:00:00Z", "2026-02-10T11:00:00Z"),
        (None, ""),
    ],
)
def test_a_time_is_to_the_second(timestamp: str | None, expected: str) -> None:
    """The fraction of a second goes, the zone stays."""
    assert expected == time(timestamp)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, "1,234"),
        ({"identities_approximate": True}, "≈1,234"),
        ({"identities_lower_bound": True}, "≥1,234"),
        ({"identities_lower_bound": True, "identities_approximate": True}, "≥≈1,234"),
        ({"identities_lower_bound": False, "identities_approximate": "yes"}, "1,234"),
    ],
)
def test_identities_are_as_sure_as_the_server_is(said: dict[str, Any], expected: str) -> None:
    """A lower bound has its sign, an estimate has its own, and what is both has both."""
    assert expected == identities("1234", said)
