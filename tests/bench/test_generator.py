from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import standins
from processes import BenchError, Generator, standin
from tally import Load

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    """One load generator for all tests: it is meant to run load after load."""
    generator = Generator()
    yield generator
    generator.close()


def _load(transport: str, address: str, pid: int, accepted: int) -> Load:
    return Load(
        transport=transport,
        address=address,
        evaluations=10,
        accepted=accepted,
        in_flight=8,
        connections=2,
        warm_up=0.05,
        seconds=0.2,
        watched=[pid],
    )


@pytest.mark.parametrize(("transport", "kind"), [("unary", "grpc"), ("stream", "grpc"), ("json", "http")])
def test_only_expected_answers_count(transport: str, kind: str, generator: Generator, tmp_path: Path) -> None:
    """A load counts the answers that are as expected, and one that is not fails the bench, over every transport."""
    with standin(kind, tmp_path / "log") as (address, pid):
        result = generator.run(_load(transport, address, pid, standins.ACCEPTED))

        assert result.failures == {}
        assert 0 < result.batches <= result.acknowledged // 10
        assert 0 < result.p50_ms <= result.p99_ms
        assert len(result.cpu) == 1
        with pytest.raises(BenchError, match="not as expected"):
            generator.run(_load(transport, address, pid, standins.ACCEPTED + 1))


@pytest.mark.parametrize("transport", ["unary", "stream"])
def test_a_server_that_is_not_there_is_told(transport: str, generator: Generator) -> None:
    """A load that nobody answers fails the bench with the transport's own words."""
    with pytest.raises(BenchError, match="UNAVAILABLE"):
        generator.run(_load(transport, "127.0.0.1:1", 1, standins.ACCEPTED))
