from __future__ import annotations

from typing import Any

import pytest
import transcoding_measure as measure
from processes import BenchError

BRIEF = measure.Plan(rounds=2, slice_seconds=0.001, http_rounds=1, warm_up=0.1, seconds=0.2)


def test_ratios_are_medians_over_rounds() -> None:
    """A ratio is that of a round, where both sides met the same machine, and not one of medians of different rounds."""
    compared = measure.Compared(name="", reference_name="", ours=[1.0, 10.0, 4.0], reference=[3.0, 20.0, 20.0])

    assert 3.0 == compared.faster()
    assert 1 / 3 == compared.times()


def test_five_hundred_routes() -> None:
    """The larger table has 500 routes, each of which a path of its own leads to."""
    (flagledger, many) = measure.routes(BRIEF)

    assert "route, 500 routes" == many.name
    assert [2, 2] == [len(flagledger.ours), len(many.reference)]


def test_a_wrong_route_fails_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """A router that leads a path elsewhere is not measured."""
    find = measure.Router.match

    def astray(router: Any, http_method: str, path: str) -> Any:
        found = find(router, http_method, path)
        if found is not None and path.endswith("counts"):
            found.target = "elsewhere"
        return found

    monkeypatch.setattr(measure.Router, "match", astray)

    with pytest.raises(BenchError, match=r"GET /api/v2/analytics/counts does not lead to"):
        measure.routes(BRIEF)


def test_a_codec_that_errs_fails_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that says something else than json_format is not measured."""
    monkeypatch.setattr(measure.Codec, "serialize", lambda *_: b"{}")

    with pytest.raises(BenchError, match="do not make the same"):
        measure.codec(BRIEF)
