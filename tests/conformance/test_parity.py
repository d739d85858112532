"""The kit against a running server, over both protocols and the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conformance.replay import Answer, Kit, Replay
from support.server import KIT_ENVIRONMENTS, RunningServer

pytestmark = pytest.mark.system

KIT = Kit.load()
BOTH = ["grpc", "http"]
TIMES = 50


def protocols(row: dict[str, Any]) -> list[str]:
    """Return the protocols that *row* is for."""
    return row.get("protocols", BOTH)


def streams(row: dict[str, Any]) -> bool:
    """Return whether *row* can go over a stream, which reads no idempotency-key and is a call of its own."""
    return (
        "grpc" in protocols(row)
        and "while_streaming" not in row
        and not any("headers" in step for step in KIT.steps(row))
    )


CASES = [
    pytest.param(row, protocol, id=f"{row['id']}-{protocol}")
    for row in KIT.rows
    for protocol in [*protocols(row), *(["stream"] if streams(row) else [])]
]
WITH_DETAILS = [
    pytest.param(row, id=row["id"])
    for row in KIT.rows
    if any("reason" in step["expect"] or "rejected" in step["expect"] for step in KIT.steps(row))
]


@pytest.fixture(scope="module")
def replays(
    running_server: RunningServer, server_factory: Callable[..., RunningServer]
) -> Iterator[Callable[[dict[str, Any]], Replay]]:
    """Return the replay for a row: each of the kit's servers is started when its first row comes."""
    started: dict[str, Replay] = {}

    def of(row: dict[str, Any]) -> Replay:
        name = row.get("server", "default")
        if name not in started:
            variables = KIT.content["servers"][name]
            server = server_factory(environments=KIT_ENVIRONMENTS, variables=variables) if variables else running_server
            started[name] = Replay(KIT, server.http_url, server.grpc_target)
        return started[name]

    yield of
    for replay in started.values():
        replay.close()


@pytest.mark.parametrize(("row", "protocol"), CASES)
def test_verdict(replays: Callable[[dict[str, Any]], Replay], row: dict[str, Any], protocol: str) -> None:
    """A request of the kit gets the kit's verdict."""
    _, differences = replays(row).run(row, protocol)

    assert differences == []


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row["id"]) for row in KIT.rows if set(protocols(row)) == set(BOTH)]
)
def test_same_over_both(replays: Callable[[dict[str, Any]], Replay], row: dict[str, Any]) -> None:
    """A request gets the same verdict over both protocols, descriptions included."""
    over_grpc, _ = replays(row).run(row, "grpc")
    over_http, _ = replays(row).run(row, "http")

    assert [answer.verdict() for answer in over_grpc] == [answer.verdict() for answer in over_http]


@pytest.mark.parametrize("protocol", ["grpc", "http", "stream"])
def test_same_answer(replays: Callable[[dict[str, Any]], Replay], protocol: str) -> None:
    """A key that is missing, unknown, expired or inactive gets one answer, byte for byte: it cannot be told which."""
    groups: dict[str, set[tuple[object, ...]]] = {}
    for row in KIT.rows:
        group = row.get("expect", {}).get("same_answer")
        if group is not None and (protocol in protocols(row) or (protocol == "stream" and streams(row))):
            answers, _ = replays(row).run(row, protocol)
            groups.setdefault(group, set()).update(_told(answer) for answer in answers)

    assert list(groups) == ["unauthenticated"]
    assert len(groups["unauthenticated"]) == 1


def _told(answer: Answer) -> tuple[object, ...]:
    # The date is that of the answer, and a connection is closed where a large body was left unread: neither tells of the key.
    headers = tuple(sorted(item for item in answer.headers.items() if item[0] not in {"date", "connection"}))
    return (*answer.raw, headers)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", WITH_DETAILS)
def test_details_many_times(replays: Callable[[dict[str, Any]], Replay], row: dict[str, Any]) -> None:
    """Details arrive every time: none is so long that it is lost in trailers now and then."""
    differences = [
        difference
        for _ in range(TIMES)
        for protocol in protocols(row)
        for difference in replays(row).run(row, protocol)[1]
    ]

    assert differences == []
