from __future__ import annotations

import pytest
from flagledger.transcoding.accept import prefers_events


@pytest.mark.parametrize(
    ("accept", "events"),
    [
        (b"", False),
        (b"*/*", False),
        (b"text/event-stream", True),
        (b"Text/Event-Stream", True),
        (b"text/event-stream, */*", True),
        (b"text/event-stream;q=0.5, */*;q=0.1", True),
        (b"text/event-stream;q=0.5, */*", False),
        (b"text/event-stream, application/json", False),
        (b"application/json;q=0.9, text/event-stream", True),
        (b"application/x-ndjson, text/event-stream;q=0.9", False),
        (b"application/jsonl;q=0.1,text/event-stream ; charset=utf-8 ; q=0.2", True),
        (b"text/event-stream, application/*", True),
        (b"text/event-stream;q=0", False),
        (b"text/event-stream;q=0, */*;q=0", False),
        (b"text/event-stream;q=much", False),
        (b"text/event-stream;q=2", False),
        (b"text/*", True),
        (b"text/*, application/*", False),
        (b"text/html, application/xhtml+xml, */*;q=0.8", False),
        (b"application/json", False),
        (b",;,=;q", False),
        (b"\xff/\xfe", False),
        (b"text/event-stream" + b" " * 5_000, False),
    ],
)
def test_prefers_events(accept: bytes, events: object) -> None:
    """Events are sent where the header prefers them, by quality or by name, and not where it leaves that open."""
    assert events is prefers_events(accept)
