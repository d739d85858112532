"""Against a real InfluxDB 1."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from flagledger.feeder import Feeder
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.influxdb.lines import tag_text
from flagledger.store.sinks import SinkError, open_sink
from support import fed
from support.counted import SECOND, row, table
from support.influxd import ADMINISTRATOR, PASSWORD, USER, Influxd, influxd

DATABASE = "flag s"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """Return an InfluxDB without authorization, shared by the module."""
    with influxd(tmp_path_factory.mktemp("influxdb")) as running:
        yield running


@pytest.fixture
def database(server: Influxd) -> str:
    """Return the name of a new database of it."""
    server.ask(f'DROP DATABASE "{DATABASE}"')
    server.ask(f'CREATE DATABASE "{DATABASE}"')
    return DATABASE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    """Return an empty store."""
    opened = DuckDBStore(tmp_path / "store.duckdb")
    yield opened
    opened.close()


def url_of(server: Influxd, database: str, more: str = "") -> str:
    """Return the URL of *database*."""
    return f"influxdb://127.0.0.1:{server.port}/{quote(database, safe='')}{more}"


def fed_into(url: str, store: DuckDBStore, tmp_path: Path, **options: float) -> Feeder:
    """Return a feeder from *store* into *url*, which runs."""
    options = {"pause_seconds": 0.05, "first_backoff_seconds": 0.05, **options}
    feeder = Feeder(
        open_sink(url),
        lambda: store,
        fed.STREAM,
        tmp_path / "sink.json",
        **options,  # type: ignore[arg-type]
    )
    feeder.start()
    return feeder


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.05)


def test_sums_are_what_was_recorded(server: Influxd, database: str, store: DuckDBStore, tmp_path: Path) -> None:
    """`SELECT sum("count")` by environment, feature, enabled and variant is what was recorded, and goes on being it."""
    fed.apply(store, 1, 40)
    feeder = fed_into(url_of(server, database), store, tmp_path, range_entries=7)
    try:
        until(lambda: fed.expected(40) == server.sums(database))
        fed.apply(store, 41, 60)
        until(lambda: fed.expected(60) == server.sums(database))
    finally:
        feeder.stop()

    assert 0 == feeder.failures == feeder.refused_lines
    assert len({variant for _, feature, _, variant in fed.expected(60) if feature == "many variants 0"}) > 20


def test_nobody_is_named(server: Influxd, database: str, store: DuckDBStore, tmp_path: Path) -> None:
    """What is there is one measurement with four tags and one field: no identity, no value, no trait."""
    fed.apply(store, 1, 5)
    feeder = fed_into(url_of(server, database), store, tmp_path)
    until(lambda: fed.expected(5) == server.sums(database))
    feeder.stop()

    def names(statement: str) -> list[list[str]]:
        return [value for series in server.ask(statement, database) for value in series["values"]]

    assert [["flag_evaluations"]] == names("SHOW MEASUREMENTS")
    assert [["enabled"], ["environment"], ["feature"], ["variant"]] == names("SHOW TAG KEYS")
    assert [["count", "integer"]] == names("SHOW FIELD KEYS")


@pytest.mark.parametrize("variant", ["blue", ""])
def test_texts_come_back(server: Influxd, database: str, variant: str) -> None:
    """Whatever a name holds, InfluxDB reads what was meant, with the tags behind it."""
    texts = [
        " ", " a b ", "a,b", "a=b", ",", "=", "a\\", "\\", "\\\\", "a\\b", "a\\nb", "a\\,b", "a\\ b", "a\\=b", "a\\\\,\\",
        "a\nb", "a\r\nb", "\x00", "\t", "#", "#a", '"', '"a b"', "'", "é", "😀", "\u2028", "\ufeffa", "\x85", "a" * 2000,
        "count=1i 7", "{}", "$1", "/a/",
    ]  # fmt: skip
    rows = [row(feature=text, variant=variant, count=i + 1) for i, text in enumerate(texts)]
    sink = open_sink(url_of(server, database))
    sent = sink.send(table(*rows), sink.learn(table(*rows), {}), 5)
    sink.close()

    expected: dict[str, int] = {}
    for _, feature, _, _, _, count in rows:
        expected[tag_text(feature)] = expected.get(tag_text(feature), 0) + count
    assert (len(expected), 0) == (sent.taken, sent.refused)
    assert {("production", text, "true", variant): count for text, count in expected.items()} == server.sums(database)


def test_points_beyond_retention(server: Influxd, database: str) -> None:
    """Points older than the database keeps are refused and counted; the others are there."""
    server.ask(f'CREATE RETENTION POLICY "a year" ON "{database}" DURATION 52w REPLICATION 1 DEFAULT')
    now = int(time.time())
    rows = [row(second=now - days * 86_400, feature=f"f{days}") for days in (0, 100, 400, 800)]
    sink = open_sink(url_of(server, database, "?rp=a%20year"))

    sent = sink.send(table(*rows), {}, 0)
    sink.close()

    assert (2, 2) == (sent.taken, sent.refused)
    assert "points beyond retention policy" in sent.reason
    assert {"f0", "f100"} == {feature for _, feature, _, _ in server.sums(database)}


def test_a_field_of_another_type(server: Influxd, database: str) -> None:
    """Where somebody else writes decimal numbers into the measurement, nothing is passed over: the sentence says what to do."""
    from urllib.request import Request, urlopen

    body = f"flag_evaluations,feature=f count=1.5 {SECOND}000000000".encode()
    urlopen(
        Request(f"http://127.0.0.1:{server.port}/write?db={quote(database, safe='')}", data=body), timeout=10
    ).close()
    sink = open_sink(url_of(server, database))

    with pytest.raises(SinkError, match=r"field type conflict.*Somebody else writes there") as caught:
        sink.send(table(row(second=SECOND), row(second=SECOND + 1)), {}, 0)
    assert caught.value.lasting

    server.ask('DROP MEASUREMENT "flag_evaluations"', database)
    sent = sink.send(table(row(second=SECOND), row(second=SECOND + 1)), {}, 0)
    sink.close()

    assert (2, 0) == (sent.taken, sent.refused)


def test_a_database_that_is_made_later(server: Influxd, store: DuckDBStore, tmp_path: Path) -> None:
    """A database that is not there is said to be missing; once it was made, everything is there."""
    server.ask('DROP DATABASE "later"')
    fed.apply(store, 1, 3)
    feeder = fed_into(url_of(server, "later"), store, tmp_path)
    until(lambda: feeder.failures)
    assert 'database not found: "later". Make it with CREATE DATABASE' in str(feeder.last_error)
    # It is tried again slowly: whoever is next goes on at once.
    feeder.stop()
    server.ask('CREATE DATABASE "later"')
    feeder = fed_into(url_of(server, "later"), store, tmp_path)
    until(lambda: fed.expected(3) == server.sums("later"))
    feeder.stop()


def test_users(tmp_path: Path) -> None:
    """With authorization, user and password of the URL are what counts; a wrong one is said to be refused."""
    with influxd(tmp_path, auth=True) as server:
        server.ask(f"CREATE USER {ADMINISTRATOR} WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES")
        server.password = PASSWORD
        server.ask("CREATE DATABASE flags")
        server.ask(f"CREATE USER {USER} WITH PASSWORD '{PASSWORD}'")
        place = f"127.0.0.1:{server.port}/flags"
        with pytest.raises(SinkError, match=r"\(403\)") as unprivileged:
            open_sink(f"influxdb://{USER}:{quote(PASSWORD, safe='')}@{place}").send(table(row()), {}, 0)
        server.ask(f"GRANT WRITE ON flags TO {USER}")

        sent = open_sink(f"influxdb://{USER}:{quote(PASSWORD, safe='')}@{place}").send(table(row()), {}, 0)
        for wrong in (f"{USER}:wrong@", ""):
            with pytest.raises(SinkError, match=r"refuses the user and password.*\(401\)") as caught:
                open_sink(f"influxdb://{wrong}{place}").send(table(row()), {}, 0)
            assert caught.value.lasting

        assert (True, 1) == (unprivileged.value.lasting, sent.taken)
        assert PASSWORD not in str(unprivileged.value)


def test_too_many_values_of_a_tag(tmp_path: Path) -> None:
    """What an InfluxDB does not take because a tag has too many values is counted, and what it takes is there."""
    with influxd(tmp_path, max_values=50) as server:
        server.ask("CREATE DATABASE flags")
        rows = [row(feature=f"f{i:03}") for i in range(90)]
        sink = open_sink(f"influxdb://127.0.0.1:{server.port}/flags")
        # It looks at the limit before each post, and not within it.
        sink.send(table(*rows[:60]), {}, 0)

        sent = sink.send(table(*rows[40:]), {}, 1)
        sink.close()

        assert (20, 30) == (sent.taken, sent.refused)
        assert "max-values-per-tag limit exceeded" in sent.reason
        assert 60 == len(server.sums("flags"))
        assert 80 == sum(server.sums("flags").values())


def down_in_the_middle(tmp_path: Path, store: DuckDBStore, seconds: float) -> None:
    """Kill InfluxDB under load for so many *seconds*; check that nothing is missing and nothing doubled afterwards."""
    folder = tmp_path / "influxdb"
    folder.mkdir()
    position = 0

    def record(duration: float) -> None:
        nonlocal position
        ends = time.monotonic() + duration
        while time.monotonic() < ends:
            fed.apply(store, position + 1, position + 2)
            position += 2
            time.sleep(0.02)

    with influxd(folder) as server:
        server.ask("CREATE DATABASE flags")
        feeder = fed_into(f"influxdb://127.0.0.1:{server.port}/flags", store, tmp_path, range_entries=10)
        try:
            record(1)
            server.kill()
            record(seconds)
            assert feeder.failures > 0
            server.start()
            record(1)
            until(lambda: feeder.last_error is None, 90)
            until(lambda: fed.expected(position) == server.sums("flags"), 90)
        finally:
            feeder.stop()
        assert 0 == feeder.refused_lines


def test_down_for_a_moment(tmp_path: Path, store: DuckDBStore) -> None:
    """InfluxDB killed for two seconds: nothing is missing afterwards, nothing doubled."""
    down_in_the_middle(tmp_path, store, 2.0)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_down_for_a_minute(tmp_path: Path, store: DuckDBStore) -> None:
    """InfluxDB killed for a minute: nothing is missing afterwards, nothing doubled."""
    down_in_the_middle(tmp_path, store, 60.0)
