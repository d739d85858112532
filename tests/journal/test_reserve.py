from __future__ import annotations

import os
from pathlib import Path

import pytest
from flagledger.journal.reserve import Reserve
from journal.processes import file_size_limit

SIZE = 1 << 20


def names_in(directory: Path) -> list[str]:
    """Return the names of the files in *directory*."""
    return sorted(path.name for path in directory.iterdir())


def test_holds_real_blocks(tmp_path: Path) -> None:
    """The reserve is made of allocated blocks, not of a hole."""
    reserve = Reserve(tmp_path / "reserve", SIZE)

    assert reserve.make()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= SIZE
    assert reserve.admits(0)
    assert names_in(tmp_path) == ["reserve"]


def test_gives_up_once(tmp_path: Path) -> None:
    """Giving up says whether there was something to give."""
    reserve = Reserve(tmp_path / "reserve", SIZE)
    reserve.make()

    assert reserve.release()
    assert not reserve.release()
    assert reserve.make()


def test_refuses_appends_where_it_is_given_up_and_room_is_short(tmp_path: Path) -> None:
    """Without the reserve appends go on only where there is ample room."""
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize

    assert Reserve(tmp_path / "reserve", SIZE).admits(0)
    assert not Reserve(tmp_path / "reserve", free).admits(0)


def test_refuses_appends_where_the_log_would_not_fit_into_the_file(tmp_path: Path) -> None:
    """A log that the file has no room to take in stops appends, reserve or not."""
    disk = os.statvfs(tmp_path)
    reserve = Reserve(tmp_path / "reserve", SIZE)
    reserve.make()

    assert reserve.admits(SIZE)
    assert not reserve.admits(2 * disk.f_bavail * disk.f_frsize)


def test_uses_up_the_draft_of_a_killed_process(tmp_path: Path) -> None:
    """What a process left that was killed while it made the reserve becomes the reserve."""
    (tmp_path / "reserve.draft").write_bytes(b"x" * 100)

    assert Reserve(tmp_path / "reserve", SIZE).make()
    assert names_in(tmp_path) == ["reserve"]


def test_leaves_nothing_where_it_does_not_fit(tmp_path: Path) -> None:
    """A reserve of which not even an eighth fits leaves no file behind."""
    with file_size_limit(SIZE // 16):
        made = Reserve(tmp_path / "reserve", SIZE).make()

    assert not made
    assert names_in(tmp_path) == []


def test_is_nothing_at_size_zero(tmp_path: Path) -> None:
    """A size of zero turns it off."""
    reserve = Reserve(tmp_path / "reserve", 0)

    assert reserve.make()
    assert reserve.admits(0)
    assert names_in(tmp_path) == []


def test_survives_a_directory_that_is_gone(tmp_path: Path) -> None:
    """Where the directory is gone there is no reserve, no room, and no exception."""
    reserve = Reserve(tmp_path / "nowhere" / "reserve", SIZE)

    assert (reserve.make(), reserve.admits(0), reserve.release()) == (False, False, False)


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_is_smaller_where_the_disk_has_less(tmp_path: Path, halvings: int) -> None:
    """Where the whole does not fit, half, a quarter or an eighth is held back."""
    with file_size_limit(SIZE >> halvings):
        made = Reserve(tmp_path / "reserve", SIZE).make()

    assert made
    assert SIZE >> halvings == (tmp_path / "reserve").stat().st_size
