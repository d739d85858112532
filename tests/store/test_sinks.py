from __future__ import annotations

import subprocess
import sys

import pytest
from flagledger.store import sinks
from flagledger.store.influxdb.sink import InfluxSink
from flagledger.store.opening import NotInstalledError

URL = "influxdb://user:s3cret@127.0.0.1:1/flags"


def test_opening_sends_nothing() -> None:
    """A sink that is away is opened: only sending needs it."""
    sink = sinks.open_sink(URL)

    assert (InfluxSink, "127.0.0.1:1/flags") == (type(sink), sink.target)
    sink.close()


def test_what_is_no_sink() -> None:
    """Another URL is refused in the same words, opened or looked at."""
    for take in (sinks.open_sink, sinks.check_sink):
        with pytest.raises(ValueError, match="it must be influxdb://") as caught:
            take("mysql://user:s3cret@host/db")
        assert "s3cret" not in str(caught.value)


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its library the sentence names the extra that brings it."""
    for module in ("connection", "sink"):
        monkeypatch.delitem(sys.modules, f"flagledger.store.influxdb.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "urllib3", None)

    with pytest.raises(NotInstalledError, match=r"^urllib3 is not installed.*'flagledger\[influxdb\]'\.$"):
        sinks.open_sink(URL)


def test_checking_loads_nothing() -> None:
    """Whether a URL is a sink is told without the library, and without Arrow: every process reads its settings."""
    code = f"""
import sys
from flagledger.store.sinks import check_installed, check_sink
check_sink({URL!r})
check_installed()
print(sorted({{"urllib3", "pyarrow"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (0, "[]\n") == (done.returncode, done.stdout), done.stderr
