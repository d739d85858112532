from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from flagledger.store.postgres.columnar import table_of
from flagledger.store.postgres.store import PostgresStore
from flagledger.store.questions import MAX_TIME, MIN_TIME

ITEM = pa.field("item", pa.string(), nullable=False)
COLUMNS: dict[str, tuple[str, pa.DataType, list[Any]]] = {
    "bigint": ("bigint", pa.int64(), [0, -1, 2**63 - 1, -(2**63)]),
    "count": ("bigint", pa.uint32(), [0, 1, 2**32 - 1]),
    "integer": ("integer", pa.int32(), [0, -(2**31), 2**31 - 1]),
    "double": ("double precision", pa.float64(), [0.0, 0.1, -1e300, 5e-324]),
    "boolean": ("boolean", pa.bool_(), [True, None, False, None]),
    "text": ("text", pa.string(), ["", None, "é😀", "a\x01\n\"'\\", None, "x" * 100_000]),
    "texts": ("text", pa.string(), ["a", "", "b"]),
    "no texts": ("text", pa.string(), [None, None]),
    "list": ("text[]", pa.list_(ITEM), [[], ["a"], ["", 'é"', "a,b", "{}", "NULL", "\\"], ["a"], ["\x01", "\n"]]),
}


@pytest.mark.parametrize("about", COLUMNS)
@pytest.mark.parametrize("times", [0, 1, 50])
def test_values_come_as_they_are(store: PostgresStore, about: str, times: int) -> None:
    """Every value of a column comes as the server has it, the extreme ones and NULL too; no rows are an empty column."""
    kind, wanted, values = COLUMNS[about]
    values = values * times
    if kind == "text[]":
        select = "SELECT ARRAY(SELECT json_array_elements_text(given)) AS made FROM unnest(%(values)s::json[]) AS given"
        parameters = {"values": [json.dumps(each) for each in values]}
    else:
        select = f"SELECT made FROM unnest(%(values)s::{kind}[]) AS made"
        parameters = {"values": values}
    with store._reading(None) as reader:
        table = table_of(reader, select, parameters, pa.schema([pa.field("made", wanted)]))

    assert wanted == table.schema.field("made").type
    assert values == table.column("made").to_pylist()
    table.validate(full=True)


def test_times_come_to_the_microsecond(store: PostgresStore) -> None:
    """The first and the last moment that is kept, and those around the epochs, come exactly."""
    times = [MIN_TIME, -1, 0, 946_684_800_000_000 - 1, 946_684_800_000_000, MAX_TIME]
    select = """
        SELECT timestamptz 'epoch' + seconds * interval '1 second' + rest * interval '1 microsecond' AS made
        FROM unnest(%(seconds)s::bigint[], %(rests)s::bigint[]) AS given (seconds, rest)
    """
    parameters = {"seconds": [time // 10**6 for time in times], "rests": [time % 10**6 for time in times]}
    with store._reading(None) as reader:
        table = table_of(reader, select, parameters, pa.schema([pa.field("made", pa.timestamp("us"))]))

    assert times == table.column("made").cast(pa.int64()).to_pylist()
