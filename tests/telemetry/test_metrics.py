from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COUNTING = """
from flagledger.telemetry import metrics
counted = metrics.FrontMetrics()
counted.accepted("demo", 3)
counted.filtered("demo", 2)
counted.rejected("demo", "evaluations[].value", 1)
counted.refused_by_http(404)
counted.call("grpc", "Record", 0, 0.001)
metrics.WriterMetrics().applied(3)
metrics.observe_journal(10, 2, 0.5, 1)
"""
READING = """
from flagledger.telemetry import metrics
print(metrics.exposition()[0].decode())
"""


def run(code: str, directory: Path) -> str:
    """Run *code* in a process of its own that counts into *directory*."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
    )  # fmt: skip
    return done.stdout


def test_of_all_processes(tmp_path: Path) -> None:
    """Counters of several processes are added up, those of processes that have ended too."""
    run(COUNTING, tmp_path)
    run(COUNTING, tmp_path)

    page = run(READING, tmp_path).splitlines()

    assert 'flagledger_evaluations_total{environment="demo",outcome="accepted"} 6.0' in page
    assert 'flagledger_evaluations_total{environment="demo",outcome="filtered"} 4.0' in page
    assert 'flagledger_rejections_total{field="evaluations[].value"} 2.0' in page
    assert 'flagledger_call_seconds_count{code="0",method="Record",protocol="grpc"} 2.0' in page
    assert "flagledger_applied_rows_total 6.0" in page
    assert 'flagledger_refusals_total{reason="HTTP_404"} 2.0' in page
