"""
Replays the conformance kit against a running server and says where an answer differs from the verdict in the kit.

It knows the contract, gRPC and HTTP, and nothing of the server: README.md beside it describes the format, for those who
write the same in another language. As a command:

    PYTHONPATH=tests:gen python -m conformance.replay http://127.0.0.1:8080 127.0.0.1:50051
"""

from __future__ import annotations

import base64
import contextlib
import copy
import gzip
import http.client
import json
import queue
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from flagledger.v1 import evaluation_pb2, evaluation_service_pb2
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2

KIT = Path(__file__).with_name("requests.json")
STREAM = "/flagledger.v1.EvaluationService/StreamEvaluations"
TIMEOUT_SECONDS = 30.0

_NOW = re.compile(r"\$now(?:([+-])(\d+)([smhd]))?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What came back, in one shape for every protocol.

    Attributes:
        code: Name of the gRPC code; over HTTP that of the body's google.rpc.Status, and OK for a 2xx.
        http: HTTP status; None over gRPC.
        result: The answer's fields as proto3 JSON with proto names, absent counts as 0; empty for an error.
        status: The error; empty for OK.
        headers: Answer headers in lower case; empty over gRPC.
        raw: What two answers that must be the same byte for byte are compared by.
    """

    code: str
    http: int | None
    result: dict[str, Any]
    status: status_pb2.Status
    headers: dict[str, str]
    raw: tuple[object, ...]

    def detail(self, message: Any) -> Any:
        """Return the error's detail of the type of *message*, or None."""
        for packed in self.status.details:
            if packed.Unpack(message):
                return message
        return None

    def reason(self) -> str | None:
        """Return ErrorInfo.reason, or None where there is none."""
        info = self.detail(error_details_pb2.ErrorInfo())
        return None if info is None else str(info.reason)

    def violations(self) -> list[str]:
        """Return the fields that BadRequest names."""
        bad_request = self.detail(error_details_pb2.BadRequest())
        return [] if bad_request is None else [violation.field for violation in bad_request.field_violations]

    def retries(self) -> bool:
        """Return whether a delay is given after which to send the same again."""
        info = self.detail(error_details_pb2.RetryInfo())
        return info is not None and info.retry_delay.ToTimedelta() > timedelta(0)

    def verdict(self) -> dict[str, Any]:
        """Return what has to be the same over every protocol."""
        return {
            "code": self.code,
            "result": self.result,
            "reason": self.reason(),
            "violations": self.violations(),
            "retries": self.retries(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the kit with everything filled in."""

    key: str | None
    headers: dict[str, str]
    batch: Any
    step: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Kit:
    """The kit as its file has it."""

    content: dict[str, Any]
    rows: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = self.content["requests"]

    @classmethod
    def load(cls, path: Path = KIT) -> Kit:
        """Read the kit from *path*."""
        return cls(content=json.loads(path.read_text(encoding="utf-8")))

    def steps(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the requests of *row* in order: most rows are their only one."""
        return list(row.get("steps", [row]))

    def request(self, row: dict[str, Any], step: dict[str, Any], expand: Expansion) -> Request:
        """Return *step* of *row* with placeholders filled in."""
        key = step.get("key", row.get("key", "client"))
        return Request(
            key=None if key is None else self.content["keys"][key],
            headers=expand(step.get("headers", {})),
            batch=expand(step["batch"]) if "batch" in step else None,
            step=step,
        )


class Expansion:
    """
    Fills in the placeholders and generators of one run of one row.

    Args:
        evaluation: The evaluation that `$evaluation` starts from.
    """

    def __init__(self, evaluation: dict[str, Any]) -> None:
        self._evaluation = evaluation
        self._ids = {"$id": str(uuid.uuid4()), "$other_id": str(uuid.uuid4())}
        self._now = datetime.now(tz=UTC)
        self._generators: dict[str, Callable[[Any], Any]] = {
            "$evaluation": self._overlaid,
            "$repeat": lambda arguments: arguments[0] * arguments[1],
            "$list": self._list,
            "$concat": lambda lists: [item for part in lists for item in self(part)],
            "$nest": self._nested,
            "$id": lambda length: self._ids["$id"].ljust(length, "x"),
        }

    def __call__(self, value: Any) -> Any:
        """Return *value* with every placeholder and generator in it replaced."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self(item) for item in value]
        if isinstance(value, dict):
            if len(value) == 1 and (generator := self._generators.get(next(iter(value)))):
                return generator(next(iter(value.values())))
            return {name: self(item) for name, item in value.items()}
        return value

    def _text(self, text: str) -> str:
        if match := _NOW.fullmatch(text):
            sign, amount, unit = match.groups()
            moved = timedelta(**{_UNITS[unit]: int(amount)}) if unit else timedelta(0)
            moment = self._now - moved if sign == "-" else self._now + moved
            return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return self._ids.get(text, text)

    def _overlaid(self, overrides: dict[str, Any]) -> dict[str, Any]:
        merged = {**self._evaluation, **overrides}
        return {name: self(value) for name, value in merged.items() if value != "$absent"}

    def _list(self, arguments: list[Any]) -> list[Any]:
        template, length = arguments
        if "$i" not in re.findall(r"\$i(?!d)", json.dumps(template)):
            return [self(template)] * length
        return [self(_numbered(template, index)) for index in range(length)]

    @staticmethod
    def _nested(levels: int) -> list[Any]:
        nested: list[Any] = []
        for _ in range(levels - 1):
            nested = [nested]
        return nested


def _numbered(value: Any, index: int) -> Any:
    if isinstance(value, str):
        return index if value == "$i" else re.sub(r"\$i(?!d)", str(index), value)
    if isinstance(value, list):
        return [_numbered(item, index) for item in value]
    if isinstance(value, dict):
        return {name: _numbered(item, index) for name, item in value.items()}
    return value


class Replay:
    """
    Sends rows of the kit to one server.

    Args:
        kit: The kit.
        http_url: Where the server's HTTP is, for example `http://127.0.0.1:8080`.
        grpc_target: Where its gRPC is, for example `127.0.0.1:50051`.
    """

    def __init__(self, kit: Kit, http_url: str, grpc_target: str) -> None:
        self._kit = kit
        self._http = urlsplit(http_url)
        # A refusal has to be seen as it is, not after the channel's own second try.
        self._channel = grpc.insecure_channel(grpc_target, options=[("grpc.enable_retries", 0)])
        self._senders: dict[str, Callable[[Request], Answer]] = {
            "grpc": self._send_grpc,
            "stream": partial(self._send_grpc, stream=True),
            "http": self._send_http,
        }

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def run(self, row: dict[str, Any], protocol: str) -> tuple[list[Answer], list[str]]:
        """
        Send every request of *row* over *protocol* (`grpc`, `http`, or `stream`).

        Returns:
            The answers, and a line for each difference from what the row expects.
        """
        with self._stream_held() if row.get("while_streaming") else contextlib.nullcontext():
            return self._run(row, protocol)

    def _run(self, row: dict[str, Any], protocol: str) -> tuple[list[Answer], list[str]]:
        expand = Expansion(self._kit.content["evaluation"])
        answers: list[Answer] = []
        differences: list[str] = []
        for number, step in enumerate(self._kit.steps(row)):
            used = protocol
            if step.get("over") == "other":
                used = "grpc" if protocol == "http" else "http"
            answer = self._senders[used](self._kit.request(row, step, expand))
            answers.append(answer)
            expected = expand(step["expect"])
            differences += [
                f"{row['id']} over {used}, request {number}: {difference}"
                for difference in self._differences(expected, answer)
            ]
        return answers, differences

    @contextlib.contextmanager
    def _stream_held(self) -> Iterator[None]:
        """Hold a stream open that has had its first answer, so that the server is known to work on it."""
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call: Any = self._channel.stream_stream(STREAM)
        held = call(
            iter(requests.get, None),
            metadata=[("x-environment-key", self._kit.content["keys"]["client"])],
            timeout=TIMEOUT_SECONDS,
        )
        requests.put(b"\x0a\x00")  # an empty batch
        next(held)
        try:
            yield
        finally:
            requests.put(None)
            for _ in held:
                pass

    def _send_grpc(self, request: Request, *, stream: bool = False) -> Answer:
        metadata = [(name.lower(), value) for name, value in request.headers.items()]
        if request.key is not None:
            metadata.append(("x-environment-key", request.key))
        if "message_base64" in request.step:
            message = base64.b64decode(request.step["message_base64"], validate=True)
        else:
            batch = json_format.ParseDict(request.batch, evaluation_pb2.EvaluationBatch(), ignore_unknown_fields=True)
            message = evaluation_service_pb2.RecordEvaluationsRequest(batch=batch).SerializeToString()
        compression = grpc.Compression.Gzip if request.step.get("gzip") else None
        options = {"metadata": metadata, "timeout": TIMEOUT_SECONDS, "compression": compression}
        try:
            return self._streamed(message, options) if stream else self._unary(message, options)
        except grpc.RpcError as error:
            return _grpc_error(error)

    def _unary(self, message: bytes, options: dict[str, Any]) -> Answer:
        call: Any = self._channel.unary_unary(
            self._kit.content["rpc"],
            response_deserializer=evaluation_service_pb2.RecordEvaluationsResponse.FromString,
        )
        return _grpc_result(call(message, **options))

    def _streamed(self, message: bytes, options: dict[str, Any]) -> Answer:
        # A stream's request has its batch in the same field, so that the same bytes serve.
        call: Any = self._channel.stream_stream(
            STREAM, response_deserializer=evaluation_service_pb2.StreamEvaluationsResponse.FromString
        )
        answers = list(call(iter([message]), **options))
        if len(answers) != 1:
            message_text = f"a stream with one batch gave {len(answers)} answers"
            raise AssertionError(message_text)
        if answers[0].WhichOneof("outcome") == "result":
            return _grpc_result(answers[0].result)
        error = answers[0].error
        raw = (error.code, error.message, error.SerializeToString(deterministic=True))
        return Answer(code=code_pb2.Code.Name(error.code), http=None, result={}, status=error, headers={}, raw=raw)

    def _send_http(self, request: Request) -> Answer:
        step = request.step
        headers = {name.title(): value for name, value in request.headers.items()}
        if request.key is not None:
            headers["X-Environment-Key"] = request.key
        if (content_type := step.get("content_type", "application/json")) is not None:
            headers["Content-Type"] = content_type
        body = _body(request)
        if step.get("gzip"):
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        if "content_encoding" in step:
            headers["Content-Encoding"] = step["content_encoding"]
        connection = http.client.HTTPConnection(self._http.hostname or "", self._http.port, timeout=TIMEOUT_SECONDS)
        try:
            # The server may answer, and close, before it has read everything.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(
                    step.get("method", "POST"), step.get("path", self._kit.content["path"]), body, headers
                )
            response = connection.getresponse()
            return _http_answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def _differences(self, expected: dict[str, Any], answer: Answer) -> Iterator[str]:
        code = expected.get("code")
        if code is not None and answer.code != code:
            yield f"code {answer.code} ({answer.status.message!r}), expected {code}"
            return
        if answer.http is not None:
            yield from self._http_differences(expected, answer)
        if code is None:
            return
        if code == "OK":
            yield from _result_differences(expected, answer)
            return
        if "reason" in expected and answer.reason() != expected["reason"]:
            yield f"reason {answer.reason()}, expected {expected['reason']}"
        if "violations" in expected and answer.violations() != expected["violations"]:
            yield f"violations {answer.violations()}, expected {expected['violations']}"
        if answer.retries() != expected.get("retry", False):
            yield f"RetryInfo given: {answer.retries()}, expected {expected.get('retry', False)}"
        if not answer.status.message:
            yield "no message, expected a sentence"

    def _http_differences(self, expected: dict[str, Any], answer: Answer) -> Iterator[str]:
        status = expected.get("http") or self._kit.content["http_status"][expected["code"]]
        if answer.http != status:
            yield f"HTTP status {answer.http}, expected {status}"
        if (kind := answer.headers.get("content-type", "").partition(";")[0]) != "application/json":
            yield f"content type {kind!r}, expected 'application/json'"
        if ("retry-after" in answer.headers) != expected.get("retry", False):
            yield f"Retry-After given: {'retry-after' in answer.headers}, expected {expected.get('retry', False)}"
        ignored = [path.strip() for path in answer.headers.get("x-ignored-fields", "").split(",") if path.strip()]
        if ignored != expected.get("ignored_fields", []):
            yield f"X-Ignored-Fields {ignored}, expected {expected.get('ignored_fields', [])}"
        allowed = {method.strip() for method in answer.headers.get("allow", "").split(",")}
        if missing := set(expected.get("allow", [])) - allowed:
            yield f"Allow lacks {sorted(missing)}"
        if "json" in expected and (given := json.loads(str(answer.raw[1]))) != expected["json"]:
            yield f"body {given}, expected {expected['json']}"


def _result_differences(expected: dict[str, Any], answer: Answer) -> Iterator[str]:
    wanted = {
        "accepted_count": expected["accepted"],
        "filtered_count": expected.get("filtered", 0),
        "rejected_count": expected.get("rejected", 0),
        "duplicate": expected.get("duplicate", False),
        "unknown_feature_names": expected.get("unknown_feature_names", []),
    }
    for name, value in wanted.items():
        if answer.result[name] != value:
            yield f"{name} {answer.result[name]}, expected {value}"
    rejected = answer.result["rejected_evaluations"]
    wanted_rejected = expected.get("rejected_evaluations", [])
    seen = [{name: item.get(name) for name in want} for item, want in zip(rejected, wanted_rejected, strict=False)]
    if len(rejected) != len(wanted_rejected) or seen != wanted_rejected:
        yield f"rejected_evaluations {rejected}, expected {wanted_rejected}"
    if not all(item["field"] and item["description"] for item in rejected):
        yield f"rejected_evaluations without a field or description: {rejected}"


def _body(request: Request) -> bytes:
    step = request.step
    if "body_base64" in step:
        return base64.b64decode(step["body_base64"], validate=True)
    if "body" in step:
        parts = step["body"] if isinstance(step["body"], list) else [step["body"]]
        return "".join(
            part if isinstance(part, str) else part["$repeat"][0] * part["$repeat"][1] for part in parts
        ).encode()
    return json.dumps(request.batch).encode()


def _complete(result: dict[str, Any]) -> dict[str, Any]:
    lists: dict[str, Any] = {"rejected_evaluations": [], "unknown_feature_names": []}
    return copy.deepcopy({**lists, **result})


def _grpc_result(response: Any) -> Answer:
    result = json_format.MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    raw = ("OK", response.SerializeToString(deterministic=True))
    return Answer(code="OK", http=None, result=_complete(result), status=status_pb2.Status(), headers={}, raw=raw)


def _grpc_error(error: Any) -> Answer:
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(packed)
    status.message = status.message or error.details()
    code = error.code().name
    return Answer(code=code, http=None, result={}, status=status, headers={}, raw=(code, error.details(), packed))


def _http_answer(status: int, headers: dict[str, str], body: bytes) -> Answer:
    lowered = {name.lower(): value for name, value in headers.items()}
    text = body.decode()
    raw = (status, text)
    if 200 <= status < 300:
        result = _complete(json.loads(text))
        return Answer(code="OK", http=status, result=result, status=status_pb2.Status(), headers=lowered, raw=raw)
    said = json_format.Parse(text, status_pb2.Status())
    return Answer(code=code_pb2.Code.Name(said.code), http=status, result={}, status=said, headers=lowered, raw=raw)


def main(arguments: list[str]) -> int:
    """Replay every row that a server with default limits can answer, and print the differences."""
    kit = Kit.load()
    replay = Replay(kit, *arguments)
    rows = [row for row in kit.rows if "server" not in row]
    differences = [
        line for row in rows for name in row.get("protocols", ["grpc", "http"]) for line in replay.run(row, name)[1]
    ]
    replay.close()
    sys.stdout.write("".join(f"{line}\n" for line in differences))
    sys.stdout.write(f"{len(rows)} rows, {len(differences)} differences\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
