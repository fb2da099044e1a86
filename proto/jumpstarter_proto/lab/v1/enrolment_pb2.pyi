from jumpstarter_proto.lab.v1 import lab_pb2 as _lab_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class EnrolRequest(_message.Message):
    __slots__ = ("kind", "code")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    code: str
    def __init__(self, kind: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...
