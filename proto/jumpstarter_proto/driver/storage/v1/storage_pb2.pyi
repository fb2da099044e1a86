from google.protobuf import struct_pb2 as _struct_pb2
from jumpstarter_proto.annotations import annotations_pb2 as _annotations_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Compression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_UNSPECIFIED: _ClassVar[Compression]
    COMPRESSION_AUTO: _ClassVar[Compression]
    COMPRESSION_NONE: _ClassVar[Compression]
    COMPRESSION_GZIP: _ClassVar[Compression]
    COMPRESSION_XZ: _ClassVar[Compression]
    COMPRESSION_BZ2: _ClassVar[Compression]
    COMPRESSION_ZSTD: _ClassVar[Compression]
    COMPRESSION_LZMA: _ClassVar[Compression]
    COMPRESSION_LZ4: _ClassVar[Compression]
COMPRESSION_UNSPECIFIED: Compression
COMPRESSION_AUTO: Compression
COMPRESSION_NONE: Compression
COMPRESSION_GZIP: Compression
COMPRESSION_XZ: Compression
COMPRESSION_BZ2: Compression
COMPRESSION_ZSTD: Compression
COMPRESSION_LZMA: Compression
COMPRESSION_LZ4: Compression

class FlashRequest(_message.Message):
    __slots__ = ("handle", "target", "options")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    handle: str
    target: str
    options: WriteOptions
    def __init__(self, handle: _Optional[str] = ..., target: _Optional[str] = ..., options: _Optional[_Union[WriteOptions, _Mapping]] = ...) -> None: ...

class WriteOptions(_message.Message):
    __slots__ = ("size", "compression", "verify", "force", "changes")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    VERIFY_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    size: int
    compression: Compression
    verify: bool
    force: bool
    changes: bool
    def __init__(self, size: _Optional[int] = ..., compression: _Optional[_Union[Compression, str]] = ..., verify: bool = ..., force: bool = ..., changes: bool = ...) -> None: ...

class FlashResponse(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _struct_pb2.Value
    def __init__(self, value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...

class DumpRequest(_message.Message):
    __slots__ = ("handle", "target")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    handle: str
    target: str
    def __init__(self, handle: _Optional[str] = ..., target: _Optional[str] = ...) -> None: ...

class DumpResponse(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _struct_pb2.Value
    def __init__(self, value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
