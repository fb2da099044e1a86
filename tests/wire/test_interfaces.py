"""Each driver interface's .proto file and its Python classes say the same."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import pkgutil
import types
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import jumpstarter_drivers
import msgspec
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from jumpstarter_exporter.arguments import hints
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.decorators import Exported, ExportKind, exported
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface
from jumpstarter_proto.annotations.annotations_pb2 import resource_handle
from jumpstarter_proto.value import JSON

from tests.support.peers import ROOT

EMPTY, VALUE = "google.protobuf.Empty", "google.protobuf.Value"
SCALARS = {
    str: FieldDescriptor.TYPE_STRING,
    int: FieldDescriptor.TYPE_INT64,
    float: FieldDescriptor.TYPE_DOUBLE,
    bool: FieldDescriptor.TYPE_BOOL,
    bytes: FieldDescriptor.TYPE_BYTES,
    UUID: FieldDescriptor.TYPE_STRING,
}
PROTOS = sorted((ROOT / "proto").glob("jumpstarter_proto/driver/*/v1/*.proto"))


def classes() -> set[type[Driver]]:
    found: set[type[Driver]] = {Composite}
    for module in pkgutil.walk_packages(jumpstarter_drivers.__path__, "jumpstarter_drivers."):
        if ".test_" not in module.name and not module.name.endswith(".conftest"):
            for item in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(item) and issubclass(item, Driver) and item is not Driver:
                    found.add(item)
    return found


def by_interface() -> dict[GrpcInterface, set[type[Driver]]]:
    found: dict[GrpcInterface, set[type[Driver]]] = {}
    for one in classes():
        for interface in one.grpc_interfaces:
            found.setdefault(interface, set()).add(one)
    return found


def service(interface: GrpcInterface) -> ServiceDescriptor:
    interface.load()
    found: ServiceDescriptor = descriptor_pool.Default().FindServiceByName(interface.service)
    return found


def pascal(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def test_each_interface_of_a_driver_has_its_proto_file_and_the_other_way_round() -> None:
    named = {path.stem for path in PROTOS}
    assert {jumpstarter_interface(name) for name in named} == set(by_interface())
    assert {"power", "serial", "storage", "storage_mux", "network", "composite", "uboot", "video"} <= named


def test_each_driver_with_a_word_of_ours_has_its_interface() -> None:
    without = [one for one in classes() if one.interface and not one.grpc_interfaces]
    assert without == []


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.stem)
def test_reported_descriptor_is_that_of_the_loaded_module(path: Path) -> None:
    interface = jumpstarter_interface(path.stem)
    reported = descriptor_pb2.FileDescriptorProto.FromString(interface.descriptor())
    loaded = descriptor_pb2.FileDescriptorProto()
    service(interface).file.CopyToProto(loaded)
    for one in reported, loaded:
        for message in one.message_type:
            for field in message.field:
                field.ClearField("json_name")
    assert reported == loaded


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.stem)
def test_procedures_are_the_exported_methods(path: Path) -> None:
    interface = jumpstarter_interface(path.stem)
    procedures = service(interface).methods_by_name
    offered: dict[str, list[Exported]] = {}
    for one in by_interface()[interface]:
        others = {
            name
            for other in one.grpc_interfaces
            if other != interface
            for name in service(other).methods_by_name
        }
        for name, method in exported(one).items():
            if pascal(name) not in others:
                offered.setdefault(pascal(name), []).append(method)
    assert sorted(procedures) == sorted(offered)
    for name, methods in offered.items():
        for method in methods:
            check(procedures[name], method)
        if procedures[name].input_type.full_name != EMPTY and methods[0].kind is not ExportKind.STREAM:
            most = max(len(inspect.signature(one.function).parameters) for one in methods) - 1
            assert most == len(procedures[name].input_type.fields), "a field that no class takes"


def check(procedure: MethodDescriptor, method: Exported) -> None:
    streams = (procedure.client_streaming, procedure.server_streaming)
    if method.kind is ExportKind.STREAM:
        assert streams == (True, True), procedure.full_name
        for message in (procedure.input_type, procedure.output_type):
            assert message.name == "StreamData", procedure.full_name
            assert [(one.name, one.number, one.type) for one in message.fields] == [
                ("payload", 1, FieldDescriptor.TYPE_BYTES)
            ]
        return
    assert streams == (False, method.kind is ExportKind.STREAMING), procedure.full_name
    found = hints(method.function)
    parameters = list(inspect.signature(method.function).parameters.values())[1:]
    if not parameters:
        assert procedure.input_type.full_name == EMPTY, procedure.full_name
    else:
        fields = list(procedure.input_type.fields)
        assert [one.name for one in fields[: len(parameters)]] == [one.name for one in parameters]
        # A class may leave out what callers may leave out, too; a call that sets it is refused.
        assert all(is_optional(one) for one in fields[len(parameters) :]), procedure.full_name
    for parameter in parameters:
        field = procedure.input_type.fields_by_name[parameter.name]
        assert is_optional(field) == (parameter.default is not inspect.Parameter.empty), field.full_name
        if parameter.name == "handle":
            assert field.type == FieldDescriptor.TYPE_STRING
            assert field.GetOptions().Extensions[resource_handle], field.full_name
        else:
            check_field(field, found[parameter.name])
    result = found["return"]
    if method.kind is ExportKind.STREAMING:
        assert get_origin(result) in (AsyncIterator, AsyncGenerator, Iterator), procedure.full_name
        result = get_args(result)[0]
    check_result(procedure.output_type, result)


def check_result(message: Descriptor, hint: Any) -> None:
    if hint is None:
        assert message.full_name == EMPTY
    elif is_model(hint):
        check_model(message, hint)
    else:
        assert [(one.name, one.number) for one in message.fields] == [("value", 1)], message.full_name
        check_field(message.fields[0], hint)


def check_field(field: FieldDescriptor, hint: Any) -> None:
    if get_origin(hint) in (Union, types.UnionType) and hint != JSON:
        (hint,) = (one for one in get_args(hint) if one is not type(None))
    assert field.is_repeated == (get_origin(hint) in (list, tuple)), field.full_name
    if field.is_repeated:
        hint = get_args(hint)[0]
    if hint in SCALARS:
        assert field.type == SCALARS[hint], field.full_name
    elif get_origin(hint) is Literal or (inspect.isclass(hint) and issubclass(hint, enum.Enum)):
        prefix = f"{field.enum_type.name.upper()}_"
        texts = [value.name.removeprefix(prefix).lower() for value in field.enum_type.values]
        assert texts == ["unspecified", *get_args(hint)], field.full_name
    elif is_model(hint) and field.message_type.full_name != VALUE:
        check_model(field.message_type, hint)
    else:
        assert is_model(hint) or hint in (JSON, Any) or get_origin(hint) is dict, field.full_name
        assert field.message_type.full_name == VALUE, field.full_name


def check_model(message: Descriptor, model: Any) -> None:
    fields = hints(model)
    assert [one.name for one in message.fields] == list(fields), message.full_name
    for field in message.fields:
        check_field(field, fields[field.name])


def is_model(hint: Any) -> bool:
    return inspect.isclass(hint) and (dataclasses.is_dataclass(hint) or issubclass(hint, msgspec.Struct))


def is_optional(field: FieldDescriptor) -> bool:
    # Fields of message types have presence without the word, too; here it is written all the same.
    proto = descriptor_pb2.DescriptorProto()
    field.containing_type.CopyToProto(proto)
    (found,) = (one for one in proto.field if one.name == field.name)
    return found.proto3_optional
