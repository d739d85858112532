"""The first promise, watched from the kernel's side."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.reading import post
from support.server import KIT_ENVIRONMENTS, RunningServer
from system.test_serve import kit

pytestmark = pytest.mark.system

STRACE = shutil.which("strace")


@pytest.mark.skipif(STRACE is None, reason="strace is not here; install it (Debian: apt-get install strace)")
def test_answer_after_sync(server_factory: Callable[..., RunningServer], tmp_path: Path) -> None:
    """Between a request and its answer lies an fdatasync of the journal."""
    server = server_factory(environments=KIT_ENVIRONMENTS)
    key, feature = kit()
    evaluation = {"feature_name": feature, "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}
    [front] = [
        child
        for child in psutil.Process(server.process.pid).children()
        if "store.duckdb" not in {Path(file.path).name for file in child.open_files()}
    ]
    trace = tmp_path / "trace"
    strace = subprocess.Popen(
        [str(STRACE), "-f", "-y", "-tt", "-s", "300", "-o", str(trace),
         "-e", "trace=read,recvfrom,recvmsg,write,sendto,sendmsg,writev,fdatasync,fsync", "-p", str(front.pid)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "Operation not permitted" in said:
            pytest.skip("strace may not attach to processes here; allow ptrace to run this test")
        time.sleep(0.5)
        status, _ = post(server, {"batch_id": "traced-batch", "evaluations": [evaluation]}, key=key)
        time.sleep(0.2)
    finally:
        strace.terminate()
        strace.communicate(timeout=10)

    assert 202 == status
    lines = trace.read_text(errors="replace").splitlines()
    request = next(
        number
        for number, line in enumerate(lines)
        if ("traced-batch" in line and "recv" in line) or ("read(" in line and "traced-batch" in line)
    )
    answer = next(number for number, line in enumerate(lines) if number > request and "HTTP/1.1 202" in line)
    between = [line for line in lines[request:answer] if re.search(r"f(data)?sync\(\d+<[^>]*journal\.db(-wal)?>", line)]
    assert between, "\n".join(lines[request : answer + 1])
