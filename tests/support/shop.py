"""What docs/queries.md asks about: a shop of four features, and what was sent of them in one week, the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from support.reading import post, wait_for_total
from support.server import RunningServer

CLIENT_KEY = "key-of-the-shop"
SERVER_KEY = "ser.key-of-the-shop"
ENVIRONMENTS = f"""
[[environments]]
name = "shop"
keys = ["{CLIENT_KEY}", "{SERVER_KEY}"]
features = ["button_colour", "checkout_v2", "dark_mode", "search_ranking"]
"""
# The percentage of people who get `checkout_v2`, on each day from Monday, 9 February 2026 on.
ROLLOUT = (10, 10, 25, 25, 50, 50, 100)
FIRST_DAY = 9
PEOPLE = 20
EXPERIMENT_PEOPLE = 40
SWITCHED = 7

Batch = tuple[str, str, list[dict[str, Any]]]


def fill(server: RunningServer) -> None:
    """Send everything, in the same order each time, and return once it can be asked for."""
    recorded = 0
    for number, (key, sdk, evaluations) in enumerate(_batches()):
        batch = {"batch_id": f"shop-{number:02}", "evaluations": evaluations}
        status, answer = post(server, batch, key=key, headers={"User-Agent": sdk})
        assert status == 202, answer
        recorded += answer["accepted_count"]
    assert wait_for_total(server, recorded, seconds=20) == recorded


def _batches() -> Iterator[Batch]:
    yield CLIENT_KEY, "ios-sdk/1.2.0", [_dark_mode(person) for person in range(1, 7)]
    for day, percent in enumerate(ROLLOUT):
        people = range(1, PEOPLE + 1)
        yield SERVER_KEY, "python-sdk/3.8.0", [_checkout(day, person, percent) for person in people]
    for sdk, rest in (("js-sdk/4.1.0", 0), ("js-sdk/4.2.0", 1)):
        people = range(1, EXPERIMENT_PEOPLE + 1)
        yield CLIENT_KEY, sdk, [_button(person) for person in people if person % 2 == rest]
    yield CLIENT_KEY, "js-sdk/4.2.0", [_button(SWITCHED, day=13, variant="green")]
    yield CLIENT_KEY, "js-sdk/4.1.0", list(_not_recorded())


def _dark_mode(person: int) -> dict[str, Any]:
    return _evaluation("dark_mode", person, 9, f"08:{person:02}") | {"enabled": True, "value": True}


def _checkout(day: int, person: int, percent: int) -> dict[str, Any]:
    enabled = person * 100 <= percent * PEOPLE
    plan = "premium" if person % 4 == 0 else "free"
    segments = ["beta"] * (person <= 5) + ["premium_users"] * (plan == "premium")
    return _evaluation("checkout_v2", person, FIRST_DAY + day, f"12:{person:02}") | {
        "enabled": enabled,
        "value": "new" if enabled else "old",
        "reason": "SPLIT",
        "identity_traits": [{"trait_key": "plan", "trait_value": plan}],
        "segment_names": segments,
    }


def _button(person: int, *, day: int = 10, variant: str = "") -> dict[str, Any]:
    chosen = variant or ("green" if person % 5 in {1, 3} else "blue")
    version = "7.1" if person % 3 else "7.2"
    return _evaluation("button_colour", person, day, f"18:{person:02}") | {
        "enabled": True,
        "value": {"blue": "#0055ff", "green": "#00aa55"}[chosen],
        "variant": chosen,
        "reason": "SPLIT",
        "identity_traits": [{"trait_key": "app_version", "trait_value": version}],
    }


def _not_recorded() -> Iterator[dict[str, Any]]:
    """Yield evaluations of names that do not exist, and two that are invalid beside one that is not."""
    for person in range(1, 4):
        yield _button(person) | {"feature_name": "Button_Colour"}
    for person in range(1, 3):
        yield _checkout(0, person, 0) | {"feature_name": "chekout_v2"}
    yield _button(1) | {"evaluation_timestamp": "yesterday"}
    undecided = _button(2)
    del undecided["enabled"]
    yield undecided
    yield _button(1, day=11)


def _evaluation(feature: str, person: int, day: int, time: str) -> dict[str, Any]:
    return {
        "feature_name": feature,
        "evaluation_timestamp": f"2026-02-{day:02}T{time}:00Z",
        "identity_identifier": f"user_{person:02}",
    }


def conversions() -> str:
    """Return a table of an analyst's own, as CSV: who bought, and when; some before they were exposed."""
    buyers = (person for person in range(1, EXPERIMENT_PEOPLE + 1) if person % 3 == 0 or person % 10 == 1)
    rows = (f"user_{person:02},2026-02-{10 if person % 9 == 0 else 12}T09:00:00Z\n" for person in buyers)
    return "identity_identifier,bought_at\n" + "".join(rows)
