from __future__ import annotations

import json

import pytest
from flagledger.cli import watch
from support.command import Peer, Terminal, run


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Press Ctrl-C in the third pause, and return how long the pauses were to be."""
    asked: list[float] = []

    def pause(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch, "pause", pause)
    return asked


@pytest.mark.parametrize("command", ["features", "counts", "evaluations", "unknown-features", "intake"])
def test_watching_asks_again_and_again(peer: Peer, pauses: list[float], command: str) -> None:
    """Without a terminal one answer follows the other, an empty line between them, until Ctrl-C ends it with 0."""
    result = run(command, "--url", peer.url, "--token", "t", "--watch")
    once = run(command, "--url", peer.url, "--token", "t").stdout

    assert (result.exit_code, pauses) == (0, [2.0] * 3)
    assert result.stdout == f"{once}\n{once}\n{once}"
    assert len(peer.asked) == 4


def test_the_pause_can_be_given(peer: Peer, pauses: list[float]) -> None:
    """--watch takes seconds, and an option may follow it without."""
    result = run("features", "--url", peer.url, "--token", "t", "--watch", "0.5", "--json")

    assert (result.exit_code, pauses) == (0, [0.5] * 3)


@pytest.mark.parametrize("seconds", ["0", "x", "inf", "nan", "1e9"])
def test_a_pause_that_is_none_is_refused(peer: Peer, seconds: str) -> None:
    """What nobody can wait for is said before anybody is asked, with exit code 2."""
    result = run("features", "--url", peer.url, "--token", "t", "--watch", seconds)

    assert (result.exit_code, peer.asked) == (2, [])


def test_watching_for_a_program(peer: Peer, pauses: list[float]) -> None:
    """With --json it is one object a line, and nothing between them."""
    for name in "abc":
        peer.answer({"features": [{"feature_name": name}]})
    result = run("features", "--url", peer.url, "--token", "t", "--json", "--watch")

    assert [json.loads(part)["feature_name"] for part in result.stdout.splitlines()] == ["a", "b", "c"]
    assert len(pauses) == 3


def test_a_fault_does_not_end_it(peer: Peer, pauses: list[float]) -> None:
    """A server that cannot answer now is asked again; the sentence goes to stderr."""
    peer.answer({"features": [{"feature_name": "before"}]})
    peer.answer({"code": 14, "message": "The store cannot be asked now."}, status=503)
    peer.answer({"features": [{"feature_name": "after"}]})
    result = run("features", "--url", peer.url, "--token", "t", "--watch")

    assert (result.exit_code, len(pauses)) == (0, 3)
    assert result.stdout.index("before") < result.stdout.index("after")
    assert result.stderr == "flagledger: The store cannot be asked now.\n"


def test_an_age_moves_with_the_clock(peer: Peer, pauses: list[float]) -> None:
    """A period that was given as an age is counted from each question anew."""
    run("features", "--url", peer.url, "--token", "t", "--watch", "--start", "24h")
    starts = [one.query["start_time"] for one in peer.asked]

    assert len(pauses) == 3
    assert starts[0] < starts[1] < starts[2]


def test_a_terminal_is_drawn_anew(peer: Peer) -> None:
    """On a terminal the newest answer takes the place of the one before, a fault stands above it, Ctrl-C ends it with 0."""
    peer.answer({"features": [{"feature_name": "before"}]})
    peer.answer({"code": 14, "message": "The store cannot be asked now."}, status=503)
    peer.answer({"features": [{"feature_name": "after"}]})
    terminal = Terminal("features", "--url", peer.url, "--token", "t", "--watch", "0.1")
    terminal.wait_for("before")
    terminal.wait_for("The store cannot be asked now.")
    terminal.wait_for("after")
    terminal.interrupt()

    assert terminal.end() == 0
    assert "\x1b[?1049h" in terminal.shown
    assert terminal.shown.rindex("\x1b[?1049l") > terminal.shown.rindex("after")
    assert "Ctrl-C ends it." in terminal.shown
    assert "Traceback" not in terminal.shown
