from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import Peer, Reply, Terminal, run

LINES = (b'{"position":1}\n', b'{"position":7}\n')


def options(peer: Peer) -> tuple[str, ...]:
    """Return what every call needs."""
    return ("--url", peer.url, "--token", "t")


def test_an_export_goes_to_stdout(peer: Peer) -> None:
    """The bytes of the server are printed as they are; where they end, and how to go on, goes to stderr."""
    peer.stream(*LINES, X_Last_Position="7")
    result = run("export", *options(peer))

    assert (result.exit_code, result.stdout_bytes) == (0, b"".join(LINES))
    assert result.stderr == (
        "Exported 2 rows in 30 bytes, up to position 7. What comes later, with the same token:\n\n"
        f"  flagledger export --url {peer.url} --after-position 7\n"
    )
    assert [(one.method, one.path, one.query) for one in peer.asked] == [
        ("GET", "/api/v2/analytics/export", {"format": "ndjson"})
    ]


@pytest.mark.parametrize(
    ("form", "pieces", "expected"),
    [
        ("ndjson", (), "0 rows in 0 bytes"),
        ("ndjson", (b'{"position":1}\n{"posi', b'tion":7}\n'), "2 rows in 30 bytes"),
        ("csv", (), "0 rows in 0 bytes"),
        ("csv", (b'"position","value"\n',), "0 rows in 19 bytes"),
        ("csv", (b'"p"\n1\n', b"2\n"), "2 rows in 8 bytes"),
        ("csv", (b'"p"\n"a\nb"\n',), "1 row in 10 bytes"),
        ("csv", (b'"p"\n"a', b'\n""b"', b'"\n"\n'), "1 row in 15 bytes"),
        ("parquet", (b"PAR1\n",), "5 bytes"),
        ("arrow", (b"\n\n",), "2 bytes"),
    ],
)
def test_rows_are_counted_where_they_are_lines(peer: Peer, form: str, pieces: tuple[bytes, ...], expected: str) -> None:
    """A line break within a text of CSV ends no row, wherever the pieces end."""
    peer.stream(*pieces, X_Last_Position="7")
    result = run("export", *options(peer), "--format", form)

    assert result.stderr.startswith(f"Exported {expected}, up to position 7.")


def test_every_filter_is_a_field(peer: Peer) -> None:
    """What is exported is chosen by the same options as elsewhere."""
    peer.stream(X_Last_Position="7")
    run("export", *options(peer), "--environment", "e", "--feature", "f", "--format", "csv", "--after-position", "0",
        "--end", "2026-02-10T11:00:00Z", "--disabled", "--trait", "plan=pro", "--sdk", "js/4.0",
        "--origin", "client")  # fmt: skip

    assert peer.asked[0].query == {
        "environment": "e",
        "end_time": "2026-02-10T11:00:00Z",
        "feature_name": "f",
        "enabled": "false",
        "trait_key": "plan",
        "trait_value": "pro",
        "sdk_name": "js",
        "sdk_version": "4.0",
        "origin": "ORIGIN_CLIENT",
        "format": "csv",
        "after_position": "0",
    }


def test_the_next_export_is_this_one_from_its_end(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that is named repeats the filters, with another file, and never the token or the period."""
    monkeypatch.setenv("FLAGLEDGER_READ_TOKEN", "secret")
    peer.stream(X_Last_Position="9007199254740993")
    result = run("export", "--url", peer.url, "--feature", "a b", "--start", "24h", "--enabled", "--trait", "plan=pro",
                 "--format", "csv", "--after-position", "7", "--output", "all-after-7.csv")  # fmt: skip
    command = result.stderr.splitlines()[-1].strip()

    assert "recorded already is not in the next one. What comes later:\n" in result.stderr
    assert "secret" not in result.stderr
    assert shlex.split(command) == [
        "flagledger", "export", "--url", peer.url, "--feature", "a b", "--enabled", "--trait", "plan=pro",
        "--format", "csv", "--after-position", "9007199254740993", "--output", "all-after-9007199254740993.csv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "ndjson"),
        (("--json",), "ndjson"),
        (("--output", "e.parquet"), "parquet"),
        (("--output", "e.CSV"), "csv"),
        (("--output", "e.jsonl"), "ndjson"),
        (("--output", "e"), "ndjson"),
        (("--output", ".csv"), "ndjson"),
        (("--output", "e.pq"), "parquet"),
        (("--output", "e.arrow"), "arrow"),
        (("--output", "e.arrows"), "arrow"),
        (("--output", "e.csv.gz", "--format", "csv"), "csv"),
        (("--output", "e.txt", "--json"), "ndjson"),
        (("--output", "e.parquet", "--format", "arrow"), "arrow"),
        (("--output", "e.csv", "--json"), "ndjson"),
        (("--format", "parquet"), "parquet"),
    ],
)
def test_the_format_is_given_or_seen(peer: Peer, arguments: tuple[str, ...], expected: str) -> None:
    """--format decides; without it the ending of the file does. A binary one may go into a pipe."""
    peer.stream(X_Last_Position="7")

    assert run("export", *options(peer), *arguments).exit_code == 0
    assert peer.asked[0].query == {"format": expected}


def test_a_file_is_there_once_it_is_whole(peer: Peer) -> None:
    """It takes the place of what was there, and nothing is left beside it."""
    Path("e.ndjson").write_bytes(b"before")
    peer.stream(*LINES, X_Last_Position="7")
    result = run("export", *options(peer), "--output", "e.ndjson")

    assert (result.exit_code, result.stdout) == (0, "")
    assert Path("e.ndjson").read_bytes() == b"".join(LINES)
    assert [path.name for path in Path().iterdir()] == ["e.ndjson"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"f\r\n" + LINES[0] + b"\r\n", headers={"Transfer-Encoding": "chunked", "X-Last-Position": "7"}),
        Reply(b"ff\r\n" + LINES[0], headers={"Transfer-Encoding": "chunked", "X-Last-Position": "7"}),
        Reply(
            b"f\r\n" + LINES[0] + b"\r\nnonsense\r\n", headers={"Transfer-Encoding": "chunked", "X-Last-Position": "7"}
        ),
        Reply(LINES[0], headers={"Content-Length": "1000", "X-Last-Position": "7"}),
    ],
)
@pytest.mark.parametrize("before", [None, b"before"])
def test_a_file_that_broke_off_is_none(peer: Peer, reply: Reply, before: bytes | None) -> None:
    """What was not received whole leaves no file, and what was there stays; the sentence says so, and the code is 1."""
    if before is not None:
        Path("e.ndjson").write_bytes(before)
    peer.replies.append(reply)
    result = run("export", *options(peer), "--output", "e.ndjson")

    assert result.exit_code == 1
    assert f"{peer.url} broke off its answer" in result.stderr
    assert "e.ndjson was not written. Start it again." in result.stderr
    assert "position" not in result.stderr
    assert [path.read_bytes() for path in Path().iterdir()] == ([] if before is None else [before])


def test_output_that_broke_off_is_said(peer: Peer) -> None:
    """On stdout nothing can be taken back: the sentence and the code say that it is not whole."""
    peer.stream(*LINES, whole=False, X_Last_Position="7")
    result = run("export", *options(peer))

    assert (result.exit_code, result.stdout_bytes) == (1, b"".join(LINES))
    assert "The export is not whole" in result.stderr
    assert "position" not in result.stderr


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"x", headers={"X-Last-Position": "7"}, bounded=False),
        Reply(b"x"),
        Reply(b"x", headers={"X-Last-Position": "-7"}),
        Reply(b"x", headers={"X-Last-Position": "seven"}),
    ],
)
def test_something_else_is_no_export(peer: Peer, reply: Reply) -> None:
    """An answer that does not say where it ends, or what comes after it, is not taken for one."""
    peer.replies.append(reply)
    result = run("export", *options(peer), "--output", "e")

    assert (result.exit_code, result.stdout, list(Path().iterdir())) == (1, "", [])
    assert result.stderr == f"flagledger: {peer.url} answered with something else than an export. Is that Flagledger?\n"


def test_an_answer_with_a_length_is_an_export(peer: Peer) -> None:
    """Whether it comes in chunks or with its length is the transport's business."""
    peer.replies.append(Reply(LINES[0], headers={"X-Last-Position": "1"}))
    result = run("export", *options(peer))

    assert (result.exit_code, result.stdout_bytes) == (0, LINES[0])


def test_a_refusal_leaves_no_file(peer: Peer) -> None:
    """What the server says is shown, and that is all."""
    peer.answer({"code": 3, "message": "The question is not valid."}, status=400)
    result = run("export", *options(peer), "--output", "e")

    assert (result.exit_code, list(Path().iterdir())) == (1, [])
    assert result.stderr == "flagledger: The question is not valid.\n"


def test_a_file_that_cannot_be_written_is_said(peer: Peer) -> None:
    """A missing folder and a full disk are sentences."""
    peer.stream(*LINES, X_Last_Position="7")
    missing = run("export", *options(peer), "--output", "none/e")
    full = run("export", *options(peer), "--output", "/dev/full")

    assert (missing.exit_code, full.exit_code) == (1, 1)
    assert missing.stderr == "flagledger: none/e cannot be written: No such file or directory.\n"
    assert full.stderr == "flagledger: /dev/full cannot be written: No space left on device.\n"


def test_a_device_is_written_to_as_it_is(peer: Peer) -> None:
    """What is no file is not replaced by one, nor is a link: the file that it names is."""
    peer.stream(*LINES, X_Last_Position="7")
    Path("folder").mkdir()
    Path("link").symlink_to("folder/e")
    nowhere = run("export", *options(peer), "--output", "/dev/null")
    linked = run("export", *options(peer), "--output", "link")

    assert (nowhere.exit_code, linked.exit_code) == (0, 0)
    assert not Path("/dev/null").is_file()
    assert nowhere.stderr.endswith("--output /dev/null\n")
    assert Path("link").is_symlink()
    assert Path("folder/e").read_bytes() == b"".join(LINES)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--json", "--format", "csv"), "--json and --format csv exclude each other."),
        (("--format", "xml"), "'xml' is not one of"),
        (("--after-position", "-1"), "-1 is not in the range"),
        (("--output", "."), "File '.' is a directory."),
        (("--output", "e.txt"), "Give --format: .txt is no ending of a format. Those are .ndjson, .jsonl, .csv, "),
        (("--output", "q.csv.gz"), "Give --format: .gz is no ending of a format."),
    ],
)
def test_wrong_use_is_a_sentence(peer: Peer, arguments: tuple[str, ...], expected: str) -> None:
    """What cannot be meant is said before a server is asked, with exit code 2."""
    result = run("export", *options(peer), *arguments)

    assert (result.exit_code, peer.asked) == (2, [])
    assert expected in " ".join(result.stderr.split())


def test_a_binary_form_does_not_go_to_a_terminal(peer: Peer) -> None:
    """A terminal would act on it: it is refused with exit code 2, and nobody is asked."""
    terminal = Terminal("export", *options(peer), "--format", "parquet")

    assert terminal.end() == 2
    assert "parquet is not for a terminal" in terminal.shown
    assert peer.asked == []


def test_a_terminal_sees_how_far_it_is(peer: Peer, tmp_path: Path) -> None:
    """While the data goes elsewhere, a bar on stderr shows bytes, rate and time."""
    peer.stream(b"x" * 3_000_000, X_Last_Position="7")
    file = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    terminal = Terminal("export", *options(peer), stdout_to=file)
    os.close(file)

    assert terminal.end() == 0
    assert "3.0 MB" in terminal.shown
    assert "/s" in terminal.shown
    assert "Exported 0 rows in 3,000,000 bytes, up to position 7." in terminal.shown
    assert (tmp_path / "out").stat().st_size == 3_000_000


def test_a_reader_that_goes_away_is_no_traceback(peer: Peer) -> None:
    """`flagledger export | head` ends quietly, and not as if it had been whole."""
    peer.stream(*[LINES[0] * 10_000] * 20, X_Last_Position="7")
    command = [sys.executable, "-m", "flagledger.cli", "export", *options(peer)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        complaint = process.stderr.read()

    assert (first, complaint, process.returncode) == (LINES[0], b"", 1)
