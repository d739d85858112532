"""How the transcoder is measured: each part and what it is compared with take turns, round after round."""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import batches
import orjson
from flagledger.transcoding import Codec, CodecOptions, Router
from flagledger.v1 import evaluation_pb2, evaluation_service_pb2, query_service_pb2
from google.api import annotations_pb2
from google.protobuf import json_format
from processes import BenchError, Generator
from tally import Load

EVALUATIONS: Final = 100
_IN_FLIGHT: Final = 16
# Different batches, so that the processor's caches help as little as they do with different requests.
_SAMPLES: Final = 8
_COLLECTIONS: Final = 50

Work = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    How long and how often.

    Attributes:
        rounds: Times that each part and what it is compared with are measured in turn.
        slice_seconds: CPU-seconds of each turn, at least.
        http_rounds: Times that the servers are loaded in turn.
        warm_up: Seconds of load before a window.
        seconds: Seconds of a window.
    """

    rounds: int
    slice_seconds: float
    http_rounds: int
    warm_up: float
    seconds: float


FULL: Final = Plan(rounds=15, slice_seconds=0.1, http_rounds=15, warm_up=0.2, seconds=0.7)
QUICK: Final = Plan(rounds=3, slice_seconds=0.02, http_rounds=2, warm_up=0.2, seconds=0.5)


@dataclass(slots=True, kw_only=True)
class Compared:
    """
    One part and what it is compared with, in microseconds of CPU for each item, one value a round.

    Attributes:
        name: What is done.
        reference_name: What does the same.
        ours: The transcoder's.
        reference: That of what it is compared with.
    """

    name: str
    reference_name: str
    ours: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)

    def faster(self) -> float:
        """Return by how much the transcoder is faster: the median over rounds, in each of which both met the same machine."""
        return statistics.median(theirs / ours for ours, theirs in zip(self.ours, self.reference, strict=True))

    def times(self) -> float:
        """Return how many times the reference's CPU the transcoder takes, the median over rounds."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.ours, self.reference, strict=True))


def codec(plan: Plan) -> list[Compared]:
    """
    Measure both directions of the codec against `json_format`, over batches of 100 evaluations.

    Raises:
        BenchError: The two do not say the same.
    """
    ours = Codec(CodecOptions(preserving_proto_field_name=True))
    texts = list(itertools.islice(batches.json_batches(EVALUATIONS), _SAMPLES))
    messages = [json_format.Parse(text, evaluation_pb2.EvaluationBatch()) for text in texts]

    def parse(text: bytes) -> Any:
        return ours.parse(text, evaluation_pb2.EvaluationBatch())

    def parse_reference(text: bytes) -> Any:
        return json_format.Parse(text, evaluation_pb2.EvaluationBatch())

    def to_dict(message: Any) -> bytes:
        return orjson.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True))

    def to_json(message: Any) -> bytes:
        return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None).encode()

    for text, message in zip(texts, messages, strict=True):
        written = orjson.loads(ours.serialize(message))
        if parse(text) != message or written != orjson.loads(to_dict(message)):
            raise BenchError("The codec and json_format do not make the same of a batch.")
    return [
        _compare(plan, "JSON to message", parse, "json_format.Parse", parse_reference, texts),
        _compare(plan, "message to JSON", ours.serialize, "MessageToDict + orjson", to_dict, messages),
        _compare(plan, "message to JSON", ours.serialize, "MessageToJson", to_json, messages),
    ]


def routes(plan: Plan) -> list[Compared]:
    """
    Measure finding the route of a path, against matching the one regular expression that is the right one.

    Raises:
        BenchError: A path leads to another route than its own.
    """
    tables = {"Flagledger's": list(_flagledger_routes()), "500": list(_many_routes())}
    return [_routes(plan, f"{len(table)} routes" if name == "500" else name, table) for name, table in tables.items()]


def _routes(plan: Plan, name: str, table: Sequence[tuple[str, str]]) -> Compared:
    router = Router()
    asked = []
    for http_method, template in table:
        router.add(http_method, template, template)
        path = re.sub(r"\{[^}]*\}", "b7f0c2", re.sub(r"\{[^}=]*=([^}]*)\}", r"\1", template)).replace("*", "b7f0c2")
        asked.append((http_method, path, re.compile(_pattern(template)).fullmatch))
    for (http_method, template), (_, path, fullmatch) in zip(table, asked, strict=True):
        found = router.match(http_method, path)
        if found is None or found.target != template or fullmatch(path) is None:
            raise BenchError(f"{http_method} {path} does not lead to {template}.")

    def match(request: tuple[str, str, Any]) -> Any:
        return router.match(request[0], request[1])

    def match_reference(request: tuple[str, str, Any]) -> Any:
        return request[2](request[1]).groupdict()

    return _compare(plan, f"route, {name}", match, "its own regular expression", match_reference, asked)


def _pattern(template: str) -> str:
    """Return the regular expression of a template with at most one variable, of one segment or of literals and stars."""

    def variable(found: re.Match[str]) -> str:
        _, _, segments = found.group(1).partition("=")
        return f"(?P<name>{(segments or '*').replace('*', '[^/]+')})"

    return re.sub(r"\{([^}]*)\}", variable, template)


def _flagledger_routes() -> Iterator[tuple[str, str]]:
    for file in (evaluation_service_pb2, query_service_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                rule = method.GetOptions().Extensions[annotations_pb2.http]
                kind = rule.WhichOneof("pattern")
                if kind is not None:
                    yield kind.upper(), getattr(rule, kind)


def _many_routes() -> Iterator[tuple[str, str]]:
    """Yield the routes of 50 collections, each with the methods that AIPs give one and three of its own."""
    for number in range(_COLLECTIONS):
        parent, name = f"/v1/{{parent=projects/*}}/things{number}", f"/v1/{{name=projects/*/things{number}/*}}"
        yield from (("GET", parent), ("POST", parent), ("POST", f"{parent}:batchGet"), ("GET", f"{parent}:search"))
        yield from (("GET", name), ("PATCH", name), ("DELETE", name), ("POST", f"{name}:archive"))
        yield from (("GET", f"/v1/stats/things{number}"), ("GET", f"/v1/things{number}/{{id}}"))


def http(plan: Plan, generator: Generator, servers: dict[str, tuple[str, int]]) -> Compared:
    """Measure what a request with a tiny body costs the server's process, of the *servers* `transcoder` and `bare`."""
    compared = Compared(name="HTTP request", reference_name="bare uvicorn")
    for _ in range(plan.http_rounds):
        for kind, costs in (("bare", compared.reference), ("transcoder", compared.ours)):
            address, pid = servers[kind]
            load = Load(
                transport="json",
                address=address,
                evaluations=0,
                accepted=0,
                status=200,
                in_flight=_IN_FLIGHT,
                connections=_IN_FLIGHT,
                warm_up=plan.warm_up,
                seconds=plan.seconds,
                watched=[pid],
            )
            result = generator.run(load)
            costs.append(result.cpu[0] / result.batches * 1e6)
    return compared


def _compare(plan: Plan, name: str, ours: Work, reference_name: str, reference: Work, items: Iterable[Any]) -> Compared:
    compared = Compared(name=name, reference_name=reference_name)
    samples = list(items)
    for _ in range(plan.rounds):
        for work, costs in ((reference, compared.reference), (ours, compared.ours)):
            costs.append(_cost(work, samples, plan.slice_seconds))
    return compared


def _cost(work: Work, samples: list[Any], seconds: float) -> float:
    started = time.process_time()
    rounds = 0
    while (spent := time.process_time() - started) < seconds:
        for sample in samples:
            work(sample)
        rounds += 1
    return spent / (rounds * len(samples)) * 1e6
