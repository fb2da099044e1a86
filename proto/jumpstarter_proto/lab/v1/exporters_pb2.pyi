import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from jumpstarter_proto.client.v1 import client_pb2 as _client_pb2
from jumpstarter_proto.lab.v1 import exporter_pb2 as _exporter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LeaseScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEASE_SCOPE_NONE: _ClassVar[LeaseScope]
    LEASE_SCOPE_OWN: _ClassVar[LeaseScope]
    LEASE_SCOPE_ALL: _ClassVar[LeaseScope]
    LEASE_SCOPE_HELD: _ClassVar[LeaseScope]
LEASE_SCOPE_NONE: LeaseScope
LEASE_SCOPE_OWN: LeaseScope
LEASE_SCOPE_ALL: LeaseScope
LEASE_SCOPE_HELD: LeaseScope

class WatchRequest(_message.Message):
    __slots__ = ("after", "exporters", "exporter_filter", "leases", "lease_filter", "tag_filter", "lease", "waits", "knows")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    EXPORTERS_FIELD_NUMBER: _ClassVar[int]
    EXPORTER_FILTER_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LEASE_FILTER_FIELD_NUMBER: _ClassVar[int]
    TAG_FILTER_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    KNOWS_FIELD_NUMBER: _ClassVar[int]
    after: str
    exporters: bool
    exporter_filter: str
    leases: LeaseScope
    lease_filter: str
    tag_filter: str
    lease: str
    waits: bool
    knows: bool
    def __init__(self, after: _Optional[str] = ..., exporters: bool = ..., exporter_filter: _Optional[str] = ..., leases: _Optional[_Union[LeaseScope, str]] = ..., lease_filter: _Optional[str] = ..., tag_filter: _Optional[str] = ..., lease: _Optional[str] = ..., waits: bool = ..., knows: bool = ...) -> None: ...

class LabNews(_message.Message):
    __slots__ = ("snapshot", "revision", "exporters", "leases", "gone_exporters", "gone_leases")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EXPORTERS_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    GONE_EXPORTERS_FIELD_NUMBER: _ClassVar[int]
    GONE_LEASES_FIELD_NUMBER: _ClassVar[int]
    snapshot: bool
    revision: str
    exporters: _containers.RepeatedCompositeFieldContainer[_client_pb2.Exporter]
    leases: _containers.RepeatedCompositeFieldContainer[LeaseNews]
    gone_exporters: _containers.RepeatedScalarFieldContainer[str]
    gone_leases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, snapshot: bool = ..., revision: _Optional[str] = ..., exporters: _Optional[_Iterable[_Union[_client_pb2.Exporter, _Mapping]]] = ..., leases: _Optional[_Iterable[_Union[LeaseNews, _Mapping]]] = ..., gone_exporters: _Optional[_Iterable[str]] = ..., gone_leases: _Optional[_Iterable[str]] = ...) -> None: ...

class LeaseNews(_message.Message):
    __slots__ = ("lease", "reason", "place", "at_the_latest")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    AT_THE_LATEST_FIELD_NUMBER: _ClassVar[int]
    lease: _client_pb2.Lease
    reason: str
    place: int
    at_the_latest: _duration_pb2.Duration
    def __init__(self, lease: _Optional[_Union[_client_pb2.Lease, _Mapping]] = ..., reason: _Optional[str] = ..., place: _Optional[int] = ..., at_the_latest: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetExporterDetailsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListExporterDetailsRequest(_message.Message):
    __slots__ = ("page_token",)
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_token: str
    def __init__(self, page_token: _Optional[str] = ...) -> None: ...

class ListExporterDetailsResponse(_message.Message):
    __slots__ = ("exporters", "next_page_token")
    EXPORTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    exporters: _containers.RepeatedCompositeFieldContainer[ExporterDetails]
    next_page_token: str
    def __init__(self, exporters: _Optional[_Iterable[_Union[ExporterDetails, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExporterDetails(_message.Message):
    __slots__ = ("name", "devices", "omitted_devices", "reasons", "host", "gone_since", "health", "hooks")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    OMITTED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    GONE_SINCE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    HOOKS_FIELD_NUMBER: _ClassVar[int]
    name: str
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    omitted_devices: int
    reasons: _containers.RepeatedCompositeFieldContainer[_exporter_pb2.Reason]
    host: str
    gone_since: _timestamp_pb2.Timestamp
    health: HostHealth
    hooks: _containers.RepeatedCompositeFieldContainer[Hook]
    def __init__(self, name: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., omitted_devices: _Optional[int] = ..., reasons: _Optional[_Iterable[_Union[_exporter_pb2.Reason, _Mapping]]] = ..., host: _Optional[str] = ..., gone_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., health: _Optional[_Union[HostHealth, _Mapping]] = ..., hooks: _Optional[_Iterable[_Union[Hook, _Mapping]]] = ...) -> None: ...

class Hook(_message.Message):
    __slots__ = ("name", "timeout_seconds", "on_failure")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    timeout_seconds: int
    on_failure: str
    def __init__(self, name: _Optional[str] = ..., timeout_seconds: _Optional[int] = ..., on_failure: _Optional[str] = ...) -> None: ...

class HostHealth(_message.Message):
    __slots__ = ("findings", "omitted_findings", "measures", "reported")
    class MeasuresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FINDINGS_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[_exporter_pb2.HealthFinding]
    omitted_findings: int
    measures: _containers.ScalarMap[str, float]
    reported: _timestamp_pb2.Timestamp
    def __init__(self, findings: _Optional[_Iterable[_Union[_exporter_pb2.HealthFinding, _Mapping]]] = ..., omitted_findings: _Optional[int] = ..., measures: _Optional[_Mapping[str, float]] = ..., reported: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("path", "interface", "client", "state", "reason", "description")
    PATH_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    path: str
    interface: str
    client: str
    state: str
    reason: str
    description: str
    def __init__(self, path: _Optional[str] = ..., interface: _Optional[str] = ..., client: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...
