"""Print the wire contract of protobuf modules as JSON: `python dump.py MODULE...`.

Runs with the interpreter that has the modules and needs nothing but protobuf, because the same messages
cannot be loaded twice into one process. The result maps a full name to what is on the wire under it.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor

Contract = dict[str, dict[str, Any]]

TYPES = {v: k for k, v in vars(FieldDescriptor).items() if k.startswith("TYPE_")}


def main(modules: list[str]) -> None:
    found: Contract = {}
    for name in modules:
        file = importlib.import_module(name).DESCRIPTOR
        for message in file.message_types_by_name.values():
            add_message(found, message)
        for enum in file.enum_types_by_name.values():
            add_enum(found, enum)
        for service in file.services_by_name.values():
            for method in service.methods:
                found[method.full_name] = describe_method(method)
    json.dump(found, sys.stdout, indent=1, sort_keys=True)


def add_message(found: Contract, message: Descriptor) -> None:
    found[message.full_name] = {"message": True, "map_entry": message.GetOptions().map_entry}
    for field in message.fields:
        found[field.full_name] = describe_field(field)
    for nested in message.nested_types:
        add_message(found, nested)
    for enum in message.enum_types:
        add_enum(found, enum)


def add_enum(found: Contract, enum: EnumDescriptor) -> None:
    found[enum.full_name] = {"enum": True, "closed": enum.is_closed}
    for value in enum.values:
        # An enum's values are siblings of the enum in protobuf's naming; here they sit below it.
        found[f"{enum.full_name}.{value.name}"] = {"number": value.number}


def describe_field(field: FieldDescriptor) -> dict[str, Any]:
    of = field.message_type or field.enum_type
    oneof = field.containing_oneof
    return {
        "number": field.number,
        "type": TYPES[field.type],
        "of": of and of.full_name,
        "repeated": field.is_repeated,
        "packed": field.is_packed,
        "required": field.is_required,
        "presence": field.has_presence,
        # A proto3 `optional` sits alone in a oneof named after it.
        "oneof": oneof and oneof.name,
        "json_name": field.json_name,
        "default": str(field.default_value),
    }


def describe_method(method: MethodDescriptor) -> dict[str, Any]:
    return {
        "request": method.input_type.full_name,
        "response": method.output_type.full_name,
        "client_streaming": method.client_streaming,
        "server_streaming": method.server_streaming,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
