"""
The grammar of google/api/http.proto as a table: what is a template, where it is not, and what each matches.

The kinds of cases are those that other implementations list for their parsers and matchers; the cases are our own, and so
are the verdicts where implementations differ: an inner variable is refused, a trailing slash is no template, and in
requests it does not count.
"""

from __future__ import annotations

import pytest
from flagledger.transcoding import PathTemplate, Router, TemplateError

# Template → its segments, what each variable captures (`end` None: all that is left), and its verb.
ACCEPTED: list[tuple[str, list[str], dict[str, tuple[int, int | None]], str | None]] = [
    ("/orders", ["orders"], {}, None),
    ("/v1/orders", ["v1", "orders"], {}, None),
    ("/a/b/c/d/e/f", ["a", "b", "c", "d", "e", "f"], {}, None),
    ("/*", ["*"], {}, None),
    ("/**", ["**"], {}, None),
    ("/*/*", ["*", "*"], {}, None),
    ("/*/**", ["*", "**"], {}, None),
    ("/orders/*", ["orders", "*"], {}, None),
    ("/*/orders", ["*", "orders"], {}, None),
    ("/orders/**", ["orders", "**"], {}, None),
    ("/orders/*/lines/**", ["orders", "*", "lines", "**"], {}, None),
    ("/{id}", ["*"], {"id": (0, 1)}, None),
    ("/{id=*}", ["*"], {"id": (0, 1)}, None),
    ("/{rest=**}", ["**"], {"rest": (0, None)}, None),
    ("/{name=orders}", ["orders"], {"name": (0, 1)}, None),
    ("/{name=orders/*}", ["orders", "*"], {"name": (0, 2)}, None),
    ("/{name=orders/**}", ["orders", "**"], {"name": (0, None)}, None),
    ("/{name=orders/*/lines/*}", ["orders", "*", "lines", "*"], {"name": (0, 4)}, None),
    ("/{name=*/*/**}", ["*", "*", "**"], {"name": (0, None)}, None),
    ("/v1/{id}/lines", ["v1", "*", "lines"], {"id": (1, 2)}, None),
    ("/v1/{a}/{b}", ["v1", "*", "*"], {"a": (1, 2), "b": (2, 3)}, None),
    ("/v1/{a=x/*}/{b=y/*}", ["v1", "x", "*", "y", "*"], {"a": (1, 3), "b": (3, 5)}, None),
    ("/v1/{a}/{b=**}", ["v1", "*", "**"], {"a": (1, 2), "b": (2, None)}, None),
    ("/{a.b}", ["*"], {"a.b": (0, 1)}, None),
    ("/{a.b.c.d}", ["*"], {"a.b.c.d": (0, 1)}, None),
    ("/{a.b=x/*}", ["x", "*"], {"a.b": (0, 2)}, None),
    ("/{a}/{a.b}", ["*", "*"], {"a": (0, 1), "a.b": (1, 2)}, None),
    ("/{_a}", ["*"], {"_a": (0, 1)}, None),
    ("/{a_1}", ["*"], {"a_1": (0, 1)}, None),
    ("/{A9}", ["*"], {"A9": (0, 1)}, None),
    ("/orders:list", ["orders"], {}, "list"),
    ("/orders/*:cancel", ["orders", "*"], {}, "cancel"),
    ("/**:purge", ["**"], {}, "purge"),
    ("/*:go", ["*"], {}, "go"),
    ("/{id}:cancel", ["*"], {"id": (0, 1)}, "cancel"),
    ("/{rest=**}:purge", ["**"], {"rest": (0, None)}, "purge"),
    ("/{name=orders/*}:cancel", ["orders", "*"], {"name": (0, 2)}, "cancel"),
    ("/a:b-c_d.e~1", ["a"], {}, "b-c_d.e~1"),
    ("/a:%41", ["a"], {}, "A"),
    ("/-._~", ["-._~"], {}, None),
    ("/!$&'()+,;=@", ["!$&'()+,;=@"], {}, None),
    ("/{a==b}", ["=b"], {"a": (0, 1)}, None),
    ("/.", ["."], {}, None),
    ("/..", [".."], {}, None),
    ("/a.b/c.json", ["a.b", "c.json"], {}, None),
    ("/0/00", ["0", "00"], {}, None),
    ("/a%20b", ["a b"], {}, None),
    ("/a%2Fb", ["a/b"], {}, None),
    ("/%2a%3A", ["*:"], {}, None),
    ("/%7Bx%7D", ["{x}"], {}, None),
    ("/%C3%A9t%C3%A9", ["été"], {}, None),
    ("/%00", ["\0"], {}, None),
]

# Not a template → the column of what is wrong.
REFUSED: list[tuple[str, int]] = [
    ("", 1),
    (" /a", 1),
    ("a", 1),
    ("*", 1),
    ("{a}", 1),
    (":a", 1),
    ("http://a/b", 1),
    ("/", 2),
    ("//a", 2),
    ("/a/", 4),
    ("/a//", 4),
    ("/a//b", 4),
    ("/*/", 4),
    ("/**/", 2),
    ("/{a}/", 6),
    ("/a/b/c//d", 8),
    ("/:a", 2),
    ("/a/:b", 4),
    ("/a:", 4),
    ("/*:", 4),
    ("/{a}:", 6),
    ("/a:b/", 5),
    ("/a:b/c", 5),
    ("/a:b:c", 5),
    ("/a::b", 4),
    ("/a:*", 4),
    ("/a:**", 4),
    ("/a:{b}", 4),
    ("/a:b*", 5),
    ("/a:b{c}", 5),
    ("/***", 4),
    ("/****", 4),
    ("/a*", 3),
    ("/a**", 3),
    ("/*a", 3),
    ("/**a", 4),
    ("/*{a}", 3),
    ("/a{b}", 3),
    ("/{a}b", 5),
    ("/{a}*", 5),
    ("/{a}{b}", 5),
    ("/{a}}", 5),
    ("/}", 2),
    ("/a}", 3),
    ("/{", 3),
    ("/{}", 3),
    ("/{=a}", 3),
    ("/{=}", 3),
    ("/{/a}", 3),
    ("/{*}", 3),
    ("/{**}", 3),
    ("/{ a}", 3),
    ("/{9a}", 3),
    ("/{-a}", 3),
    ("/{a", 4),
    ("/{a ", 4),
    ("/{a }", 4),
    ("/{a-b}", 4),
    ("/{a/b}", 4),
    ("/{a*}", 4),
    ("/{a:b}", 4),
    ("/{a:[0-9]+}", 4),
    ("/{é}", 3),
    ("/{a.}", 5),
    ("/{.a}", 3),
    ("/{a..b}", 5),
    ("/{a.1}", 5),
    ("/{a.b.}", 7),
    ("/{a.*}", 5),
    ("/{a=", 5),
    ("/{a=}", 5),
    ("/{a=/b}", 5),
    ("/{a=b", 6),
    ("/{a=b/", 7),
    ("/{a=b/}", 7),
    ("/{a=b//c}", 7),
    ("/{a=b:c}", 6),
    ("/{a=*", 6),
    ("/{a=**", 7),
    ("/{a=*b}", 6),
    ("/{a={b}}", 5),
    ("/{a=b/{c}}", 7),
    ("/{a=b/{c=*}/d}", 7),
    ("/{a={b=**}}", 5),
    ("/{a}/{a}", 7),
    ("/{a.b}/{c}/{a.b}", 13),
    ("/{a=x/*}/{a}", 11),
    ("/**/a", 2),
    ("/**/*", 2),
    ("/**/**", 2),
    ("/a/**/b", 4),
    ("/{a=**}/b", 5),
    ("/{a=**}/{b}", 5),
    ("/{a=**/b}", 5),
    ("/{a=b/**/c}", 7),
    ("/**/a:go", 2),
    ("/a b", 3),
    ("/a\tb", 3),
    ("/a\n", 3),
    ("/a?b=c", 3),
    ("/a#b", 3),
    ("/a\\b", 3),
    ("/a|b", 3),
    ('/"a"', 2),
    ("/<a>", 2),
    ("/[a]", 2),
    ("/a^", 3),
    ("/`a`", 2),
    ("/é", 2),
    ("/a/é", 4),
    ("/%", 2),
    ("/a%", 3),
    ("/a%4", 3),
    ("/a%4g", 3),
    ("/a%%41", 3),
    ("/a:%", 4),
    ("/%ff", 2),
    ("/a/%C3", 4),
    ("/%ED%A0%80", 2),
    ("/a:%ff", 4),
]

RESERVED = "%21%23%24%26%27%28%29%2A%2B%2C%2F%3A%3B%3D%3F%40%5B%5D"

# Template, path, what the variables hold; None where it does not match.
MATCHED: list[tuple[str, str, dict[str, str] | None]] = [
    ("/a", "/a", {}),
    ("/a", "/b", None),
    ("/a", "/A", None),
    ("/a", "/", None),
    ("/a", "", None),
    ("/a", "a", None),
    ("/a", "/a/b", None),
    ("/a", "/aa", None),
    ("/a", "//a", None),
    ("/a/b", "/a/b", {}),
    ("/a/b", "/a", None),
    ("/a/b", "/a//b", None),
    ("/a/b", "/a/b/c", None),
    # Trailing slashes do not count, however many.
    ("/a", "/a/", {}),
    ("/a", "/a//", {}),
    ("/a/*", "/a/", None),
    ("/a/{x}", "/a/b///", {"x": "b"}),
    ("/a/{x=**}", "/a/b/", {"x": "b"}),
    ("/a/{x=**}", "/a//", {"x": ""}),
    ("/a:go", "/a:go/", {}),
    # One segment: none that is empty, none that is two.
    ("/*", "/a", {}),
    ("/*", "/", None),
    ("/*", "//", None),
    ("/*", "/a/b", None),
    ("/*/b", "/a/b", {}),
    ("/*/b", "//b", None),
    ("/{x}", "/a", {"x": "a"}),
    ("/{x}", "/.", {"x": "."}),
    ("/{x}", "/..", {"x": ".."}),
    ("/{x}/b", "/a/b", {"x": "a"}),
    ("/{x}/{y}", "/a/b", {"x": "a", "y": "b"}),
    ("/{x}/{y}", "/a", None),
    ("/{x}/{y}", "/a//b", None),
    ("/{x.y}", "/a", {"x.y": "a"}),
    ("/{x=a}", "/a", {"x": "a"}),
    ("/{x=a}", "/b", None),
    ("/{x=a/*}", "/a/b", {"x": "a/b"}),
    ("/{x=a/*}", "/a", None),
    ("/{x=a/*}", "/a/b/c", None),
    ("/{x=a/*/c}", "/a/b/c", {"x": "a/b/c"}),
    ("/v/{x=a/*}/{y=b/*}", "/v/a/1/b/2", {"x": "a/1", "y": "b/2"}),
    # Any number of segments, none among them, and empty ones.
    ("/**", "/", {}),
    ("/**", "", None),
    ("/**", "/a/b/c", {}),
    ("/a/**", "/a", {}),
    ("/a/**", "/b", None),
    ("/{x=**}", "/", {"x": ""}),
    ("/{x=**}", "/a", {"x": "a"}),
    ("/{x=**}", "/a/b/c", {"x": "a/b/c"}),
    ("/{x=**}", "/a//b", {"x": "a//b"}),
    ("/a/{x=**}", "/a//b", {"x": "/b"}),
    ("/{x=a/**}", "/a", {"x": "a"}),
    ("/{x=a/**}", "/a/b/c", {"x": "a/b/c"}),
    ("/{x=a/*/**}", "/a", None),
    ("/{x=a/*/**}", "/a/b", {"x": "a/b"}),
    ("/{x=a/*/**}", "/a/b/c/d", {"x": "a/b/c/d"}),
    ("/{x}/{y=**}", "/a", {"x": "a", "y": ""}),
    ("/{x}/{y=**}", "/a/b/c", {"x": "a", "y": "b/c"}),
    ("/{x}/{y=**}", "/", None),
    # Verbs belong to the end, and to the last colon.
    ("/a:go", "/a:go", {}),
    ("/a:go", "/a", None),
    ("/a:go", "/a:", None),
    ("/a:go", "/a:Go", None),
    ("/a:go", "/a:gone", None),
    ("/a:go", "/a:go:go", None),
    ("/a:go", "/a/:go", None),
    ("/a", "/a:go", None),
    ("/*:go", "/a:go", {}),
    ("/*:go", "/:go", None),
    ("/{x}", "/a:go", {"x": "a:go"}),
    ("/{x}", "/:go", {"x": ":go"}),
    ("/{x}", "/a:", {"x": "a:"}),
    ("/{x}:go", "/a:go", {"x": "a"}),
    ("/{x}:go", "/a:b:go", {"x": "a:b"}),
    ("/{x}:go", "/a:go:", None),
    ("/{x}:go", "/a%3Ago", None),
    ("/{x}", "/a%3Ago", {"x": "a:go"}),
    ("/{x}:go", "/a:%67o", {"x": "a"}),
    ("/{x}/b", "/a:go/b", {"x": "a:go"}),
    ("/{x=**}:go", "/:go", {"x": ""}),
    ("/{x=**}:go", "/a/b:go", {"x": "a/b"}),
    ("/{x=**}:go", "/a:go/b", None),
    ("/{x=**}", "/a:go/b:go", {"x": "a:go/b:go"}),
    ("/{x=a/*}:go", "/a/b:go", {"x": "a/b"}),
    # Escapes: literals are compared decoded, one segment is decoded wholly, several keep their slashes.
    ("/a%20b", "/%61%20%62", {}),
    ("/ab", "/%61b", {}),
    ("/a+b", "/a+b", {}),
    ("/a+b", "/a%2Bb", {}),
    ("/a+b", "/a%20b", None),
    ("/a/b", "/a%2Fb", None),
    ("/a%2Fb", "/a%2fb", {}),
    ("/a%2Fb", "/a/b", None),
    ("/%2A", "/*", {}),
    ("/%2A", "/x", None),
    ("/{x}", "/a%2Fb", {"x": "a/b"}),
    ("/{x}", "/%2F", {"x": "/"}),
    ("/{x}", "/a+b", {"x": "a+b"}),
    ("/{x}", "/a%20%2B", {"x": "a +"}),
    ("/{x}", "/%25%32%46", {"x": "%2F"}),
    ("/{x}", "/%E2%82%AC", {"x": "€"}),
    ("/{x}", "/%F0%9F%8D%B0", {"x": "🍰"}),
    ("/{x}", "/%00", {"x": "\0"}),
    ("/{x}", "/%3F%23", {"x": "?#"}),
    ("/{x=a}", "/%61", {"x": "a"}),
    ("/{x=*/b}", "/%61%2F/b", {"x": "a%2F/b"}),
    ("/{x=**}", "/a%2Fb/c%2fd", {"x": "a%2Fb/c%2fd"}),
    ("/{x=**}", "/%61%20/%2B", {"x": "a /+"}),
    ("/{x=**}", "/%252F", {"x": "%2F"}),
    ("/{x=**}", "/%2F", {"x": "%2F"}),
    ("/{x=a/*}", "/a/%E2%82%AC", {"x": "a/€"}),
    ("/{x}/{y=**}", f"/{RESERVED}/{RESERVED}", {"x": "!#$&'()*+,/:;=?@[]", "y": "!#$&'()*+,%2F:;=?@[]"}),
    # A malformed escape matches nothing, wherever it is; neither does what is no UTF-8.
    ("/a", "/a:%ff", None),
    ("/{x}", "/a:%ff", None),
    ("/**", "/%", None),
    ("/**", "/a/%4", None),
    ("/**", "/%zz/a", None),
    ("/{x}", "/%", None),
    ("/{x}", "/%%41", None),
    ("/{x}", "/%ff", None),
    ("/{x}", "/%C3", None),
    ("/{x}", "/%C3%28", None),
    ("/{x}", "/%C0%AF", None),
    ("/{x}", "/%ED%A0%80", None),
    ("/{x=**}", "/a/%ff", None),
    ("/{x=**}", "/%C3/%A9", None),
]

TABLE = [
    ("GET", "/a/b"),
    ("GET", "/a/{x}"),
    ("GET", "/a/{x}/c"),
    ("GET", "/a/b/d"),
    ("GET", "/{x=**}"),
    ("GET", "/{x}/b/{y}"),
    ("GET", "/a/{x}:go"),
    ("GET", "/a/b:go"),
    ("POST", "/a/b"),
    ("POST", "/only/post"),
    ("*", "/any/{x}"),
    ("PUT", "/any/{x}"),
    ("GET", "/deep/{x=one/**}"),
    ("GET", "/deep/{x=one/*/two}"),
    ("GET", "/v/{x=**}:go"),
    ("GET", "/v/{x}/w:go"),
]

# Method, path → the template that it goes to among all of TABLE, and its variables.
ROUTED: list[tuple[str, str, str | None, dict[str, str]]] = [
    # A literal before `*`, and `*` before `**`, segment by segment.
    ("GET", "/a/b", "/a/b", {}),
    ("GET", "/a/z", "/a/{x}", {"x": "z"}),
    ("GET", "/z/z", "/{x=**}", {"x": "z/z"}),
    ("GET", "/", "/{x=**}", {"x": ""}),
    ("GET", "/a", "/{x=**}", {"x": "a"}),
    # What goes before leads nowhere: back, and on with the next.
    ("GET", "/a/b/c", "/a/{x}/c", {"x": "b"}),
    ("GET", "/a/b/d", "/a/b/d", {}),
    ("GET", "/a/b/e", "/{x}/b/{y}", {"x": "a", "y": "e"}),
    ("GET", "/a/z/e", "/{x=**}", {"x": "a/z/e"}),
    ("GET", "/a/b/c/d", "/{x=**}", {"x": "a/b/c/d"}),
    ("GET", "/a//c", "/{x=**}", {"x": "a//c"}),
    # A route with the verb goes before one that would take it as text.
    ("GET", "/a/b:go", "/a/b:go", {}),
    ("GET", "/a/z:go", "/a/{x}:go", {"x": "z"}),
    ("GET", "/a/z:stop", "/a/{x}", {"x": "z:stop"}),
    ("GET", "/a/b/d:go", "/{x}/b/{y}", {"x": "a", "y": "d:go"}),
    ("GET", "/v/1/w:go", "/v/{x}/w:go", {"x": "1"}),
    ("GET", "/v/1/z:go", "/v/{x=**}:go", {"x": "1/z"}),
    ("GET", "/v/1/z", "/{x=**}", {"x": "v/1/z"}),
    # Another method's route is none of this one's.
    ("POST", "/a/b", "/a/b", {}),
    ("POST", "/a/z", None, {}),
    ("GET", "/only/post", "/{x=**}", {"x": "only/post"}),
    ("POST", "/only/post/", "/only/post", {}),
    ("DELETE", "/a/b", None, {}),
    ("get", "/a/b", None, {}),
    # Any method, unless it has a route of its own; it goes before what is less literal.
    ("PUT", "/any/1", "/any/{x}", {"x": "1"}),
    ("PURGE", "/any/1", "/any/{x}", {"x": "1"}),
    ("GET", "/any/1", "/any/{x}", {"x": "1"}),
    ("GET", "/any/1/2", "/{x=**}", {"x": "any/1/2"}),
    # Inside one prefix too.
    ("GET", "/deep/one", "/deep/{x=one/**}", {"x": "one"}),
    ("GET", "/deep/one/1/two", "/deep/{x=one/*/two}", {"x": "one/1/two"}),
    ("GET", "/deep/one/1/three", "/deep/{x=one/**}", {"x": "one/1/three"}),
    ("GET", "/deep/two", "/{x=**}", {"x": "deep/two"}),
    # Escaped letters are the letters.
    ("GET", "/%61/%62", "/a/b", {}),
    ("GET", "/a%2Fb", "/{x=**}", {"x": "a%2Fb"}),
    ("GET", "/a/b%2Fc", "/a/{x}", {"x": "b/c"}),
]

# Two templates, and whether they answer to exactly the same paths.
CONFLICTS: list[tuple[str, str, bool]] = [
    ("/a", "/a", True),
    ("/{x}", "/{y}", True),
    ("/{x}", "/*", True),
    ("/{x}", "/{y=*}", True),
    ("/{x=**}", "/**", True),
    ("/{x=a/*}", "/a/{y}", True),
    ("/{x=a}", "/a", True),
    ("/{x}/{y}", "/{y}/{x}", True),
    ("/{x=*/b}", "/{y}/b", True),
    ("/a:go", "/a:go", True),
    ("/{x}:go", "/{y}:go", True),
    ("/%61", "/a", True),
    ("/a%2fb", "/a%2Fb", True),
    ("/a:%67o", "/a:go", True),
    ("/a", "/A", False),
    ("/a", "/{x}", False),
    ("/{x}", "/{x=**}", False),
    ("/*/**", "/**", False),
    ("/a", "/a:go", False),
    ("/a:go", "/a:stop", False),
    ("/{x}/a", "/{x}/b", False),
    ("/a/b", "/a%2Fb", False),
    ("/%2A", "/*", False),
    ("/a/{x}", "/{x}/a", False),
]


@pytest.mark.parametrize(("text", "segments", "variables", "verb"), ACCEPTED)
def test_accepts(
    text: str, segments: list[str], variables: dict[str, tuple[int, int | None]], verb: str | None
) -> None:
    """A template gives its segments, where each variable begins and ends, and its verb."""
    parsed = PathTemplate.parse(text)

    assert segments == [segment.text for segment in parsed.segments]
    assert variables == {one.field_path: (one.start, one.end) for one in parsed.variables}
    assert (text, verb) == (parsed.text, parsed.verb)


@pytest.mark.parametrize(("text", "column"), REFUSED)
def test_refuses(text: str, column: int) -> None:
    """What is no template is refused with its column, by the parser and the router alike."""
    with pytest.raises(TemplateError) as parsing:
        PathTemplate.parse(text)
    with pytest.raises(TemplateError) as adding:
        Router().add("GET", text, "target")

    assert column == parsing.value.column == adding.value.column
    assert parsing.value.message == adding.value.message != ""


@pytest.mark.parametrize(("template", "path", "variables"), MATCHED)
def test_matches(template: str, path: str, variables: dict[str, str] | None) -> None:
    """One template matches a path or does not, and its variables hold the path's text, decoded."""
    router = Router()
    router.add("GET", template, "target")
    match = router.match("GET", path)

    assert variables == (match and match.variables)
    assert (frozenset() if variables is None else {"GET"}) == router.methods(path)


@pytest.mark.parametrize("form", ["%{:02x}", "%{:02X}"])
def test_every_escape_of_ascii(form: str) -> None:
    """Each of the 128 characters can be escaped, in either case; of several segments the slash alone stays so."""
    router = Router()
    router.add("GET", "/one/{x}", "one")
    router.add("GET", "/many/{x=**}", "many")
    one, many = {}, {}
    for code in range(128):
        escape = form.format(code)
        for found, path in ((one, "/one/" + escape), (many, "/many/" + escape)):
            match = router.match("GET", path)
            assert match is not None
            found[chr(code)] = match.variables["x"]

    assert {text: text for text in map(chr, range(128))} == one
    assert one | {"/": form.format(ord("/"))} == many


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("method", "path", "template", "variables"), ROUTED)
def test_routes(order: int, method: str, path: str, template: str | None, variables: dict[str, str]) -> None:
    """Among many the most literal template is taken, whatever the order in which they were added."""
    router = Router()
    for each_method, each in TABLE[::order]:
        router.add(each_method, each, (each_method, each))
    match = router.match(method, path)

    if template is None:
        assert match is None
    else:
        wanted = method if (method, template) in TABLE else "*"
        assert match is not None
        assert ((wanted, template), variables) == (match.target, match.variables)


@pytest.mark.parametrize(("first", "second", "same"), CONFLICTS)
def test_conflicts(first: str, second: str, *, same: bool) -> None:
    """Two templates for the same paths are refused under one method, and only there."""
    router = Router()
    router.add("GET", first, "first")
    router.add("POST", second, "second")
    if same:
        with pytest.raises(TemplateError) as caught:
            router.add("GET", second, "second")
        assert first in caught.value.message
    else:
        router.add("GET", second, "second")
