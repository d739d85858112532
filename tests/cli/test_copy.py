from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flagledger.cli import copy as copy_module
from flagledger.store.applied import Stream
from flagledger.store.copying import Step
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.errors import StoreError
from store import moved, stores
from support.command import Terminal, run
from support.records import START, add_evaluation, record_of, value_of

PASSWORD = "p4ss-of-nobody"
NOWHERE = f"postgresql://flagledger:{PASSWORD}@127.0.0.1:1/analytics"


@pytest.fixture(autouse=True)
def _unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave logging as it is: the process goes on with other tests."""
    monkeypatch.setattr("flagledger.telemetry.logging.configure", lambda _process: None)


def recorded(place: Path, entries: int = 4, *, first: int = 1, bytes_each: int = 10) -> None:
    """Record so many entries of two evaluations each into a file, the last entry of them set aside."""
    store = DuckDBStore(place)
    items: list[moved.Item] = []
    for number in range(entries - 1):
        record = record_of(receive_time=START + number)
        record.envelope.discards.add(reason="unknown_feature", name="chekout", entry_count=1)
        for index in range(2):
            add_evaluation(record, time=START + index, value=value_of("x" * bytes_each))
        items.append(record)
    moved.apply(store, [*items, b"broken"], first)
    store.close()


def position(place: Path) -> Stream | None:
    """Return how far the file is."""
    store = DuckDBStore(place)
    known = store.stream()
    store.close()
    return known


def test_a_store_is_copied() -> None:
    """It is said how much was copied, that both hold the same, and how a service goes on."""
    recorded(Path("source"))
    result = run("copy", "--from", "duckdb:source", "--to", "duckdb:target")

    assert (0, "") == (result.exit_code, result.stderr)
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"Copied 4 entries with 6 evaluations, up to position 4, in \d+\.\d s\.", lines[0])
    assert re.fullmatch(
        r"Both stores hold the same: 6 evaluations, 3 discards and 1 set-aside entry, checksum [0-9a-f]{32}\.", lines[1]
    )
    assert ["A service goes on with the same data directory and --store duckdb:target"] == lines[2:]
    assert Stream(identity="journal", position=4) == position(Path("target"))


def test_what_it_writes_is_for_its_user_alone() -> None:
    """A store holds people in clear: a file is made readable by nobody else, whatever the shell's umask."""
    recorded(Path("source"))
    before = os.umask(0o022)
    try:
        run("copy", "--from", "duckdb:source", "--to", "duckdb:target")
    finally:
        os.umask(before)

    assert 0o600 == Path("target").stat().st_mode & 0o777


def test_it_is_run_again(tmp_path: Path) -> None:
    """What has come since is copied by the same command; if nothing has, that is said, and both are compared all the same."""
    recorded(tmp_path / "source")
    arguments = ("copy", "--from", "duckdb:source", "--to", "duckdb:target")
    run(*arguments)
    assert "There was nothing to copy: the target is at position 4, as the source is." in run(*arguments).stdout
    recorded(tmp_path / "source", 2, first=5)

    assert "Copied 2 entries with 2 evaluations, up to position 6" in run(*arguments).stdout


def test_a_program_reads_a_summary() -> None:
    """With --json the summary is one object, and nothing else is on stdout."""
    recorded(Path("source"))
    run("copy", "--from", "duckdb:source", "--to", "duckdb:target")
    recorded(Path("source"), 3, first=5)
    result = run("copy", "--from", "duckdb:source", "--to", "duckdb:target", "--json")
    summary = json.loads(result.stdout)

    assert (0, "", 1) == (result.exit_code, result.stderr, len(result.stdout.splitlines()))
    assert re.fullmatch("[0-9a-f]{32}", summary.pop("checksum"))
    assert summary.pop("seconds") >= 0
    assert {
        "from": "duckdb:source",
        "to": "duckdb:target",
        "journal": "journal",
        "after_position": 4,
        "last_position": 7,
        "copied_entry_count": 3,
        "copied_evaluation_count": 4,
        "evaluation_count": 10,
        "discard_count": 5,
        "set_aside_count": 2,
        "dropped_from_source_count": 0,
    } == summary


def test_what_the_source_has_dropped_is_said() -> None:
    """Where the target holds more than the source still does, it is said why."""
    recorded(Path("source"))
    run("copy", "--from", "duckdb:source", "--to", "duckdb:target")
    store = DuckDBStore(Path("source"))
    store.drop_before(START + 1)
    store.close()
    result = run("copy", "--from", "duckdb:source", "--to", "duckdb:target")

    assert 0 == result.exit_code
    assert "The target holds 3 more, which are older than everything in the source" in result.stdout


@pytest.mark.parametrize("kind", stores.shared_kinds())
def test_a_server_is_copied(tmp_path: Path, kind: str) -> None:
    """A server may be the target, and the source while another one records into it; what its URL has of a password is masked."""
    recorded(tmp_path / "source")
    url = stores.url_of(kind, tmp_path / "server")
    there = run("copy", "--from", "duckdb:source", "--to", url)
    assert (0, "") == (there.exit_code, there.stderr)
    writer = stores.open_store(kind, tmp_path / "server")
    back = run("copy", "--from", url, "--to", "duckdb:back", "--json")
    assert (0, "") == (back.exit_code, back.stderr)
    again = run("copy", "--from", url, "--to", "duckdb:back")
    writer.close()

    assert json.loads(back.stdout)["checksum"] in there.stdout
    password = "flagsmith@" if kind == "postgres" else "no password"
    assert password not in there.stdout + back.stdout + again.stdout
    said = "If a service has gone on recording into the source, run the same command again for what came meanwhile."
    assert (kind == "postgres") is (said in again.stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from", "duckdb:source"), "Missing option '--to'"),
        (("--to", "duckdb:source"), "Missing option '--from'"),
        (("--from", "source", "--to", "duckdb:target"), "--from: it must be duckdb:PATH"),
        (("--from", "duckdb:source", "--to", f"mysql://u:{PASSWORD}@h/d"), "--to: it must be duckdb:PATH"),
        (("--from", "duckdb:source", "--to", "duckdb:../x/../{here}/source"), "name the same store"),
        (("--from", NOWHERE, "--to", NOWHERE), "name the same store"),
    ],
)
def test_a_wrong_call_is_told(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """What is called wrongly ends with 2 and a sentence, without a password, before anything is opened."""
    recorded(tmp_path / "source")
    result = run("copy", *(each.format(here=tmp_path.name) for each in arguments))

    assert (2, "") == (result.exit_code, result.stdout)
    assert sentence in result.stderr
    assert PASSWORD not in result.stderr
    assert ["source"] == [file.name for file in tmp_path.iterdir()]


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose library is not installed ends the command with 2, and with the line that installs it."""
    recorded(Path("source"))
    for name in [name for name in sys.modules if name.startswith("flagledger.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    result = run("copy", "--from", "duckdb:source", "--to", NOWHERE)

    assert (2, "") == (result.exit_code, result.stdout)
    assert "pip install 'flagledger[postgres]'" in result.stderr


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A path where nothing is ends the command with 1, and no file is made."""
    result = run("copy", "--from", "duckdb:nothing", "--to", "duckdb:target")

    assert (1, "", "flagledger: --from: There is no store at nothing.\n") == (
        result.exit_code,
        result.stdout,
        result.stderr,
    )
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", stores.shared_kinds())
def test_a_source_without_anything_makes_no_target(tmp_path: Path, kind: str) -> None:
    """Where a server holds nothing under that name, that is said, without a word of going on, and no file is made."""
    url = stores.url_of(kind, tmp_path / "store")
    before = sorted(tmp_path.iterdir())
    result = run("copy", "--from", url, "--to", "duckdb:target")

    assert (1, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith("flagledger: --from: ")
    assert "Run the same command again" not in result.stderr
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--from", "Stop the service that records into it, and start it again once the copy is done."),
        ("--to", "Stop the service that records into it: the target belongs to the copy alone."),
    ],
)
def test_a_file_in_use_is_told(held: Path, tmp_path: Path, option: str, sentence: str) -> None:
    """A file that a service holds is named, and what to do about it."""
    recorded(tmp_path / "free")
    other = "--to" if option == "--from" else "--from"
    result = run("copy", option, f"duckdb:{held}", other, "duckdb:free")

    assert (1, "") == (result.exit_code, result.stdout)
    assert f"{option}: {held} is held by another process." in result.stderr
    assert result.stderr.endswith(f"\n{sentence}\n")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """Return a file that another process has open."""
    place = tmp_path / "held"
    recorded(place)
    code = (
        "import sys; from pathlib import Path; from flagledger.store.duckdb.store import DuckDBStore\n"
        "store = DuckDBStore(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert "open\n" == holder.stdout.readline()
        yield place
        holder.communicate()


def test_a_server_that_is_away_is_told_without_its_password() -> None:
    """Nobody listens there: 1, a sentence with host and port, and no password."""
    recorded(Path("source"))
    for arguments in (("--from", "duckdb:source", "--to", NOWHERE), ("--from", NOWHERE, "--to", "duckdb:target")):
        result = run("copy", *arguments)

        assert (1, "") == (result.exit_code, result.stdout)
        assert "127.0.0.1:1" in result.stderr
        assert PASSWORD not in result.stderr


def test_a_target_of_another_journal_is_told() -> None:
    """A target that is not for this source ends the command with 1, and stays as it is."""
    recorded(Path("source"))
    store = DuckDBStore(Path("target"))
    moved.apply(store, [record_of()], stream="another")
    store.close()
    result = run("copy", "--from", "duckdb:source", "--to", "duckdb:target")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "The target records another journal than the source" in result.stderr
    assert "Run the same command again" not in result.stderr
    assert Stream(identity="another", position=1) == position(Path("target"))


def test_a_difference_is_told() -> None:
    """A target that does not hold what the source does ends the command with 1, and says where."""
    recorded(Path("source"), 3)
    store = DuckDBStore(Path("target"))
    store.apply("journal", 1, 3, *as_applied(moved.applied([record_of(), record_of(), b"broken"])))
    store.close()
    result = run("copy", "--from", "duckdb:source", "--to", "duckdb:target", "--json")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "of the evaluations of entries 1 to 1 there are 2 in the source and 0 in the target." in result.stderr


def as_applied(found: object) -> tuple[object, ...]:
    """Return what is applied of a range."""
    return found.rows, found.discards, found.set_aside  # type: ignore[attr-defined]


def test_a_failure_that_passes_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails on the way ends the command with 1; the next one goes on."""
    recorded(Path("source"))
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise StoreError("no luck")

        patch.setattr(DuckDBStore, "maintain", fail)
        result = run("copy", "--from", "duckdb:source", "--to", "duckdb:target")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "flagledger: no luck\nRun the same command again: it goes on from where it was.\n" == result.stderr
    assert 0 == run("copy", "--from", "duckdb:source", "--to", "duckdb:target").exit_code


def test_it_says_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal a line tells every some seconds what is being done, how far it is, how fast, and how long it will be."""
    now = [0.0]
    monkeypatch.setattr(copy_module, "clock", lambda: now[0])
    said: list[str] = []
    monkeypatch.setattr(copy_module.click, "echo", lambda text, err: said.append(f"{err} {text}"))
    lines = copy_module._Lines()
    for second, place in ((4, 110), (9, 120), (11, 150), (12, 160), (25, 190)):
        now[0] = float(second)
        lines.tell(Step(phase="copying", position=place, first=100, last=200, rows=1_000))

    assert [
        "True copying: 50 of 100 entries, 3,000 evaluations, 429 a second, 7 s left",
        "True copying: 90 of 100 entries, 5,000 evaluations, 238 a second, 2 s left",
    ] == said


@pytest.mark.timeout(120)
def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    """On a terminal a bar shows the phases; it is gone in the end, and the summary is there."""
    recorded(tmp_path / "source", 40, bytes_each=200_000)
    terminal = Terminal("copy", "--from", "duckdb:source", "--to", "duckdb:target")
    assert 0 == terminal.end()

    assert "copying" in terminal.shown
    assert re.search(r"entries, [\d,]+ evaluations, [\d,]+ a second,", terminal.shown)
    assert "Both stores hold the same: 78 evaluations" in terminal.shown


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    """Ctrl-C ends the command between two ranges, with 1 and a sentence; the same command ends the copy."""
    recorded(tmp_path / "source", 120, bytes_each=400_000)
    arguments = ("copy", "--from", "duckdb:source", "--to", "duckdb:target")
    terminal = Terminal(*arguments)
    terminal.wait_for("copying")
    terminal.interrupt()

    assert 1 == terminal.end()
    assert "The copy was stopped. What is in the target stays: run the same command again" in terminal.shown
    assert "Traceback" not in terminal.shown
    reached = position(tmp_path / "target")
    assert reached is not None
    assert 0 < reached.position < 120
    assert "up to position 120" in run(*arguments).stdout


def test_logs_go_to_stderr(tmp_path: Path) -> None:
    """What a store logs, as about a log that it set aside, is not on stdout, where programs read the summary."""
    recorded(tmp_path / "source")
    other = DuckDBStore(tmp_path / "other")
    moved.apply(other, [record_of()])
    (tmp_path / "source.wal").write_bytes((tmp_path / "other.wal").read_bytes())
    other.close()
    done = subprocess.run(
        [sys.executable, "-m", "flagledger.cli", "copy", "--from", "duckdb:source", "--to", "duckdb:target", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )

    assert 4 == json.loads(done.stdout)["last_position"]
    assert "the store's log could not be replayed and was set aside" in done.stderr
