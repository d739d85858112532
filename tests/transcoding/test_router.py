from __future__ import annotations

import pytest
from flagledger.transcoding import Router, TemplateError
from hypothesis import given
from hypothesis import strategies as st

ROUTES = [
    ("GET", "/a"),
    ("GET", "/a/b"),
    ("GET", "/a/{x}"),
    ("POST", "/a/c"),
    ("GET", "/a/{x}/c"),
    ("GET", "/a/b/d"),
    ("GET", "/deep/{rest=**}"),
    ("GET", "/deep/one/{x}"),
    ("GET", "/files/{name=dirs/*/**}"),
    ("GET", "/v/{id}:cancel"),
    ("GET", "/v/{id}"),
    ("GET", "/all/**:purge"),
    ("GET", "/esc/a%20b"),
    ("*", "/any"),
    ("PUT", "/any"),
    ("GET", "/pair/{p=x/*}/y/{q.r}"),
]


@pytest.fixture
def router() -> Router:
    """Return a router whose targets are the method and template themselves."""
    found = Router()
    for method, template in ROUTES:
        found.add(method, template, f"{method} {template}")
    return found


@pytest.mark.parametrize(
    ("method", "path", "target", "variables"),
    [
        ("GET", "/a", "GET /a", {}),
        ("GET", "/a/", "GET /a", {}),
        ("GET", "/a///", "GET /a", {}),
        ("GET", "/a/b", "GET /a/b", {}),
        ("GET", "/a/z", "GET /a/{x}", {"x": "z"}),
        # The literal has no GET: the wildcard beside it has.
        ("GET", "/a/c", "GET /a/{x}", {"x": "c"}),
        ("POST", "/a/c", "POST /a/c", {}),
        # The literal 'b' leads nowhere here: backtracking.
        ("GET", "/a/b/c", "GET /a/{x}/c", {"x": "b"}),
        ("GET", "/a//c", None, None),
        ("GET", "/deep", "GET /deep/{rest=**}", {"rest": ""}),
        ("GET", "/deep/x/y", "GET /deep/{rest=**}", {"rest": "x/y"}),
        ("GET", "/deep/one/two", "GET /deep/one/{x}", {"x": "two"}),
        ("GET", "/deep/one", "GET /deep/{rest=**}", {"rest": "one"}),
        ("GET", "/deep/one/two/three", "GET /deep/{rest=**}", {"rest": "one/two/three"}),
        ("GET", "/deep/a%2Fb/c%20d", "GET /deep/{rest=**}", {"rest": "a%2Fb/c d"}),
        ("GET", "/deep/a%2fb", "GET /deep/{rest=**}", {"rest": "a%2fb"}),
        ("GET", "/a/x%2Fy", "GET /a/{x}", {"x": "x/y"}),
        ("GET", "/a/%C3%A9", "GET /a/{x}", {"x": "é"}),
        ("GET", "/a/%62", "GET /a/b", {}),
        ("GET", "/a/%", None, None),
        ("GET", "/a/%2", None, None),
        ("GET", "/a/%zz", None, None),
        ("GET", "/a/%ff", None, None),
        ("GET", "/a/%2B+", "GET /a/{x}", {"x": "++"}),
        ("GET", "/files/dirs/7", "GET /files/{name=dirs/*/**}", {"name": "dirs/7"}),
        ("GET", "/files/dirs/7/8/9", "GET /files/{name=dirs/*/**}", {"name": "dirs/7/8/9"}),
        ("GET", "/files/dirs", None, None),
        ("GET", "/v/7:cancel", "GET /v/{id}:cancel", {"id": "7"}),
        ("GET", "/v/7:other", "GET /v/{id}", {"id": "7:other"}),
        ("GET", "/v/7:cancel/", "GET /v/{id}:cancel", {"id": "7"}),
        ("GET", "/v/a:b:cancel", "GET /v/{id}:cancel", {"id": "a:b"}),
        ("GET", "/v/:cancel", "GET /v/{id}", {"id": ":cancel"}),
        ("GET", "/all/x/y:purge", "GET /all/**:purge", {}),
        ("GET", "/all/x/y", None, None),
        ("GET", "/esc/a%20b", "GET /esc/a%20b", {}),
        ("GET", "/esc/%61%20b", "GET /esc/a%20b", {}),
        ("GET", "/any", "* /any", {}),
        ("PUT", "/any", "PUT /any", {}),
        ("GET", "/pair/x/1/y/2", "GET /pair/{p=x/*}/y/{q.r}", {"p": "x/1", "q.r": "2"}),
        ("GET", "", None, None),
        ("GET", "a", None, None),
        ("GET", "/", None, None),
        ("GET", "/A", None, None),
        ("get", "/a", None, None),
    ],
)
def test_match(router: Router, method: str, path: str, target: str | None, variables: dict[str, str] | None) -> None:
    """A path goes to the most literal route that has its method, with its variables decoded."""
    match = router.match(method, path)

    assert (target, variables) == ((match.target, match.variables) if match else (None, None))


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/a/c", {"GET", "POST"}), ("/a/", {"GET"}), ("/any", {"*", "PUT"}), ("/nope", set()), ("/a/%zz", set())],
)
def test_methods(router: Router, path: str, methods: set[str]) -> None:
    """Every method that a path has somewhere is known, so that a 405 can list them."""
    assert methods == router.methods(path)


@pytest.mark.parametrize(
    ("first", "second"),
    [("/a/{x}", "/a/*"), ("/a/{x}", "/a/{y}"), ("/{x=a/*}", "/a/{y}"), ("/a", "/a"), ("/{x=**}:v", "/**:v")],
)
def test_conflict(first: str, second: str) -> None:
    """Two routes that answer to exactly the same paths are refused."""
    router = Router()
    router.add("GET", first, 1)
    router.add("POST", second, 2)

    with pytest.raises(TemplateError, match="same paths"):
        router.add("GET", second, 3)


def test_variables_are_the_callers() -> None:
    """Changing the variables of one match changes no other."""
    router = Router()
    router.add("GET", "/a", 1)
    first = router.match("GET", "/a")
    assert first is not None
    first.variables["x"] = "1"
    second = router.match("GET", "/a")

    assert second is not None
    assert {} == second.variables


@given(st.text(alphabet="/abc:%2Ff*{}é", max_size=30))
def test_never_raises(path: str) -> None:
    """Whatever comes as a path is matched or not, and raises nothing."""
    router = Router()
    for method, template in ROUTES:
        router.add(method, template, template)
    match = router.match("GET", path)

    assert match is None or path.startswith("/")
