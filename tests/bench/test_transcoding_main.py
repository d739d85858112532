from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import transcoding_measure

pytestmark = pytest.mark.system

PROGRAM = Path(transcoding_measure.__file__).with_name("transcoding_main.py")


def test_every_part_is_measured_beside_its_reference(tmp_path: Path) -> None:
    """The bench measures routing, both directions of the codec and a request, each beside what it is promised against."""
    results = tmp_path / "results.json"
    command = [sys.executable, PROGRAM, "--quick", "--json", results]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)

    assert 0 == done.returncode, done.stderr
    parts = json.loads(results.read_text())["parts"]
    assert [
        ("route, Flagledger's", "its own regular expression"),
        ("route, 500 routes", "its own regular expression"),
        ("JSON to message", "json_format.Parse"),
        ("message to JSON", "MessageToDict + orjson"),
        ("message to JSON", "MessageToJson"),
        ("HTTP request", "bare uvicorn"),
    ] == [(part["part"], part["reference"]) for part in parts]
    assert all(0 < part["cpu_us"] and 0 < part["reference_cpu_us"] for part in parts)
    assert [8.0, 5.0, 5.0] == [part["aim_times_faster"] for part in parts if "times_faster" in part]
    assert all(part["part"] in done.stdout for part in parts)
