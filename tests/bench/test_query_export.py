from __future__ import annotations

import contextlib
import io

import pytest
import query_data
import query_export
from flagledger.query.export_formats import FORMATS
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.questions import Filter


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> query_data.Data:
    """One store for all formats."""
    return query_data.make(tmp_path_factory.mktemp("bench") / "made", 10_000)


@pytest.mark.parametrize("format_", query_export.FORMATS)
def test_rows_of_a_file_are_counted(format_: str, data: query_data.Data) -> None:
    """Whatever the format of a file, its rows and its bytes are counted without a row being looked at."""
    with contextlib.closing(DuckDBStore(data.store)) as store:
        batches = store.export(Filter(environment="bench"), data.behind(9_900)).batches
        file = b"".join(bytes(content) for content in FORMATS[format_].encode(batches))

    assert (9_900, len(file)) == query_export.READERS[format_](io.BytesIO(file))


def test_every_format_is_measured() -> None:
    """The formats that are measured are those that there are."""
    assert set(FORMATS) == set(query_export.FORMATS)
