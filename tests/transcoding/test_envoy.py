"""Our transcoder beside Envoy's, with the same descriptors, servicer and requests: they differ where a row says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from flagledger.transcoding.binding import http_rules
from transcoding.envoy import binary, described, envoy
from transcoding.envoy_comparison import Comparison, Difference
from transcoding.envoy_differences import DIFFERENCES, documented_rows
from transcoding.envoy_requests import requests
from transcoding.envoy_sides import SERVICES, both_sides
from transcoding.kitchen import service

pytestmark = pytest.mark.system

DOCS = Path(__file__).parents[2] / "docs" / "transcoding.md"
HEADING = "## Differences from Envoy"
ERRORS = {400, 401, 403, 404, 409, 429, 499, 500, 501, 503, 504}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def compared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Comparison]]:
    """Yield every request with both outcomes."""
    binary()
    async with both_sides(tmp_path_factory.mktemp("envoy")) as sides:
        yield await sides.compare(requests())


def rows_of(comparison: Comparison, difference: str) -> list[Difference]:
    """Return the rows that explain one difference of a comparison."""
    return [row for row in DIFFERENCES if difference in row.of and row.applies(comparison)]


@pytest.mark.asyncio(loop_scope="module")
async def test_every_difference_has_its_row(compared: list[Comparison]) -> None:
    """Where the outcomes differ, a row of the table says why."""
    unexplained = [
        f"{difference} of {comparison}"
        for comparison in compared
        for difference in comparison.differences()
        if not rows_of(comparison, difference)
    ]

    assert [] == unexplained


@pytest.mark.asyncio(loop_scope="module")
async def test_every_row_has_its_difference(compared: list[Comparison]) -> None:
    """A row that explains nothing any more has to go: there is a difference that no other row explains."""
    needed = {
        rows[0]
        for comparison in compared
        for difference in comparison.differences()
        if len(rows := rows_of(comparison, difference)) == 1
    }

    assert [] == [row.request for row in DIFFERENCES if row not in needed]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_comparison_compares(compared: list[Comparison]) -> None:
    """Most requests come to the same on both sides, every rpc runs, and every code fails."""
    alike = [comparison for comparison in compared if not comparison.differences()]
    rpcs = {method.full_name for name in SERVICES for method in service(name).methods if http_rules(method)}
    failed = {each.here.status for each in compared if each.request.kind == "error" and each.envoy.called}

    assert 500 <= len({(each.request.method, each.request.target, each.request.body) for each in alike})
    assert rpcs == {each.envoy.called for each in compared} - {None}
    assert rpcs == {each.here.called for each in compared} - {None}
    assert ERRORS == failed


def test_envoy_has_no_response_body(tmp_path: Path) -> None:
    """What the table says of response_body holds: Envoy does not start with it."""
    binary()
    starting = envoy(
        tmp_path,
        files=described(response_body=True),
        grpc_port=1,
        services=["kitchen.v1.Kitchen"],
        print_options={"plain": {}},
    )

    with pytest.raises(AssertionError, match="response_body"):
        starting.__enter__()


def test_the_table_is_documented() -> None:
    """The documentation has the table as it is here."""
    section = DOCS.read_text().partition(f"\n{HEADING}\n")[2].partition("\n## ")[0]

    assert documented_rows() == [line for line in section.splitlines() if line.startswith("|")]
