from __future__ import annotations

import pytest
from compat.conftest import MAX_EVALUATIONS, V1, V2, Service
from support.intake import NOW, SERVER_KEY

ENTRY = {"feature_name": "checkout", "enabled_when_evaluated": True, "count": 1}
FORM = "application/x-www-form-urlencoded"


def parse_error(message: str) -> bytes:
    """Return the answer to a body that is no JSON."""
    return b'{"detail":"JSON parse error - %s"}' % message.encode()


# Facts about the Flagsmith API: route, body, headers → status and exact body.
FACTS: dict[str, tuple[str, bytes, dict[str, str], int, bytes]] = {
    "v1": (V1, b'{"checkout": 1}', {}, 200, b""),
    "v1 empty object": (V1, b"{}", {}, 200, b""),
    "v1 empty body": (V1, b"", {}, 200, b""),
    "v1 empty body of any type": (V1, b"", {"content-type": "text/plain"}, 200, b""),
    "v1 unknown feature": (V1, b'{"nowhere": 1}', {}, 200, b""),
    "v1 no counts": (V1, b'{"checkout": true, "a": 1.5, "b": "3", "c": null, "d": [], "e": {}}', {}, 200, b""),
    "v1 negative": (V1, b'{"checkout": -1}', {}, 200, b""),
    "v1 charset": (V1, b'{"checkout": 1}', {"content-type": "application/json; charset=utf-8"}, 200, b""),
    "v1 form": (V1, b"checkout=1", {"content-type": FORM}, 200, b""),
    "v1 list": (V1, b"[]", {}, 400, b'{"non_field_errors":["Expected a JSON object."]}'),
    "v1 text": (V1, b'"x"', {}, 400, b'{"non_field_errors":["Expected a JSON object."]}'),
    "v1 null": (V1, b"null", {}, 400, b'{"non_field_errors":["No data provided"]}'),
    "v1 malformed": (
        V1,
        b"{",
        {},
        400,
        parse_error("Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ),
    "v1 NaN": (V1, b'{"a": NaN}', {}, 400, parse_error("Out of range float values are not JSON compliant: 'NaN'")),
    "v1 infinity": (
        V1,
        b'{"a": -Infinity}',
        {},
        400,
        parse_error("Out of range float values are not JSON compliant: '-Infinity'"),
    ),
    "v1 byte order mark": (
        V1,
        b"\xef\xbb\xbf{}",
        {},
        400,
        parse_error("Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)"),
    ),
    "v1 no UTF-8": (
        V1,
        b"\xff{}",
        {},
        400,
        parse_error("'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ),
    "v1 trailing data": (V1, b'{"feature_one": 1} x', {}, 400, parse_error("Extra data: line 1 column 20 (char 19)")),
    "v1 deep": (V1, b"[" * 100_000, {}, 400, parse_error("It is nested too deeply.")),
    "v1 endless number": (
        V1,
        b'{"a": %b}' % (b"1" * 5000),
        {},
        400,
        parse_error(
            "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use "
            "sys.set_int_max_str_digits() to increase the limit"
        ),
    ),
    "v1 media type": (
        V1,
        b"{}",
        {"content-type": "text/plain"},
        415,
        b'{"detail":"Unsupported media type \\"text/plain\\" in request."}',
    ),
    "v1 no media type": (
        V1,
        b"{}",
        {"content-type": ""},
        415,
        b'{"detail":"Unsupported media type \\"\\" in request."}',
    ),
    "v1 media type beyond ASCII": (
        V1,
        b"{}",
        {"content-type": "t\xebxt/plain"},
        415,
        b'{"detail":"Unsupported media type \\"t\\u00ebxt/plain\\" in request."}',
    ),
    "v2 empty list": (V2, b'{"evaluations": []}', {}, 204, b""),
    "v2 charset": (V2, b'{"evaluations": []}', {"content-type": "application/json; charset=utf-8"}, 204, b""),
    "v2 empty body": (V2, b"", {}, 400, b'{"evaluations":["This field is required."]}'),
    "v2 missing": (V2, b"{}", {}, 400, b'{"evaluations":["This field is required."]}'),
    "v2 form": (V2, b"evaluations=1", {"content-type": FORM}, 400, b'{"evaluations":["This field is required."]}'),
    "v2 null": (V2, b'{"evaluations": null}', {}, 400, b'{"evaluations":["This field may not be null."]}'),
    "v2 no list": (
        V2,
        b'{"evaluations": {}}',
        {},
        400,
        b'{"evaluations":{"non_field_errors":["Expected a list of items but got type \\"dict\\"."]}}',
    ),
    "v2 text as list": (
        V2,
        b'{"evaluations": "x"}',
        {},
        400,
        b'{"evaluations":{"non_field_errors":["Expected a list of items but got type \\"str\\"."]}}',
    ),
    "v2 no object": (
        V2,
        b"[]",
        {},
        400,
        b'{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}',
    ),
    "v2 nothing": (V2, b"null", {}, 400, b'{"non_field_errors":["No data provided"]}'),
    "v2 malformed": (
        V2,
        b"{",
        {},
        400,
        parse_error("Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ),
    "v2 media type": (
        V2,
        b"{}",
        {"content-type": "application/vnd.api+json"},
        415,
        b'{"detail":"Unsupported media type \\"application/vnd.api+json\\" in request."}',
    ),
}


@pytest.mark.parametrize(("path", "body", "headers", "status", "answer"), FACTS.values(), ids=FACTS)
@pytest.mark.parametrize("slash", ["/", ""])
async def test_facts(
    service: Service, path: str, body: bytes, headers: dict[str, str], status: int, answer: bytes, slash: str
) -> None:
    """Each of these requests is answered as the Flagsmith API answers it, to the byte, with and without the last slash."""
    got = await service.send(path[:-1] + slash, body, headers=headers)

    assert (status, answer) == (got.status, got.body)
    assert ("application/json" if answer else None) == got.headers.get("content-type")


REQUIRED = "This field is required."
NULL = "This field may not be null."
BLANK = "This field may not be blank."


@pytest.mark.parametrize(
    ("entry", "errors"),
    [
        ({}, {name: [REQUIRED] for name in ("feature_name", "enabled_when_evaluated", "count")}),
        (
            {"feature_name": [], "enabled_when_evaluated": "maybe", "count": "x"},
            {
                "feature_name": ["Not a valid string."],
                "enabled_when_evaluated": ["Must be a valid boolean."],
                "count": ["A valid integer is required."],
            },
        ),
        (5, {"non_field_errors": ["Invalid data. Expected a dictionary, but got int."]}),
        ([], {"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
        (None, [NULL]),
        (ENTRY | {"feature_name": " "}, {"feature_name": [BLANK]}),
        (ENTRY | {"feature_name": None}, {"feature_name": [NULL]}),
        (ENTRY | {"feature_name": True}, {"feature_name": ["Not a valid string."]}),
        (ENTRY | {"feature_name": "a\0"}, {"feature_name": ["Null characters are not allowed."]}),
        (ENTRY | {"identity_identifier": None}, {"identity_identifier": [NULL]}),
        (ENTRY | {"identity_identifier": ""}, {"identity_identifier": [BLANK]}),
        (ENTRY | {"identity_identifier": {}}, {"identity_identifier": ["Not a valid string."]}),
        (ENTRY | {"enabled_when_evaluated": None}, {"enabled_when_evaluated": [NULL]}),
        (ENTRY | {"enabled_when_evaluated": ""}, {"enabled_when_evaluated": ["Must be a valid boolean."]}),
        (ENTRY | {"count": None}, {"count": [NULL]}),
        (ENTRY | {"count": True}, {"count": ["A valid integer is required."]}),
        (ENTRY | {"count": "9" * 1001}, {"count": ["String value too large."]}),
    ],
)
async def test_one_wrong_entry(service: Service, entry: object, errors: object) -> None:
    """A wrong entry of version 2 costs the body, is named at its place among the good ones, and leaves nothing recorded."""
    got = await service.send(V2, {"evaluations": [ENTRY, entry, ENTRY]})

    assert (400, {"evaluations": [{}, errors, {}]}) == (got.status, got.json())
    assert [] == service.records
    assert ["MALFORMED"] == service.counted.refusals


async def test_counts(service: Service) -> None:
    """Version 1 is recorded as evaluations with a count, of the time of receipt, of which nobody knows more."""
    await service.send(V1, {"checkout": 3, "new_dashboard": 1_000_000, "nowhere": 2})
    [record] = service.records
    checkout, dashboard = record.evaluations

    assert ("checkout", 3) == (checkout.feature_name, checkout.count)
    assert ("new_dashboard", 1_000_000) == (dashboard.feature_name, dashboard.count)
    assert not checkout.HasField("enabled")
    assert not checkout.HasField("identity_identifier")
    assert int(NOW) == checkout.evaluation_timestamp.seconds
    assert [("unknown_feature", "nowhere", 1)] == [(d.reason, d.name, d.entry_count) for d in record.envelope.discards]
    assert "" == record.batch_id


async def test_evaluations(service: Service) -> None:
    """Version 2 is recorded with whether the feature was enabled, and for whom, as Django coerces it."""
    off = {
        "feature_name": " checkout ",
        "identity_identifier": 5,
        "enabled_when_evaluated": "off",
        "count": "7",
        "colour": 1,
    }
    got = await service.send(V2, {"evaluations": [ENTRY, off, ENTRY | {"feature_name": "nowhere"}]})
    first, second = service.evaluations

    assert 204 == got.status
    assert ("checkout", True, 1, False) == (
        first.feature_name,
        first.enabled,
        first.count,
        first.HasField("identity_identifier"),
    )
    assert ("checkout", False, 7, "5") == (
        second.feature_name,
        second.enabled,
        second.count,
        second.identity_identifier,
    )
    assert second.HasField("enabled")
    assert int(NOW) == second.evaluation_timestamp.seconds
    assert 1 == service.counted.of("filtered")


@pytest.mark.parametrize("key", ["client", "server"])
@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize("count", [0, -1, 10**30, 1_000_001, 2**32])
async def test_counts_that_cannot_be(service: Service, path: str, count: int, key: str) -> None:
    """A count that is none is counted as rejected; the sender, who would not understand, is told that all is well."""
    body = {"checkout": count, "new_dashboard": 1}
    if path == V2:
        body = {"evaluations": [ENTRY | {"count": count}, ENTRY | {"feature_name": "new_dashboard"}]}

    got = await service.send(path, body, **({"key": SERVER_KEY} if key == "server" else {}))

    assert {V1: 200, V2: 204}[path] == got.status
    assert ["new_dashboard"] == [evaluation.feature_name for evaluation in service.evaluations]
    assert 1 == service.counted.counts["rejected", "production", "count"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (V1, b'{"checkout": "3", "\\ud800": 1, "": 1}'),
        (V2, b'{"evaluations": [{"feature_name": "%b", "enabled_when_evaluated": 1, "count": 1}]}' % (b"x" * 2001)),
    ],
)
async def test_nothing_valid(service: Service, path: str, body: bytes) -> None:
    """A body of which nothing can be kept is answered as a good one, and counted, for readers too."""
    got = await service.send(path, body)

    assert {V1: 200, V2: 204}[path] == got.status
    [record] = service.records
    number = {V1: 3, V2: 1}[path]
    assert (0, number) == (len(record.evaluations), sum(one.entry_count for one in record.envelope.discards))
    assert number == service.counted.of("rejected")
    assert 0 == service.counted.of("accepted")


async def test_counts_are_never_resends(service: Service) -> None:
    """The same counts twice are two truths: so many browsers send the same."""
    for _ in range(3):
        await service.send(V1, {"checkout": 1})
        await service.send(V2, {"evaluations": [ENTRY | {"identity_identifier": "i"}]})

    assert 6 == len(service.records)
    assert 6 == service.counted.of("accepted")


@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize("more", [0, 1])
async def test_too_many(service: Service, path: str, more: int) -> None:
    """A body with more entries than a batch may have is 413, and says how many it may have."""
    number = MAX_EVALUATIONS + more
    body = {f"f{n}": 1 for n in range(number)} if path == V1 else {"evaluations": [ENTRY] * number}

    got = await service.send(path, body)

    if more:
        assert (413, ["BATCH_TOO_LONG"]) == (got.status, service.counted.refusals)
        assert {"detail": "The body has more than 1,000 entries. Send fewer at once."} == got.json()
    else:
        assert got.status in {200, 204}


async def test_duplicate_names(service: Service) -> None:
    """Of a name that stands in a body twice the last count is taken."""
    await service.send(V1, b'{"checkout": 1, "checkout": 2}')

    assert [2] == [evaluation.count for evaluation in service.evaluations]
