"""The stub answers as a Flagsmith does: what its own SDK makes of it, and what browsers are told."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from flagsmith import Flagsmith
from support.flagsmith_stub import FlagsmithStub, StubFeature, flagsmith_stub

CLIENT, SERVER = "client-key", "ser.server-key"
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def stub() -> Iterator[FlagsmithStub]:
    """Run a Flagsmith with one environment."""
    with flagsmith_stub() as stub:
        stub.environment(
            CLIENT,
            SERVER,
            features=(
                "on",
                StubFeature("off", enabled=False, value="red"),
                StubFeature("hidden", server_key_only=True),
            ),
        )
        yield stub


def ask(stub: FlagsmithStub, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
    """Send a request; `X_Environment_Key` is a header."""
    connection = http.client.HTTPConnection("127.0.0.1", stub.port, timeout=10)
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    connection.request(method, path, None if body is None else json.dumps(body), named)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): text for name, text in answer.getheaders()}, content


def test_the_sdk_reads_flags(stub: FlagsmithStub) -> None:
    """Flags of the environment and of an identity, as a client key shows them."""
    sdk = Flagsmith(environment_key=CLIENT, api_url=stub.url)
    environment, identity = sdk.get_environment_flags(), sdk.get_identity_flags("me", {"plan": "premium"})
    sdk.session.close()

    assert [("on", True, None), ("off", False, "red")] == [
        (flag.feature_name, flag.enabled, flag.value)  # type: ignore[union-attr]
        for flag in environment.all_flags()
    ]
    assert {"on", "off"} == set(identity.flags)
    assert (1, 1) == (stub.count("flags/"), stub.count("identities/", "POST"))


def test_the_sdk_evaluates_locally(stub: FlagsmithStub) -> None:
    """The document is whole: the SDK evaluates by it, for identities too."""
    sdk = Flagsmith(environment_key=SERVER, api_url=stub.url, enable_local_evaluation=True)
    flags, identity = sdk.get_environment_flags(), sdk.get_identity_flags("me")
    sdk.environment_data_polling_manager_thread.stop()
    sdk.environment_data_polling_manager_thread.join()
    sdk.session.close()

    assert {"on", "off", "hidden"} == set(flags.flags)
    assert "red" == identity.get_feature_value("off")
    assert 0 == stub.count("flags/")


def test_what_browsers_are_told(stub: FlagsmithStub) -> None:
    """The preflight permits the headers of the SDKs, without a key; answers may be read from any origin."""
    status, preflight, _ = ask(stub, "/api/v1/flags/", "OPTIONS", Origin="https://shop.example")
    _, answer, _ = ask(stub, "/api/v1/flags/", X_Environment_Key=CLIENT)
    allowed = preflight["access-control-allow-headers"].lower()

    assert 200 == status
    assert all(
        name in allowed
        for name in ("x-environment-key", "content-type", "flagsmith-sdk-user-agent", "flagsmith-application-name")
    )
    assert ("*", "*") == (preflight["access-control-allow-origin"], answer["access-control-allow-origin"])
    assert "Retry-After" == answer["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("path", "key", "status", "detail"),
    [
        ("flags/", None, 403, "Invalid or missing Environment key"),
        ("flags/", "wrong", 403, "Invalid or missing Environment Key"),
        ("environment-document/", CLIENT, 403, "Invalid or missing Environment key"),
        ("environment-document/", "ser.wrong", 403, "Invalid or missing Environment Key"),
        ("flags/?feature=none", CLIENT, 404, "Given feature not found"),
    ],
)
def test_refusals(stub: FlagsmithStub, path: str, key: str | None, status: int, detail: str) -> None:
    """Each with the status and the body of a Flagsmith."""
    answered, headers, body = ask(stub, f"/api/v1/{path}", **({} if key is None else {"X_Environment_Key": key}))

    assert (status, "application/json", {"detail": detail}) == (answered, headers["content-type"], json.loads(body))


def test_paths(stub: FlagsmithStub) -> None:
    """A path without its slash is redirected, a method that is not there is named, and analytics are none of its business."""
    redirected = ask(stub, "/api/v1/flags", X_Environment_Key=CLIENT)
    wrong_method = ask(stub, "/api/v1/flags/", "POST", X_Environment_Key=CLIENT)
    analytics = ask(stub, "/api/v1/analytics/flags/", "POST", {"on": 1}, X_Environment_Key=CLIENT)

    assert (301, "/api/v1/flags/") == (redirected[0], redirected[1]["location"])
    assert (405, "GET, HEAD, OPTIONS") == (wrong_method[0], wrong_method[1]["allow"])
    assert 404 == analytics[0]


def test_identities_by_query(stub: FlagsmithStub) -> None:
    """A browser SDK without traits asks with the identifier in the query."""
    status, _, body = ask(stub, "/api/v1/identities/?identifier=me", X_Environment_Key=CLIENT)
    answer = json.loads(body)

    assert 200 == status
    assert ("me", [], ["on", "off"]) == (
        answer["identifier"],
        answer["traits"],
        [flag["feature"]["name"] for flag in answer["flags"]],
    )


def test_a_document_is_conditional_by_the_second(stub: FlagsmithStub) -> None:
    """What was changed within the same second counts as unchanged, as with a Flagsmith."""
    _, headers, _ = ask(stub, "/api/v1/environment-document/", X_Environment_Key=SERVER)
    since = {"X_Environment_Key": SERVER, "If_Modified_Since": headers["last-modified"]}
    unchanged, _, body = ask(stub, "/api/v1/environment-document/", **since)
    stub.environments[0].updated_at = int(stub.environments[0].updated_at) + 0.9
    same_second, _, _ = ask(stub, "/api/v1/environment-document/", **since)
    stub.environments[0].touch()
    changed, _, _ = ask(stub, "/api/v1/environment-document/", **since)

    assert (304, b"", 304, 200) == (unchanged, body, same_second, changed)
