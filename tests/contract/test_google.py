"""Our declarations of Google's public interfaces, which stand in `proto/google` so that the folder stands alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf import descriptor_pb2
from google.rpc import status_pb2

ROOT = Path(__file__).parents[2]
INSTALLED = {
    module.DESCRIPTOR.name: module.DESCRIPTOR for module in (annotations_pb2, http_pb2, httpbody_pb2, status_pb2)
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """Return our declarations by file name, compiled from `proto/`."""
    from grpc_tools import protoc

    image = tmp_path_factory.mktemp("google") / "google.binpb"
    paths = sorted((ROOT / "proto" / "google").rglob("*.proto"))
    code = protoc.main(
        ["protoc", f"-I{ROOT / 'proto'}", f"-I{bundled()}", f"--descriptor_set_out={image}", *map(str, paths)]
    )
    assert code == 0
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()).file}


def bundled() -> Path:
    """Return the folder of the declarations that come with the compiler (`google/protobuf`)."""
    import grpc_tools

    return Path(str(grpc_tools.__file__)).parent / "_proto"


def test_nothing_but_these() -> None:
    """What is declared anew is what the contract needs, and every file of it is compared here."""
    declared = {str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto" / "google").rglob("*.proto")}

    assert set(INSTALLED) == declared


@pytest.mark.parametrize("name", sorted(INSTALLED))
def test_equals_the_installed_one(ours: dict[str, descriptor_pb2.FileDescriptorProto], name: str) -> None:
    """Names, numbers, types, labels, oneofs and options equal those of the installed package, which is what runs."""
    installed = descriptor_pb2.FileDescriptorProto()
    INSTALLED[name].CopyToProto(installed)
    declared = ours[name]
    for file in (installed, declared):
        file.ClearField("source_code_info")
        for message in file.message_type:
            strip_json_names(message)
        for extension in file.extension:
            extension.ClearField("json_name")

    assert str(installed) == str(declared)


def strip_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    """Remove the JSON names: they follow from the field names, and only some compilers write them down."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        strip_json_names(nested)
