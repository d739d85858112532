"""What a policy hides is nowhere: not on disk, not in a log, not in a metric, not in an answer."""

from __future__ import annotations

import json
import random
import stat
import string
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from flagledger.catalog.policy import pseudonym
from flagledger.v1.evaluation_pb2 import EvaluationBatch
from flagledger.v1.evaluation_service_pb2 import RecordEvaluationsRequest
from flagledger.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from google.protobuf import json_format
from support.reading import evaluations, post, wait_for_total
from support.server import RunningServer

pytestmark = pytest.mark.system

ENVIRONMENTS = """
[[environments]]
name = "hashed"
keys = ["hashed-key"]
features = ["checkout"]
identity = "hash"
traits = ["plan"]
metadata = ["page"]

[[environments]]
name = "dropped"
keys = ["dropped-key"]
features = ["checkout"]
identity = "drop"
traits = []
metadata = []
"""
LASTING = "the-identity-that-comes-again"
API = "/api/v2/analytics"
QUESTIONS = ("features", "counts", "evaluations", "unknown-features", "intake")


class Sender:
    """
    Sends what holds values that nobody is to find again.

    Attributes:
        accepted: Evaluations that the store is to hold, by key.
        sent: Every body, as text.
    """

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.accepted: Counter[str] = Counter()
        self.sent = ""
        self._values: list[str] = []
        self._chance = random.Random(20_251_125)

    @property
    def hidden(self) -> list[str]:
        """The values that were sent."""
        return [value for value in self._values if value in self.sent]

    def secret(self) -> str:
        """Return another value."""
        self._values.append("".join(self._chance.choices(string.ascii_letters + string.digits, k=20)))
        return self._values[-1]

    def evaluation(self, **fields: Any) -> dict[str, Any]:
        """Return an evaluation with values wherever the policies let none be kept, valid unless *fields* say otherwise."""
        return {
            "feature_name": "checkout",
            "enabled": True,
            "value": "blue",
            "evaluation_timestamp": (datetime.now(UTC) - timedelta(hours=1)).isoformat(),
            "identity_identifier": self.secret(),
            "identity_traits": [
                {"trait_key": "plan", "trait_value": "pro"},
                {"trait_key": "email", "trait_value": self.secret()},
                {"trait_key": "address", "trait_value": {self.secret(): [self.secret()]}},
                {"trait_key": self.secret(), "trait_value": 1},
            ],
            "metadata": {"page": "/cart", self.secret(): {"of": self.secret()}},
        } | fields

    def mixed(self) -> list[dict[str, Any]]:
        """Return evaluations of which thirteen are taken; the others are rejected or filtered, each for another reason."""
        return [
            *(self.evaluation() for _ in range(13)),
            self.evaluation(variant="\0"),
            self.evaluation(feature_name="unheard_of"),
            self.evaluation(identity_identifier=self.secret() * 101),
            self.evaluation(count=10_001),
        ]

    def misshapen(self) -> list[dict[str, Any]]:
        """Return what only JSON can say: one evaluation with a field that nobody knows, and some of the wrong types."""
        return [
            self.evaluation(**{self.secret(): 1}),
            self.evaluation(evaluation_timestamp=self.secret()),
            self.evaluation(identity_identifier=[self.secret()]),
            self.evaluation(identity_traits={self.secret(): self.secret()}),
            self.evaluation(enabled=self.secret()),
        ]

    def event(self, **fields: Any) -> dict[str, Any]:
        """Return an exposure as older SDKs send it."""
        return {
            "event": "$flag_exposure",
            "feature_name": "checkout",
            "identifier": self.secret(),
            "value": "blue",
            "traits": {"email": self.secret(), "plan": "pro"},
            "metadata": {"ip": self.secret()},
            "timestamp": int((datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1000),
        } | fields

    def over_json(self, key: str, batch: object) -> int:
        """Send a batch as JSON, and return the status."""
        self.sent += json.dumps(batch)
        status, answer = post(self.server, batch, key=key)
        self.accepted[key] += answer.get("accepted_count", 0)
        return status

    def over_grpc(self, key: str, *sent: dict[str, Any], batch_id: str = "") -> grpc.StatusCode:
        """Send a batch over gRPC, and return the code."""
        self.sent += json.dumps(sent)
        batch = EvaluationBatch(batch_id=batch_id)
        for one in sent:
            json_format.ParseDict(one, batch.evaluations.add())
        with grpc.insecure_channel(self.server.grpc_target) as channel:
            record = EvaluationServiceStub(channel).RecordEvaluations
            metadata = [("x-environment-key", key)]
            try:
                answer = record(RecordEvaluationsRequest(batch=batch), metadata=metadata, timeout=30)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
        self.accepted[key] += answer.accepted_count
        return grpc.StatusCode.OK

    def over_events(self, key: str, body: object) -> int:
        """Send *body* to a route of older SDKs, and return the status."""
        self.sent += json.dumps(body)
        headers = {"X-Environment-Key": key, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.server.http_url}/v1/events", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


def send_everything(sender: Sender, key: str) -> None:
    """Send values in every way there is: what is taken, what is not, and what is refused whole."""
    sent: list[object] = [
        sender.over_json(key, {"batch_id": f"json {key}", "evaluations": sender.mixed()}),
        sender.over_json(key, {"evaluations": sender.misshapen()}),
        sender.over_json(key, {"batch_id": "nothing", "evaluations": [sender.evaluation(variant="\0")]}),
        sender.over_json(key, {"batch_id": "x" * 129, "evaluations": [sender.evaluation()]}),
        sender.over_json(key, {"evaluations": [sender.evaluation()], sender.secret(): sender.secret()}),
        sender.over_json(key, {"evaluations": [sender.evaluation(metadata={sender.secret(): nested(50)})]}),
        sender.over_json("no-key", {"evaluations": [sender.evaluation()]}),
        sender.over_grpc(key, *sender.mixed(), batch_id=f"grpc {key}"),
        sender.over_grpc(key, sender.evaluation(variant="\0"), batch_id="nothing"),
        sender.over_events(key, {"events": [sender.event(), sender.event(timestamp="x"), sender.event(event="buy")]}),
        sender.over_events(key, {"events": sender.secret()}),
    ]
    sender.accepted[key] += 1

    assert [202, 202, 400, 400, 400, 400, 401, grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT] == sent[:9]
    assert [2, 4] == [int(str(status)[0]) for status in sent[9:]]


def nested(levels: int) -> object:
    """Return lists in each other, deeper than is read."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def on_disk(server: RunningServer) -> bytes:
    """Return everything in the data directory, and what was logged."""
    files = [path for path in server.data.rglob("*") if path.is_file()]
    assert {"journal.db", "store.duckdb", "identity-secret"} <= {path.name for path in files}
    return b"\n".join(path.read_bytes() for path in files) + server.log().encode()


def answered(server: RunningServer, path: str, **parameters: object) -> bytes:
    """Return the body of the answer to a reader."""
    request = urllib.request.Request(f"{server.http_url}{path}?{urllib.parse.urlencode(parameters)}")
    request.add_header("Authorization", f"Bearer {server.read_token}")
    with urllib.request.urlopen(request, timeout=30) as response:
        return bytes(response.read())


def answers(server: RunningServer, environment: str) -> bytes:
    """Return everything that readers are told of an environment; an export uncompressed and in Arrow alike."""
    arrow = answered(server, f"{API}/export", environment=environment, format="arrow")
    with pa.ipc.open_stream(arrow) as stream:
        rows = stream.read_all().to_pylist()
    return b"\n".join(
        [
            *(answered(server, f"{API}/{question}", environment=environment) for question in QUESTIONS),
            answered(server, f"{API}/exposures", environment=environment, feature_name="checkout"),
            *(answered(server, f"{API}/export", environment=environment, format=form) for form in ("ndjson", "csv")),
            str(rows).encode(),
            answered(server, f"{API}/environments"),
            answered(server, "/metrics"),
            answered(server, "/"),
        ]
    )


def found(values: list[str], *places: bytes) -> list[str]:
    """Return those of *values* that are in any of *places*."""
    return [value for value in values if any(value.encode() in place for place in places)]


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    """Return an environments file with policies."""
    path = tmp_path / "environments.toml"
    path.write_text(ENVIRONMENTS)
    return path


def test_hidden_values_are_nowhere(
    server_factory: Callable[..., RunningServer], environments: Path, tmp_path: Path
) -> None:
    """Of 500 values that the policies hide none is found in a file, a log, a metric or an answer, however it was sent."""
    server = server_factory(data=tmp_path / "data", environments=environments)
    sender = Sender(server)
    for key in ("hashed-key", "dropped-key"):
        send_everything(sender, key)
    sender.over_json("hashed-key", {"evaluations": [sender.evaluation(identity_identifier=LASTING)]})
    sent = on_disk(server)
    for environment in ("hashed", "dropped"):
        expected = sender.accepted[f"{environment}-key"]
        assert expected == wait_for_total(server, expected, seconds=10, environment=environment)
    # Asking for one must not leave it anywhere either.
    told = answered(server, f"{API}/evaluations", environment="hashed", identity_identifier=sender.hidden[0])
    told += answers(server, "hashed") + answers(server, "dropped")
    stored = on_disk(server)
    rows = {name: list(evaluations(server, environment=name)) for name in ("hashed", "dropped")}
    assert 0 == server.stop()
    rested = on_disk(server)

    hidden = [*sender.hidden, LASTING]
    secret = (server.data / "identity-secret").read_text().strip().encode()
    assert 500 < len(hidden)
    assert [] == found(hidden, sent, stored, rested, told)
    # What is kept is found by the same search.
    kept = pseudonym(secret, "hashed", LASTING)
    assert [kept] * 2 == found([kept], sent) + found([kept], told)
    assert 28 <= len(rows["dropped"]) == len(rows["hashed"]) - 1
    assert {None} == {row.get("identity_identifier") for row in rows["dropped"]}
    assert all(row["identity_identifier"].startswith("hmac:") for row in rows["hashed"])
    assert {"plan"} == {trait["trait_key"] for row in rows["hashed"] for trait in row["identity_traits"]}
    assert {"page"} == {key for row in rows["hashed"] for key in row.get("metadata") or {}}
    assert {()} == {tuple(row.get("identity_traits", ())) for row in rows["dropped"]}
    assert {None} == {row.get("metadata") for row in rows["dropped"]}


def test_a_pseudonym_lasts(server_factory: Callable[..., RunningServer], environments: Path, tmp_path: Path) -> None:
    """One identity has one pseudonym, over both protocols and after a restart, under a secret that only its owner may read."""
    data = tmp_path / "data"

    def sent_to(server: RunningServer, total: int) -> set[str]:
        """Send the identity over both protocols, and return what is kept of it once *total* evaluations are stored."""
        sender = Sender(server)
        lasting = sender.evaluation(identity_identifier=LASTING)
        assert 202 == sender.over_json("hashed-key", {"evaluations": [lasting]})
        assert grpc.StatusCode.OK is sender.over_grpc("hashed-key", lasting)
        assert total == wait_for_total(server, total, seconds=10, environment="hashed")
        return {row["identity_identifier"] for row in evaluations(server, environment="hashed")}

    first = server_factory(data=data, environments=environments)
    before = sent_to(first, 2)
    assert 0 == first.stop()
    after = sent_to(server_factory(data=data, environments=environments), 4)

    secret = (data / "identity-secret").read_text().strip().encode()
    assert {pseudonym(secret, "hashed", LASTING)} == before == after
    assert 0o600 == stat.S_IMODE((data / "identity-secret").stat().st_mode)
