"""grpc.reflection.v1 and v1alpha: the services here, and the .proto files that they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor

from jumpstarter_proto.reflection.v1 import reflection_grpc
from jumpstarter_proto.reflection.v1 import reflection_pb2 as pb
from jumpstarter_proto.reflection.v1alpha import reflection_grpc as alpha
from jumpstarter_proto.rpc import Method, RpcError, ServerCall, Servicer, StatusCode

__all__ = ["Reflection"]

_V1 = reflection_grpc.SERVER_REFLECTION_SERVER_REFLECTION_INFO
_OLDER = alpha.SERVER_REFLECTION_SERVER_REFLECTION_INFO


class Reflection(Servicer):
    """Both versions by one handler, for their messages differ in nothing but the name."""

    METHODS: ClassVar[tuple[Method[Any, Any], ...]] = (
        _V1,
        Method(_OLDER.path, _OLDER.cardinality, _V1.request_type, _V1.response_type),
    )

    def __init__(self, services: Sequence[Servicer], names: Iterable[str] = ()) -> None:
        """`names` are full names of more services, whose messages are loaded."""
        pool = descriptor_pool.Default()
        served = (*services, self)
        self._services = sorted({method.service for one in served for method in one.METHODS} | set(names))
        self._files: dict[str, FileDescriptor] = {}
        for name in self._services:
            for file in _with_dependencies(pool.FindServiceByName(name).file):
                self._files[file.name] = file
        # The pool's own search does not know methods, and knows what is not served here.
        self._symbols = {name: file for file in self._files.values() for name in _symbols(file)}

    async def ServerReflectionInfo(  # noqa: N802 - the procedure's name
        self, call: ServerCall[pb.ServerReflectionRequest, pb.ServerReflectionResponse]
    ) -> None:
        """Answer each request."""
        async for request in call:
            response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
            try:
                self._answer(request, response)
            except RpcError as error:
                response.error_response.error_code = error.code.value
                response.error_response.error_message = error.details
            await call.send(response)

    def _answer(self, request: pb.ServerReflectionRequest, response: pb.ServerReflectionResponse) -> None:
        match request.WhichOneof("message_request"):
            case "list_services":
                response.list_services_response.service.extend(
                    pb.ServiceResponse(name=name) for name in self._services
                )
            case "file_by_filename":
                self._add(response, self._file(request.file_by_filename))
            case "file_containing_symbol":
                self._add(response, self._containing(request.file_containing_symbol))
            case "file_containing_extension":
                wanted = request.file_containing_extension
                numbers = self._extensions(wanted.containing_type)
                if wanted.extension_number not in numbers:
                    raise RpcError(StatusCode.NOT_FOUND, "there is no such extension here")
                self._add(response, numbers[wanted.extension_number])
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                response.all_extension_numbers_response.base_type_name = name
                response.all_extension_numbers_response.extension_number.extend(self._extensions(name))
            case _:
                raise RpcError(StatusCode.INVALID_ARGUMENT, "the request asks for nothing that we know")

    def _file(self, name: str) -> FileDescriptor:
        file = self._files.get(name)
        if file is None:
            raise RpcError(StatusCode.NOT_FOUND, f"there is no file {name[:200]!r} here")
        return file

    def _containing(self, symbol: str) -> FileDescriptor:
        file = self._symbols.get(symbol)
        if file is None:
            raise RpcError(StatusCode.NOT_FOUND, f"there is no {symbol[:200]!r} here")
        return file

    def _extensions(self, message: str) -> dict[int, FileDescriptor]:
        """The numbers of a message's extensions (proto3 has those of options only), and which file has each."""
        self._containing(message)
        return {
            extension.number: file
            for file in self._files.values()
            for extension in file.extensions_by_name.values()
            if extension.containing_type is not None and extension.containing_type.full_name == message
        }

    @staticmethod
    def _add(response: pb.ServerReflectionResponse, file: FileDescriptor) -> None:
        for one in _with_dependencies(file):
            message = descriptor_pb2.FileDescriptorProto()
            one.CopyToProto(message)
            response.file_descriptor_response.file_descriptor_proto.append(message.SerializeToString())


def _with_dependencies(file: FileDescriptor) -> list[FileDescriptor]:
    """The file, and all that it needs, each once."""
    found: dict[str, FileDescriptor] = {}
    waiting = [file]
    while waiting:
        one = waiting.pop()
        if one.name not in found:
            found[one.name] = one
            waiting += one.dependencies
    return list(found.values())


def _symbols(file: FileDescriptor) -> Iterator[str]:
    """The full names of all that the file defines."""
    for service in file.services_by_name.values():
        yield service.full_name
        yield from (method.full_name for method in service.methods)
    yield from (extension.full_name for extension in file.extensions_by_name.values())
    messages = list(file.message_types_by_name.values())
    enums = list(file.enum_types_by_name.values())
    while messages:
        message = messages.pop()
        yield message.full_name
        yield from (field.full_name for field in message.fields)
        messages += message.nested_types
        enums += message.enum_types
    for enum in enums:
        yield enum.full_name
        # As protobuf has it, its values are its neighbours.
        scope = enum.full_name.rpartition(".")[0]
        yield from (f"{scope}.{value.name}" for value in enum.values)
