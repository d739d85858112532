"""docs/queries.md is what happens: each command of it runs, and prints what stands below it."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pyarrow.parquet
import pytest
from flagledger.cli import questions
from flagledger.cli.erasure import delete_identity
from flagledger.cli.export import export
from flagledger.query.export_formats import FORMATS
from flagledger.store.questions import EXPORT
from flagledger.store.sampling import EXACT_ROWS, SAMPLE_ROWS, mask_for
from flagledger.v1 import query_service_pb2
from support import shop
from support.page import Session, shown
from support.server import RunningServer

# Each command is a process of its own.
pytestmark = pytest.mark.timeout(400)

PAGE = Path(__file__).parents[1] / "docs" / "queries.md"
TEXT = PAGE.read_text(encoding="utf-8")

# Set it, and the outputs are written into the page instead of being compared with it.
UPDATE = "UPDATE_QUERIES_PAGE"


@pytest.fixture(scope="module")
def session(server_factory: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Return a shell beside a service that has recorded the week of the shop."""
    folder = tmp_path_factory.mktemp("queries")
    data = folder / "flagledger-data"
    data.mkdir()
    (data / "environments.toml").write_text(shop.ENVIRONMENTS)
    (folder / "conversions.csv").write_text(shop.conversions())
    server = server_factory(data=data)
    (data / "read-token").write_text(server.read_token)
    shop.fill(server)
    variables = {"FLAGLEDGER_READ_TOKEN": server.read_token, "KEY": shop.CLIENT_KEY}
    return Session(server=server, folder=folder, variables=variables)


@pytest.fixture(scope="module")
def played(session: Session) -> str:
    """Return the page with the outputs that its commands have now."""
    return session.play(TEXT)


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table behind *heading*, without its head."""
    _, found, behind = TEXT.partition(f"\n## {heading}\n")
    assert found, heading
    rows = re.search(r"^\|[-|:]+\|\n((?:\|.*\n)+)", behind, re.MULTILINE)
    assert rows is not None, heading
    return [[cell.strip() for cell in row[1:-1].split(" | ")] for row in rows.group(1).splitlines()]


@pytest.mark.system
def test_page(played: str) -> None:
    """Each command prints what the page shows. UPDATE_QUERIES_PAGE=1 writes down what they print now."""
    if os.environ.get(UPDATE):
        PAGE.write_text(played, encoding="utf-8")
        return

    assert TEXT == played, f"{UPDATE}=1 writes the outputs anew"


@pytest.mark.system
def test_next_export(played: str) -> None:
    """The command for the next night that an export names is the one that the page goes on with."""
    named = re.search(r"^  (flagledger export --after-position .*)$", played, re.MULTILINE)
    assert named is not None

    assert f"\n$ {named.group(1)}\n" in TEXT


@pytest.mark.system
@pytest.mark.usefixtures("played")
def test_nightly_script(session: Session, tmp_path: Path) -> None:
    """The script has fetched what is new; where it fails it keeps the position and writes no file for a next run to skip."""
    shutil.copytree(session.folder, tmp_path / "again", ignore=shutil.ignore_patterns("*.db*", "*.duckdb*", "lock"))
    (tmp_path / "again" / "flagledger-data" / "read-token").write_text("of-nobody")
    path = os.pathsep.join((str(session.folder / "bin"), os.environ["PATH"]))
    failed = subprocess.run(
        ["sh", "nightly.sh"], cwd=tmp_path / "again", env={**os.environ, "PATH": path}, capture_output=True, check=False
    )
    names = {file.name for file in (tmp_path / "again").glob("evaluations*")}

    assert 1 == pyarrow.parquet.read_metadata(session.folder / "evaluations-after-851967.parquet").num_rows
    assert 22 == failed.returncode
    assert "917503\n" == (tmp_path / "again" / "position").read_text()
    assert {"evaluations.parquet", "evaluations-after-851967.parquet"} == names


@pytest.mark.system
def test_columns(played: str, session: Session) -> None:
    """The dictionary has each column of an export in its order, with the type in Parquet and whether it can be null."""
    schema = pyarrow.parquet.read_schema(session.folder / "evaluations.parquet")
    types = [re.sub(r"list<\w+: (\w+).*", r"list<\1>", str(field.type)) for field in schema]
    expected = [[f"`{name}`", f"`{kind}`"] for name, kind in zip(schema.names, types, strict=True)]
    rows = table("The columns of an export")

    assert expected == [row[:2] for row in rows]
    assert [field.name for field in EXPORT if field.nullable] == [
        row[0].strip("`") for row in rows if row[3].startswith("null")
    ]


@pytest.mark.system
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_other_libraries(library: str, played: str, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line for each library that is not needed here reads the export, where the library is installed."""
    line = re.search(rf"`({library}\.read_parquet\([^`]+\))`", TEXT)
    assert line is not None
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    monkeypatch.chdir(session.folder)

    assert len(eval(line.group(1), {library: importlib.import_module(library)})) > 100


def test_formats() -> None:
    """Every format of an export is named."""
    _, _, behind = TEXT.partition("\n## How do I get the raw data, every night only what is new?\n")

    assert [] == [name for name in FORMATS if f"`{name}`" not in behind]


def test_options() -> None:
    """The table has each option of the commands that ask, and each field of what they send, under its name in the contract."""
    rows = table("Options and parameters")
    commands = (*questions.COMMANDS, export, delete_identity)
    options = {
        text
        for command in commands
        for option in command.params
        if isinstance(option, click.Option)
        for text in (*option.opts, *option.secondary_opts)
    }
    _, _, behind = TEXT.partition("\n## Options and parameters\n")
    own = re.search(r"What else a command takes \((.*?)\)", behind)
    assert own is not None
    requests = [
        message
        for name, message in query_service_pb2.DESCRIPTOR.message_types_by_name.items()
        if name.endswith("Request")
    ]
    fields = {field.name for message in requests for field in message.fields}

    assert options == {*re.findall(r"--[a-z-]+", " ".join(row[0] for row in rows) + own.group(1))}
    named = {name for row in rows for name in re.findall(r"[`&](\w+)=", row[1])}
    assert fields == {*named, "page_token"}
    assert "`page_token`" in behind


def test_estimates() -> None:
    """What the page says of estimates is what the store does."""
    rows = table("How many people saw each variant?")

    assert f"up to {EXACT_ROWS:,} evaluations in question" in TEXT
    assert f"at least {SAMPLE_ROWS:,} evaluations" in TEXT
    assert len(rows) == 3
    for evaluations, one_in, small, large in rows:
        mask = mask_for(int(evaluations.replace(",", "")))
        errors = [math.sqrt(identities * mask) for identities in (10_000, 1_000_000)]
        assert one_in == (f"1 in {mask + 1}" if mask else "all")
        assert [small, large] == [
            f"± {error:,.0f} ({error / identities:.1%})".replace("%", " %") if mask else "exact"
            for error, identities in zip(errors, (10_000, 1_000_000), strict=True)
        ]


def test_contents() -> None:
    """The table of contents has each question, in order."""
    contents = re.findall(r"^\* \[(.+)\]\(#", TEXT, re.MULTILINE)

    assert re.findall(r"^## (.+)$", TEXT, re.MULTILINE) == contents
    assert len(contents) > 10


def test_what_varies_is_not_shown() -> None:
    """Moments of receipt, rates and sizes are an ellipsis in the page, and nothing else is."""
    answer = '{"receive_time":"2026-11-25T19:02:04.51Z","bytes":7,"exposure_time":"2026-02-10T18:01:00Z","position":7}'

    assert shown(answer) == (
        '{"receive_time": "…", "bytes": …, "exposure_time": "2026-02-10T18:01:00Z", "position": 7}\n'
    )
    assert shown("first                 last  \n2026-11-25T19:02:04Z  2026-02-10T18:01:00Z\n\n") == (
        "first                 last\n…                     2026-02-10T18:01:00Z\n"
    )
