"""Says which gRPC services a driver class offers beside DriverCall, without loading any of their code."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from jumpstarter_proto.errors import JumpstarterUsageError

__all__ = ["GrpcInterface", "jumpstarter_interface"]


@dataclass(frozen=True)
class GrpcInterface:
    """A service by which programs in any language drive a device.

    Its procedures have the names of the driver's exported methods in PascalCase, its request messages have their
    parameters as fields. The driver needs no code for it.
    """

    service: str
    """Its full name, such as `jumpstarter.driver.power.v1.PowerInterface`."""
    module: str
    """Import path of the module that purerpc's protoc plugin has generated (`..._grpc`). A file beside it, whose name
    ends in `.binpb`, is what `protoc --descriptor_set_out` has written; the device's report carries it."""

    @property
    def name(self) -> str:
        """The service's name without its package."""
        return self.service.rpartition(".")[2]

    def load(self) -> ModuleType:
        """Import the module. Blocks, as purerpc is imported with it."""
        return importlib.import_module(self.module)

    def descriptor(self) -> bytes:
        """The serialized FileDescriptorProto of the service's .proto file; empty if there is no `.binpb` file.

        Raises:
            JumpstarterUsageError: the file is not what protoc writes for one .proto file.
        """
        return _descriptor(self.module)


def jumpstarter_interface(name: str) -> GrpcInterface:
    """One of Jumpstarter's own interfaces, such as `power` or `storage_mux`."""
    title = "".join(word.capitalize() for word in name.split("_"))
    return GrpcInterface(
        f"jumpstarter.driver.{name}.v1.{title}Interface", f"jumpstarter_proto.driver.{name}.v1.{name}_grpc"
    )


@cache
def _descriptor(module: str) -> bytes:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise JumpstarterUsageError(f"module {module} was not found; install the package that has it")
    file = Path(spec.origin.removesuffix("_grpc.py") + ".binpb")
    try:
        return _only_file(file.read_bytes())
    except FileNotFoundError:
        return b""
    except ValueError as error:
        raise JumpstarterUsageError(
            f"{file} is invalid ({error}); write it with protoc --descriptor_set_out, without --include_imports"
        ) from None


def _only_file(data: bytes) -> bytes:
    """The only `file` (field 1) of a FileDescriptorSet; read by hand, to keep an import away from every start."""
    if data[:1] != b"\x0a":
        raise ValueError("it is not a FileDescriptorSet")
    size = shift = 0
    index = 1
    while True:
        byte = data[index]
        size |= (byte & 0x7F) << shift
        index, shift = index + 1, shift + 7
        if byte < 0x80:
            break
        if index >= min(len(data), 6):
            raise ValueError("it is not a FileDescriptorSet")
    if len(data) != index + size:
        raise ValueError("it has more or less than one file")
    return data[index:]
