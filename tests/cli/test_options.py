from __future__ import annotations

from pathlib import Path

import pytest
from support.command import Peer, run


@pytest.mark.parametrize(
    ("flag", "variable", "file", "expected"),
    [
        ("flag", "variable", "file", "Bearer flag"),
        (None, "variable", "file", "Bearer variable"),
        (None, None, "file\n", "Bearer file"),
        (None, "", "file\n", "Bearer file"),
    ],
)
def test_where_the_token_comes_from(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, flag: str | None, variable: str | None, file: str, expected: str
) -> None:
    """The flag goes before the variable, that before the file in the data directory."""
    Path("flagledger-data").mkdir()
    Path("flagledger-data/read-token").write_text(file)
    if variable is not None:
        monkeypatch.setenv("FLAGLEDGER_READ_TOKEN", variable)
    peer.answer({})
    run("features", "--url", peer.url, *(["--token", flag] if flag else []))

    assert [asked.authorization for asked in peer.asked] == [expected]


def test_the_data_directory_can_be_named(peer: Peer, tmp_path: Path) -> None:
    """--data is where the token is looked for."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "read-token").write_text("there")
    peer.answer({})
    run("features", "--url", peer.url, "--data", "elsewhere")

    assert [asked.authorization for asked in peer.asked] == ["Bearer there"]


def test_no_token_is_a_fault_of_usage() -> None:
    """Without any token it is said where one can come from, and nobody is asked."""
    result = run("features")

    assert result.exit_code == 2
    assert "flagledger-data/read-token cannot be read (No such file or directory)" in result.output
    assert "--token" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluations", "--limit", "0"),
        ("evaluations", "--start", "tomorrow"),
        ("evaluations", "--end", "2026-02-30"),
        ("evaluations", "--url", "ftp://h"),
        ("evaluations", "--url", "file:///etc/passwd"),
        ("evaluations", "--url", "127.0.0.1:8080"),
        ("evaluations", "--url", "http://u:p@h"),
        ("evaluations", "--url", "http://h:x"),
        ("evaluations", "--url", "http://h/?q"),
        ("evaluations", "--token", "a\nb"),
        ("evaluations", "--nonsense"),
        ("nonsense",),
    ],
)
def test_a_fault_of_usage_ends_with_two(arguments: tuple[str, ...]) -> None:
    """What cannot be asked is said before anybody is asked."""
    given = () if "--token" in arguments else ("--token", "t")
    result = run(arguments[0], *given, *arguments[1:])

    assert result.exit_code == 2
    assert "Error: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "variable", "expected"),
    [
        (("--url", "ftp://h"), "t", "Error: --url cannot be used: it must be a URL such as "),
        (("--token", "a b"), "t", "Error: --token cannot be used: a token is made of visible ASCII"),
        ((), "a b", "Error: FLAGLEDGER_READ_TOKEN cannot be used: a token is made of visible ASCII"),
        ((), "", "Error: flagledger-data/read-token cannot be used: a token is made of visible ASCII"),
    ],
)
def test_what_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], variable: str, expected: str
) -> None:
    """Of URL and token the one is named that is wrong, and where it comes from."""
    Path("flagledger-data").mkdir()
    Path("flagledger-data/read-token").write_text("\n")
    monkeypatch.setenv("FLAGLEDGER_READ_TOKEN", variable)
    result = run("features", *arguments)

    assert result.exit_code == 2
    assert expected in result.stderr


@pytest.mark.parametrize("command", ["counts", "evaluations", "export"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--feature", "f"), {"feature_name": "f"}),
        (("--identity", "i"), {"identity_identifier": "i"}),
        (("--segment", "s"), {"segment_name": "s"}),
        (("--value", '"on"'), {"value": '"on"'}),
        (("--value", "0"), {"value": "0"}),
        (("--variant", "v"), {"variant": "v"}),
        (("--reason", "SPLIT"), {"reason": "SPLIT"}),
        (("--enabled",), {"enabled": "true"}),
        (("--disabled",), {"enabled": "false"}),
        (("--trait", "plan"), {"trait_key": "plan"}),
        (("--trait", "plan=a=b"), {"trait_key": "plan", "trait_value": "a=b"}),
        (("--sdk", "js"), {"sdk_name": "js"}),
        (("--sdk", "js/4.0/x"), {"sdk_name": "js", "sdk_version": "4.0/x"}),
        (("--origin", "client"), {"origin": "ORIGIN_CLIENT"}),
        (("--origin", "server"), {"origin": "ORIGIN_SERVER"}),
    ],
)
def test_filters_are_the_fields_of_the_api(
    peer: Peer, command: str, arguments: tuple[str, ...], expected: dict[str, str]
) -> None:
    """Every filter of the contract can be given, to each command that lists, counts or exports."""
    run(command, *arguments, "--url", peer.url, "--token", "t")
    unasked = {"page_size", "format"}

    assert {name: text for name, text in peer.asked[0].query.items() if name not in unasked} == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--feature", ""), "it must not be empty"),
        (("--value", ""), "it must not be empty"),
        (("--trait", "=x"), "it must be a key"),
        (("--trait", "plan="), "it must be a key"),
        (("--sdk", "/4"), "it must be a name"),
        (("--sdk", "js/"), "it must be a name"),
        (("--origin", "browser"), "'browser' is not one of"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(arguments: tuple[str, ...], expected: str) -> None:
    """Whoever gives a filter means one: what would let everything through is said, with exit code 2."""
    result = run("evaluations", "--token", "t", *arguments)

    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())
