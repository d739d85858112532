from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from flagledger.store.sink_progress import Progress, ProgressError, ProgressFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MEMORY = {"variants": {"production": {"é": ["blue"]}}}


def file_of(path: Path, stream: str = "journal", target: str = "host:8086/flags") -> ProgressFile:
    """Return the file of one sink."""
    return ProgressFile(path, stream, target)


def test_nothing_yet(tmp_path: Path) -> None:
    """Without a file nothing was sent, nothing was begun, nothing is remembered."""
    assert Progress(position=0, begun=None, memory={}) == file_of(tmp_path / "sink.json").load()
    assert [] == list(tmp_path.iterdir())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**62), st.none() | st.integers(0, 2**62), st.dictionaries(st.text(), st.lists(st.text())))
def test_what_was_saved_is_loaded(
    tmp_path: Path, position: int, begun: int | None, memory: dict[str, list[str]]
) -> None:
    """What was saved comes back, in another process's hands."""
    progress = Progress(position=position, begun=begun, memory=memory)
    file_of(tmp_path / "sink.json").save(progress)

    assert progress == file_of(tmp_path / "sink.json").load()


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    """It lies there alone, for its owner."""
    file_of(tmp_path / "sink.json").save(Progress())

    assert ["sink.json"] == [path.name for path in tmp_path.iterdir()]
    assert 0o600 == stat.S_IMODE((tmp_path / "sink.json").stat().st_mode)


def test_another_target_or_journal_begins_anew(tmp_path: Path) -> None:
    """Each journal with each target has a progress of its own; none forgets another's."""
    path = tmp_path / "sink.json"
    keys = [("a", "x"), ("a", "y"), ("b", "x")]
    for i, key in enumerate(keys, 1):
        fresh = file_of(path, *key)
        assert Progress() == fresh.load()
        fresh.save(Progress(position=i, memory=MEMORY))

    assert [1, 2, 3] == [file_of(path, *key).load().position for key in keys]


@pytest.mark.parametrize(("fails", "call"), [("fsync", 1), ("replace", 1), ("fsync", 2)])
def test_a_save_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, call: int) -> None:
    """Whatever fails, the file holds what it held or what was to be saved, whole; and the next save mends it."""
    path, calls = tmp_path / "sink.json", 0
    file_of(path).save(Progress(position=1))
    works = getattr(os, fails)

    def failing(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(28, "No space left on device")
        return works(*arguments)

    monkeypatch.setattr(os, fails, failing)
    with pytest.raises(ProgressError, match=r"sink\.json cannot be written: No space left on device\.") as caught:
        file_of(path).save(Progress(position=2))

    assert not caught.value.lasting
    assert file_of(path).load().position in (1, 2)
    file_of(path).save(Progress(position=9, memory=MEMORY))
    assert Progress(position=9, memory=MEMORY) == file_of(path).load()


def test_what_is_saved_is_on_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is on disk before it takes the file's place, and the folder after it did."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def put(source: Path, target: Path) -> None:
        steps.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", put)
    file_of(tmp_path / "sink.json").save(Progress())

    assert ["content", "replace", "folder"] == steps


def test_a_draft_that_was_left(tmp_path: Path) -> None:
    """What a killed process left beside it is never read, and used up by the next."""
    (tmp_path / "sink.json.draft").write_bytes(b"x" * 10_000)

    assert Progress() == file_of(tmp_path / "sink.json").load()
    file_of(tmp_path / "sink.json").save(Progress(position=3))
    assert Progress(position=3) == file_of(tmp_path / "sink.json").load()
    assert not (tmp_path / "sink.json.draft").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"format":1}',
        b'{"format":1,"sinks":[{}]}',
        b'{"format":1,"sinks":[{"stream":"journal","target":"host:8086/flags","position":"1","begun":null,"memory":{}}]}',
        b'{"format":1,"sinks":[{"stream":"journal","target":"host:8086/flags","position":1,"begun":null,"memory":[]}]}',
        b'{"format":1,"sinks":[{"stream":"journal","target":"host:8086/flags","position":1,"memory":{}}]}',
    ],
)
def test_damaged(tmp_path: Path, content: bytes) -> None:
    """A damaged file is no beginning: everything would be sent twice. The sentence says what to do."""
    (tmp_path / "sink.json").write_bytes(content)

    with pytest.raises(
        ProgressError, match=r"sink\.json is damaged\. Put it back from a backup, or delete it"
    ) as caught:
        file_of(tmp_path / "sink.json").load()
    assert caught.value.lasting


def test_newer(tmp_path: Path) -> None:
    """A file of a newer version is refused, and left as it is."""
    path = tmp_path / "sink.json"
    path.write_bytes(b'{"format":2,"whatever":[]}')

    with pytest.raises(ProgressError, match="has the format 2, which a newer version wrote") as caught:
        file_of(path).load()
    assert caught.value.lasting
    assert b'{"format":2,"whatever":[]}' == path.read_bytes()


def test_unreadable(tmp_path: Path) -> None:
    """What cannot be read is said, and may pass."""
    (tmp_path / "sink.json").mkdir()

    with pytest.raises(ProgressError, match=r"cannot be read: Is a directory\.") as caught:
        file_of(tmp_path / "sink.json").load()
    assert not caught.value.lasting
