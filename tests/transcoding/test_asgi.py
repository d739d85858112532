from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import grpc
import pytest
from flagledger.transcoding import CodecError, TooManyElementsError, Transcoder
from flagledger.transcoding import body as bodies
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from transcoding.budget import Budget, RefusalError
from transcoding.kitchen import Everything, KitchenServicer, Sizes, call, service


def to_status(error: Exception) -> status_pb2.Status | None:
    """Map the application's own exception, with a delay."""
    if not isinstance(error, RefusalError):
        return None
    status = status_pb2.Status(code=8, message=str(error))
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(2500)
    status.details.add().Pack(retry)
    return status


def mount(servicer: Any = None, **options: Any) -> Transcoder:
    """Return the kitchen's application."""
    return Transcoder(
        [(service("Kitchen"), servicer or KitchenServicer())], preserving_proto_field_name=True, **options
    )


async def test_path_variables_and_query() -> None:
    """Path variables and query parameters meet in one request message."""
    servicer = KitchenServicer()
    answer = await call(mount(servicer), "GET", "/v1/shelves/7/books/a/b%2Fc?query.string_field=x&nested.size=3")

    assert 200 == answer.status
    assert "shelves/7/books/a/b%2Fc" == servicer.request.name
    assert 3 == servicer.request.nested.size
    assert {"string_field": "x"} == answer.json


async def test_typed_path_variables() -> None:
    """A path variable is converted to its field's type, and one that does not fit is a 400 by its name."""
    servicer = KitchenServicer()
    await call(mount(servicer), "GET", "/v1/nested/a%20b/12")
    refused = await call(mount(), "GET", "/v1/nested/a/twelve")

    assert ("a b", 12) == (servicer.request.nested.name, servicer.request.nested.size)
    assert (400, "nested.size") == (refused.status, refused.violations[0][0])


async def test_body_of_a_field() -> None:
    """A body that is one field leaves the rest to path and query; error paths are relative to the body."""
    servicer = KitchenServicer()
    answer = await call(mount(servicer), "PUT", "/v1/tables/9/order", b'{"dishes":[{"name":"soup"}]}')
    refused = await call(mount(), "PUT", "/v1/tables/9/order", b'{"dishes":[{},{"price":"x"}]}')

    assert 200 == answer.status
    assert ("9", "soup") == (servicer.request.table, servicer.request.tray.dishes[0].name)
    assert ["dishes[1].price"] == [field for field, _ in refused.violations]


@pytest.mark.parametrize(("text", "path"), [(b"[1,2]", None), (b"[]", None), (b'[1,"x"]', "[1]"), (b"5", "")])
async def test_body_of_a_repeated_field(text: bytes, path: str | None) -> None:
    """A repeated field can be the body, and the answer."""
    answer = await call(mount(), "POST", "/v1/sizes?count=2", text)

    if path is None:
        assert (200, json.loads(text)) == (answer.status, answer.json)
    else:
        assert 400 == answer.status
        assert [path] * bool(path) == [field for field, _ in answer.violations]


async def test_whole_body() -> None:
    """A body of `*` is the whole request, and leaves nothing to the query."""
    app = mount()
    answer = await call(app, "POST", "/v1/everything", b'{"int32_field":5}')
    refused = await call(app, "POST", "/v1/everything?int32_field=5", b"{}")

    assert (200, {"int32_field": 5}) == (answer.status, answer.json)
    assert (400, "int32_field") == (refused.status, refused.violations[0][0])


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nope", b"null", b"[]", b'"x"', b"{}{}", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000]
)
async def test_malformed_bodies(body: bytes) -> None:
    """A body that is no JSON object is a 400 with a Status; an empty body is none."""
    answer = await call(mount(), "POST", "/v1/everything", body)

    assert (400, 3) == (answer.status, answer.json["code"])
    assert "application/json" == answer.headers["content-type"]


async def test_unread_body_of_a_get() -> None:
    """What a GET carries as a body is not looked at."""
    assert 200 == (await call(mount(), "GET", "/v1/find", b"nonsense", {"content-type": "text/plain"})).status


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 200),
        ("", 200),
        ("application/json", 200),
        ("Application/JSON", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json;charset=UTF-8", 200),
        ("application/vnd.kitchen+json", 200),
        ("application/problem+json; x=y", 200),
        ("text/plain", 415),
        ("text/json", 415),
        ("application/jsonp", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json, text/plain", 415),
    ],
)
async def test_content_types(content_type: str | None, status: int) -> None:
    """JSON in any of its spellings is taken, and nothing else; nothing at all is JSON."""
    headers = {} if content_type is None else {"Content-Type": content_type}

    assert status == (await call(mount(), "POST", "/v1/everything", b"{}", headers)).status


GZIPPED = gzip.compress(b'{"int32_field":5}')


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", GZIPPED, 200),
        ("GZIP", GZIPPED, 200),
        ("identity", b"{}", 200),
        ("gzip", gzip.compress(b'{"int32_') + gzip.compress(b'field":5}'), 200),
        ("gzip", GZIPPED[:-1], 400),
        ("gzip", GZIPPED[:12], 400),
        ("gzip", GZIPPED + b"x", 400),
        ("gzip", GZIPPED[:-8] + b"\0" * 8, 400),
        ("gzip", b'{"int32_field":5}', 400),
        ("gzip", zlib.compress(b"{}"), 400),
        ("gzip", b"", 400),
        ("gzip", gzip.compress(b""), 400),
        ("identity", GZIPPED, 400),
        ("gzip, gzip", gzip.compress(GZIPPED), 415),
        ("deflate", zlib.compress(b"{}"), 415),
        ("br", b"{}", 415),
        ("gzip", gzip.compress(b" " * 1_001), 413),
        ("gzip", gzip.compress(b"{}".ljust(1_000)), 200),
    ],
)
async def test_content_encodings(encoding: str, body: bytes, status: int) -> None:
    """A gzip body is taken whole or not at all, within the same limit decompressed; other encodings are not."""
    answer = await call(mount(max_body_bytes=1_000), "POST", "/v1/everything", body, {"Content-Encoding": encoding})

    assert status == answer.status


async def test_gzip_of_too_many_members() -> None:
    """A file of many members is put together, one of thousands is no body."""
    few = gzip.compress(b"{") + gzip.compress(b" ") * 50 + gzip.compress(b"}")
    many = gzip.compress(b"{") + gzip.compress(b"") * 5_000 + gzip.compress(b"}")
    headers = {"Content-Encoding": "gzip"}

    assert 200 == (await call(mount(), "POST", "/v1/everything", few, headers)).status
    assert 400 == (await call(mount(), "POST", "/v1/everything", many, headers)).status


async def test_gzip_bomb() -> None:
    """A bomb stops at the limit, and holds of the budget no more than limit and body."""
    bomb = gzip.compress(b"\0" * (64 << 20))
    budget = Budget(1 << 30)
    answer = await call(mount(body_budget=budget), "POST", "/v1/everything", bomb, {"Content-Encoding": "gzip"})

    assert (413, 8) == (answer.status, answer.json["code"])
    assert budget.peak <= (4 << 20) + len(bomb)
    assert 0 == budget.held


@pytest.mark.parametrize("body", [b"{}".ljust(1_001), [b"{}".ljust(600), b" " * 401]])
async def test_too_large(body: bytes | list[bytes]) -> None:
    """A body over the limit is a 413 without a delay, announced or not."""
    answer = await call(mount(max_body_bytes=1_000), "POST", "/v1/everything", body)

    assert (413, 8, []) == (answer.status, answer.json["code"], answer.json["details"])
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize(("pieces", "taken"), [(5, 5), (10_000, 1 + 16)])
async def test_rest_of_a_refused_body(pieces: int, taken: int) -> None:
    """After a refusal the answer goes out at once, and the rest of the body is read, up to one megabyte, before the end."""
    messages = [{"type": "http.request", "body": b"x" * 65_536, "more_body": at < pieces - 1} for at in range(pieces)]
    events: list[Any] = []

    async def receive() -> Any:
        events.append("receive")
        return messages.pop(0)

    async def send(message: Any) -> None:
        events.append((message["type"], len(message.get("body", b"")) > 0, message.get("more_body", False)))

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/everything",
        "raw_path": b"/v1/everything",
        "query_string": b"",
        "headers": [(b"transfer-encoding", b"chunked")],
    }
    await mount(max_body_bytes=1_000)(scope, receive, send)

    assert [
        "receive",
        ("http.response.start", False, False),
        ("http.response.body", True, True),
        *["receive"] * (taken - 1),
        ("http.response.body", False, False),
    ] == events


async def test_chunked() -> None:
    """A body in pieces is put together."""
    answer = await call(
        mount(max_body_bytes=1_000), "POST", "/v1/everything", [b'{"int32', b'_field":', b"", b"5}", b""]
    )

    assert {"int32_field": 5} == answer.json


@pytest.mark.parametrize("length", ["x", "-1", "1" * 30])
async def test_content_length_that_is_none(length: str) -> None:
    """A Content-Length that is no number is a 400."""
    assert 400 == (await call(mount(), "POST", "/v1/everything", [b"{}"], {"Content-Length": length})).status


async def test_order_of_refusals() -> None:
    """404, 405, then whoever calls, then 415, 413, 400; nothing of the body counts before the caller does."""

    async def authorize(method: str, context: Any) -> None:
        if context.metadata("authorization") is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Who are you?")

    app = mount(authorize=authorize, max_body_bytes=10)
    everything: dict[str, str] = {"Content-Type": "text/plain"}
    long = b"x" * 100
    known = {"authorization": "me"}

    assert 404 == (await call(app, "PATCH", "/nowhere", long, everything)).status
    assert 405 == (await call(app, "PATCH", "/v1/everything", long, everything)).status
    refused = await call(app, "POST", "/v1/everything", long, everything)
    assert (401, 16) == (refused.status, refused.json["code"])
    assert "Bearer" == refused.headers["www-authenticate"]
    assert 415 == (await call(app, "POST", "/v1/everything", long, everything | known)).status
    assert 413 == (await call(app, "POST", "/v1/everything", long, known)).status
    assert 400 == (await call(app, "POST", "/v1/everything", b"x", known)).status
    assert 200 == (await call(app, "POST", "/v1/everything", b"{}", known)).status


async def test_method_not_allowed() -> None:
    """A known path under another method is a 405 that lists those it takes, HEAD and OPTIONS among them."""
    app = mount()
    answer = await call(app, "DELETE", "/v1/find")

    assert (405, "GET, HEAD, OPTIONS") == (answer.status, answer.headers["allow"])
    assert "MERGE, OPTIONS" == (await call(app, "GET", "/v1/tables/7:merge")).headers["allow"]
    assert 12 == answer.json["code"]


async def test_custom_method() -> None:
    """A custom method and a verb lead where they should."""
    servicer = KitchenServicer()

    assert 200 == (await call(mount(servicer), "MERGE", "/v1/tables/7:merge")).status
    assert "7" == servicer.request.table


async def test_head_and_options() -> None:
    """HEAD is GET without its body, OPTIONS lists the methods; neither needs an annotation."""
    app = mount()
    get = await call(app, "GET", "/v1/find?query.string_field=x")
    head = await call(app, "HEAD", "/v1/find?query.string_field=x")
    options = await call(app, "OPTIONS", "/v1/find/")

    assert (200, get.headers, b"") == (head.status, head.headers, head.body)
    assert (204, "GET, HEAD, OPTIONS", b"") == (options.status, options.headers["allow"], options.body)
    assert 404 == (await call(app, "OPTIONS", "/nowhere")).status
    assert 405 == (await call(app, "HEAD", "/v1/everything")).status


@pytest.mark.parametrize("path", ["/v1/everything/", "/v1/everything//", "/v1/%65verything"])
async def test_spellings_of_a_path(path: str) -> None:
    """Trailing slashes do not count and are never redirected; escapes are the characters that they stand for."""
    assert 200 == (await call(mount(), "POST", path, b"{}")).status


async def test_mounted_below_a_root_path() -> None:
    """Below a parent application the root path is not part of the template."""
    answer = await call(mount(), "POST", "/api/v1/everything", b"{}", root_path="/api")

    assert 200 == answer.status


class Metadata(KitchenServicer):
    """Sends metadata back."""

    def __init__(self, initial: Any = (), trailing: Any = ()) -> None:
        super().__init__()
        self.initial = initial
        self.trailing = trailing

    async def Echo(self, request: Any, context: Any) -> Any:
        """Answer with the request and the metadata."""
        if self.initial:
            await context.send_initial_metadata(self.initial)
        context.set_trailing_metadata(self.trailing)
        return request


@pytest.mark.parametrize(
    ("initial", "trailing", "status"),
    [
        ([("x-http-code", "202")], [], 202),
        ([], [("x-http-code", "201")], 201),
        ([], [("x-http-code", b"202")], 202),
        ([], [("x-http-code", "404")], 200),
        ([], [("x-http-code", "2xx")], 200),
        ([], [("x-http-code", "2022")], 200),
        ([], [], 200),
    ],
)
async def test_success_status(initial: Any, trailing: Any, status: int) -> None:
    """A 2xx in `x-http-code` is the status of a success, and is not passed on."""
    answer = await call(mount(Metadata(initial, trailing)), "POST", "/v1/everything", b"{}")

    assert status == answer.status
    assert "x-http-code" not in answer.headers


async def test_no_content() -> None:
    """A 204 has no body."""
    answer = await call(mount(Metadata([("x-http-code", "204")])), "POST", "/v1/everything", b"{}")

    assert (204, b"", False) == (answer.status, answer.body, "content-length" in answer.headers)


async def test_metadata_out() -> None:
    """Metadata goes out as headers, binary values in base64; what would forge headers does not."""
    trailing = [
        ("x-one", "1"),
        ("x-two-bin", b"\0\1"),
        ("x-evil", "a\r\nset-cookie: b"),
        ("bad name", "x"),
        ("content-length", "7"),
        ("grpc-status", "0"),
    ]
    answer = await call(mount(Metadata([], trailing)), "POST", "/v1/everything", b"{}")

    assert {
        "x-one": "1",
        "x-two-bin": "AAE=",
        "content-type": "application/json",
        "content-length": "2",
    } == answer.headers


async def test_metadata_in() -> None:
    """Only listed headers become metadata, as pairs with names; binary ones are decoded."""
    servicer = KitchenServicer()
    app = mount(servicer, header_allow_list=["X-Key", "trace-bin"])
    await call(app, "POST", "/v1/everything", b"{}", {"X-Key": "k", "Trace-Bin": "AAE", "Cookie": "secret"})
    found = servicer.context.invocation_metadata()

    assert (("x-key", "k"), ("trace-bin", b"\0\1")) == found
    assert ("x-key", "k") == (found[0].key, found[0].value)
    refused = await call(app, "POST", "/v1/everything", b"{}", {"Trace-Bin": "!"})
    assert 400 == refused.status


class Failing(KitchenServicer):
    """Does what the test says."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act

    async def Echo(self, request: Any, context: Any) -> Any:
        """Act, and answer with what comes of it or with the request."""
        self.context = context
        return await self.act(request, context) or request


async def test_a_header_that_does_not_fit_hides_no_other() -> None:
    """Whoever is asked who calls sees the headers behind one that is not base64, which is a 400 after that."""
    seen = []

    async def authorize(method: str, context: Any) -> None:
        seen.append(context.metadata("x-key"))

    app = mount(authorize=authorize, header_allow_list=["x-key", "trace-bin"])
    answer = await call(app, "GET", "/v1/find", headers={"trace-bin": "!", "x-key": "k"})

    assert (400, ["k"]) == (answer.status, seen)
    assert "trace-bin" in answer.json["message"]


async def test_abort() -> None:
    """An abort is its code and message."""

    async def act(request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "No such dish.")

    answer = await call(mount(Failing(act)), "POST", "/v1/everything", b"{}")

    assert (404, {"code": 5, "message": "No such dish.", "details": []}) == (answer.status, answer.json)


async def test_abort_with_status() -> None:
    """An abort with a rich status keeps its details, and its RetryInfo is a Retry-After."""

    async def act(request: Any, context: Any) -> None:
        status = to_status(RefusalError("Wait."))
        assert status is not None
        await context.abort_with_status(rpc_status.to_status(status))

    answer = await call(mount(Failing(act)), "POST", "/v1/everything", b"{}")

    assert (429, "3") == (answer.status, answer.headers["retry-after"])
    assert ["type.googleapis.com/google.rpc.RetryInfo"] == [detail["@type"] for detail in answer.json["details"]]
    assert "grpc-status-details-bin" not in answer.headers


async def test_set_code() -> None:
    """A code that is set on the context is the answer even where a message is returned."""

    async def act(request: Any, context: Any) -> None:
        context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
        context.set_details("Not yet.")

    answer = await call(mount(Failing(act)), "POST", "/v1/everything", b"{}")

    assert (400, 9, "Not yet.") == (answer.status, answer.json["code"], answer.json["message"])


async def test_not_implemented() -> None:
    """A generated servicer's default is a 501."""

    async def act(request: Any, context: Any) -> None:
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        raise NotImplementedError("Method not implemented!")

    assert 501 == (await call(mount(Failing(act)), "POST", "/v1/everything", b"{}")).status


async def test_the_applications_exceptions() -> None:
    """What `to_status` knows goes out as it says."""

    async def act(request: Any, context: Any) -> None:
        raise RefusalError("Wait.")

    answer = await call(mount(Failing(act), to_status=to_status), "POST", "/v1/everything", b"{}")

    assert (429, "Wait.", "3") == (answer.status, answer.json["message"], answer.headers["retry-after"])


async def test_unknown_exceptions(caplog: pytest.LogCaptureFixture) -> None:
    """Any other exception is logged, and tells the client nothing."""

    async def act(request: Any, context: Any) -> None:
        raise RuntimeError("the password is 1234")

    answer = await call(mount(Failing(act), to_status=to_status), "POST", "/v1/everything", b"{}")

    assert (500, 2) == (answer.status, answer.json["code"])
    assert b"1234" not in answer.body
    assert "1234" in caplog.text


async def test_a_response_that_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    """A response without a JSON form is a 500, and logged."""

    async def act(request: Any, context: Any) -> Any:
        found = Everything()
        found.value.number_value = float("nan")
        return found

    answer = await call(mount(Failing(act)), "POST", "/v1/everything", b"{}")

    assert (500, 13) == (answer.status, answer.json["code"])
    assert "NaN" in caplog.text


async def test_budget() -> None:
    """Bytes are reserved before they are read, for as long as the call lasts, and always given back."""
    budget = Budget(100)
    held: list[int] = []

    async def act(request: Any, context: Any) -> None:
        held.append(budget.held)

    app = mount(Failing(act), body_budget=budget, to_status=to_status)
    assert 200 == (await call(app, "POST", "/v1/everything", b"{}".ljust(80))).status
    assert 200 == (await call(app, "POST", "/v1/everything", [b"{}".ljust(30), b" " * 30])).status
    assert 429 == (await call(app, "POST", "/v1/everything", b"{}".ljust(101))).status
    assert 429 == (await call(app, "POST", "/v1/everything", [b"{}".ljust(60), b" " * 60])).status
    assert 400 == (await call(app, "POST", "/v1/everything", b"x")).status

    assert ([80, 60], 0) == (held, budget.held)


@pytest.mark.parametrize(("text", "seconds"), [("5S", 5), ("2M", 120), ("1H", 3600), ("900m", 0.9)])
async def test_time_remaining(text: str, seconds: float) -> None:
    """`Grpc-Timeout` is the deadline that the servicer sees."""
    remaining: list[float] = []

    async def act(request: Any, context: Any) -> None:
        remaining.append(context.time_remaining())

    await call(mount(Failing(act)), "POST", "/v1/everything", b"{}", {"Grpc-Timeout": text})

    assert seconds * 0.9 - 1 < remaining[0] <= seconds


async def test_deadline() -> None:
    """A call that outlives its deadline is cancelled, and a 504."""
    cancelled: list[bool] = []

    async def act(request: Any, context: Any) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    answer = await call(mount(Failing(act)), "POST", "/v1/everything", b"{}", {"Grpc-Timeout": "30m"})

    assert (504, 4, [True]) == (answer.status, answer.json["code"], cancelled)


async def test_a_timeout_of_the_servicers_own() -> None:
    """A TimeoutError that is not the deadline's is any exception."""

    async def act(request: Any, context: Any) -> None:
        raise TimeoutError

    answer = await call(mount(Failing(act)), "POST", "/v1/everything", b"{}", {"Grpc-Timeout": "30S"})

    assert 500 == answer.status


@pytest.mark.parametrize("text", ["5", "S", "5s", "-5S", "123456789S", "1.5S", "\u0665S"])
async def test_malformed_timeout(text: str) -> None:
    """A `Grpc-Timeout` that is none is a 400."""
    headers = {"Grpc-Timeout": text.encode().decode("latin-1")}

    assert 400 == (await call(mount(), "POST", "/v1/everything", b"{}", headers)).status


async def test_context() -> None:
    """The context has what grpc.aio's has."""
    done: list[Any] = []
    codes: list[Any] = []

    async def act(request: Any, context: Any) -> None:
        context.add_done_callback(done.append)
        context.add_done_callback(lambda _: 1 / 0)
        codes.append((context.code(), context.details(), context.done(), context.cancelled()))
        assert context.time_remaining() is None
        assert isinstance(context, grpc.aio.ServicerContext)
        assert grpc.aio.EOF is await context.read()
        with pytest.raises(grpc.aio.UsageError):
            await context.write(None)

    servicer = Failing(act)
    answer = await call(mount(servicer), "POST", "/v1/everything", b"{}")

    assert (200, [(grpc.StatusCode.OK, "", False, False)]) == (answer.status, codes)
    assert [servicer.context] == done
    assert "ipv4:127.0.0.1:50312" == servicer.context.peer()
    assert ("/kitchen.v1.Kitchen/Echo", 200) == (servicer.context.full_method_name, servicer.context.http_status)
    assert servicer.context.done()


@pytest.mark.parametrize(
    ("client", "peer"), [(("::1", 5), "ipv6:%5B%3A%3A1%5D:5"), (None, "unknown"), (("10.0.0.1", 7), "ipv4:10.0.0.1:7")]
)
async def test_peer(client: Any, peer: str) -> None:
    """Peers are written as gRPC writes them."""
    servicer = KitchenServicer()
    await call(mount(servicer), "POST", "/v1/everything", b"{}", client=client)

    assert peer == servicer.context.peer()


async def test_element_errors_and_ignored_fields() -> None:
    """What was collected and ignored stands in the context, and can be told in headers."""
    servicer = KitchenServicer()
    told: list[str] = []

    def on_response(context: Any) -> list[tuple[bytes, bytes]]:
        return [(b"x-ignored-fields", ",".join(context.ignored_fields).encode())] if context.ignored_fields else []

    app = mount(
        servicer,
        ignore_unknown_below={"kitchen.v1.Dish"},
        collect_errors_in={"kitchen.v1.Tray.dishes"},
        on_ignored=told.append,
        on_response=on_response,
    )
    body = b'{"dishes":[{"name":"a","spice":1},{"name":5},{"spice":2,"parts":[{"glaze":0}]}]}'
    answer = await call(app, "PUT", "/v1/tables/9/order", body)

    assert [(1, "dishes[1].name", "has to be a string, not a number")] == servicer.context.element_errors
    assert ["dishes[].spice", "dishes[].parts[].glaze"] == told
    assert "dishes[].spice,dishes[].parts[].glaze" == answer.headers["x-ignored-fields"]
    whole = await call(app, "POST", "/v1/orders", b'{"tray":%s}' % body)
    assert "tray.dishes[].spice,tray.dishes[].parts[].glaze" == whole.headers["x-ignored-fields"]
    assert ["tray.dishes[1].name"] == [error.path for error in servicer.context.element_errors]
    clean = await call(app, "PUT", "/v1/tables/9/order", b"{}")
    assert "x-ignored-fields" not in clean.headers
    assert ([], ()) == (servicer.context.element_errors, servicer.context.ignored_fields)


async def test_headers_on_errors() -> None:
    """The application's headers are on refusals of routed requests too, and a hook that fails costs no answer."""
    codes: list[Any] = []

    def on_response(context: Any) -> list[tuple[bytes, bytes]]:
        codes.append((context.code(), context.http_status))
        return [(b"x-mine", b"1")]

    answer = await call(mount(on_response=on_response), "POST", "/v1/everything", b"x")
    assert ("1", [(grpc.StatusCode.INVALID_ARGUMENT, 400)]) == (answer.headers["x-mine"], codes)

    answer = await call(mount(on_response=lambda _: 1 / 0), "POST", "/v1/everything", b"{}")
    assert 200 == answer.status


async def test_lifespan() -> None:
    """A server's lifespan is answered."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await mount()({"type": "lifespan"}, receive, send)

    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == sent


async def test_depth_is_bounded() -> None:
    """Nesting beyond the limit is a 400, however deep."""
    app = mount(max_depth=20)

    def nested(levels: int) -> bytes:
        return b'{"value":' + b"[" * levels + b"]" * levels + b"}"

    assert 200 == (await call(app, "POST", "/v1/everything", nested(19))).status
    for levels in (20, 100, 1_000, 100_000):
        assert 400 == (await call(app, "POST", "/v1/everything", nested(levels))).status


async def test_default_values_of_a_response_field() -> None:
    """An answer that is one field is there even where the field is empty."""

    class Empty(KitchenServicer):
        async def Measure(self, request: Any, context: Any) -> Any:
            return Sizes()

    assert [] == (await call(mount(Empty()), "POST", "/v1/sizes", b"[1]")).json


async def test_an_unforeseen_failure_outside_the_servicer(caplog: pytest.LogCaptureFixture) -> None:
    """What fails outside the servicer is a 500 that tells nothing of itself, and the call ends for its callbacks."""
    ended: list[int] = []

    async def authorize(_: str, context: Any) -> None:
        context.add_done_callback(lambda context: ended.append(context.http_status))

    def fail(_: str) -> None:
        raise ZeroDivisionError("secret")

    app = mount(authorize=authorize, on_ignored=fail, ignore_unknown_below={Everything.DESCRIPTOR.full_name})
    answer = await call(app, "POST", "/v1/everything", b'{"colour": 1}')

    assert (500, 13) == (answer.status, answer.json["code"])
    assert "secret" not in str(answer.json)
    assert [500] == ended
    assert "could not be carried out" in caplog.text


async def test_words_for_a_codec_error() -> None:
    """The application may say in its own words what does not fit; where it has none the answer is a plain 400."""
    seen: list[tuple[str, str]] = []

    def on_codec_error(error: CodecError) -> Exception | None:
        seen.append((type(error).__name__, error.path))
        return RefusalError(error.sentence) if isinstance(error, TooManyElementsError) else None

    app = mount(
        to_status=to_status,
        on_codec_error=on_codec_error,
        max_elements={f"{Everything.DESCRIPTOR.full_name}.int32s": 2},
    )
    mapped = await call(app, "POST", "/v1/everything", b'{"int32s": [1, 2, 3]}')
    plain = await call(app, "POST", "/v1/everything", b'{"int32_field": "x"}')

    assert (429, "int32s has more than 2 elements.") == (mapped.status, mapped.json["message"])
    assert (400, "int32_field") == (plain.status, plain.violations[0][0])
    assert [("TooManyElementsError", "int32s"), ("CodecError", "int32_field")] == seen


async def test_refusals_of_http() -> None:
    """Each refusal that is HTTP's own is told, with its status, and none of the application's."""
    told: list[int] = []
    app = mount(on_refusal=told.append, max_body_bytes=10)
    await call(app, "GET", "/nowhere")
    await call(app, "PUT", "/v1/everything")
    await call(app, "POST", "/v1/everything", b"{}", {"Content-Type": "text/plain"})
    await call(app, "POST", "/v1/everything", b"{}" + b" " * 10)
    await call(app, "POST", "/v1/everything", b"x")

    assert [404, 405, 415, 413] == told


async def test_an_announced_body_reserves_nothing() -> None:
    """The budget is taken as bytes arrive, and never for what a client only says."""
    budget = Budget(1 << 30)
    held: list[int] = []
    reservation = bodies.Reservation(budget)
    pieces = [b"x" * 10, b"y" * 20, b""]

    async def receive() -> Any:
        held.append(budget.held)
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    body = await bodies.read(
        receive, content_length=4_000, max_bytes=4_000, slack_seconds=5, total_seconds=5, reservation=reservation
    )
    reservation.release()

    assert b"x" * 10 + b"y" * 20 == body
    assert ([0, 10, 30], 0) == (held, budget.held)
