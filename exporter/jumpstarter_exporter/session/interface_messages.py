"""Messages of a driver interface's gRPC service, to and from the arguments and results of the driver's methods.

Fields have the names of parameters and attributes. A parameter with a default is an `optional` field. A result that is
neither None nor a message of its own is the field `value` of `<Procedure>Response`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeAlias
from uuid import UUID

from google.protobuf import empty_pb2
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from jumpstarter_proto.annotations import annotations_pb2
from jumpstarter_proto.errors import JumpstarterUsageError
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.value import JSON, from_value, to_value

from jumpstarter_exporter.decorators import Exported

__all__ = ["Procedure", "procedure"]

VALUE = "google.protobuf.Value"
RESOURCE_HANDLE: Any = annotations_pb2.resource_handle

Field: TypeAlias = Any
"""A FieldDescriptor, of which protobuf has two classes."""

Read: TypeAlias = Callable[[Any], JSON]
Write: TypeAlias = Callable[[Message, Any], None]


class Procedure:
    """How the messages of one procedure become the arguments, and are made of the results, of one method."""

    def __init__(self, method: Exported, request_type: type[Message], response_type: type[Message]) -> None:
        """JumpstarterUsageError if the request has no field for one of the method's parameters."""
        self._response_type = response_type
        self._fields = _parameters(method, request_type)
        self._method = method.name
        self._known = {field.name for field, _, _ in self._fields}
        self._is_empty = response_type is empty_pb2.Empty
        fields = response_type.DESCRIPTOR.fields
        name = response_type.DESCRIPTOR.name
        self._value = (
            fields[0] if name.endswith("Response") and [one.name for one in fields] == ["value"] else None
        )

    def arguments(self, request: Message) -> list[JSON]:
        """Positional arguments as DriverCall has them, before they are converted by the method's hints.

        Raises:
            ValueError: a value is invalid, or this device's method has no such parameter; names the field.
        """
        for field, _ in request.ListFields():
            if field.name not in self._known:
                raise ValueError(f"{self._method} of this device does not take {field.name}; leave it out")
        found: list[JSON] = []
        missing: list[JSON] = []
        for field, default, read in self._fields:
            if field.has_presence and not request.HasField(field.name):
                missing.append(default)
                continue
            found += missing
            missing.clear()
            try:
                found.append(read(getattr(request, field.name)))
            except ValueError as error:
                raise ValueError(f"{field.name}: {error}") from None
        return found

    def reply(self, result: object) -> Message:
        """The response message.

        Raises:
            ValueError: the driver returned what the message has no place for.
        """
        reply = self._response_type()
        if self._is_empty:
            if result is not None:
                raise ValueError(
                    f"the driver returned {type(result).__name__} where its interface returns nothing"
                )
            return reply
        try:
            if self._value is not None:
                _set(reply, self._value, result)
            else:
                _fill(reply, result)
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"the driver's result does not fit {reply.DESCRIPTOR.full_name}: {error}"
            ) from None
        return reply


@cache
def procedure(method: Exported, request_type: Any, response_type: Any) -> Procedure:
    """The same, made once for each method."""
    return Procedure(method, request_type, response_type)


def _parameters(method: Exported, request_type: type[Message]) -> list[tuple[Field, Any, Read]]:
    if request_type is empty_pb2.Empty:
        return []
    fields = request_type.DESCRIPTOR.fields_by_name
    found: list[tuple[Field, Any, Read]] = []
    for parameter in list(inspect.signature(method.function).parameters.values())[1:]:
        if parameter.name not in fields:
            raise JumpstarterUsageError(
                f"{request_type.DESCRIPTOR.full_name} has no field for the parameter {parameter.name} of {method.name}"
            )
        field = fields[parameter.name]
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        found.append((field, default, _reader(field)))
    return found


def _reader(field: Field) -> Read:
    read = _item_reader(field)
    return (lambda items: [read(item) for item in items]) if field.is_repeated else read


def _item_reader(field: Field) -> Read:
    if field.message_type is not None:
        return from_value if field.message_type.full_name == VALUE else _read_message
    if field.enum_type is not None:
        names = _texts(field.enum_type)
        return lambda number: names.get(number, number)
    if field.GetOptions().Extensions[RESOURCE_HANDLE]:
        return _handle
    return lambda item: item


def _read_message(message: Any) -> JSON:
    return {
        field.name: _reader(field)(getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _handle(text: str) -> JSON:
    """A resource handle: the UUID of a stream that is open, a URL to fetch from, or a handle as JSON."""
    if text.startswith("{"):
        handle: JSON = decode_json(text, dict[str, Any])
        return handle
    if "://" in text:
        return {"kind": "presigned_request", "method": "GET", "url": text, "headers": {}}
    try:
        return {"kind": "client_stream", "uuid": str(UUID(text)), "x_jmp_content_encoding": None}
    except ValueError:
        raise ValueError("a resource handle is the UUID of a stream, a URL, or a handle as JSON") from None


def _fill(message: Any, item: object) -> None:
    get = item.get if isinstance(item, Mapping) else lambda name: getattr(item, name)
    for field in message.DESCRIPTOR.fields:
        _set(message, field, get(field.name))


def _set(message: Any, field: Field, item: Any) -> None:
    if item is None:
        return
    kind = field.message_type
    if field.is_repeated:
        items = getattr(message, field.name)
        if kind is None:
            items.extend(_scalar(field, one) for one in item)
        else:
            for one in item:
                _fill_one(items.add(), kind.full_name, one)
    elif kind is None:
        setattr(message, field.name, _scalar(field, item))
    else:
        part = getattr(message, field.name)
        part.SetInParent()
        _fill_one(part, kind.full_name, item)


def _fill_one(part: Any, kind: str, item: object) -> None:
    if kind == VALUE:
        part.CopyFrom(to_value(item))
    else:
        _fill(part, item)


def _scalar(field: Field, item: Any) -> Any:
    if field.enum_type is not None:
        numbers = {text: number for number, text in _texts(field.enum_type).items()}
        text = item if isinstance(item, str) else item.value
        if text not in numbers:
            raise ValueError(f"{field.name} is {text!r}, and may be {', '.join(numbers)}")
        return numbers[text]
    if isinstance(item, UUID) or (field.cpp_type == FieldDescriptor.CPPTYPE_STRING and isinstance(item, str)):
        return str(item)
    return item


@cache
def _texts(enum: EnumDescriptor) -> dict[int, str]:
    """Numbers and the Python values that they stand for: `STATE_ON` of the enum State is "on"."""
    prefix = "".join(f"_{one}" if one.isupper() else one.upper() for one in enum.name).lstrip("_") + "_"
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values}
