"""The contract, and what is generated from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
IMAGE = ROOT / "proto" / "released.binpb"


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run *command* with the tools beside this Python first on the path."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path}, text=True, capture_output=True, check=False
    )


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every generated file under *folder* by its path in there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """Return a copy of the contract with nothing beside it: `proto/` and `buf.yaml`."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def test_regeneration_changes_nothing(contract: Path) -> None:
    """`gen/` is what `make gen` makes of `proto/`: the command of the Makefile itself is run, on a copy."""
    shutil.copy(ROOT / "Makefile", contract)
    (contract / ".venv").symlink_to(BIN.parent)
    (contract / "gen").mkdir()
    # `-o`: the environment that runs this test is the one to generate with, however old its stamp.
    made = run("make", "gen", "-o", ".venv/bin/.installed", cwd=contract)

    assert made.returncode == 0, made.stdout + made.stderr

    regenerated = files_of(contract / "gen" / "flagledger")
    checked_in = files_of(ROOT / "gen" / "flagledger")

    assert sorted(checked_in) == sorted(regenerated)
    assert [name for name, content in regenerated.items() if content != checked_in[name]] == []


def test_generated_code_has_its_stubs() -> None:
    """Every generated module has type stubs beside it, for the editors of those who use it."""
    names = files_of(ROOT / "gen" / "flagledger")

    assert {name + "i" for name in names if name.endswith(".py")} == {name for name in names if name.endswith(".pyi")}


def test_stands_alone(contract: Path) -> None:
    """`buf lint` passes on the contract in an empty folder, with nothing but buf."""
    linted = run("buf", "lint", cwd=contract)

    assert (linted.returncode, linted.stdout) == (0, ""), linted.stderr


def test_lint_sees_a_missing_comment(contract: Path) -> None:
    """A field without a comment fails the lint."""
    path = contract / "proto" / "flagledger" / "v1" / "evaluation.proto"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"  // Name of the trait\..*\n", "", text), encoding="utf-8")
    linted = run("buf", "lint", cwd=contract)

    assert linted.returncode != 0
    assert "trait_key" in linted.stdout


def test_breaks_nothing_released(contract: Path) -> None:
    """The contract breaks nothing of the last release."""
    compared = run("buf", "breaking", "proto", "--against", str(IMAGE), cwd=contract)

    assert (compared.returncode, compared.stdout) == (0, ""), compared.stderr


def test_a_removed_field_is_named(contract: Path) -> None:
    """Removing a field of the last release fails `buf breaking`, and the field is named."""
    path = contract / "proto" / "flagledger" / "v1" / "evaluation.proto"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("  string variant = 8;\n", ""), encoding="utf-8")
    compared = run("buf", "breaking", "proto", "--against", str(IMAGE), cwd=contract)

    assert text != path.read_text(encoding="utf-8")
    assert compared.returncode != 0
    assert '"variant"' in compared.stdout
    assert '"Evaluation"' in compared.stdout


def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """Return the descriptor set that is shipped."""
    content = (ROOT / "gen" / "flagledger" / "v1" / "contract.binpb").read_bytes()
    return descriptor_pb2.FileDescriptorSet.FromString(content)


Named = Iterator[tuple[tuple[int, ...], str]]


def elements(file: descriptor_pb2.FileDescriptorProto) -> Named:
    """Yield every message, field, oneof, enum, enum value, service and rpc of *file*: its path, and its name."""
    for number, message in enumerate(file.message_type):
        yield from of_message((4, number), message)
    for number, enum in enumerate(file.enum_type):
        yield from of_enum((5, number), enum)
    for number, service in enumerate(file.service):
        yield (6, number), service.name
        for index, method in enumerate(service.method):
            yield (6, number, 2, index), f"{service.name}.{method.name}"


def of_message(path: tuple[int, ...], message: descriptor_pb2.DescriptorProto) -> Named:
    """Yield *message* and what is in it."""
    yield path, message.name
    for number, field in enumerate(message.field):
        yield (*path, 2, number), f"{message.name}.{field.name}"
    # The oneof that protoc makes of an `optional` has no place in the source.
    made = {field.oneof_index for field in message.field if field.proto3_optional}
    for number, oneof in enumerate(message.oneof_decl):
        if number not in made:
            yield (*path, 8, number), f"{message.name}.{oneof.name}"
    for number, nested in enumerate(message.nested_type):
        yield from of_message((*path, 3, number), nested)
    for number, enum in enumerate(message.enum_type):
        yield from of_enum((*path, 4, number), enum)


def of_enum(path: tuple[int, ...], enum: descriptor_pb2.EnumDescriptorProto) -> Named:
    """Yield *enum* and its values."""
    yield path, enum.name
    for number, value in enumerate(enum.value):
        yield (*path, 2, number), value.name


def test_every_element_has_a_comment() -> None:
    """The shipped descriptor set says what every element of the contract is: OpenAPI and SDK authors read it."""
    ours = [file for file in descriptor_set().file if file.package.startswith("flagledger.")]
    silent: list[str] = []
    for file in ours:
        commented = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
        silent += [name for path, name in elements(file) if path not in commented]

    assert {"flagledger.v1", "flagledger.internal.v1"} == {file.package for file in ours}
    assert silent == []


def test_descriptor_set_is_whole() -> None:
    """The shipped descriptor set holds everything that it imports."""
    files = descriptor_set().file
    names = {file.name for file in files}

    assert {needed for file in files for needed in file.dependency} <= names
    assert {str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto" / "flagledger").rglob("*.proto")} <= names
