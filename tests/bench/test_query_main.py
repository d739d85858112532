from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import query_questions
from query_data import Data

pytestmark = pytest.mark.system

PROGRAM = Path(query_questions.__file__).with_name("query_main.py")


def test_every_question_is_measured_and_right(tmp_path: Path) -> None:
    """The bench asks everything of a small store, finds each answer to be DuckDB's, and says what that took, idle and not."""
    results = tmp_path / "results.json"
    command = [sys.executable, PROGRAM, "--rows", "20000", "--calls", "1", "--seconds", "0.1", "--rate", "1000"]
    done = subprocess.run(
        [*command, "--directory", tmp_path, "--json", results], capture_output=True, text=True, timeout=110, check=False
    )

    assert 0 == done.returncode, done.stderr
    figures = json.loads(results.read_text())
    names = [
        question.name for question in query_questions.questions(Data(directory=tmp_path, rows=0, end=0, last_entry=0))
    ]
    for condition in ("idle", "intake"):
        asked = figures[condition]["questions"]
        assert names == [row["question"] for row in asked]
        assert ["" for _ in names] == [row["failure"] for row in asked]
        assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in asked)
        assert [""] * 4 == [row["failure"] for row in figures[condition]["exports"]]
        assert {"arrow", "parquet", "csv", "ndjson"} == {row["format"] for row in figures[condition]["exports"]}
    assert 20_000 == figures["data"]["rows"] == figures["idle"]["exports"][0]["rows"]
    assert 0 < figures["intake"]["load"]["acknowledged"]
    assert 0 < figures["erasure"]["rows"]
    assert all(name in done.stdout for name in names)
    assert ["results.json"] == [path.name for path in tmp_path.iterdir()]
