"""The comments of .proto files, by the full names of what they stand above."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from google.protobuf import descriptor_pb2

# Field numbers in descriptor.proto: what the paths of source_code_info are made of.
_MESSAGES: Final = 4
_ENUMS: Final = 5
_SERVICES: Final = 6
_FIELDS: Final = 2
_NESTED_MESSAGES: Final = 3
_NESTED_ENUMS: Final = 4
_ONEOFS: Final = 8
_VALUES: Final = 2
_METHODS: Final = 2

# Not for readers: directives of a linter, and what API guidelines call internal comments.
_DIRECTIVE: Final = re.compile(r"^buf:lint:.*$", re.MULTILINE)
_INTERNAL: Final = re.compile(r"\(--.*?--\)", re.DOTALL)

Path = tuple[int, ...]


class Comments:
    """
    What the comments of a set of files say.

    Args:
        files: With source_code_info, as `protoc --include_source_info` writes it; what lacks it has no comments. None for
            no files.
    """

    def __init__(self, files: descriptor_pb2.FileDescriptorSet | None = None) -> None:
        self._texts: dict[str, str] = {}
        for file in () if files is None else files.file:
            found = {
                tuple(location.path): text
                for location in file.source_code_info.location
                if (text := _text(location.leading_comments or location.trailing_comments))
            }
            self._texts.update((name, found[path]) for name, path in _named(file) if path in found)

    def of(self, full_name: str) -> str:
        """Return the comment of what has this name, `package.Enum.VALUE` for a value of an enum; empty where it has none."""
        return self._texts.get(full_name, "")


def _text(comment: str) -> str:
    lines = [line.removeprefix(" ").rstrip() for line in _INTERNAL.sub("", comment).split("\n")]
    return _DIRECTIVE.sub("", "\n".join(lines)).strip()


def _named(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, Path]]:
    """Yield the full name and the path of everything in *file* that can have a comment."""
    prefix = f"{file.package}." if file.package else ""
    for at, message in enumerate(file.message_type):
        yield from _of_message(message, prefix, (_MESSAGES, at))
    for at, enum in enumerate(file.enum_type):
        yield from _with_members(enum.name, prefix, (_ENUMS, at), _VALUES, enum.value)
    for at, service in enumerate(file.service):
        yield from _with_members(service.name, prefix, (_SERVICES, at), _METHODS, service.method)


def _of_message(message: descriptor_pb2.DescriptorProto, prefix: str, path: Path) -> Iterator[tuple[str, Path]]:
    yield from _with_members(message.name, prefix, path, _FIELDS, message.field)
    inner = f"{prefix}{message.name}."
    for at, oneof in enumerate(message.oneof_decl):
        yield inner + oneof.name, (*path, _ONEOFS, at)
    for at, nested in enumerate(message.nested_type):
        yield from _of_message(nested, inner, (*path, _NESTED_MESSAGES, at))
    for at, enum in enumerate(message.enum_type):
        yield from _with_members(enum.name, inner, (*path, _NESTED_ENUMS, at), _VALUES, enum.value)


def _with_members(
    name: str, prefix: str, path: Path, number: int, members: Sequence[Any]
) -> Iterator[tuple[str, Path]]:
    yield prefix + name, path
    for at, member in enumerate(members):
        yield f"{prefix}{name}.{member.name}", (*path, number, at)
