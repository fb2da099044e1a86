"""The committed Go code of the program in `go/board` is of the .proto files as they are now. Needs no Go.

`python -m tests.typed.go_stubs` writes it again.
"""

from __future__ import annotations

import re

import pytest
from google.protobuf import descriptor_pb2

from tests.support.peers import ROOT
from tests.typed.go_stubs import FOLDER, NAMES


def proto(name: str) -> descriptor_pb2.FileDescriptorProto:
    """What `make proto` has read from the .proto file, which a test of its own compares with that file."""
    path = ROOT / "proto" / "jumpstarter_proto" / "driver" / name / "v1" / f"{name}.binpb"
    [file] = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    return file


def test_there_is_code_to_compare() -> None:
    assert NAMES == ["network", "power"]


@pytest.mark.parametrize("name", NAMES)
def test_messages_are_those_of_the_proto_file(name: str) -> None:
    text = (FOLDER / f"{name}.pb.go").read_text()
    [literal] = re.findall(r"_rawDesc = \[\]byte\{(.*?)\n\}", text, re.DOTALL)
    file = descriptor_pb2.FileDescriptorProto.FromString(
        bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", literal))
    )
    file.ClearField("options")  # the Go package
    assert file == proto(name)


@pytest.mark.parametrize("name", NAMES)
def test_procedures_are_those_of_the_proto_file(name: str) -> None:
    text = (FOLDER / f"{name}_grpc.pb.go").read_text()
    file = proto(name)
    [service] = file.service
    paths = dict(re.findall(rf'{service.name}_(\w+)_FullMethodName += "(.*)"', text))
    assert paths == {one.name: f"/{file.package}.{service.name}/{one.name}" for one in service.method}
    streams = set(re.findall(r'StreamName: +"(\w+)"', text))
    assert streams == {one.name for one in service.method if one.server_streaming}
    assert set(re.findall(r'MethodName: +"(\w+)"', text)) == set(paths) - streams
    both = re.findall(r'StreamName: +"(\w+)",\n.*\n\s+ServerStreams: true,\n\s+ClientStreams: true', text)
    assert set(both) == {one.name for one in service.method if one.client_streaming}
