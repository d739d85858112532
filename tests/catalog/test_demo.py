from __future__ import annotations

import re
import stat
import threading
from pathlib import Path

import pytest
from flagledger.catalog.base import Token
from flagledger.catalog.demo import DEMO_FEATURES, DemoKeys, ensure_demo, ensure_read_token
from flagledger.catalog.document import CatalogError
from flagledger.catalog.file import FileCatalog, read_document


async def test_the_first_start_makes_an_environment_that_works(tmp_path: Path) -> None:
    """The keys that are shown are in force, for features that include new_dashboard."""
    keys = ensure_demo(tmp_path / "deep" / "data")
    catalog = FileCatalog(keys.file)
    assert keys.client_key is not None
    assert keys.server_key is not None
    client, server = await catalog.lookup(keys.client_key), await catalog.lookup(keys.server_key)

    assert client is not None
    assert server is not None
    assert (client.is_server, server.is_server) == (False, True)
    assert client.environment.features == set(DEMO_FEATURES)
    assert "new_dashboard" in DEMO_FEATURES
    assert (keys.created, keys.environment, keys.feature) == (True, "demo", "new_dashboard")


def test_keys_are_random_and_safe_to_paste(tmp_path: Path) -> None:
    """No two installations share a key, and a shell takes them without quotes."""
    made = [ensure_demo(tmp_path / str(number)) for number in range(20)]
    texts = [key.client_key or "" for key in made] + [key.server_key or "" for key in made]

    assert len(set(texts)) == 40
    assert all(re.fullmatch(r"(ser\.)?[A-Za-z0-9]{22}", text) for text in texts)


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    """The same keys, the same token, and what somebody wrote into the file stays."""
    first, token = ensure_demo(tmp_path), ensure_read_token(tmp_path)
    with first.file.open("a") as file:
        file.write('[[environments]]\nname = "mine"\nkeys = []\nfeatures = "any"\n')
    content = first.file.read_text()
    second = ensure_demo(tmp_path)

    assert (second.client_key, second.server_key, second.created) == (first.client_key, first.server_key, False)
    assert first.file.read_text() == content
    assert ensure_read_token(tmp_path) == token


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Mode 0600, in a directory of mode 0700, and nothing else is left there."""
    data = tmp_path / "data"
    ensure_demo(data)
    ensure_read_token(data)

    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()} == {
        "environments.toml": 0o600,
        "read-token": 0o600,
    }
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_starts_at_the_same_moment_agree(tmp_path: Path) -> None:
    """However many start at once, they all get one token and one pair of keys."""
    tokens: list[str] = []
    demos: list[DemoKeys] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        tokens.append(ensure_read_token(tmp_path))
        demos.append(ensure_demo(tmp_path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(tokens) == len(demos) == 8
    assert len(set(tokens)) == 1
    assert len({demo.client_key for demo in demos}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["environments.toml", "read-token"]


def test_the_file_says_how_to_add_a_feature(tmp_path: Path) -> None:
    """Following its comment, a line in the list, makes a feature."""
    file = ensure_demo(tmp_path).file
    content = file.read_text()
    assert "To add a feature of your own" in content

    file.write_text(content.replace('  "new_dashboard",\n', '  "new_dashboard",\n  "my_feature",\n'))

    assert read_document(file).environments["demo"].features == {*DEMO_FEATURES, "my_feature"}


def test_the_examples_of_tokens_can_be_uncommented(tmp_path: Path) -> None:
    """The commented tables are valid once their marks are gone: a token that reads one environment, one that erases."""
    file = ensure_demo(tmp_path).file
    assert read_document(file).tokens == {}

    file.write_text(re.sub(r"^# (?=\[\[|\w+ = )", "", file.read_text(), flags=re.MULTILINE))

    assert list(read_document(file).tokens.values()) == [
        Token(role="read", environments=frozenset({"demo"})),
        Token(role="admin"),
    ]


def test_keys_of_an_edited_file_are_those_that_count(tmp_path: Path) -> None:
    """Without the demo environment the first one is shown, and of its keys only those in force."""
    (tmp_path / "environments.toml").write_text(
        '[[environments]]\nname = "mine"\nfeatures = ["z", "b"]\n'
        'keys = [{key = "old", expires_at = 2020-01-01T00:00:00Z}, {key = "off", active = false}, "ser.s"]\n'
    )
    keys = ensure_demo(tmp_path)

    assert (keys.environment, keys.client_key, keys.server_key, keys.feature) == ("mine", None, "ser.s", "b")


def test_a_broken_file_is_left_alone(tmp_path: Path) -> None:
    """A mistake in the file is named, and the file is not made anew."""
    (tmp_path / "environments.toml").write_text("broken")
    with pytest.raises(CatalogError, match="line 1"):
        ensure_demo(tmp_path)

    assert (tmp_path / "environments.toml").read_text() == "broken"


@pytest.mark.parametrize("content", [b"", b" \n", b"two words\n", b"\xff\n"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty file does not become an empty token that everybody knows."""
    (tmp_path / "read-token").write_bytes(content)

    with pytest.raises(CatalogError, match="holds no token"):
        ensure_read_token(tmp_path)


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """A file where the directory should be is refused with the path and the cause."""
    (tmp_path / "data").write_text("")

    with pytest.raises(CatalogError, match=r"environments\.toml: cannot be made: File exists\."):
        ensure_demo(tmp_path / "data")
    with pytest.raises(CatalogError, match=r"read-token: cannot be made: Not a directory\."):
        ensure_read_token(tmp_path / "data" / "deeper")
