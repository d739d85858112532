from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import click
import pytest
from click.testing import CliRunner, Result
from flagledger.commands import root
from flagledger.config import Config
from flagledger.reading import visible
from flagledger.tables import print_evaluations
from hypothesis import given
from hypothesis import strategies as st

SOURCES = [str(Path(__file__).parents[1] / folder) for folder in ("service", "gen")]


@dataclass
class Peer:
    """A server that answers what it is told to, and keeps what it was asked."""

    url: str
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], str | None]] = field(default_factory=list)

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        """Answer the next request with *value* as JSON."""
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.answers.append((status, {name.replace("_", "-"): text for name, text in headers.items()}, content))


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Serve HTTP on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        peer: ClassVar[Peer]

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            peer.asked.append((parts.path, dict(parse_qsl(parts.query)), self.headers.get("Authorization")))
            status, headers, content = peer.answers.pop(0)
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer = Peer(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield peer
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty directory, with no variable of ours, in a wide terminal."""
    monkeypatch.chdir(tmp_path)
    for name in Config.model_fields:
        monkeypatch.delenv(f"FLAGLEDGER_{name.upper()}", raising=False)
    monkeypatch.setenv("COLUMNS", "160")


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(root, arguments, catch_exceptions=False)


def evaluation(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Return a RecordedEvaluation as the API writes it."""
    return {
        "feature_name": "new_dashboard",
        "enabled": True,
        "value": "variant_a",
        "evaluation_timestamp": "2026-02-10T11:00:00.123456Z",
        "identity_identifier": "user_123",
        "segment_names": ["premium_users", "beta"],
        "variant": "a",
        "position": number,
    } | fields


# Reading


def test_evaluations_are_a_table(peer: Peer) -> None:
    """People get one line for each evaluation, with what they look for first."""
    peer.answer({"evaluations": [evaluation(), evaluation(enabled=False, value=None), {"feature_name": "bare"}]})
    result = run("evaluations", "--url", peer.url, "--token", "t")
    lines = [line.split() for line in result.output.splitlines()]

    assert result.exit_code == 0
    assert lines[0] == ["time", "feature", "enabled", "value", "identity", "segments", "variant"]
    assert lines[2] == ["2026-02-10T11:00:00Z", "new_dashboard", "true", '"variant_a"', "user_123", "premium_users,",
                        "beta", "a"]  # fmt: skip
    assert lines[3][2:4] == ["false", "null"]
    assert lines[4] == ["bare"]


def test_the_question_is_the_one_of_the_api(peer: Peer) -> None:
    """Filters travel as the contract's fields, the token as a bearer token, and what is not asked is not sent."""
    peer.answer({})
    peer.answer({})
    peer.answer({})
    run("evaluations", "--url", peer.url + "/", "--token", "t", "--environment", "prod & co", "--feature", "f",
        "--identity", "ü?#", "--segment", "s", "--start", "2026-02-10T11:00:00+01:00", "--end", "2026-02-11T00:00:00Z",
        "--limit", "7")  # fmt: skip
    run("evaluations", "--url", peer.url, "--token", "t")
    run("features", "--url", peer.url, "--token", "t", "--environment", "e", "--start", "2026-02-10T11:00:00Z")

    assert peer.asked == [
        (
            "/api/v2/analytics/evaluations",
            {
                "environment": "prod & co",
                "feature_name": "f",
                "identity_identifier": "ü?#",
                "segment_name": "s",
                "start_time": "2026-02-10T11:00:00+01:00",
                "end_time": "2026-02-11T00:00:00Z",
                "page_size": "7",
            },
            "Bearer t",
        ),
        ("/api/v2/analytics/evaluations", {"page_size": "100"}, "Bearer t"),
        ("/api/v2/analytics/features", {"environment": "e", "start_time": "2026-02-10T11:00:00Z"}, "Bearer t"),
    ]


def test_json_is_one_message_a_line(peer: Peer) -> None:
    """A program gets each message as the API gave it, and nothing else."""
    rows = [evaluation(1, value={"a": [1, None, 2.5, "\x1b[31m\u202e€"]}), evaluation(2, position="9007199254740993")]
    peer.answer({"evaluations": rows, "next_page_token": "more"})
    result = run("evaluations", "--url", peer.url, "--token", "t", "--json", "--limit", "2")

    assert [json.loads(line) for line in result.output.splitlines()] == rows
    assert result.output.isascii()
    assert result.output.replace("\n", "").isprintable()


def test_limit_pages_until_it_is_reached(peer: Peer) -> None:
    """More than a page is fetched page by page, with the filters of the first, and no further than wanted."""
    peer.answer({"evaluations": [evaluation(n) for n in range(1000)], "next_page_token": "p1"})
    peer.answer({"evaluations": [], "next_page_token": "p2"})
    peer.answer({"evaluations": [evaluation(n) for n in range(1000, 1500)], "next_page_token": "p3"})
    result = run("evaluations", "--url", peer.url, "--token", "t", "--json", "--limit", "1500", "--feature", "f")

    assert [json.loads(line)["position"] for line in result.output.splitlines()] == list(range(1500))
    assert [asked for _, asked, _ in peer.asked] == [
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


def test_features_are_a_table(peer: Peer) -> None:
    """Totals and the last value stand in it, and names that the environment does not have are marked."""
    peer.answer(
        {
            "features": [
                {"feature_name": "known", "in_catalog": True, "evaluation_count": 1_234_567, "enabled_count": 1_234_566,
                 "identity_count": "12", "last_evaluation_time": "2026-02-10T11:00:00Z", "last_value": {"a": 1}},
                {"feature_name": "gone", "in_catalog": False, "evaluation_count": 3, "enabled_count": 1},
                {"feature_name": "quiet", "in_catalog": True, "evaluation_count": 0, "enabled_count": 0},
            ],
            "data_since": "2026-02-01T00:00:00.5Z",
        }
    )  # fmt: skip
    result = run("features", "--url", peer.url, "--token", "t")
    lines = [line.split() for line in result.output.splitlines()]

    assert lines[2] == ["known", "1,234,567", ">99.9", "%", "12", "2026-02-10T11:00:00Z", '{"a":1}']
    assert lines[3] == ["!", "gone", "3", "33.3", "%", "0"]
    assert lines[4] == ["quiet", "0", "0"]
    assert result.output.splitlines()[5:] == [
        "! is not in the catalog of the environment.",
        "Recorded since 2026-02-01T00:00:00Z.",
    ]


def test_features_as_json_and_limited(peer: Peer) -> None:
    """--json gives the messages, --limit the first of them, and the table says what it left out."""
    answer = {"features": [{"feature_name": name, "in_catalog": True} for name in "abc"]}
    peer.answer(answer)
    peer.answer(answer)
    as_json = run("features", "--url", peer.url, "--token", "t", "--json", "--limit", "2").output
    table = run("features", "--url", peer.url, "--token", "t", "--limit", "2").output

    assert [json.loads(line) for line in as_json.splitlines()] == answer["features"][:2]
    assert "1 more features; --limit shows more." in table
    assert "! is not" not in table


def test_nothing_found_is_said(peer: Peer) -> None:
    """An empty answer is a sentence for people, and nothing for a program."""
    for _ in range(3):
        peer.answer({})
    options = ("--url", peer.url, "--token", "t")

    assert run("evaluations", *options).output == "No evaluations match.\n"
    assert run("features", *options).output == "No features.\n"
    assert run("evaluations", *options, "--json").output == ""


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\x9b31m\x00[bold]x[/bold]:smile:"


def test_no_control_character_reaches_the_terminal(peer: Peer) -> None:
    """Whatever was recorded is shown as escapes: it moves no cursor, and no markup is read into it."""
    row = evaluation(
        feature_name=HOSTILE, value={HOSTILE: HOSTILE}, identity_identifier=HOSTILE, segment_names=[HOSTILE],
        variant=HOSTILE, evaluation_timestamp=HOSTILE, enabled=HOSTILE,
    )  # fmt: skip
    peer.answer({"evaluations": [row]})
    peer.answer({"features": [{"feature_name": HOSTILE, "last_value": HOSTILE, "last_evaluation_time": HOSTILE}]})
    peer.answer({"code": 3, "message": HOSTILE}, status=400)
    outputs = [run(name, "--url", peer.url, "--token", "t").output for name in ("evaluations", "features", "features")]

    for output in outputs:
        assert output.replace("\n", "").isprintable()
        assert "owned" in output
    assert "[bold]" in outputs[2]


@given(st.text(), st.text())
def test_visible_text_is_printable(text: str, plain: str) -> None:
    """Every character that is not printable becomes an escape, and printable text stays as it is."""
    assert visible(text).isprintable()
    assert visible(visible(text)) == visible(text)
    if plain.isprintable():
        assert visible(plain) == plain


@pytest.mark.parametrize("columns", [20, 40, 80, 132])
def test_tables_keep_to_the_width_of_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each evaluation is one line, clipped to the terminal, however long its values are."""
    monkeypatch.setenv("COLUMNS", str(columns))
    print_evaluations([evaluation(value="v" * 200_000, identity_identifier="i" * 2000)] * 3, more=False)
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) == 5
    assert max(len(line) for line in lines) <= columns
    if columns >= 80:
        assert lines[2].startswith("2026-02-10T11:00:00Z ")


# Tokens


@pytest.mark.parametrize(
    ("flag", "variable", "file", "expected"),
    [
        ("flag", "variable", "file", "Bearer flag"),
        (None, "variable", "file", "Bearer variable"),
        (None, None, "file\n", "Bearer file"),
        (None, "", "file\n", "Bearer file"),
    ],
)
def test_where_the_token_comes_from(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, flag: str | None, variable: str | None, file: str, expected: str
) -> None:
    """The flag goes before the variable, that before the file in the data directory."""
    Path("flagledger-data").mkdir()
    Path("flagledger-data/read-token").write_text(file)
    if variable is not None:
        monkeypatch.setenv("FLAGLEDGER_READ_TOKEN", variable)
    peer.answer({})
    run("features", "--url", peer.url, *(["--token", flag] if flag else []))

    assert [asked[2] for asked in peer.asked] == [expected]


def test_the_data_directory_can_be_named(peer: Peer, tmp_path: Path) -> None:
    """--data is where the token is looked for."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "read-token").write_text("there")
    peer.answer({})
    run("features", "--url", peer.url, "--data", "elsewhere")

    assert [asked[2] for asked in peer.asked] == ["Bearer there"]


def test_no_token_is_a_fault_of_usage() -> None:
    """Without any token it is said where one can come from, and nobody is asked."""
    result = run("features")

    assert result.exit_code == 2
    assert "flagledger-data/read-token cannot be read (No such file or directory)" in result.output
    assert "--token" in result.output


# Faults


def test_a_refusal_of_the_server_is_shown_as_its_sentence(peer: Peer) -> None:
    """What the server says goes to stderr, with the fields that it names and when to try again."""
    peer.answer(
        {
            "code": 3,
            "message": "The question is not valid.",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "QUERY_INVALID"},
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "field_violations": [{"field": "start_time", "description": "is after end_time"}],
                },
            ],
        },
        status=400,
    )
    peer.answer({"code": 14, "message": "The store cannot be asked now.", "details": []}, status=503, Retry_After="2")
    refused, later = (run("evaluations", "--url", peer.url, "--token", "t") for _ in range(2))

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "flagledger: The question is not valid.\n  start_time: is after end_time\n"
    assert later.stderr == "flagledger: The store cannot be asked now.\nTry again in 2 s.\n"


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
    peer.answers.append((200, {"Content-Length": "1000"}, b"{"))
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


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluations", "--limit", "0"),
        ("evaluations", "--start", "yesterday"),
        ("evaluations", "--end", "2026-02-10"),
        ("evaluations", "--end", "2026-02-10T11:00:00"),
        ("evaluations", "--url", "ftp://h"),
        ("evaluations", "--url", "file:///etc/passwd"),
        ("evaluations", "--url", "127.0.0.1:8080"),
        ("evaluations", "--url", "http://u:p@h"),
        ("evaluations", "--url", "http://h:x"),
        ("evaluations", "--url", "http://h/?q"),
        ("evaluations", "--token", "a\nb"),
        ("evaluations", "--nonsense"),
        ("nonsense",),
        ("features", "--feature", "x"),
    ],
)
def test_a_fault_of_usage_ends_with_two(arguments: tuple[str, ...]) -> None:
    """What cannot be asked is said before anybody is asked."""
    given = () if "--token" in arguments else ("--token", "t")
    result = run(arguments[0], *given, *arguments[1:])

    assert result.exit_code == 2
    assert "Error: " in result.stderr


# Configuration


def test_config_show_is_a_file_that_means_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints names every setting and its origin, masks secrets, and is itself a valid file."""
    monkeypatch.setenv("FLAGLEDGER_FRONTS", "3")
    monkeypatch.setenv("FLAGLEDGER_READ_TOKEN", "tell-nobody")
    shown = run("config", "show", "--http", "[::1]:0", "--data", 'd"\\').output
    monkeypatch.delenv("FLAGLEDGER_FRONTS")
    monkeypatch.delenv("FLAGLEDGER_READ_TOKEN")
    Path("flagledger.toml").write_text(shown)
    config = Config.load()

    assert "tell-nobody" not in shown
    assert '# From FLAGLEDGER_READ_TOKEN.\nread_token = "**********"' in shown
    assert "# From FLAGLEDGER_FRONTS.\nfronts = 3" in shown
    assert '# From --http.\nhttp = "[::1]:0"' in shown
    assert "# The default.\nmax_evaluations = 10000" in shown
    assert all(f"{name} =" in shown for name in Config.model_fields)
    assert config.model_dump(exclude={"read_token"}) == Config(
        fronts=3, http="[::1]:0", data=Path('d"\\')
    ).model_dump(exclude={"read_token"})  # fmt: skip


def test_config_check_says_what_is_there(tmp_path: Path) -> None:
    """A valid configuration is counted up; a missing environments file in the data directory is no fault."""
    bare = run("config", "check")
    (tmp_path / "e.toml").write_text('[[environments]]\nname = "one"\nkeys = ["k", "l"]\nfeatures = "any"\n')
    given = run("config", "check", "--environments", "e.toml")

    assert (bare.exit_code, given.exit_code) == (0, 0)
    assert "flagledger-data/environments.toml is not there yet" in bare.output
    assert given.output == "The configuration is valid.\ne.toml is valid: 1 environment, 2 keys, 0 tokens.\n"


@pytest.mark.parametrize(
    ("files", "arguments", "expected"),
    [
        ({"flagledger.toml": "fronts = 0"}, (), "flagledger.toml: fronts: it should be greater than or equal to 1."),
        ({"flagledger.toml": "fronts = x\n"}, (), "flagledger.toml, line 1, column 10: Invalid value."),
        ({}, ("--config", "none.toml"), "none.toml is not there, or not a file."),
        ({}, ("--fronts", "x"), "--fronts: it should be a valid integer"),
        ({}, ("--environments", "none.toml"), "none.toml: cannot be read: No such file or directory."),
        ({"e.toml": "x"}, ("--environments", "e.toml"), "e.toml, line 1: Expected '=' after a key"),
        (
            {"e.toml": '[[environments]]\nname = "a"\nkeys = ["k"]\nfeatures = []'},
            ("--environments", "e.toml", "--read-token", "k"),
            "e.toml: environments: a key is the same text as the read token",
        ),
    ],
)
def test_config_check_ends_with_two_on_a_fault(
    files: dict[str, str], arguments: tuple[str, ...], expected: str
) -> None:
    """Whatever keeps the service from starting is said, without starting it."""
    for name, content in files.items():
        Path(name).write_text(content)
    result = run("config", "check", *arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"flagledger: {expected}")


def test_serve_refuses_a_configuration_before_anything_starts() -> None:
    """A fault ends it with 2 and a sentence; no directory is made."""
    result = run("serve", "--http", "nonsense")

    assert result.exit_code == 2
    assert result.stderr.startswith("flagledger: --http: it must be HOST:PORT")
    assert list(Path().iterdir()) == []


# The command itself


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command, with the words that call it."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


def test_every_command_and_option_says_what_it_is_for() -> None:
    """--help leaves nothing unexplained."""
    found = list(commands(root))
    unexplained = [
        (path, parameter.name)
        for path, command in found
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]

    assert {path for path, _ in found} == {
        ("serve",), ("features",), ("evaluations",), ("config",), ("config", "show"), ("config", "check"),
    }  # fmt: skip
    assert [path for path, command in found if not command.help] == []
    assert unexplained == []
    assert all(run(*path, "--help").exit_code == 0 for path, _ in found)


def test_the_version_is_that_of_the_package() -> None:
    """--version says what is installed."""
    assert run("--version").output == f"flagledger, version {metadata.version('flagledger')}\n"


def test_reading_needs_neither_the_store_nor_grpc(peer: Peer) -> None:
    """A reading command starts without what serving needs."""
    peer.answer({"features": [{"feature_name": "x"}]})
    code = (
        "import sys; from flagledger.cli import main\n"
        f"sys.argv = ['flagledger', 'features', '--url', '{peer.url}', '--token', 't']\n"
        "try: main()\n"
        "except SystemExit as ended: print(ended.code)\n"
        "print([m for m in ('duckdb', 'grpc', 'pyarrow', 'google.protobuf', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-2:] == ["0", "[]"]


def test_without_the_server_extra_the_install_line_is_printed() -> None:
    """In a Python that has none of our libraries the command says how to get them, and ends with 2."""
    code = f"import sys; sys.path[:0] = {SOURCES!r}; from flagledger.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, "--version"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "flagledger: the command needs click, which is not installed. Install what it needs:\n\n"
        "  pip install 'flagledger[server]'\n"
    )


def test_a_module_of_ours_that_is_missing_is_no_missing_extra(tmp_path: Path) -> None:
    """A broken installation shows its traceback instead of advice that would not help."""
    (tmp_path / "flagledger").mkdir()
    (tmp_path / "flagledger" / "cli.py").write_text((Path(SOURCES[0]) / "flagledger" / "cli.py").read_text())
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from flagledger.cli import main; main()"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "No module named 'flagledger.commands'" in done.stderr


def test_a_reader_that_goes_away_is_no_traceback(peer: Peer) -> None:
    """`flagledger evaluations | head` ends quietly."""
    peer.answer({"evaluations": [evaluation(n) for n in range(100)], "next_page_token": "p"})
    peer.answer({"evaluations": [evaluation(n, value="v" * 5000) for n in range(1000)]})
    command = [sys.executable, "-m", "flagledger.cli", "evaluations", "--url", peer.url, "--token", "t", "--json",
               "--limit", "5000"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        complaint = process.stderr.read()

    assert complaint == ""


@pytest.mark.parametrize(
    ("arguments", "expected_code", "expected"),
    [
        (("--data", "file"), 1, "flagledger: The data directory file cannot be used: "),
        (("--data", "here", "--environments", "e.toml"), 2, "flagledger: e.toml, line 1: Expected '=' after a key"),
    ],
)
def test_serve_runs_what_was_configured(
    tmp_path: Path, arguments: tuple[str, ...], expected_code: int, expected: str
) -> None:
    """The flags reach the service, and its sentence and exit code come back: 1 cannot run, 2 configuration."""
    (tmp_path / "file").write_text("")
    (tmp_path / "e.toml").write_text("broken")
    command = [sys.executable, "-m", "flagledger.cli", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (expected_code, "")
    assert done.stderr.startswith(expected)
