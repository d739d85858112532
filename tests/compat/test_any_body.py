"""Whatever is sent to these routes: no failure of ours, and every entry is counted once."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import pytest
from compat.conftest import BATCH, EVENTS, ROUTES, V1, V2, Service
from compat.test_events import CUSTOM, EVALUATED, EXPOSURE, PURCHASE
from compat.test_flags import ENTRY
from hypothesis import given, settings
from hypothesis import strategies as st
from support.intake import FEATURES, MemoryJournal

TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    [*FEATURES, "nowhere", "\0", ""]
)
FINITE = st.none() | st.booleans() | st.integers() | st.integers(-2, 3) | TEXT


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of *leaves* in arrays and objects."""
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
    )


JSON = nested(FINITE | st.floats())


def near(*samples: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of the samples, with some of their fields missing or something else."""

    @st.composite
    def changed(draw: st.DrawFn) -> dict[str, Any]:
        sample = draw(st.sampled_from(samples))
        changes = draw(st.dictionaries(st.sampled_from([*sample, "unknown"]), JSON, max_size=2))
        left_out = draw(st.sets(st.sampled_from([*sample]), max_size=1))
        return {name: value for name, value in (sample | changes).items() if name not in left_out}

    return changed()


ENTRIES = {
    V2: near(ENTRY, ENTRY | {"identity_identifier": "anna"}),
    EVENTS: near(EXPOSURE, PURCHASE) | JSON,
    BATCH: near(EVALUATED, CUSTOM) | JSON,
}
LISTS = {V2: "evaluations", EVENTS: "events", BATCH: "events"}


@functools.cache
def started() -> Service:
    """Return one service for all examples: it takes longer to make than to ask."""
    return Service(journal=MemoryJournal(), recognise_resends=False)


def posted(path: str, body: bytes) -> tuple[int, bytes, Service]:
    """Send *body* to a service that has counted nothing yet, and return status, body, and the service."""
    service = started()
    service.counted.counts.clear()
    got = asyncio.run(service.send(path, body))
    assert (0, 0) == (service.in_flight.calls, service.in_flight.bytes)
    return got.status, got.body, service


def counted(service: Service) -> int:
    """Return the entries that were counted, under whatever outcome."""
    return sum(map(service.counted.of, ("accepted", "filtered", "rejected", "foreign")))


@pytest.mark.parametrize("path", ROUTES)
@given(body=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(deadline=None, max_examples=100)
def test_any_body(path: str, body: bytes) -> None:
    """Any body is answered, and never as a failure of the server."""
    status, _, _ = posted(path, body)

    assert status < 500


@given(counts=st.dictionaries(TEXT, nested(FINITE), max_size=5))
@settings(deadline=None, max_examples=150)
def test_any_counts(counts: dict[str, Any]) -> None:
    """Every entry of version 1 is accepted, filtered or rejected, and the sender told of none."""
    status, answer, service = posted(V1, json.dumps(counts).encode())
    valid = {name: count for name, count in counts.items() if type(count) is int and 0 < count <= 1_000_000}
    assert (200, b"") == (status, answer)
    assert len(counts) == counted(service)
    assert len(FEATURES & valid.keys()) == service.counted.of("accepted")


@given(entries=st.lists(ENTRIES[V2], max_size=4))
@settings(deadline=None, max_examples=150)
def test_any_evaluations(entries: list[Any]) -> None:
    """Every entry of version 2 is counted once, or the body is refused and none is."""
    status, _, service = posted(V2, json.dumps({"evaluations": entries}).encode())

    assert status in {204, 400}
    assert (len(entries) if status == 204 else 0) == counted(service)


@pytest.mark.parametrize("path", [EVENTS, BATCH])
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_events(path: str, data: st.DataObject) -> None:
    """Every event is counted once, and each that is not accepted is named."""
    events = data.draw(st.lists(ENTRIES[path], min_size=1, max_size=4))
    status, body, service = posted(path, json.dumps({"events": events}).encode())
    answer = json.loads(body)
    rejected = {one["index"] for one in answer["rejected"]}

    assert (202 if answer["accepted"] else 400) == status
    assert len(events) == answer["accepted"] + len(answer["rejected"]) == counted(service)
    assert len(rejected) == len(answer["rejected"]) == service.counted.of("rejected")
    assert rejected <= set(range(len(events)))
