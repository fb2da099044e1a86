from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FindListenerRequest(_message.Message):
    __slots__ = ("namespace", "lease", "seconds")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    lease: str
    seconds: float
    def __init__(self, namespace: _Optional[str] = ..., lease: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class FindListenerResponse(_message.Message):
    __slots__ = ("listens",)
    LISTENS_FIELD_NUMBER: _ClassVar[int]
    listens: bool
    def __init__(self, listens: bool = ...) -> None: ...

class RouterConnection(_message.Message):
    __slots__ = ("router_endpoint", "router_token")
    ROUTER_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ROUTER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    router_endpoint: str
    router_token: str
    def __init__(self, router_endpoint: _Optional[str] = ..., router_token: _Optional[str] = ...) -> None: ...

class HandOverRequest(_message.Message):
    __slots__ = ("namespace", "lease", "connection")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    lease: str
    connection: RouterConnection
    def __init__(self, namespace: _Optional[str] = ..., lease: _Optional[str] = ..., connection: _Optional[_Union[RouterConnection, _Mapping]] = ...) -> None: ...

class HandOverResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TakeListenerRequest(_message.Message):
    __slots__ = ("namespace", "lease", "process")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    lease: str
    process: str
    def __init__(self, namespace: _Optional[str] = ..., lease: _Optional[str] = ..., process: _Optional[str] = ...) -> None: ...

class TakeListenerResponse(_message.Message):
    __slots__ = ("waiting",)
    WAITING_FIELD_NUMBER: _ClassVar[int]
    waiting: _containers.RepeatedCompositeFieldContainer[RouterConnection]
    def __init__(self, waiting: _Optional[_Iterable[_Union[RouterConnection, _Mapping]]] = ...) -> None: ...

class AdmitProcessRequest(_message.Message):
    __slots__ = ("namespace", "exporter", "process", "peer")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    EXPORTER_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    exporter: str
    process: str
    peer: str
    def __init__(self, namespace: _Optional[str] = ..., exporter: _Optional[str] = ..., process: _Optional[str] = ..., peer: _Optional[str] = ...) -> None: ...

class AdmitProcessResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NoteWaitersRequest(_message.Message):
    __slots__ = ("waiters",)
    WAITERS_FIELD_NUMBER: _ClassVar[int]
    waiters: _containers.RepeatedCompositeFieldContainer[Waiter]
    def __init__(self, waiters: _Optional[_Iterable[_Union[Waiter, _Mapping]]] = ...) -> None: ...

class Waiter(_message.Message):
    __slots__ = ("namespace", "lease", "knows")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    KNOWS_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    lease: str
    knows: bool
    def __init__(self, namespace: _Optional[str] = ..., lease: _Optional[str] = ..., knows: bool = ...) -> None: ...

class NoteWaitersResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
