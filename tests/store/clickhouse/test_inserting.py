from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from flagledger.store.clickhouse import inserting, schema
from flagledger.store.clickhouse.chunks import Begun, Progress
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.columns import to_columns
from flagledger.store.errors import RowsRefusedError
from flagledger.store.value_keys import long_key
from google.protobuf import struct_pb2
from support.chdb import fresh_url, sql
from support.records import START, add_evaluation, entries_of, record_of

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

DAY = 86_400_000_000
TIMES = [inserting.MIN_TIME, -1, 0, 1, START + 1, 4_102_444_800_000_001, inserting.MAX_TIME]
"""The bounds, moments around the epoch, and others to the microsecond."""


@pytest.fixture
def url() -> str:
    """Return where an empty store is."""
    url = fresh_url()
    ClickHouseStore(url).close()
    return url


def begun(number: int = 1) -> Begun:
    """Return a range, whose token is told apart by *number*."""
    found = Progress(stream="journal", sequence=number, position=0).beginning(1, 9, START).begun
    assert found is not None
    return found


def at(*times: int, received: int = START) -> pa.RecordBatch:
    """Return rows that were evaluated at *times*."""
    record = record_of(receive_time=received)
    for time in times:
        add_evaluation(record, time=time)
    return to_columns(entries_of([record]))[0]


def over(days: int, rows: int) -> pa.RecordBatch:
    """Return so many *rows* that were received on so many *days*."""
    batch = at(START)
    taken = batch.take(pa.array([0] * rows))
    times = pa.array([START + index % days * DAY for index in range(rows)], pa.timestamp("us"))
    positions = pa.array(range(1 << 16, (1 << 16) + rows), pa.int64())
    names = taken.schema.names
    taken = taken.set_column(names.index("receive_time"), taken.schema.field("receive_time"), times)
    return taken.set_column(names.index("position"), taken.schema.field("position"), positions)


def test_times_are_kept_to_the_microsecond(url: str, client: Client) -> None:
    """From 1900 to 2299, before the epoch too, each time comes back as it was; as text it is the moment that it means."""
    inserting.insert_rows(client, begun(), at(*TIMES))

    assert [(time,) for time in sorted(TIMES)] == sql(
        url, "SELECT toUnixTimestamp64Micro(evaluation_time) FROM evaluations ORDER BY evaluation_time"
    )
    assert [("1900-01-01 00:00:00.000000",), ("2299-12-31 23:59:59.999999",)] == sql(
        url,
        f"SELECT toString(evaluation_time) FROM evaluations WHERE evaluation_time IN "
        f"(fromUnixTimestamp64Micro({inserting.MIN_TIME}), fromUnixTimestamp64Micro({inserting.MAX_TIME})) ORDER BY 1",
    )


def test_a_raw_integer_would_be_another_time(url: str, client: Client) -> None:
    """What this store must never send: an integer is taken for seconds, in silence."""
    client.command(f"INSERT INTO quarantine SELECT 'journal', 1, '', '', {START}")

    ((found,),) = sql(url, "SELECT toUnixTimestamp64Micro(set_aside_time) FROM quarantine")
    assert START != found


@pytest.mark.parametrize(
    "time", [inserting.MIN_TIME - 1, inserting.MAX_TIME + 1, -62_135_596_800_000_000, 253_402_300_799_999_999]
)
def test_times_that_clickhouse_has_not_are_refused(time: int) -> None:
    """Before 1900 and from 2300 on, of evaluation or of receipt, rows are refused for good."""
    inserting.check_times(at(*TIMES))
    for batch, name in ((at(START, time), "evaluation_time"), (at(START, received=time), "receive_time")):
        with pytest.raises(RowsRefusedError, match=rf"\({name}\) outside of the years 1900 to 2299") as refusal:
            inserting.check_times(batch)
        assert not refusal.value.temporary


def test_bounds_are_those_of_the_years() -> None:
    """The constants are the moments that they stand for."""
    epoch, microsecond = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

    assert (datetime(1900, 1, 1, tzinfo=UTC) - epoch) // microsecond == inserting.MIN_TIME
    assert (datetime(2300, 1, 1, tzinfo=UTC) - epoch) // microsecond - 1 == inserting.MAX_TIME


def test_what_is_sent_again_is_recorded_once(url: str, client: Client) -> None:
    """Under one token the same days are recorded once, others too; under another one they are recorded again."""
    days = 150
    batch = over(days, 600)
    some = batch.slice(0, 1)
    inserting.insert_rows(client, begun(), some)
    inserting.insert_rows(client, begun(), batch)
    inserting.insert_rows(client, begun(), batch)
    # The first day was there, as a part of one row, which stands for the day.
    assert [(600 - 600 // days + 1,)] == sql(url, "SELECT count() FROM evaluations")

    inserting.insert_rows(client, begun(2), batch)

    assert [(1200 - 600 // days + 1,)] == sql(url, "SELECT count() FROM evaluations")


def test_an_insert_is_one_block(url: str, client: Client) -> None:
    """However many rows there are, each day has one part: blocks that are cut differently would not be known again."""
    sql(url, "SYSTEM STOP MERGES evaluations")
    rows = 1_200_000
    inserting.insert_rows(client, begun(), over(2, rows))
    inserting.insert_rows(client, begun(), over(2, rows))

    assert [(2, rows)] == sql(
        url,
        "SELECT count(), sum(rows) FROM system.parts WHERE active AND database = currentDatabase() AND table = 'evaluations'",
    )


def test_tokens_are_remembered_for_the_whole_window(url: str, client: Client) -> None:
    """A token is known as long as the window says, and forgotten behind it: with the window off, rows would double."""
    window = 20
    sql(url, f"ALTER TABLE discards MODIFY SETTING non_replicated_deduplication_window = {window}")
    record = record_of()
    record.envelope.discards.add(reason="unknown_feature", name="x", entry_count=1)
    batch = to_columns(entries_of([record]))[1]
    counts = []
    for number in (*range(window), 0, window, 0):
        inserting.insert(client, "discards", batch, begun(number))
        counts.append(sql(url, "SELECT count() FROM discards")[0][0])

    assert [*range(1, window + 1), window, window + 1, window + 2] == counts
    assert schema.DEDUPLICATION_WINDOW > 100 * window


def test_long_values_have_their_keys_and_identities_their_hashes(url: str, client: Client) -> None:
    """A long value is kept whole, beside its key; rows without an identity have no hash."""
    text = "é" * 5_000
    record = record_of()
    add_evaluation(record, value=struct_pb2.Value(string_value=text), identity_identifier="")
    add_evaluation(record, value=struct_pb2.Value(string_value="short"))
    inserting.insert_rows(client, begun(), to_columns(entries_of([record]))[0])

    assert [(f'"{text}"', long_key(f'"{text}"'), True), ('"short"', None, None)] == sql(
        url, "SELECT value, value_key, identity_hash = cityHash64('') FROM evaluations ORDER BY position"
    )
