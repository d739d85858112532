"""The store over HTTP: ClickHouse's engine answers, behind what stands in for its interface."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest
from flagledger.store.applied import SetAside
from flagledger.store.clickhouse.address import parse
from flagledger.store.clickhouse.client import QUESTION_READ_SECONDS, Clients
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.columns import to_columns
from flagledger.store.errors import HeldError, Interrupt, QuestionEndedError, StoreError
from flagledger.store.opening import open_reader, open_store
from flagledger.store.questions import ExposureQuestion, Filter
from google.protobuf import struct_pb2
from store.clickhouse.applying import asking
from support.chdb import directory, fresh_url, sql
from support.clickhouse_http import LONGEST_FIELD, PASSWORD, USER, ClickHouseHTTP, clickhouse_http
from support.records import START, add_evaluation, entries_of, record_of, simple_entry

DAY = 86_400_000_000
PRODUCTION = Filter(environment="production")
MANY = 1_500
"""Names that together are longer than what a server takes as one value."""


@pytest.fixture
def server() -> Iterator[ClickHouseHTTP]:
    """Return what answers over HTTP."""
    with clickhouse_http(directory()) as server:
        yield server


@pytest.fixture
def inside() -> str:
    """Return where the store is as this process has it, beside HTTP."""
    return fresh_url()


@pytest.fixture
def url(server: ClickHouseHTTP, inside: str) -> str:
    """Return where the same store is over HTTP."""
    database = parse(inside).database
    return f"clickhouse://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.server_port}/{database}"


@pytest.fixture
def store(url: str) -> Iterator[ClickHouseStore]:
    """Return an empty store, which settles at once: nobody else writes."""
    store = ClickHouseStore(url, settle_seconds=0.0)
    yield store
    store.close()


def apply(store: ClickHouseStore, first: int, last: int, *apart: SetAside) -> None:
    """Apply simple entries *first* to *last*."""
    rows, discards = to_columns([simple_entry(position) for position in range(first, last + 1)])
    store.apply("journal", first, last, rows, discards, apart)


def count(url: str) -> tuple[object, ...]:
    """Return how many rows there are, and how many without those that are there twice."""
    return sql(url, "SELECT count(), uniqExact(position) FROM evaluations")[0]


def test_a_store_does_all_that_it_does(store: ClickHouseStore, url: str, inside: str) -> None:
    """Rows and entries that were set aside go in, questions are answered, an identity and days are erased."""
    apply(store, 1, 4, SetAside(position=2, payload=b"\xff\x00", description="unreadable"))

    assert (4, None, 4) == (store.position("journal"), store.begun("journal"), store.trimmable("journal"))
    assert ("production",) == store.environments()
    reader = open_reader(url)
    assert 12 == len(reader.list_evaluations(PRODUCTION, 100, None).rows)
    assert [b"\xff\x00"] == [entry.payload for found in reader.applied(0) for entry in found.set_aside]
    assert 1 == store.erase_identity("production", "2/1")
    assert 11 == sum(batch.num_rows for batch in reader.export(PRODUCTION, 0).batches)
    assert 11 == store.drop_before(START + DAY)
    assert (0, 0) == count(inside)
    reader.close()


def test_however_many_names_are_asked_about_none_is_refused(store: ClickHouseStore, server: ClickHouseHTTP) -> None:
    """A server takes 128 KiB as one value; features, pages, exposures and what is known may come to more, and are answered."""
    names = [
        f"it's a 'feature' of \\ long é name, used by \t somebody {number:06}" + "-" * 60 for number in range(MANY)
    ]
    assert LONGEST_FIELD < sum(len(name.encode()) for name in names)
    record = record_of()
    for number, name in enumerate(names):
        value = struct_pb2.Value(string_value=str(number))
        add_evaluation(record, feature_name=name, time=START + number, identity_identifier="ann", value=value)
        record.envelope.discards.add(reason="unknown_feature", name=name, entry_count=1)
    store.apply("journal", 1, 1, *to_columns(entries_of([record])))

    totals = store.list_features("production", None, None).totals
    assert [(name, f'"{number}"') for number, name in enumerate(names)] == [
        (total.feature_name, total.last_value) for total in totals
    ]
    assert {name: START + number for number, name in enumerate(names)} == store.last_seen("production", names, None)
    page = store.list_evaluations(PRODUCTION, MANY, None)
    assert names[::-1] == [row.feature_name for row in page.rows]
    exposures = store.list_exposures(ExposureQuestion(environment="production"), MANY, None)
    assert names == [exposure.feature_name for exposure in exposures.rows]
    unknown = store.list_unknown_features("production", None, None, frozenset(names[1:]), 10)
    assert [names[0]] == [feature.feature_name for feature in unknown.names]
    assert server.forms


def test_a_server_that_works_is_not_taken_for_one_that_hangs(
    url: str, store: ClickHouseStore, server: ClickHouseHTTP
) -> None:
    """Who asks waits for so long; a server that works on a question says so more often than that."""
    apply(store, 1, 1)
    server.statements.clear()
    reader = open_reader(url)
    assert ("production",) == reader.environments()
    reader.close()

    asked = [settings for statement, settings in server.statements if "DISTINCT environment" in statement]
    assert [("1", "25000")] == [
        (settings["send_progress_in_http_headers"], settings["http_headers_progress_interval_ms"]) for settings in asked
    ]
    assert 25 < QUESTION_READ_SECONDS


def test_an_insert_says_how_it_is_made(store: ClickHouseStore, server: ClickHouseHTTP) -> None:
    """Each insert of rows bears its token, and what keeps it one block that is known again."""
    apply(store, 1, 3)

    ((_, settings),) = [found for found in server.statements if found[0].startswith("INSERT INTO `evaluations`")]
    assert {
        "insert_deduplicate": "1",
        "insert_deduplication_token": "journal:1-3:1",
        "log_comment": "journal:1-3:1",
        "async_insert": "0",
        "max_insert_threads": "1",
        "max_partitions_per_insert_block": "0",
        "input_format_parallel_parsing": "0",
    }.items() <= settings.items()


def test_replicas_are_waited_for_and_do_not_lag(url: str, server: ClickHouseHTTP) -> None:
    """With a cluster, most replicas have a row before its insert returns, and one that lacks it does not answer."""
    marked = Clients(replace(parse(url), cluster="main")).open(database=False)
    assert [(1,)] == marked.client.query("SELECT 1").result_rows
    marked.client.close()

    assert {"insert_quorum": "auto", "insert_quorum_parallel": "0", "select_sequential_consistency": "1"}.items() <= (
        server.statements[-1][1].items()
    )


@pytest.mark.parametrize("when", ["before", "afterwards"])
@pytest.mark.parametrize("statement", ["INSERT INTO `evaluations`", "INSERT INTO chunks"])
def test_a_connection_that_breaks_off_costs_nothing(
    store: ClickHouseStore, server: ClickHouseHTTP, inside: str, statement: str, when: str
) -> None:
    """Whether a statement was carried out when its connection broke off is not known; the range is recorded once all the same."""
    apply(store, 1, 3)
    server.breaks_off[statement] = when
    with pytest.raises(StoreError) as failure:
        apply(store, 4, 6)
    assert failure.value.temporary
    server.breaks_off.clear()

    begun = store.begun("journal")
    assert begun in (None, 6)
    apply(store, 4, 6)

    assert (6, (18, 18)) == (store.position("journal"), count(inside))


def test_a_server_that_is_away_for_a_while_is_found_again(url: str, inside: str, server: ClickHouseHTTP) -> None:
    """Questions and applying fail while nobody answers, and go on afterwards without anything being opened anew."""
    store = ClickHouseStore(url, settle_seconds=0.0)
    apply(store, 1, 3)
    server.breaks_off["SELECT"] = server.breaks_off["INSERT"] = "before"
    for ask in (lambda: apply(store, 4, 6), store.environments):
        with pytest.raises(StoreError, match="cannot be reached"):
            ask()
    server.breaks_off.clear()

    assert ("production",) == store.environments()
    apply(store, 4, 6)
    assert (18, 18) == count(inside)
    store.close()


def test_a_question_is_ended_over_another_connection(store: ClickHouseStore) -> None:
    """An interrupt ends a statement that the server is at."""
    interrupt = Interrupt()

    with asking(interrupt), pytest.raises(QuestionEndedError), store._reading(interrupt) as reader:
        reader.query("SELECT sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1")

    assert () == store.environments()


def test_a_second_writer_waits(store: ClickHouseStore, url: str) -> None:
    """Another process is told who writes; once that has given back it writes."""
    with pytest.raises(HeldError, match="is written by process"):
        open_store(url)
    store.close()

    second = open_store(url)

    assert 0 == second.position("journal")
    second.close()


def test_the_password_is_in_no_statement_and_no_message(url: str, server: ClickHouseHTTP) -> None:
    """What is sent holds it in its header alone; who has a wrong one is told as whom he came."""
    store = ClickHouseStore(url, settle_seconds=0.0)
    apply(store, 1, 3)
    store.close()
    assert PASSWORD not in repr(server.statements)
    with pytest.raises(StoreError, match="does not let the user ann") as refusal:
        ClickHouseStore(url.replace(quote(PASSWORD, safe=""), "wr0ng"))

    assert "wr0ng" not in str(refusal.value)


def test_a_servers_own_profile_changes_no_answer(url: str, store: ClickHouseStore, server: ClickHouseHTTP) -> None:
    """What a profile may set, and answers would depend on, is said with every statement."""
    apply(store, 1, 1)
    server.statements.clear()
    reader = open_reader(url)
    reader.list_features("production", None, None)
    reader.close()

    asked = [settings for statement, settings in server.statements if "evaluations" in statement]
    assert asked
    for settings in asked:
        assert {"session_timezone": "UTC", "transform_null_in": "0", "join_use_nulls": "0"}.items() <= settings.items()
