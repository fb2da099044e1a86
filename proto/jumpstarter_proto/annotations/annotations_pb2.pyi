from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
RESOURCE_HANDLE_FIELD_NUMBER: _ClassVar[int]
resource_handle: _descriptor.FieldDescriptor
