"""
An oracle in a process of its own: sends batches over both protocols and remembers what it sent and what was acknowledged.

Reads one line of JSON at a time from stdin: `{"http": "host:port", "grpc": "host:port"}` says where the service is now, `{}` says
to finish. A batch without an answer, or refused with a delay, is sent again under its id until it is acknowledged. When told to
finish it gets every batch acknowledged that is still open, then writes one line: what was sent, and what was acknowledged before
the end was announced (all of it must be there, each once, and nothing else).
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field

import grpc
from flagledger.v1 import evaluation_service_pb2, evaluation_service_pb2_grpc
from google.protobuf import json_format

KEY = sys.argv[1]
SENDERS = 3
EVALUATIONS = 20
GIVE_UP_SECONDS = 60.0


@dataclass
class Shared:
    """What the senders share."""

    http: str = ""
    grpc: str = ""
    generation: int = 0
    finishing: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    sent: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    duplicates: int = 0
    wrong: list[str] = field(default_factory=list)


def batch(protocol: str) -> tuple[str, dict[str, object]]:
    """Return a new batch id, and its batch as JSON; each evaluation carries who it is."""
    batch_id = f"{protocol}-{uuid.uuid4()}"
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return batch_id, {
        "batch_id": batch_id,
        "evaluations": [
            {
                "feature_name": "new_dashboard",
                "enabled": index % 2 == 0,
                "value": f"{batch_id}/{index}",
                "evaluation_timestamp": now,
                "identity_identifier": f"{batch_id}/{index}",
            }
            for index in range(EVALUATIONS)
        ],
    }


def send_grpc(shared: Shared, body: dict[str, object]) -> dict[str, object] | None:
    """Return the answer, or None where there was none or one that asks to try again."""
    request = evaluation_service_pb2.RecordEvaluationsRequest()
    json_format.ParseDict(body, request.batch)
    with grpc.insecure_channel(shared.grpc) as channel:
        stub = evaluation_service_pb2_grpc.EvaluationServiceStub(channel)
        try:
            answer = stub.RecordEvaluations(request, metadata=[("x-environment-key", KEY)], timeout=5)
        except grpc.RpcError as error:
            retryable = {
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                grpc.StatusCode.CANCELLED,
            }
            if error.code() not in retryable:  # type: ignore[attr-defined]
                shared.wrong.append(f"grpc: {error}")
            return None
    return {"accepted_count": answer.accepted_count, "duplicate": answer.duplicate}


def send_http(shared: Shared, body: dict[str, object]) -> dict[str, object] | None:
    """Return the answer, or None where there was none or one that asks to try again."""
    host, port = shared.http.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request(
            "POST",
            "/api/v2/analytics/evaluations/",
            json.dumps(body),
            {"X-Environment-Key": KEY, "Content-Type": "application/json"},
        )
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    if response.status == 202:
        answer: dict[str, object] = json.loads(content)
        return answer
    if response.status not in (429, 503):
        shared.wrong.append(f"http: {response.status} {content!r}")
    return None


def sender(shared: Shared, protocol: str) -> None:
    """Send batch after batch, each until it is acknowledged."""
    send = send_grpc if protocol == "grpc" else send_http
    while not shared.finishing:
        batch_id, body = batch(protocol)
        with shared.lock:
            shared.sent[batch_id] = protocol
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while True:
            answer = send(shared, body)
            if answer is not None:
                break
            if time.monotonic() > deadline:
                shared.wrong.append(f"{batch_id} was not acknowledged within {GIVE_UP_SECONDS} s")
                return
            time.sleep(0.02)
        with shared.lock:
            shared.acknowledged.add(batch_id)
            shared.duplicates += bool(answer["duplicate"])
            if answer["accepted_count"] != EVALUATIONS:
                shared.wrong.append(f"{batch_id}: {answer}")


def main() -> None:
    """Send until told to finish, then say what was sent."""
    shared = Shared()
    threads: list[threading.Thread] = []
    for line in sys.stdin:
        told = json.loads(line)
        if not told:
            break
        shared.http, shared.grpc = told["http"], told["grpc"]
        if not threads:
            threads = [
                threading.Thread(target=sender, args=(shared, protocol), daemon=True)
                for protocol in ("grpc", "http")
                for _ in range(SENDERS)
            ]
            for thread in threads:
                thread.start()
    shared.finishing = True
    for thread in threads:
        thread.join(GIVE_UP_SECONDS + 10)
    result = {
        "sent": sorted(shared.sent),
        "acknowledged": sorted(shared.acknowledged),
        "duplicates": shared.duplicates,
        "wrong": shared.wrong[:10],
        "evaluations": EVALUATIONS,
    }
    sys.stdout.write(json.dumps(result) + "\n")


main()
