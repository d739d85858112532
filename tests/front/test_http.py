from __future__ import annotations

import asyncio
import gzip
import json
import socket
from dataclasses import replace

import grpc
import pytest
from flagledger.catalog.base import Grant
from flagledger.catalog.policy import Policy
from flagledger.errors import FlagledgerError, Reason
from flagledger.v1 import evaluation_pb2, evaluation_service_pb2
from front.conftest import MAX_BODY_BYTES, Fronts
from google.protobuf import json_format
from google.rpc import status_pb2
from grpc_status import rpc_status
from support.intake import CLIENT_KEY
from support.web import Response, request

PATH = "/api/v2/analytics/evaluations/"
EVALUATION = {"feature_name": "new_dashboard", "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}


async def post(fronts: Fronts, body: object, **headers: str) -> Response:
    """Send a batch under the client key."""
    given = {"X-Environment-Key": CLIENT_KEY} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await request(fronts.http, "POST", PATH, body, given)


async def test_answer(fronts: Fronts) -> None:
    """A batch is answered 202 with its counts, zeros and all, and nothing that was not set."""
    answer = await post(fronts, {"evaluations": [EVALUATION]})

    assert 202 == answer.status
    assert b'{"accepted_count":1,"filtered_count":0,"rejected_count":0,"duplicate":false}' == answer.body
    assert "application/json" == answer.headers["content-type"]


async def test_ignored_fields(fronts: Fronts) -> None:
    """Fields of an evaluation that the contract does not know are ignored, named in a header, and counted."""
    answer = await post(fronts, {"evaluations": [EVALUATION | {"colour": 1, "évil\r\nX-A: b": 2}]})

    assert 202 == answer.status
    assert "colour" in answer.headers["x-ignored-fields"]
    assert "x-a" not in answer.headers
    assert 2 == fronts.counted.ignored_fields


async def test_unknown_field_of_the_batch(fronts: Fronts) -> None:
    """An unknown field of the batch is a 400 that names it: a 202 would be a silent loss."""
    answer = await post(fronts, {"events": [EVALUATION]})

    assert 400 == answer.status
    assert "events" in answer.json()["message"] + json.dumps(answer.json()["details"])


async def test_element_error(fronts: Fronts) -> None:
    """A wrong type inside one evaluation costs that one alone, with the path of its field."""
    answer = await post(fronts, {"evaluations": [EVALUATION, EVALUATION | {"evaluation_timestamp": "yesterday"}]})

    assert (202, 1, 1) == (answer.status, answer.json()["accepted_count"], answer.json()["rejected_count"])
    [rejected] = answer.json()["rejected_evaluations"]
    assert (1, "evaluations[1].evaluation_timestamp") == (rejected["index"], rejected["field"])


@pytest.mark.parametrize("levels", [32, 33, 40])
async def test_depth(fronts: Fronts, levels: int) -> None:
    """A value that is too deep costs its evaluation alone."""
    value: object = 1
    for _ in range(levels):
        value = [value]

    answer = await post(fronts, {"evaluations": [EVALUATION, EVALUATION | {"value": value}]})

    assert 202 == answer.status
    assert (levels > 32) == answer.json()["rejected_count"]


@pytest.mark.parametrize("evaluations", [10_001, 40_001])
async def test_too_many(fronts: Fronts, evaluations: int) -> None:
    """A batch with too many evaluations is refused for that, before any is decoded, in the same words as over gRPC."""
    answer = await post(fronts, b'{"evaluations": [' + b"0," * (evaluations - 1) + b"0]}")
    calls = list(fronts.servicer.calls)
    over_grpc = evaluation_service_pb2.RecordEvaluationsRequest(
        batch=evaluation_pb2.EvaluationBatch(evaluations=[evaluation_pb2.Evaluation()] * 10_001)
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await fronts.stub.RecordEvaluations(over_grpc, metadata=[("x-environment-key", CLIENT_KEY)])

    assert (400, []) == (answer.status, calls)
    assert "BATCH_TOO_LONG" == answer.json()["details"][0]["reason"]
    assert rpc_status.from_call(refused.value) == json_format.ParseDict(answer.json(), status_pb2.Status())
    assert ["BATCH_TOO_LONG"] == fronts.counted.refusals


@pytest.mark.parametrize(
    ("body", "headers", "field"),
    [
        (b"{", {}, None),
        (b"", {}, None),
        (b'{"events": []}', {}, "events"),
        (b'{"batch_id": 1}', {}, "batch_id"),
        (b"no gzip", {"Content_Encoding": "gzip"}, None),
        (b"{}", {"Grpc_Timeout": "soon"}, None),
    ],
)
async def test_malformed(fronts: Fronts, body: bytes, headers: dict[str, str], field: str | None) -> None:
    """What is not the schema is MALFORMED, as over gRPC, with the field that is at fault; and counted."""
    answer = await post(fronts, body, **headers)
    details = {detail["@type"].rpartition(".")[2]: detail for detail in answer.json()["details"]}

    assert (400, 3) == (answer.status, answer.json()["code"])
    assert ("MALFORMED", "flagledger") == (details["ErrorInfo"]["reason"], details["ErrorInfo"]["domain"])
    assert field == (details["BadRequest"]["fieldViolations"][0]["field"] if "BadRequest" in details else None)
    assert ["MALFORMED"] == fronts.counted.refusals


async def test_refusals_are_counted(fronts: Fronts) -> None:
    """What HTTP or the front refuses is counted; what the servicer refuses it leaves to the servicer."""
    large = b"x" * (MAX_BODY_BYTES + 1)
    await request(fronts.http, "GET", "/nowhere")
    await request(fronts.http, "PUT", PATH, b"{}")
    await request(fronts.http, "POST", "/metrics", b"{}")
    await request(fronts.http, "POST", PATH, b"{}")
    await post(fronts, b"{}", Content_Type="text/plain")
    await post(fronts, large)
    await post(fronts, {"evaluations": [{}]})
    fronts.in_flight.acquire(256 * 1024)
    await post(fronts, b"{}")
    for _ in range(8):
        fronts.in_flight.enter()
    await post(fronts, b"{}")

    assert [
        "HTTP_404",
        "HTTP_405",
        "HTTP_405",
        "HTTP_415",
        "HTTP_413",
        "BYTES_IN_FLIGHT",
        "CALLS_IN_FLIGHT",
    ] == fronts.counted.refusals


async def test_announced_bodies_hold_nothing(fronts: Fronts) -> None:
    """Connections that announce large bodies and send next to nothing leave the budget to the others."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Environment-Key: {CLIENT_KEY}\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n "
    slow = [socket.create_connection(fronts.http) for _ in range(7)]
    for client in slow:
        client.sendall(head.encode())
    while fronts.in_flight.calls < 7:
        await asyncio.sleep(0.005)
    answer = await post(fronts, {"evaluations": [EVALUATION | {"variant": "x" * 1_000}]})
    for client in slow:
        client.close()

    assert 202 == answer.status


@pytest.mark.parametrize("encoded", [False, True])
async def test_too_large(fronts: Fronts, encoded: bool) -> None:  # noqa: FBT001
    """A body past the limit, as sent or inflated, is 413 without a delay."""
    body = json.dumps({"evaluations": [EVALUATION | {"variant": "x" * MAX_BODY_BYTES}]}).encode()
    headers = {"Content_Encoding": "gzip"} if encoded else {}

    answer = await post(fronts, gzip.compress(body) if encoded else body, **headers)

    assert 413 == answer.status
    assert 8 == answer.json()["code"]
    assert "retry-after" not in answer.headers
    assert 0 == fronts.in_flight.bytes


async def test_gzip(fronts: Fronts) -> None:
    """A gzip body is taken."""
    answer = await post(
        fronts, gzip.compress(json.dumps({"evaluations": [EVALUATION]}).encode()), Content_Encoding="gzip"
    )

    assert 202 == answer.status


async def test_order_of_refusals(fronts: Fronts) -> None:
    """When several apply: 404, 405, 401, 415, 413, 400."""
    large = b"x" * (MAX_BODY_BYTES + 1)
    wrong = {"Content-Type": "text/plain"}
    key = {"X-Environment-Key": CLIENT_KEY}

    answers = [
        await request(fronts.http, "PUT", "/nowhere", large, wrong),
        await request(fronts.http, "PUT", PATH, large, wrong),
        await request(fronts.http, "POST", PATH, large, wrong),
        await request(fronts.http, "POST", PATH, large, wrong | key),
        await request(fronts.http, "POST", PATH, large, key),
        await request(fronts.http, "POST", PATH, b"{", key),
    ]

    assert [404, 405, 401, 415, 413, 400] == [answer.status for answer in answers]
    assert all({"code", "message", "details"} == answer.json().keys() for answer in answers)
    assert "POST" in answers[1].headers["allow"]


async def test_one_answer_to_bad_keys(fronts: Fronts) -> None:
    """A key that is missing, empty or unknown gets one answer, byte for byte the same."""
    answers = [
        await request(fronts.http, "POST", PATH, b"{}", headers)
        for headers in ({}, {"X-Environment-Key": ""}, {"X-Environment-Key": "unknown"})
    ]

    assert {401} == {answer.status for answer in answers}
    assert 1 == len({answer.body for answer in answers})


async def test_retry_after(fronts: Fronts) -> None:
    """A refusal that passes carries Retry-After."""
    fronts.journal.refusal = FlagledgerError(Reason.JOURNAL_FULL, "The journal is full.")

    answer = await post(fronts, {"evaluations": [EVALUATION]})

    assert (429, "5") == (answer.status, answer.headers["retry-after"])


async def test_calls_in_flight(fronts: Fronts) -> None:
    """Past the limit of calls, both protocols together, the answer is 429 with a delay; afterwards all is as before."""
    fronts.journal.open.clear()
    held = [asyncio.create_task(post(fronts, {"evaluations": [EVALUATION]})) for _ in range(8)]
    while fronts.journal.waiting < 8:
        await asyncio.sleep(0.005)

    refused = await post(fronts, {"evaluations": [EVALUATION]})
    fronts.journal.open.set()
    answers = await asyncio.gather(*held)

    assert (429, "1") == (refused.status, refused.headers["retry-after"])
    assert [202] * 8 == [answer.status for answer in answers]
    assert (0, 0) == (fronts.in_flight.calls, fronts.in_flight.bytes)


async def test_unforeseen(fronts: Fronts) -> None:
    """A failure that nobody foresaw is a 500 that tells the caller nothing of itself."""
    fronts.servicer.failure = ZeroDivisionError("secret")

    answer = await post(fronts, {"evaluations": [EVALUATION]})

    assert 500 == answer.status
    assert b"secret" not in answer.body


async def test_client_gone(fronts: Fronts) -> None:
    """A client that goes away in the middle of its body leaves nothing in flight."""
    with socket.create_connection(fronts.http) as client:
        client.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Environment-Key: {CLIENT_KEY}\r\nContent-Length: 1000\r\n\r\n{{".encode()
        )
        while not fronts.in_flight.calls:
            await asyncio.sleep(0.005)
    for _ in range(400):
        if not fronts.in_flight.calls:
            break
        await asyncio.sleep(0.005)

    assert (0, 0) == (fronts.in_flight.calls, fronts.in_flight.bytes)


async def test_preflight(fronts: Fronts) -> None:
    """A browser of any origin may send, with the headers that SDKs set."""
    headers = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-environment-key,content-type,idempotency-key,flagsmith-sdk-user-agent",
    }

    preflight = await request(fronts.http, "OPTIONS", PATH, None, headers)
    answer = await post(fronts, {"evaluations": [EVALUATION]}, Origin="https://shop.example")

    assert 200 == preflight.status
    assert "*" == preflight.headers["access-control-allow-origin"]
    assert "x-environment-key" in preflight.headers["access-control-allow-headers"].lower()
    assert (202, "*") == (answer.status, answer.headers["access-control-allow-origin"])
    assert "access-control-allow-credentials" not in answer.headers


async def test_pages_of_other_origins(fronts: Fronts) -> None:
    """Where an environment lists origins, a page of another is refused with 403; what is no page is taken."""
    grant = fronts.catalog.grants[CLIENT_KEY]
    assert isinstance(grant, Grant)
    policy = Policy(origins=frozenset({"https://shop.example"}))
    for key in fronts.catalog.grants:
        fronts.catalog.grants[key] = replace(grant, environment=replace(grant.environment, policy=policy))
    body = {"evaluations": [EVALUATION]}

    listed = await post(fronts, body, Origin="https://shop.example")
    other = await post(fronts, body, Origin="https://evil.example")
    preflight = await request(
        fronts.http,
        "OPTIONS",
        PATH,
        None,
        {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    no_page = await post(fronts, body)

    assert [202, 403, 400, 202] == [answer.status for answer in (listed, other, preflight, no_page)]
    assert "https://shop.example" == listed.headers["access-control-allow-origin"]
    assert "ORIGIN_REFUSED" == other.json()["details"][0]["reason"]
    assert "retry-after" not in other.headers
    assert "access-control-allow-origin" not in other.headers
    assert 2 == len(fronts.journal.payloads)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_no_answer_to_credentials(fronts: Fronts, method: str) -> None:
    """What a page of another origin sends with a cookie, its browser does not let it read: no answer permits credentials."""
    headers = {"Origin": "https://shop.example", "Cookie": "flagledger-token=t", "Access-Control-Request-Method": "GET"}

    answer = await request(fronts.http, method, PATH, b"{}", headers)

    assert "access-control-allow-origin" in answer.headers
    assert "access-control-allow-credentials" not in answer.headers


async def test_pages(fronts: Fronts) -> None:
    """The pages for people and for whoever runs it answer, and `/readyz` follows what is ready."""
    statuses = [(await request(fronts.http, "GET", page)).status for page in ("/", "/healthz", "/readyz", "/metrics")]
    fronts.ready["journal writable"] = False
    unready = await request(fronts.http, "GET", "/readyz")
    fronts.ready["journal writable"] = True
    fronts.readiness.drain()
    draining = await request(fronts.http, "GET", "/readyz")

    assert [200] * 4 == statuses
    assert (503, ["journal writable"]) == (unready.status, unready.json()["missing"])
    assert (503, ["not draining"]) == (draining.status, draining.json()["missing"])
    assert 200 == (await request(fronts.http, "GET", "/healthz")).status


@pytest.mark.parametrize("page", ["/", "/healthz", "/readyz", "/metrics"])
async def test_pages_are_read(fronts: Fronts, page: str) -> None:
    """A page is read and nothing else: any other method is 405 with a Status and what is allowed; HEAD has no body."""
    refused = await request(fronts.http, "POST", page, b"{}")
    head = await request(fronts.http, "HEAD", page)

    assert (405, "GET, HEAD", "application/json") == (
        refused.status,
        refused.headers["allow"],
        refused.headers["content-type"],
    )
    assert 12 == refused.json()["code"]
    assert (200, b"") == (head.status, head.body)


@pytest.mark.parametrize("page", ["/", "/healthz", "/readyz", "/metrics"])
async def test_pages_are_no_api(fronts: Fronts, page: str) -> None:
    """A page of another origin may send evaluations, and read none of the pages for whoever runs this."""
    origin = {"Origin": "https://shop.example"}
    answer = await request(fronts.http, "GET", page, None, origin)
    preflight = await request(fronts.http, "OPTIONS", page, None, origin | {"Access-Control-Request-Method": "GET"})

    assert "access-control-allow-origin" not in answer.headers
    assert (405, False) == (preflight.status, "access-control-allow-origin" in preflight.headers)


async def test_dashboard(fronts: Fronts) -> None:
    """The dashboard is at `/`, with its files beside it; a path below them that is none is answered as any other."""
    page = await request(fronts.http, "GET", "/")
    script = await request(fronts.http, "GET", "/dashboard/app.js")
    known = await request(fronts.http, "GET", "/dashboard/app.js", None, {"If-None-Match": script.headers["etag"]})
    nothing = await request(fronts.http, "GET", "/dashboard/nothing.js")

    assert b"dashboard/app.js" in page.body
    assert (200, 304, 404) == (script.status, known.status, nothing.status)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]


async def test_session(fronts: Fronts) -> None:
    """A session begins with a token that reads, and takes no other method than those that begin and end it."""
    link = await request(fronts.http, "GET", "/?token=unknown")
    form = await request(fronts.http, "POST", "/session", b"token=unknown")
    ended = await request(fronts.http, "DELETE", "/session")
    refused = await request(fronts.http, "GET", "/session")

    assert [401, 401, 204, 405] == [answer.status for answer in (link, form, ended, refused)]
    assert "POST, DELETE" == refused.headers["allow"]
    assert ["HTTP_405"] == fronts.counted.refusals
