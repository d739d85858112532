from __future__ import annotations

import json

import pytest
from support.command import Peer, Terminal, run


def test_an_identity_is_erased(peer: Peer) -> None:
    """It is one segment of the path, whatever stands in it, and what was erased is said."""
    peer.answer({"deleted_evaluation_count": 1234})
    peer.answer({"deleted_evaluation_count": "1"})
    identifier = "a/b?c#d ü%2F\x1b"
    result = run("delete-identity", identifier, "--yes", "--url", peer.url, "--token", "t", "--environment", "e")
    one = run("delete-identity", "x", "--yes", "--url", peer.url, "--token", "t")

    assert (result.exit_code, result.stdout) == (0, "Erased 1,234 entries of a/b?c#d ü%2F\\x1b.\n")
    assert one.stdout == "Erased 1 entry of x.\n"
    assert [(one.method, one.path, one.query, one.authorization) for one in peer.asked] == [
        ("DELETE", "/api/v2/analytics/identities/a%2Fb%3Fc%23d%20%C3%BC%252F%1B", {"environment": "e"}, "Bearer t"),
        ("DELETE", "/api/v2/analytics/identities/x", {}, "Bearer t"),
    ]


def test_a_program_gets_the_message(peer: Peer) -> None:
    """--json prints the answer of the API."""
    peer.answer({"deleted_evaluation_count": 3})
    result = run("delete-identity", "x", "--yes", "--json", "--url", peer.url, "--token", "t")

    assert json.loads(result.stdout) == {"deleted_evaluation_count": 3}


def test_a_token_that_may_not_is_told(peer: Peer) -> None:
    """The refusal of the server is shown, and where a token that may erase is to be had."""
    peer.answer({"code": 7, "message": "The token does not permit erasing."}, status=403)
    peer.answer({"code": 14, "message": "Not now."}, status=503)
    refused, later = (run("delete-identity", "x", "--yes", "--url", peer.url, "--token", "t") for _ in range(2))

    assert (refused.exit_code, refused.stderr.splitlines()) == (1, [
        "flagledger: The token does not permit erasing.",
        'Add [[tokens]] with role = "admin" to the environments file, or to flagledger.toml (docs/operating.md).',
    ])  # fmt: skip
    assert (later.exit_code, later.stderr) == (1, "flagledger: Not now.\n")


def test_an_identity_that_is_not_there_is_said(peer: Peer) -> None:
    """Whoever erases nothing, by a slip of the pen perhaps, is told so."""
    peer.answer({"deleted_evaluation_count": 0})
    result = run("delete-identity", "x\x1b", "--yes", "--url", peer.url, "--token", "t")

    assert (result.exit_code, result.stdout) == (0, "Nothing was recorded of x\\x1b.\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("x",), "There is no terminal to ask on: give --yes"),
        (("", "--yes"), "IDENTIFIER must not be empty."),
        (("--yes",), "Missing argument 'IDENTIFIER'"),
    ],
)
def test_wrong_use_erases_nothing(peer: Peer, arguments: tuple[str, ...], expected: str) -> None:
    """Without a terminal nobody can say yes: it ends with 2, and nobody is asked."""
    result = run("delete-identity", *arguments, "--url", peer.url, "--token", "t")

    assert (result.exit_code, peer.asked) == (2, [])
    assert expected in result.stderr


@pytest.mark.parametrize(("typed", "code", "asked"), [("y\n", 0, 1), ("n\n", 1, 0), ("\n", 1, 0)])
def test_a_terminal_is_asked_first(peer: Peer, typed: str, code: int, asked: int) -> None:
    """On a terminal only a yes erases, and nothing else does."""
    peer.answer({"deleted_evaluation_count": 3})
    terminal = Terminal("delete-identity", "user/1", "--url", peer.url, "--token", "t", "--environment", "prod")
    terminal.wait_for("[y/N]")
    terminal.type(typed)

    assert (terminal.end(), len(peer.asked)) == (code, asked)
    assert f"recorded of user/1 at {peer.url}, environment prod? It cannot be undone." in terminal.shown
    assert ("Erased 3 entries of user/1." if asked else "Nothing was erased.") in terminal.shown
