from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.command import Peer, evaluation

SOURCES = [str(Path(__file__).parents[2] / folder) for folder in ("service", "gen")]


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
    copy = tmp_path / "flagledger" / "cli" / "__init__.py"
    copy.parent.mkdir(parents=True)
    copy.write_text((Path(SOURCES[0]) / "flagledger" / "cli" / "__init__.py").read_text())
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from flagledger.cli import main; main()"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "No module named 'flagledger.cli.commands'" in done.stderr


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
