from jumpstarter_proto.v1 import jumpstarter_pb2 as _jumpstarter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DrainRequest(_message.Message):
    __slots__ = ("board", "exit")
    BOARD_FIELD_NUMBER: _ClassVar[int]
    EXIT_FIELD_NUMBER: _ClassVar[int]
    board: str
    exit: bool
    def __init__(self, board: _Optional[str] = ..., exit: bool = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("boards",)
    BOARDS_FIELD_NUMBER: _ClassVar[int]
    boards: _containers.RepeatedCompositeFieldContainer[Board]
    def __init__(self, boards: _Optional[_Iterable[_Union[Board, _Mapping]]] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("board",)
    BOARD_FIELD_NUMBER: _ClassVar[int]
    board: str
    def __init__(self, board: _Optional[str] = ...) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ("boards", "started")
    BOARDS_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    boards: _containers.RepeatedCompositeFieldContainer[Board]
    started: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, boards: _Optional[_Iterable[_Union[Board, _Mapping]]] = ..., started: _Optional[_Iterable[str]] = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("device",)
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    device: str
    def __init__(self, device: _Optional[str] = ...) -> None: ...

class ForgetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadResponse(_message.Message):
    __slots__ = ("boards",)
    BOARDS_FIELD_NUMBER: _ClassVar[int]
    boards: _containers.RepeatedCompositeFieldContainer[ReloadedBoard]
    def __init__(self, boards: _Optional[_Iterable[_Union[ReloadedBoard, _Mapping]]] = ...) -> None: ...

class ReloadedBoard(_message.Message):
    __slots__ = ("name", "outcome", "text")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[ReloadedBoard.Outcome]
        OUTCOME_UNCHANGED: _ClassVar[ReloadedBoard.Outcome]
        OUTCOME_STARTED: _ClassVar[ReloadedBoard.Outcome]
        OUTCOME_RESTARTED: _ClassVar[ReloadedBoard.Outcome]
        OUTCOME_REMOVED: _ClassVar[ReloadedBoard.Outcome]
        OUTCOME_WAITING: _ClassVar[ReloadedBoard.Outcome]
        OUTCOME_BROKEN: _ClassVar[ReloadedBoard.Outcome]
        OUTCOME_FAILED: _ClassVar[ReloadedBoard.Outcome]
    OUTCOME_UNSPECIFIED: ReloadedBoard.Outcome
    OUTCOME_UNCHANGED: ReloadedBoard.Outcome
    OUTCOME_STARTED: ReloadedBoard.Outcome
    OUTCOME_RESTARTED: ReloadedBoard.Outcome
    OUTCOME_REMOVED: ReloadedBoard.Outcome
    OUTCOME_WAITING: ReloadedBoard.Outcome
    OUTCOME_BROKEN: ReloadedBoard.Outcome
    OUTCOME_FAILED: ReloadedBoard.Outcome
    NAME_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    outcome: ReloadedBoard.Outcome
    text: str
    def __init__(self, name: _Optional[str] = ..., outcome: _Optional[_Union[ReloadedBoard.Outcome, str]] = ..., text: _Optional[str] = ...) -> None: ...

class ListBoardsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBoardsResponse(_message.Message):
    __slots__ = ("boards", "unassigned", "problems")
    BOARDS_FIELD_NUMBER: _ClassVar[int]
    UNASSIGNED_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    boards: _containers.RepeatedCompositeFieldContainer[Board]
    unassigned: _containers.RepeatedCompositeFieldContainer[UnassignedDevice]
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, boards: _Optional[_Iterable[_Union[Board, _Mapping]]] = ..., unassigned: _Optional[_Iterable[_Union[UnassignedDevice, _Mapping]]] = ..., problems: _Optional[_Iterable[str]] = ...) -> None: ...

class UnassignedDevice(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Board(_message.Message):
    __slots__ = ("name", "problem", "report", "use", "socket", "change", "file", "discovered", "exporter")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    SOCKET_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    DISCOVERED_FIELD_NUMBER: _ClassVar[int]
    EXPORTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    problem: str
    report: _jumpstarter_pb2.GetReportResponse
    use: str
    socket: str
    change: str
    file: str
    discovered: bool
    exporter: str
    def __init__(self, name: _Optional[str] = ..., problem: _Optional[str] = ..., report: _Optional[_Union[_jumpstarter_pb2.GetReportResponse, _Mapping]] = ..., use: _Optional[str] = ..., socket: _Optional[str] = ..., change: _Optional[str] = ..., file: _Optional[str] = ..., discovered: bool = ..., exporter: _Optional[str] = ...) -> None: ...
