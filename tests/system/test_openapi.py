"""
/openapi.json against a running service: whatever is sent of what it describes, and of what it does not, the answer is
one that it describes. See tests/support/documented.py for the checks.

Much of what the schemas let through is refused, since the contract says in words alone which texts a page token, a time
zone or a feature's name may be; but it is never refused as MALFORMED, which is what schemas are about, unless for a
moment that no Timestamp can be. And what they do not let through is refused, but for an evaluation, which costs itself
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from support.documented import fits, is_no_timestamp, play, refused
from support.reading import post, wait_for_total
from support.server import RunningServer

pytestmark = pytest.mark.system

KEY = "documented-key"
TOKEN = "documented-admin-token"
ENVIRONMENTS = f"""
[[environments]]
name = "documented"
keys = ["{KEY}"]
features = "any"

[[tokens]]
token = "{TOKEN}"
role = "admin"
"""
# Operation → what it answers where all is well.
OPERATIONS = {
    "POST /api/v2/analytics/evaluations": 202,
    "GET /api/v2/analytics/environments": 200,
    "GET /api/v2/analytics/features": 200,
    "GET /api/v2/analytics/counts": 200,
    "GET /api/v2/analytics/evaluations": 200,
    "GET /api/v2/analytics/exposures": 200,
    "GET /api/v2/analytics/unknown-features": 200,
    "GET /api/v2/analytics/intake": 200,
    "GET /api/v2/analytics/export": 200,
    "DELETE /api/v2/analytics/identities/{identity_identifier}": 200,
}
SECONDS = 30


@pytest.fixture(scope="module")
def server(server_factory: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """Return a service that holds evaluations of every kind that answers can have."""
    environments = tmp_path_factory.mktemp("openapi") / "environments.toml"
    environments.write_text(ENVIRONMENTS)
    server = server_factory(environments=environments)
    now = datetime.now(UTC)
    evaluations = [
        {
            "feature_name": f"feature_{number % 3}",
            "enabled": number % 2 == 0,
            "value": [None, True, 1.5, "text", [1, {"deep": []}], {"a": None}][number % 6],
            "evaluation_timestamp": (now - timedelta(minutes=number)).isoformat(),
            "identity_identifier": f"identity_{number % 5}",
            "identity_traits": [{"trait_key": "plan", "trait_value": number}],
            "segment_names": ["premium"],
            "variant": "b",
            "reason": "SPLIT",
            "metadata": {"page": [1, None]},
        }
        for number in range(60)
    ]
    status, _ = post(server, {"evaluations": evaluations, "batch_id": "all kinds"}, key=KEY)
    assert 202 == status
    assert 60 == wait_for_total(server, 60, seconds=SECONDS)
    return server


@pytest.fixture(scope="module")
def schema(server: RunningServer) -> Any:
    """Return the document of the service, with credentials for both of its security schemes."""
    credentials = {"environmentKey": {"api_key": KEY}, "readToken": {"bearer": TOKEN}}
    config = SchemathesisConfig.from_dict({"auth": {"openapi": credentials}})
    return schemathesis.openapi.from_url(f"{server.http_url}/openapi.json", config=config)


def test_every_operation_is_called(schema: Any) -> None:
    """The document has these operations and no other."""
    assert sorted(OPERATIONS) == sorted(result.ok().label for result in schema.get_all_operations())


@pytest.mark.parametrize("operation", OPERATIONS)
def test_some_cases(server: RunningServer, schema: Any, operation: str) -> None:
    """A few requests of each operation get answers that the document describes."""
    call(server, schema, operation, 6)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_thousand_cases(server: RunningServer, schema: Any, operation: str) -> None:
    """A thousand requests of each operation get answers that the document describes, and none of them is a 5xx."""
    seen = call(server, schema, operation, 500)

    assert 1_000 <= sum(seen.values())
    assert seen[OPERATIONS[operation]] > 50
    assert any(400 <= status < 500 for status in seen)


def call(server: RunningServer, schema: Any, label: str, cases: int) -> Mapping[int, int]:
    """Send so many *cases* of an operation that fit the document, and as many that do not."""
    (operation,) = [result.ok() for result in schema.get_all_operations() if result.ok().label == label]
    with requests.Session() as session:
        return play(
            operation,
            cases,
            never_malformed,
            refused_but_for_evaluations,
            base_url=server.http_url,
            session=session,
            timeout=SECONDS,
        )


def never_malformed(context: Any, response: Any, case: Any) -> None:
    """Check that what fits the schemas is not refused for not fitting the messages, but for moments out of their range."""
    if fits(case) and response.status_code == 400:
        details = response.json()["details"]
        if "MALFORMED" in [detail.get("reason") for detail in details]:
            found = [each["description"] for detail in details for each in detail.get("fieldViolations", ())]
            assert found, response.text
            assert all(is_no_timestamp(case, description) for description in found), response.text


def refused_but_for_evaluations(context: Any, response: Any, case: Any) -> None:
    """Check that what does not fit is refused, unless it is an evaluation and counted as rejected."""
    if response.status_code != 202 or not response.json()["rejected_count"]:
        refused(context, response, case)
