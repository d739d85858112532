from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.influxdb_stub import InfluxStub, influxdb_stub


@pytest.fixture
def stub() -> Iterator[InfluxStub]:
    """Return a stub of an InfluxDB."""
    with influxdb_stub() as running:
        yield running
