"""The messages of `grpc.testing.TestService`, gRPC's service for interoperability tests, without code generation."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "grpc.testing"
_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "Empty": {},
    "Payload": {"type": (1, "int32"), "body": (2, "bytes")},
    "EchoStatus": {"code": (1, "int32"), "message": (2, "string")},
    "SimpleRequest": {
        "response_type": (1, "int32"),
        "response_size": (2, "int32"),
        "payload": (3, "Payload"),
        "response_status": (7, "EchoStatus"),
    },
    "SimpleResponse": {"payload": (1, "Payload"), "server_id": (4, "string")},
    "StreamingInputCallRequest": {"payload": (1, "Payload")},
    "StreamingInputCallResponse": {"aggregated_payload_size": (1, "int32")},
    "ResponseParameters": {"size": (1, "int32"), "interval_us": (2, "int32")},
    "StreamingOutputCallRequest": {
        "response_type": (1, "int32"),
        "response_parameters": (2, "repeated ResponseParameters"),
        "payload": (3, "Payload"),
        "response_status": (7, "EchoStatus"),
    },
    "StreamingOutputCallResponse": {"payload": (1, "Payload")},
}
"""By message: number and type of each field that the cases use. An enum is a number on the wire."""
_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {"int32": _Field.TYPE_INT32, "bytes": _Field.TYPE_BYTES, "string": _Field.TYPE_STRING}


def _made() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/rpc/messages.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, words) in fields.items():
            *repeated, kind = words.split()
            added = message.field.add(name=field, number=number)
            added.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if kind in _TYPES:
                added.type = _TYPES[kind]
            else:
                added.type, added.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in _FIELDS
    }


_classes = _made()
Empty: Any = _classes["Empty"]
Payload: Any = _classes["Payload"]
EchoStatus: Any = _classes["EchoStatus"]
SimpleRequest: Any = _classes["SimpleRequest"]
SimpleResponse: Any = _classes["SimpleResponse"]
StreamingInputCallRequest: Any = _classes["StreamingInputCallRequest"]
StreamingInputCallResponse: Any = _classes["StreamingInputCallResponse"]
ResponseParameters: Any = _classes["ResponseParameters"]
StreamingOutputCallRequest: Any = _classes["StreamingOutputCallRequest"]
StreamingOutputCallResponse: Any = _classes["StreamingOutputCallResponse"]
