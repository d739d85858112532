"""A page of documentation, played: its commands run where the service really is, and their output put below them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from support.reading import total, wait_for_token, wait_for_total
from support.server import COMMAND, RunningServer

ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
WIDTH: Final = 140

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A script says its name in its second line.
_SCRIPT: Final = re.compile(r"#!.*\n# ([\w.]+):")
_UNSAID: Final = re.compile(rf"(\w+)={ELLIPSIS}$", re.MULTILINE)
# What differs each time, beside moments of receipt: rates, sizes, tokens. The page shows an ellipsis in its place.
_VARYING: Final = frozenset({"evaluations_per_second", "bytes", "next_page_token"})
_TIMES: Final = re.compile(r"\b(?!2026-02-)\d{4}-\d\d-\d\dT[\d:.]+Z( *)")
_FIGURES: Final = re.compile(
    r"(?<=rate      )[\d.]+|(?<=journal   )[\d.]+ \w+|(?<=GiB  )<?[\d.]+(?= %)|(?<=Exported )[\d,]+"
)
_VARIES: Final = "\0"

# `flagledger` without --url asks port 8080, where the service of a test is not.
_SHELL: Final = """
flagledger() { case "$1" in config) "$REAL" "$@" ;; *) "$REAL" "$@" --url "$URL" ;; esac; }
"""
_SQL: Final = "import sys, duckdb; print(duckdb.sql(sys.argv[1]))"
# What of curl the page uses, for where there is none.
_CURL: Final = """
import argparse, sys, urllib.error, urllib.request
parser = argparse.ArgumentParser()
for names in (["-H"], ["-X"], ["-d"], ["-o"], ["-D"]):
    parser.add_argument(*names, action="append" if names == ["-H"] else "store")
parser.add_argument("-sS", action="store_true")
parser.add_argument("--fail", action="store_true")
parser.add_argument("url")
given = parser.parse_args()
body = given.d.encode() if given.d else None
headers = dict(header.split(": ", 1) for header in given.H or ())
request = urllib.request.Request(given.url, data=body, headers=headers, method=given.X)
try:
    answer = urllib.request.urlopen(request, timeout=30)
except urllib.error.HTTPError as error:
    if given.fail:
        sys.exit(22)
    answer = error
if given.D:
    with open(given.D, "w") as file:
        file.writelines(f"{name}: {value}\\n" for name, value in answer.headers.items())
with open(given.o or 1, "wb") as file:
    file.write(answer.read())
"""


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of code in *language*."""
    return [content for found, content in _BLOCK.findall(page) if found == language]


@dataclass(slots=True, kw_only=True)
class Session:
    """
    Plays pages against a service.

    Attributes:
        server: The service.
        folder: Where the commands run, and leave their files.
        variables: What the shell has besides. A line `NAME=…` of the page, with an ellipsis, sets it to the value here.
        prelude: What was set by the page so far.
    """

    server: RunningServer
    folder: Path
    variables: dict[str, str]
    prelude: str = ""
    _output: str | None = field(default=None, init=False)

    def play(self, page: str) -> str:
        """
        Return *page* with the output that its blocks really have.

        In a block `console` a line that begins with `$ ` is a command, and what follows its output. A block `sh` sets what
        later commands use, a block `bash` is a script, which is written down under its name. The output of `python` and `sql`
        stands in the block `text` behind it.

        Raises:
            AssertionError: Something ended with another exit code than 0.
        """
        if shutil.which("curl") is None:
            self._write_curl()
        return _BLOCK.sub(lambda match: f"```{match[1]}\n{self._block(match[1], match[2])}```", page)

    def _block(self, language: str, content: str) -> str:
        match language:
            case "console":
                return "".join(f"$ {command}\n{self._console(command)}" for command in _commands(content))
            case "sh":
                self.prelude += _UNSAID.sub(lambda name: f"{name[1]}={self.variables[name[1]]}", content)
            case "bash":
                self._write_script(content)
            case "python":
                self._output = self._run([sys.executable, "-c", self._moved(content)])
            case "sql":
                self._output = self._run([sys.executable, "-c", _SQL, content])
            case "text" if self._output is not None:
                content, self._output = shown(self._output), None
        return content

    def _console(self, command: str) -> str:
        sends = " -d " in command
        before = total(self.server) if sends else 0
        printed = self._run(["bash", "-c", self._moved(f"{_SHELL}{self.prelude}{command}")])
        if sends:
            # What comes next asks for it, as who reads the page does a second later.
            expected = before + json.loads(printed)["accepted_count"]
            assert wait_for_total(self.server, expected, seconds=20) == expected
        if ">> flagledger-data/environments.toml" in command:
            tokens = tomllib.loads((self.folder / "flagledger-data" / "environments.toml").read_text())["tokens"]
            assert wait_for_token(self.server, tokens[-1]["token"], seconds=20)
        return shown(printed.replace(f" --url {self.server.http_url}", ""))

    def _moved(self, code: str) -> str:
        """Return *code* with the addresses of the service of the tests."""
        return code.replace("127.0.0.1:8080", self.server.ready["http"]).replace(
            "127.0.0.1:50051", self.server.grpc_target
        )

    def _run(self, command: list[str]) -> str:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLAGLEDGER_")}
        own = {"REAL": str(COMMAND), "URL": self.server.http_url, "COLUMNS": str(WIDTH), "PATH": self._path()}
        done = subprocess.run(
            command, cwd=self.folder, env=inherited | self.variables | own, timeout=60, check=False, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, (command[-1], done.stdout)
        return done.stdout

    def _path(self) -> str:
        return f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def _write_script(self, content: str) -> None:
        named = _SCRIPT.match(content)
        assert named is not None, content
        (self.folder / named[1]).write_text(self._moved(content))

    def _write_curl(self) -> None:
        script = self.folder / "bin" / "curl"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!{sys.executable}\n{_CURL}")
        script.chmod(0o755)


def _commands(block: str) -> list[str]:
    """Return the commands of a console block. One goes on where a line ends in a backslash or a quote is open."""
    found = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        heads = ("\n".join(lines[:end]) for end in range(1, len(lines) + 1))
        found.append(next(head for head in heads if head.count("'") % 2 == 0 and not head.endswith("\\")))
    return found


def shown(printed: str) -> str:
    """Return output as the page shows it: JSON with line breaks, what differs each time as an ellipsis."""
    lines = [line.rstrip() for line in printed.splitlines()]
    try:
        values = [json.loads(line) for line in lines]
    except ValueError:
        values = []
    if values and all(isinstance(value, dict) for value in values):
        text = "\n".join(_laid_out(_masked(value)) for value in values).replace(json.dumps(_VARIES), ELLIPSIS)
    else:
        text = "\n".join(lines).strip("\n")
    text = _TIMES.sub(lambda time: ELLIPSIS + " " * (len(time[0]) - 1 if time[1] else 0), text)
    return "".join(f"{_without_figures(line).rstrip()}\n" for line in text.splitlines())


def _without_figures(line: str) -> str:
    found = _FIGURES.sub(ELLIPSIS, line)
    # The frame of a panel stays where it is.
    return found.removesuffix("│").ljust(len(line) - 1) + "│" if line.endswith("│") else found


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _mask(one) if name in _VARYING else _masked(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_masked(one) for one in value]
    return _TIMES.sub(ELLIPSIS, value) if isinstance(value, str) else value


def _mask(value: Any) -> Any:
    # An empty token says that there is no further page.
    return value and ELLIPSIS if isinstance(value, str) else _VARIES


def _laid_out(value: Any, indent: int = 0, before: int = 0) -> str:
    """Return *value* as JSON: on one line where there is room, else its members one below the other."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or indent + before + len(flat) < WIDTH:
        return flat
    margin = "\n" + " " * (indent + 2)
    if isinstance(value, list):
        members = [_laid_out(one, indent + 2) for one in value]
        return f"[{margin}{f',{margin}'.join(members)}\n{' ' * indent}]"
    named = {json.dumps(name): one for name, one in value.items()}
    members = [f"{name}: {_laid_out(one, indent + 2, len(name) + 2)}" for name, one in named.items()]
    return f"{{{margin}{f',{margin}'.join(members)}\n{' ' * indent}}}"
