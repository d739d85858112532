"""The requests that both sides are asked: the tables, and what a seeded generator makes of the test proto's fields."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from urllib.parse import quote

from flagledger.transcoding.codec_fields import is_map
from google.protobuf import duration_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2
from transcoding.envoy_comparison import PLAIN, SPELLED_OUT, Request
from transcoding.envoy_tables import (
    BODIES,
    METHODS,
    PARTS,
    PATHS,
    PATHS_OF_METHODS,
    QUERIES,
    TEXTS,
    VALUES,
    VARIABLES,
)
from transcoding.kitchen import Attachment, Everything, HttpBody, Nested, Sizes

SEED = 20_260_210
BINDINGS = (
    ("POST", "/v1/jars/a:fill", '{"name":"b"}'),
    ("POST", "/v1/jars/a:fill", '{"nested":{"name":"a"}}'),
    ("POST", "/v1/jars/a:fill", '{"nested":{"name":"b"}}'),
    ("POST", "/v1/jars/a:fill", '{"nested":{"size":5}}'),
    ("POST", "/v1/jars/a:fill?name=b", "{}"),
    ("PATCH", "/v1/jars/a", '{"size":5}'),
    ("PATCH", "/v1/jars/a?query.int32Field=5", '{"name":"x"}'),
    ("PATCH", "/v1/jars/a?nested.size=5", '{"name":"x"}'),
    ("PATCH", "/v1/jars/a?nested.inner.size=5", "{}"),
    ("PATCH", "/v1/jars/a", ""),
    ("PUT", "/v1/jars/a", '{"int32Field":5}'),
    ("PUT", "/v1/jars/a?name=b", '{"int32Field":5}'),
    ("DELETE", "/v1/jars/a", '{"name":"x"}'),
    ("GET", "/v1/jars/a", '{"name":"x"}'),
    ("GET", "/v1/find", '{"name":"x"}'),
    ("GET", "/v1/find", "no JSON"),
    ("POST", "/v1/jars", '"x"'),
    ("POST", "/v1/jars?nested.name=a", '"x"'),
    ("POST", "/v1/jars", "5 "),
    ("POST", "/v1/jars", "null"),
    ("POST", "/v1/jars", '{"name":"x"}'),
    ("PUT", "/v1/tables/t/order", '{"dishes":[{"name":"soup","price":5}],"label":"a"}'),
    ("PUT", "/v1/tables/t/order?trays.label=a", "{}"),
    ("PUT", "/v1/tables/t/order?table=u", "{}"),
    ("PUT", "/v1/tables/t/order", '{"tray":{}}'),
    ("POST", "/v1/orders", '{"tray":{"label":"a"},"trays":[{},{"label":"b"}],"table":"t"}'),
    ("POST", "/v1/orders?table=t", "{}"),
    ("MERGE", "/v1/tables/t:merge?tray.label=a", ""),
    ("POST", "/v1/sizes?count=3", "[1,2]"),
    ("POST", "/v1/sizes", "[]"),
    ("POST", "/v1/sizes", "5 "),
    ("POST", "/v1/sizes", '{"sizes":[1]}'),
    ("POST", "/v1/sizes?sizes=3", "[1,2]"),
    ("POST", "/v1/sizes", "null"),
    # Nothing ends the number, so that Envoy waits for its next digit. One of these is enough: it takes seconds.
    ("POST", "/v1/parts/long", "5"),
)
CONTENT_TYPES = (
    None,
    "application/json; charset=utf-8",
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/merge-patch+json",
)
DETAILS = (
    error_details_pb2.BadRequest(field_violations=[{"field": "dishes[0].name", "description": "is empty"}]),
    error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3, nanos=500_000_000)),
    error_details_pb2.ErrorInfo(reason="CLOSED", domain="kitchen.example", metadata={"day": "monday"}),
    error_details_pb2.Help(links=[{"description": "manual", "url": "https://kitchen.example"}]),
)
ANSWERS = (
    Everything(),
    Everything(nested=Nested(), strings=[""], int_map={0: 0}, nested_map={"": Nested()}, choice_int=0),
    Everything(int32_field=-(2**31), int64_field=-(2**63), uint32_field=2**32 - 1, uint64_field=2**64 - 1),
    Everything(sint64_field=2**63 - 1, fixed64_field=1, sfixed64_field=-1, uint64s=[0, 2**53, 2**64 - 1]),
    Everything(double_field=math.nan, doubles=[math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e21]),
    Everything(float_field=math.nan, floats=[math.inf, -math.inf, -0.0, 0.5, 1.5, 1e10]),
    Everything(float_field=0.1),
    Everything(float_field=16_777_216, floats=[1.1754944e-38, 3.4028234663852886e38, 123_456_789]),
    Everything(color=77, colors=[0, 1, 2, -1, 77], color_map={1: 2, 2: 77}),
    Everything(bytes_field=b"\x00\xff\xfe>?", blobs=[b"", b"a", b"ab"], bytes_value={"value": b"\xff"}),
    Everything(string_field="<>&'\"\\/\x00\x1f\x7f\u2028€😀", string_map={"<": ">", "ä": "\n"}),
    Everything(optional_string="", optional_int64=0, optional_bool=False, optional_double=0, optional_color=0),
    Everything(time={"seconds": -62_135_596_800}, times=[{"seconds": 253_402_300_799, "nanos": 999_999_999}]),
    Everything(times=[{"nanos": 1}, {"nanos": 1_000}, {"nanos": 120_000_000}, {"seconds": -1, "nanos": 500_000_000}]),
    Everything(duration={"seconds": -1, "nanos": -500_000_000}),
    Everything(duration={"nanos": -1}),
    Everything(duration={"seconds": 315_576_000_000, "nanos": 1_000}),
    Everything(mask={"paths": ["a", "b_c.d_e", "b_1"]}),
    Everything(int64_value={}, uint64_value={"value": 5}, bool_value={}, string_value={"value": "x"}, float_value={}),
    Everything(value={"null_value": 0}, values=[{"number_value": 1.5}, {"list_value": {}}, {"struct_value": {}}]),
    Everything(value_map={"a": {"bool_value": True}, "b": {"string_value": ""}}, null_field=0, empty={}),
    Everything(**{"from": "a", "class": Nested(name="b")}, renamed="c", choice_string=""),
    Everything(time=timestamp_pb2.Timestamp(seconds=253_402_300_800)),
    Everything(duration={"seconds": 1, "nanos": -1}),
    Everything(mask={"paths": ["bC"]}),
    Everything(value={"number_value": math.nan}),
)
STREAMS: tuple[tuple[str, tuple[Everything | HttpBody | Attachment | status_pb2.Status, ...]], ...] = (
    ("/v1/watch", ()),
    ("/v1/watch?sizes=1&sizes=2&count=3", (Everything(int64_field=5),)),
    ("/v1/watch", (Everything(), Everything(string_field="a\nb"), Everything(int32s=[1, 2]))),
    ("/v1/watch", (status_pb2.Status(code=5, message="none"),)),
    ("/v1/watch", (Everything(), status_pb2.Status(code=5, message="no more"))),
    ("/v1/watch?nope=1", (Everything(),)),
    ("/v1/export", ()),
    ("/v1/export", (HttpBody(content_type="text/csv", data=b"a,b\n"), HttpBody(data=b"1,2\n"))),
    ("/v1/export", (HttpBody(content_type="text/csv", data=b"a,b\n"), status_pb2.Status(code=5, message="no more"))),
    ("/v1/download", (HttpBody(content_type="text/plain", data=b"\x00\xff"),)),
    ("/v1/download", (HttpBody(content_type="text/plain"),)),
    ("/v1/download", (HttpBody(data=b"x"),)),
    ("/v1/download", (status_pb2.Status(code=5, message="none"),)),
    ("/v1/attachment", (Attachment(name="a", file=HttpBody(content_type="text/plain", data=b"x")),)),
    ("/v1/attachment", (Attachment(name="a"),)),
    ("/v1/attachment/whole", (Attachment(name="a", file=HttpBody(content_type="text/plain", data=b"x")),)),
)

# To what takes a stream, or any body at all.
UPLOADS = (
    *(
        (path, content_type, body)
        for path in ("/v1/upload", "/v1/chat")
        for content_type, body in (
            ("application/json", '[{"count":1},{"count":2}]'),
            ("application/json", "[]"),
            ("application/json", '{"count":1}'),
            ("application/json", ""),
            ("application/json", '[{"count":1},{"count":"x"}]'),
            ("application/x-ndjson", '{"count":1}\n{"count":2}\n'),
            ("application/x-ndjson", '{"count":1}\n{"count":"x"}\n'),
            ("text/csv", "a,b\n"),
        )
    ),
    *(
        (path, content_type, body)
        for path in ("/v1/raw", "/v1/raw/a", "/v1/raw/a%2Fb?name=b", "/v1/raw?contentType=a")
        for content_type, body in (
            ("text/csv; charset=utf-8", "a,b\n"),
            ("application/json", '{"contentType":"x"}'),
            ("text/csv", ""),
            (None, "a"),
        )
    ),
)


def requests() -> Iterator[Request]:
    """Yield every request, the same ones each time."""
    yield from _routes()
    yield from _parameters()
    yield from _bodies()
    yield from _errors()
    yield from _answers()
    yield from _generated(random.Random(SEED))


def _get(kind: str, target: str) -> Request:
    return Request(kind=kind, method="GET", target=target, content_type=None)


def _post(kind: str, target: str, body: str) -> Request:
    return Request(kind=kind, method="POST", target=target, body=body.encode())


def _routes() -> Iterator[Request]:
    for path in PATHS:
        yield _get("route", path)
    for path in PATHS_OF_METHODS:
        for method in METHODS:
            yield Request(kind="route", method=method, target=path, content_type=None)
    for method, target, body in BINDINGS:
        yield Request(kind="binding", method=method, target=target, body=body.encode())
    for content_type in CONTENT_TYPES:
        body = b'{"int32Field":5}'
        yield Request(kind="binding", method="POST", target="/v1/everything", body=body, content_type=content_type)


def _parameters() -> Iterator[Request]:
    for variable in VARIABLES:
        for text in filter(None, TEXTS):
            yield _get("variable", f"/v1/pantry/{variable}/{quote(text, safe='')}")
    for query in QUERIES:
        yield _get("query", f"/v1/pantry?{query}")


def _bodies() -> Iterator[Request]:
    for body in BODIES:
        yield _post("body", "/v1/everything", body)
    for part in PARTS:
        for value in VALUES:
            # The line ends what may be a number.
            yield _post("part", f"/v1/parts/{part}", value + "\n")


def _errors() -> Iterator[Request]:
    for code in range(1, 17):
        for details in ((), DETAILS):
            status = status_pb2.Status(code=code, message=f"no {code}: äß€ %")
            for detail in details:
                status.details.add().Pack(detail)
            for options in (PLAIN, SPELLED_OUT):
                yield Request(
                    kind="error",
                    method="GET",
                    target="/v1/find",
                    content_type=None,
                    answer=(status,),
                    options=options,
                )


def _answers() -> Iterator[Request]:
    for answer in ANSWERS:
        for options in (PLAIN, SPELLED_OUT):
            yield Request(
                kind="answer",
                method="POST",
                target="/v1/everything",
                body=b"{}",
                answer=(answer,),
                options=options,
            )
    yield Request(kind="answer", method="POST", target="/v1/everything", body=b"{}", answer=(Everything(value={}),))
    for sizes in (Sizes(), Sizes(sizes=[1, 0]), Sizes(count=1)):
        yield Request(kind="answer", method="POST", target="/v1/orders", body=b"{}", options=SPELLED_OUT)
        yield Request(kind="answer", method="POST", target="/v1/sizes", body=b"[]", answer=(sizes,))
    for target, answers in STREAMS:
        yield Request(kind="stream", method="GET", target=target, content_type=None, answer=answers)
    for target, content_type, body in UPLOADS:
        yield Request(kind="upload", method="POST", target=target, body=body.encode(), content_type=content_type)


def _generated(source: random.Random) -> Iterator[Request]:
    """Yield each field of the test message with some of what a body or a parameter may give it, alone and in twos."""
    fields = Everything.DESCRIPTOR.fields
    for field in fields:
        for value in source.sample(VALUES, 12):
            yield _post("field", "/v1/everything", f'{{"{field.json_name}":{value}}}')
        if field.is_repeated and not is_map(field):
            for value in source.sample(VALUES, 8):
                yield _post("field", "/v1/everything", f'{{"{field.name}":[{value}]}}')
        for text in source.sample(TEXTS, 8):
            yield _get("parameter", f"/v1/pantry?{field.name}={quote(text)}")
