from __future__ import annotations

from collections import Counter
from operator import itemgetter

import pytest
from flagledger.store.influxdb import variants
from flagledger.store.influxdb.lines import MAX_SECOND, lines_of, tag_text
from flagledger.store.sinks import Memory
from hypothesis import given
from hypothesis import strategies as st
from support.counted import SECOND, Row, row, table
from support.line_protocol import read_point, read_points

ENABLED = {True: "true", False: "false", None: "unknown"}

texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from('\\,= "\n\r\t\x00#é😀\u2028')), max_size=6)
rows_ = st.lists(
    st.tuples(
        texts,
        texts,
        st.sampled_from([None, True, False]),
        texts,
        st.integers(SECOND, SECOND + 2),
        st.integers(0, 2**40),
    ),
    unique_by=itemgetter(slice(5)),
    max_size=12,
)


def knowing(*rows: Row) -> Memory:
    """Return what is remembered after *rows*."""
    return variants.learn({}, ((one[0], one[1], one[3]) for one in rows))


def test_a_line() -> None:
    """A line has the measurement, four tags, the count as an integer, and the second with its nanoseconds."""
    rows = [row(variant="blue", count=17)]

    lines, timeless = lines_of(table(*rows), knowing(*rows), 42)

    assert (
        [
            "flag_evaluations,environment=production,feature=checkout,enabled=true,variant=blue count=17i 1790000000000000042"
        ],
        0,
    ) == (lines, timeless)


@pytest.mark.parametrize(
    ("feature", "written"),
    [
        ("a b", r"feature=a\ b"),
        ("a,b=c", r"feature=a\,b\=c"),
        (" a ", r"feature=\ a\ "),
        ('"a"', 'feature="a"'),
        ("é😀\u2028", "feature=é😀\u2028"),
        ("a\nb\rc\td\x00", r"feature=a\ b\ c\ d\ "),
        (r"a\b", r"feature=a\b"),
        ("a\\", "feature=a/"),
        ("a\\\\", "feature=a//"),
        ("a\\,b", r"feature=a/\,b"),
        ("a\\ b", r"feature=a/\ b"),
        ("a\\=b", r"feature=a/\=b"),
        ("a\\\nb", r"feature=a/\ b"),
    ],
)
def test_escapes(feature: str, written: str) -> None:
    """What has a meaning is escaped; what cannot be escaped, or is read differently by versions, is written otherwise."""
    (line,), _ = lines_of(table(row(feature=feature)), {}, 0)

    assert f"flag_evaluations,environment=production,{written},enabled=true count=1i 1790000000000000000" == line


def test_empty_texts_have_no_tag() -> None:
    """An empty tag is a fault to InfluxDB: it is left out."""
    (line,), _ = lines_of(table(row(environment="", feature="", enabled=None)), {}, 0)

    assert "flag_evaluations,enabled=unknown count=1i 1790000000000000000" == line


@given(rows_, st.integers(0, 999_999_999))
def test_read_back(rows: list[Row], nanoseconds: int) -> None:
    """Read back, lines are the sums by their tags, each series and timestamp once, whatever texts hold."""
    expected: Counter[tuple[str, str, str, str, int]] = Counter()
    for environment, feature, enabled, variant, second, count in rows:
        shown = "other" if len(variant) > variants.MAX_CHARACTERS else variant
        expected[tag_text(environment), tag_text(feature), ENABLED[enabled], tag_text(shown), second] += count

    lines, timeless = lines_of(table(*rows), knowing(*rows), nanoseconds)
    points = read_points("\n".join(lines))

    assert (0, len(expected)) == (timeless, len({(point.tags, point.timestamp) for point in points}))
    found: Counter[tuple[str, str, str, str, int]] = Counter()
    for point in points:
        tags = dict(point.tags)
        ((name, value),) = point.fields
        second, rest = divmod(point.timestamp, 10**9)
        assert ("flag_evaluations", "count", "i", nanoseconds) == (point.measurement, name, value[-1], rest)
        key = (*(tags.get(tag, "") for tag in ("environment", "feature", "enabled", "variant")), second)
        found[key] += int(value[:-1])  # type: ignore[index]
    assert expected == found


@given(texts)
def test_ordinary_texts_stay(text: str) -> None:
    """A text without control characters and backslashes is itself."""
    ordinary = "".join(character for character in text if character >= " " and character not in "\\\x7f")

    assert ordinary == tag_text(ordinary)


def test_texts_that_become_the_same_are_counted_together() -> None:
    """Two lines of one series and timestamp would overwrite each other: they are one."""
    lines, _ = lines_of(table(row(feature="a\nb", count=2), row(feature="a\tb", count=3)), {}, 0)

    assert [r"flag_evaluations,environment=production,feature=a\ b,enabled=true count=5i 1790000000000000000"] == lines


def test_variants_without_a_name_are_other() -> None:
    """A variant that is not remembered is counted as `other`, together with one that is called so."""
    memory = knowing(row(variant="blue"))
    lines, _ = lines_of(
        table(row(variant="blue"), row(variant="red", count=2), row(variant="other", count=5)), memory, 0
    )

    assert ["variant=blue count=1i", "variant=other count=7i"] == [
        line.removeprefix("flag_evaluations,environment=production,feature=checkout,enabled=true,").rpartition(" ")[0]
        for line in lines
    ]


def test_order_does_not_matter() -> None:
    """However a store orders what it counts, the lines are the same in the same order."""
    rows = [row(feature=feature, second=SECOND + i) for feature in "cab" for i in range(3)]

    assert lines_of(table(*rows), {}, 7) == lines_of(table(*reversed(rows)), {}, 7)


@pytest.mark.parametrize("sign", [1, -1])
def test_times_that_do_not_fit(sign: int) -> None:
    """Times that 64 bits of nanoseconds cannot hold are counted, and the others sent."""
    rows = [row(second=sign * MAX_SECOND, count=2), row(second=sign * (MAX_SECOND + 1))]

    (line,), timeless = lines_of(table(*rows), {}, 999_999_999)

    assert (1, -(2**63) + 2 <= read_point(line).timestamp < 2**63 - 1) == (timeless, True)
    assert sign * MAX_SECOND * 10**9 + 999_999_999 == read_point(line).timestamp
