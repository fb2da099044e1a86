"""The host socket: where local users connect, whichever board they use.

A host with one board serves it on this socket. With several, each call names its board; a call without one is refused
with the list of boards.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import trio
from jumpstarter_proto.call_metadata import BOARD
from jumpstarter_proto.file_names import path_text
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceServicer
from jumpstarter_proto.rpc import RpcError, ServedConnection, ServerCall, Servicer, StatusCode
from jumpstarter_proto.texts import shown
from jumpstarter_proto.yaml_files import nearest

from jumpstarter_exporter.callers import caller_name
from jumpstarter_exporter.devices.look import LOOK
from jumpstarter_exporter.hooks.runner import is_in_hook
from jumpstarter_exporter.serve.board import ServedBoard
from jumpstarter_exporter.serve.other_processes import (
    ask_other_processes,
    on_its_host_only,
    served_elsewhere_error,
)
from jumpstarter_exporter.session.report import add_looks
from jumpstarter_exporter.session.selection import CallUse
from jumpstarter_exporter.session.services import services
from jumpstarter_exporter.session.session import Session
from jumpstarter_exporter.user_reach import limit_reach
from jumpstarter_exporter.visibility import Visits, see_since

if TYPE_CHECKING:
    from jumpstarter_exporter.boards.grouping import Unassigned
    from jumpstarter_exporter.config.folder import BoardFile

__all__ = [
    "BOARD",
    "BoardRegistry",
    "BoardServer",
    "Discovered",
    "HostServer",
    "NoDiscovery",
    "ReloadOutcome",
    "Reloaded",
]

CALL_FROM_HOOK_SECONDS = 10.0
"""A hook that drains, resumes or reloads boards gets its answer within this time: a longer operation may wait for the
hook itself."""


class ReloadOutcome(enum.Enum):
    """What a reload did with a board."""

    UNCHANGED = enum.auto()
    STARTED = enum.auto()
    RESTARTED = enum.auto()
    REMOVED = enum.auto()
    WAITING = enum.auto()
    """It is in use; the change is applied afterwards."""
    BROKEN = enum.auto()
    """Its file is invalid. A board that is served stays unchanged; a new one is served with its valid devices."""
    FAILED = enum.auto()
    """It cannot be served."""


@dataclass(frozen=True)
class Reloaded:
    """The result of a reload for one board."""

    name: str
    outcome: ReloadOutcome
    text: str
    """For people."""


class Discovered(Protocol):
    """What was discovered on a host, besides its boards."""

    @property
    def unassigned(self) -> Sequence[Unassigned]:
        """Devices that belong to no board."""

    @property
    def problems(self) -> Sequence[str]:
        """Errors, and devices that are not offered, for people."""

    @property
    def known_names(self) -> Collection[str]:
        """The names of all remembered devices, present or missing."""

    async def forget(self, name: str) -> bool:
        """Forget a missing device; False if it is not missing, or if no device has that name."""


class NoDiscovery:
    """Discovery is off."""

    unassigned = ()
    problems = ()
    known_names = ()

    async def forget(self, name: str) -> bool:
        """Always False: there is none."""
        return False


async def _nothing(name: str) -> list[str]:
    return []


async def _no_reload() -> Sequence[Reloaded]:
    return ()


@dataclass
class BoardRegistry:
    """The boards of a host by name, and the operations on all of them."""

    served: dict[str, ServedBoard] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Why other boards are not served."""
    elsewhere: dict[str, Path] = field(default_factory=dict)
    """The files of boards that other processes serve, or will."""
    changes: dict[str, str] = field(default_factory=dict)
    """Why served boards differ from their files; empty if they do not."""
    file_of: Callable[[str], BoardFile | None] = lambda name: None
    """The file of a board, if it is known."""
    discovery: Discovered = field(default_factory=NoDiscovery)
    """What was discovered on the host."""
    default: Callable[[], str] | None = None
    """The board for users who name none; by default the only one."""
    leave: Callable[[], None] = lambda: None
    """Ends the exporter when no lease is served any more."""
    resume: Callable[[str], Awaitable[Sequence[str]]] = _nothing
    """Starts that board, or all, if they are not served; returns those that are served then."""
    reload: Callable[[], Awaitable[Sequence[Reloaded]]] = _no_reload
    """Reloads the files."""

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self.served, *self.problems, *self.elsewhere})


class HostServer:
    """One way in.

    From the network (`is_remote`), each board's `fetch` setting bounds what its users reach, and they see recordings
    from the begin of their visit on.
    """

    def __init__(self, registry: BoardRegistry, *, is_remote: bool = False) -> None:
        self._registry = registry
        self._visits = Visits() if is_remote else None
        self._chosen: WeakKeyDictionary[ServedConnection, str] = WeakKeyDictionary()
        """The only board when a user connected without naming one; that user keeps it."""

    def services(self) -> tuple[Servicer, ...]:
        """The services on the socket."""
        return (*services(self), _Host(self._registry, is_remote=self._visits is not None))

    async def enter(self, call: ServerCall[Any, Any], use: CallUse) -> Session:
        """A session of the call's board. RpcError if there is none."""
        name = _chosen(call)
        board = await _board(
            self._registry, name or self._chosen.get(call.connection), is_remote=self._visits is not None
        )
        if not name:
            self._chosen[call.connection] = board.name
        if self._visits is not None:
            limit_reach(board.reach)
            see_since(self._visits.since(call))
        return await board.enter(call, use)


def _chosen(call: ServerCall[Any, Any]) -> str | None:
    """The name in the caller's metadata: as text, or as UTF-8 if it is not ASCII."""
    named = [value for key, value in call.metadata if key == f"{BOARD}-bin" and isinstance(value, bytes)]
    return named[-1].decode(errors="replace") if named else call.header(BOARD)


class _Host(HostServiceServicer):
    def __init__(self, registry: BoardRegistry, *, is_remote: bool) -> None:
        self._registry = registry
        self._is_remote = is_remote

    async def ListBoards(  # noqa: N802 - the method's name on the wire
        self,
        request: host_pb2.ListBoardsRequest,
        call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse],
    ) -> host_pb2.ListBoardsResponse:
        boards = [_told(self._registry, name) for name in self._registry.names]
        if call.header(LOOK):
            await _look(self._registry, boards)
        found = self._registry.discovery
        elsewhere = self._registry.elsewhere
        if self._is_remote:
            for board in boards:
                board.socket = board.file = ""  # paths of this host
                if board.name in elsewhere:
                    board.problem = on_its_host_only(board.name)
        else:
            await ask_other_processes({elsewhere[one.name]: one for one in boards if one.name in elsewhere})
        return host_pb2.ListBoardsResponse(
            boards=boards,
            unassigned=[
                host_pb2.UnassignedDevice(name=one.device.path, reason=one.reason) for one in found.unassigned
            ],
            problems=found.problems,
        )

    async def Drain(  # noqa: N802
        self, request: host_pb2.DrainRequest, call: ServerCall[host_pb2.DrainRequest, host_pb2.DrainResponse]
    ) -> host_pb2.DrainResponse:
        why = f"by {await caller_name(call)}"
        # A drain for the end of the process is not meant for boards: the next process leases them again.
        ends = request.exit and not request.board
        _let_its_keeper_in(call)
        names = await self._changed(request.board, lambda board: not ends and board.drain(why))
        if request.exit:
            self._registry.leave()
            names = names or [name for name, board in self._registry.served.items() if board.is_leased]
        return host_pb2.DrainResponse(boards=[_told(self._registry, name) for name in names])

    async def Resume(  # noqa: N802
        self,
        request: host_pb2.ResumeRequest,
        call: ServerCall[host_pb2.ResumeRequest, host_pb2.ResumeResponse],
    ) -> host_pb2.ResumeResponse:
        _let_its_keeper_in(call)
        with _bounded_in_hooks(call):
            started = await self._registry.resume(request.board)
        names = (
            []
            if request.board in (*started, *self._registry.problems)
            else await self._changed(request.board, _resume)
        )
        names = sorted({*names, *started, *([request.board] if request.board else [])})
        return host_pb2.ResumeResponse(
            boards=[_told(self._registry, name) for name in names], started=started
        )

    async def Forget(  # noqa: N802
        self,
        request: host_pb2.ForgetRequest,
        call: ServerCall[host_pb2.ForgetRequest, host_pb2.ForgetResponse],
    ) -> host_pb2.ForgetResponse:
        _let_its_keeper_in(call)
        discovery, name = self._registry.discovery, shown(request.device)
        if not await discovery.forget(request.device):
            if request.device in discovery.known_names:
                raise RpcError(
                    StatusCode.FAILED_PRECONDITION,
                    f"{name} cannot be forgotten while it is plugged in; unplug it first",
                )
            raise RpcError(
                StatusCode.NOT_FOUND,
                f"no device {name} was discovered (`jumpstarter-exporter boards` lists what there is); "
                f"{nearest(request.device, discovery.known_names)}",
            )
        return host_pb2.ForgetResponse()

    async def Reload(  # noqa: N802
        self,
        request: host_pb2.ReloadRequest,
        call: ServerCall[host_pb2.ReloadRequest, host_pb2.ReloadResponse],
    ) -> host_pb2.ReloadResponse:
        _let_its_keeper_in(call)
        with _bounded_in_hooks(call):
            reloaded = await self._registry.reload()
        return host_pb2.ReloadResponse(
            boards=[
                host_pb2.ReloadedBoard(
                    name=one.name,
                    outcome=f"OUTCOME_{one.outcome.name}",
                    text=one.text,
                )
                for one in reloaded
            ]
        )

    async def _changed(self, name: str, change: Callable[[ServedBoard], bool]) -> list[str]:
        """The boards that were changed: that one, or all."""
        if not name:
            return [one for one, board in self._registry.served.items() if change(board)]
        if name in self._registry.elsewhere:
            raise RpcError(
                StatusCode.FAILED_PRECONDITION,
                await served_elsewhere_error(name, self._registry.elsewhere[name], "--socket"),
            )
        if not change(await _board(self._registry, name)):
            raise RpcError(
                StatusCode.FAILED_PRECONDITION,
                f"no controller leases the board {shown(name)}: there is nothing to drain or resume",
            )
        return [name]


class BoardServer(HostServiceServicer):
    """The services on a board's own socket: like the host's, but for this board only."""

    def __init__(self, registry: BoardRegistry, name: str) -> None:
        self._registry = registry
        self._name = name

    async def ListBoards(  # noqa: N802 - the method's name on the wire
        self,
        request: host_pb2.ListBoardsRequest,
        call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse],
    ) -> host_pb2.ListBoardsResponse:
        """List that one alone."""
        return host_pb2.ListBoardsResponse(boards=[_told(self._registry, self._name)])


def _let_its_keeper_in(call: ServerCall[Any, Any]) -> None:
    """RpcError for all other callers."""
    if call.uid not in (0, os.getuid()):
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            "only root and the exporter's own user, on its host, may drain, resume and reload boards, and forget "
            "devices; use sudo",
        )


@contextmanager
def _bounded_in_hooks(call: ServerCall[Any, Any]) -> Iterator[None]:
    """RpcError for a hook that waits in the block for a board that waits for the hook."""
    with trio.CancelScope() as scope:
        if is_in_hook(call.pid):
            scope.deadline = trio.current_time() + CALL_FROM_HOOK_SECONDS
        yield
    if scope.cancelled_caught:
        raise RpcError(
            StatusCode.FAILED_PRECONDITION,
            "a hook cannot wait for this, because the exporter waits for the hook to end; after the hook, operations "
            "that have begun continue, and others have to be repeated",
        )


def _resume(board: ServedBoard) -> bool:
    return board.resume()


async def _board(registry: BoardRegistry, name: str | None, *, is_remote: bool = False) -> ServedBoard:
    names = registry.names
    if not name and registry.default is not None:
        name = registry.default()
    elif not name and len(names) == 1:
        name = names[0]
    choice = ", ".join(map(shown, names))
    if not names:
        raise RpcError(StatusCode.FAILED_PRECONDITION, "this host has no board; see the exporter's log")
    if not name:
        raise RpcError(
            StatusCode.FAILED_PRECONDITION,
            f"this host has the boards {choice}; choose one: --board {shown(names[0])}",
        )
    if name in registry.problems:
        raise RpcError(
            StatusCode.FAILED_PRECONDITION,
            f"the board {shown(name)} is not served: {registry.problems[name]}",
        )
    if name in registry.elsewhere:
        if is_remote:
            why = f"the board {shown(name)} is not served here: {on_its_host_only(name)}"
        else:
            why = await served_elsewhere_error(name, registry.elsewhere[name])
        raise RpcError(StatusCode.FAILED_PRECONDITION, why)
    if name not in registry.served:
        raise RpcError(StatusCode.NOT_FOUND, f"this host has no board {shown(name)}; it has {choice}")
    return registry.served[name]


async def _look(registry: BoardRegistry, boards: Sequence[host_pb2.Board]) -> None:
    async with trio.open_nursery() as nursery:
        for board in boards:
            served = registry.served.get(board.name)
            if served is not None:
                nursery.start_soon(add_looks, board.report, served.devices)


def _told(registry: BoardRegistry, name: str) -> host_pb2.Board:
    board = registry.served.get(name)
    report = None if board is None else board.report
    use = "" if board is None else board.use
    file = registry.file_of(name)
    # An invalid file does not describe the exporter that continues.
    exporter = "" if board is None else board.exporter
    if not exporter and file is not None and file.config is not None and file.config.enrolment is not None:
        exporter = str(file.config.enrolment)
    return host_pb2.Board(
        name=name,
        problem=registry.problems.get(name, ""),
        report=report,
        use=use,
        change=registry.changes.get(name, ""),
        file="" if file is None or file.is_discovered else path_text(file.path),
        discovered=file is not None and file.is_discovered,
        exporter=exporter,
    )
