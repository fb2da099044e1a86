import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from jumpstarter_proto.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchAssignmentRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("lease", "client", "context", "offered", "end", "waiting_lease", "waiting_client")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    OFFERED_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    WAITING_LEASE_FIELD_NUMBER: _ClassVar[int]
    WAITING_CLIENT_FIELD_NUMBER: _ClassVar[int]
    lease: str
    client: str
    context: _containers.ScalarMap[str, str]
    offered: bool
    end: _timestamp_pb2.Timestamp
    waiting_lease: str
    waiting_client: str
    def __init__(self, lease: _Optional[str] = ..., client: _Optional[str] = ..., context: _Optional[_Mapping[str, str]] = ..., offered: bool = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., waiting_lease: _Optional[str] = ..., waiting_client: _Optional[str] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("code", "sentence")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    code: str
    sentence: str
    def __init__(self, code: _Optional[str] = ..., sentence: _Optional[str] = ...) -> None: ...

class AcceptLeaseRequest(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    def __init__(self, lease: _Optional[str] = ...) -> None: ...

class AcceptLeaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeclineLeaseRequest(_message.Message):
    __slots__ = ("lease", "reasons")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    lease: str
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    def __init__(self, lease: _Optional[str] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ...) -> None: ...

class DeclineLeaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportStatusRequest(_message.Message):
    __slots__ = ("status", "message", "reasons")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.ExporterStatus
    message: str
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    def __init__(self, status: _Optional[_Union[_common_pb2.ExporterStatus, str]] = ..., message: _Optional[str] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ...) -> None: ...

class ReportStatusResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthFinding(_message.Message):
    __slots__ = ("key", "severity", "subject", "sentence", "cure")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    CURE_FIELD_NUMBER: _ClassVar[int]
    key: str
    severity: str
    subject: str
    sentence: str
    cure: str
    def __init__(self, key: _Optional[str] = ..., severity: _Optional[str] = ..., subject: _Optional[str] = ..., sentence: _Optional[str] = ..., cure: _Optional[str] = ...) -> None: ...

class ReportHealthRequest(_message.Message):
    __slots__ = ("findings", "measures")
    class MeasuresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[HealthFinding]
    measures: _containers.ScalarMap[str, float]
    def __init__(self, findings: _Optional[_Iterable[_Union[HealthFinding, _Mapping]]] = ..., measures: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ReportHealthResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeviceCall(_message.Message):
    __slots__ = ("device", "method", "lease", "user", "by_hook", "session", "status", "age_seconds", "seconds", "received_bytes", "sent_bytes")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    BY_HOOK_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    device: str
    method: str
    lease: str
    user: str
    by_hook: bool
    session: str
    status: str
    age_seconds: float
    seconds: float
    received_bytes: int
    sent_bytes: int
    def __init__(self, device: _Optional[str] = ..., method: _Optional[str] = ..., lease: _Optional[str] = ..., user: _Optional[str] = ..., by_hook: bool = ..., session: _Optional[str] = ..., status: _Optional[str] = ..., age_seconds: _Optional[float] = ..., seconds: _Optional[float] = ..., received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ...) -> None: ...

class ReportCallsRequest(_message.Message):
    __slots__ = ("reporter", "first", "calls", "omitted")
    REPORTER_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    reporter: str
    first: int
    calls: _containers.RepeatedCompositeFieldContainer[DeviceCall]
    omitted: int
    def __init__(self, reporter: _Optional[str] = ..., first: _Optional[int] = ..., calls: _Optional[_Iterable[_Union[DeviceCall, _Mapping]]] = ..., omitted: _Optional[int] = ...) -> None: ...

class ReportCallsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
