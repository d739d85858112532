"""The cases of protobuf's JSON conformance suite under the names that they have there, written anew for our test messages."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc_tools
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
    struct_pb2,
    wrappers_pb2,
)
from grpc_tools import protoc
from transcoding.kitchen import Everything

# What the proto imports has to be in the pool before it.
IMPORTED = (any_pb2, duration_pb2, struct_pb2, wrappers_pb2)

HERE = Path(__file__).parent
REQUIRED: Final = "Required"
RECOMMENDED: Final = "Recommended"
REFUSED: Final = object()
"""What stands for the message of a text that does not fit, and for the JSON of a message that has none."""


def _load() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "conformance.binpb"
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        command = ["protoc", f"-I{HERE}", f"-I{well_known}", f"--descriptor_set_out={out}", "conformance.proto"]
        assert protoc.main(command) == 0
        file = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClassesForFiles(["conformance.proto"], pool)


MESSAGES = _load()
Chain = MESSAGES["conformance.v1.Chain"]
Lists = MESSAGES["conformance.v1.Lists"]
Maps = MESSAGES["conformance.v1.Maps"]
Names = MESSAGES["conformance.v1.Names"]
Oneofs = MESSAGES["conformance.v1.Oneofs"]
Part = MESSAGES["conformance.v1.Part"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    One case.

    Attributes:
        level: REQUIRED or RECOMMENDED.
        name: As it is called in the suite, without the level.
        text: JSON that is read; None where `message` is written.
        message: What `text` is read as, expected or not; or what is written.
        json: The JSON that is expected of the message, REFUSED where it has none; None where the suite does not look.
        either: Whether the suite takes a refusal as well.
        departs: Why the codec does otherwise than the suite wants: the case then has what it does.
        json_format: What json_format makes of `text`, where that is something else.
        ignores_unknown: Whether fields that the message does not have are to be passed over.
    """

    level: str
    name: str
    text: str | None = None
    message: Any = REFUSED
    message_class: Any = Everything
    json: Any = None
    either: bool = False
    departs: str = ""
    json_format: str = ""
    ignores_unknown: bool = False

    @property
    def names(self) -> Iterator[str]:
        """The names under which the suite counts it."""
        if self.text is None:
            middle = "" if self.json is REFUSED else "ProtobufInput."
            yield f"{self.level}.Proto3.{middle}{self.name}.JsonOutput"
        elif self.json is not None:
            yield f"{self.level}.Proto3.JsonInput.{self.name}.Validator"
        elif self.either or (self.message is REFUSED and not self.departs):
            yield f"{self.level}.Proto3.JsonInput.{self.name}"
        else:
            yield f"{self.level}.Proto3.JsonInput.{self.name}.ProtobufOutput"
            if not self.ignores_unknown:
                yield f"{self.level}.Proto3.JsonInput.{self.name}.JsonOutput"


def required(name: str, text: str, message: Any, **more: Any) -> Case:
    """Return a case that has to be read as *message*."""
    return Case(level=REQUIRED, name=name, text=text, message=message, message_class=type(message), **more)


def recommended(name: str, text: str, message: Any, **more: Any) -> Case:
    """Return a case that should be read as *message*."""
    return Case(level=RECOMMENDED, name=name, text=text, message=message, message_class=type(message), **more)


def refused(name: str, text: str, message_class: Any = Everything, level: str = REQUIRED, **more: Any) -> Case:
    """Return a case that has to be refused."""
    return Case(level=level, name=name, text=text, message_class=message_class, **more)


def joined(members: Iterable[str]) -> str:
    """Return the text of an object of *members*."""
    return f"{{{', '.join(members)}}}"


def unwritable(name: str, message: Any, level: str = REQUIRED) -> Case:
    """Return a case of a message that has no JSON."""
    return Case(level=level, name=name, message=message, message_class=type(message), json=REFUSED)
