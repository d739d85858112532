from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flagledger.cli.reading import visible
from hypothesis import given
from hypothesis import strategies as st
from support.command import Peer, Reply, evaluation, run


def test_limit_pages_until_it_is_reached(peer: Peer) -> None:
    """More than a page is fetched page by page, with the filters of the first, and no further than wanted."""
    peer.answer({"evaluations": [evaluation(n) for n in range(1000)], "next_page_token": "p1"})
    peer.answer({"evaluations": [], "next_page_token": "p2"})
    peer.answer({"evaluations": [evaluation(n) for n in range(1000, 1500)], "next_page_token": "p3"})
    result = run("evaluations", "--url", peer.url, "--token", "t", "--json", "--limit", "1500", "--feature", "f")

    assert [json.loads(line)["position"] for line in result.output.splitlines()] == list(range(1500))
    assert [asked.query for asked in peer.asked] == [
        {"feature_name": "f", "page_size": "1000"},
        {"feature_name": "f", "page_size": "500", "page_token": "p1"},
        {"feature_name": "f", "page_size": "500", "page_token": "p2"},
    ]


def test_paging_ends_where_the_server_does(peer: Peer) -> None:
    """The last page ends it, a server that repeats itself is told of, and one that gives too much is cut off."""
    peer.answer({"evaluations": [evaluation()], "next_page_token": "p1"})
    peer.answer({"evaluations": [evaluation()], "next_page_token": ""})
    assert len(run("evaluations", "--url", peer.url, "--token", "t", "--json").output.splitlines()) == 2

    peer.answer({"evaluations": [], "next_page_token": "p1"})
    peer.answer({"evaluations": [], "next_page_token": "p1"})
    result = run("evaluations", "--url", peer.url, "--token", "t")
    assert (result.exit_code, "again and again" in result.output) == (1, True)

    peer.answer({"evaluations": [evaluation()] * 5})
    result = run("evaluations", "--url", peer.url, "--token", "t", "--limit", "3")
    assert result.output.count("new_dashboard") == 3
    assert "The newest 3; --limit shows more." in result.output


@given(st.text(), st.text())
def test_visible_text_is_printable(text: str, plain: str) -> None:
    """Every character that is not printable becomes an escape, and printable text stays as it is."""
    assert visible(text).isprintable()
    assert visible(visible(text)) == visible(text)
    if plain.isprintable():
        assert visible(plain) == plain


def status(code: int, message: str, *, reason: str = "QUERY_INVALID", **violations: str) -> dict[str, Any]:
    """Return a refusal as the API writes it."""
    return {
        "code": code,
        "message": message,
        "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason},
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "field_violations": [{"field": name, "description": text} for name, text in violations.items()],
            },
        ],
    }


def test_a_refusal_of_the_server_is_shown_as_its_sentence(peer: Peer) -> None:
    """What the server says goes to stderr, with the options that it is about and when to try again."""
    peer.answer(status(3, "Not as it was asked: end_time.", end_time="must not lie before start_time"), status=400)
    peer.answer({"code": 14, "message": "The store cannot be asked now.", "details": []}, status=503, Retry_After="2")
    refused, later = (run("evaluations", "--url", peer.url, "--token", "t") for _ in range(2))

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "flagledger: Not as it was asked:\n  --end: must not lie before --start\n"
    assert later.stderr == "flagledger: The store cannot be asked now.\nTry again in 2 s.\n"


@pytest.mark.parametrize(
    ("origin", "expected"), [("flag", "--token"), ("variable", "FLAGLEDGER_READ_TOKEN"), ("file", "here/read-token")]
)
def test_a_token_that_is_not_known_is_said(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, origin: str, expected: str
) -> None:
    """It is said where the token comes from, and not what it is."""
    Path("here").mkdir()
    Path("here/read-token").write_text("s3cret")
    if origin == "variable":
        monkeypatch.setenv("FLAGLEDGER_READ_TOKEN", "s3cret")
    peer.answer({"code": 16, "message": "Reading needs a token."}, status=401)
    result = run("features", "--url", peer.url, "--data", "here", *(["--token", "s3cret"] if origin == "flag" else []))

    assert result.exit_code == 1
    assert result.stderr == f"flagledger: The server does not know this token. It comes from {expected}.\n"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["shop", "st\x1bage"], "The token reaches: shop, st\\x1bage.\n"),
        ([f"e{number}" for number in range(21)], f"reaches: {', '.join(f'e{number}' for number in range(20))}, ….\n"),
        ([], "There is no such environment.\n"),
    ],
)
def test_an_unknown_environment_is_told_the_others(peer: Peer, names: list[str], expected: str) -> None:
    """Whoever names an environment that is not there is told which the token reaches."""
    peer.answer(status(5, "There is no such environment.", reason="ENVIRONMENT_UNKNOWN"), status=404)
    peer.answer({"environments": [{"name": name} for name in names]})
    result = run("intake", "--url", peer.url, "--token", "t", "--environment", "nowhere")

    assert result.exit_code == 1
    assert result.stderr.startswith("flagledger: There is no such environment.\n")
    assert result.stderr.endswith(expected)
    assert [one.path for one in peer.asked] == [f"/api/v2/analytics/{name}" for name in ("intake", "environments")]


def test_an_unknown_environment_is_said_even_so(peer: Peer) -> None:
    """Where the others cannot be asked for, the refusal stands alone."""
    peer.answer(status(5, "There is no such environment.", reason="ENVIRONMENT_UNKNOWN"), status=404)
    peer.answer({"code": 14, "message": "Not now."}, status=503)
    result = run("intake", "--url", peer.url, "--token", "t", "--environment", "nowhere")

    assert (result.exit_code, result.stderr) == (1, "flagledger: There is no such environment.\n")


@pytest.mark.parametrize(
    "content", [b"<html>", b"[]", b"\xff", b'{"evaluations": 3}', b'{"features": [3]}', b"[" * 10**6]
)
def test_an_answer_of_something_else_is_said(peer: Peer, content: bytes) -> None:
    """Another service on that port is a sentence, not a traceback."""
    name = "features" if b"features" in content else "evaluations"
    peer.answer(content)
    result = run(name, "--url", peer.url, "--token", "t")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"flagledger: {peer.url} answered with something else than")


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"[]", b'"x"', b'{"message": 3}', b'{"message": "", "details": 3}']
)
def test_a_refusal_of_something_else_is_said(peer: Peer, content: bytes) -> None:
    """So is another service that refuses."""
    peer.answer(content, status=404)
    result = run("features", "--url", peer.url, "--token", "t")

    assert result.exit_code == 1
    assert result.stderr == f"flagledger: {peer.url} answered 404 Not Found. Is that Flagledger?\n"


def test_a_refusal_that_breaks_off_is_said(peer: Peer) -> None:
    """So is one that cannot be read to its end."""
    peer.replies.append(Reply(b"nonsense\r\n", status=404, headers={"Transfer-Encoding": "chunked"}))
    result = run("features", "--url", peer.url, "--token", "t")

    assert result.exit_code == 1
    assert result.stderr == f"flagledger: {peer.url} answered 404 Not Found. Is that Flagledger?\n"


def test_a_redirect_is_not_followed(peer: Peer) -> None:
    """The token goes to the server that was named, and to no other."""
    peer.answer(b"", status=302, Location=f"{peer.url}/elsewhere")
    result = run("features", "--url", peer.url, "--token", "t")

    assert (result.exit_code, len(peer.asked)) == (1, 1)


def test_a_proxy_gets_no_token_of_this_machine(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on this machine is asked directly, whatever proxy is set."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    peer.answer({})

    assert run("features", "--url", peer.url, "--token", "t").exit_code == 0


def test_an_answer_that_breaks_off_is_said(peer: Peer) -> None:
    """A server that dies in the middle is a sentence."""
    peer.replies.append(Reply(b"{", headers={"Content-Length": "1000"}))
    result = run("features", "--url", peer.url, "--token", "t")

    assert (result.exit_code, "broke off its answer" in result.stderr) == (1, True)


def test_no_server_there_says_how_to_start_one() -> None:
    """The sentence names the URL and the command."""
    result = run("features", "--url", "http://127.0.0.1:1", "--token", "t")

    assert result.exit_code == 1
    assert result.stderr == (
        "flagledger: There is no server at http://127.0.0.1:1 (Connection refused). "
        "Start one with `flagledger serve`, or name another with --url.\n"
    )


@pytest.mark.parametrize("arguments", [("features", "--environment", "\udcff"), ("delete-identity", "\udcff", "--yes")])
def test_what_is_not_utf_8_is_said(peer: Peer, arguments: tuple[str, ...]) -> None:
    """An argument that no request can hold is a sentence, and nobody is asked."""
    result = run(*arguments, "--url", peer.url, "--token", "t")

    assert (result.exit_code, peer.asked) == (1, [])
    assert result.stderr == "flagledger: What was given cannot be asked for: it is not UTF-8.\n"
