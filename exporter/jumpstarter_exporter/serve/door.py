"""The door: where users of a host come in, whichever of its boards they use.

A host with one board has that behind its door. With several, each call says which one it is for, and what says
nothing is answered with the choice.
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
from jumpstarter_proto.documents import nearest
from jumpstarter_proto.file_names import path_text
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceServicer
from jumpstarter_proto.rpc import RpcError, ServedConnection, ServerCall, Servicer, StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.entrance import Use
from jumpstarter_exporter.hooks.runner import is_in_hook
from jumpstarter_exporter.people import person_of
from jumpstarter_exporter.serve.board import Board
from jumpstarter_exporter.serve.elsewhere import look_elsewhere, not_here, on_its_host_only
from jumpstarter_exporter.services import services
from jumpstarter_exporter.session import Session
from jumpstarter_exporter.user_reach import limit_reach
from jumpstarter_exporter.view import Visits, see_since

if TYPE_CHECKING:
    from jumpstarter_exporter.boards.grouping import Unassigned
    from jumpstarter_exporter.config.folder import BoardFile

__all__ = ["BOARD", "Discovered", "Door", "NoDiscovery", "Outcome", "OwnDoor", "Reloaded", "Roll"]

BOARD = "x-jumpstarter-board"
HOOK_SECONDS = 10.0
"""A hook gets its answer in that time: what takes longer may wait for the hook itself."""
"""The metadata key that chooses a board."""


class Outcome(enum.Enum):
    """What a reload has done with a board."""

    UNCHANGED = enum.auto()
    STARTED = enum.auto()
    RESTARTED = enum.auto()
    REMOVED = enum.auto()
    WAITING = enum.auto()
    """It is used; what has changed is taken up when that is over."""
    BROKEN = enum.auto()
    """Its file is; a board that is served goes on as it was. One that is new is served with what is right in it."""
    FAILED = enum.auto()
    """It cannot be served."""


@dataclass(frozen=True)
class Reloaded:
    """What a reload has done with one board."""

    name: str
    outcome: Outcome
    text: str
    """For people."""


class Discovered(Protocol):
    """What is discovered on a host, beside its boards."""

    @property
    def unassigned(self) -> Sequence[Unassigned]:
        """Devices that belong to no board."""

    @property
    def problems(self) -> Sequence[str]:
        """What is wrong, and what is not offered, for people."""

    @property
    def known_names(self) -> Collection[str]:
        """Of all devices that are remembered, whether they are there or not."""

    async def forget(self, name: str) -> bool:
        """Remember nothing of a device that is not there; False if it is, or there is none of that name."""


class NoDiscovery:
    """Discovery is off."""

    unassigned = ()
    problems = ()
    known_names = ()

    async def forget(self, name: str) -> bool:
        """There is none."""
        return False


async def _nothing(name: str) -> list[str]:
    return []


async def _no_reload() -> Sequence[Reloaded]:
    return ()


@dataclass
class Roll:
    """The boards of a host, by name, and what may be asked of all of them."""

    served: dict[str, Board] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Why others are not."""
    elsewhere: dict[str, Path] = field(default_factory=dict)
    """The files of those that other processes serve, or are to serve."""
    changes: dict[str, str] = field(default_factory=dict)
    """Why those that are served are not as their files say; empty if they are."""
    file_of: Callable[[str], BoardFile | None] = lambda name: None
    """What a board is to be, if that is known."""
    discovery: Discovered = field(default_factory=NoDiscovery)
    """What is discovered on the host."""
    default: Callable[[], str] | None = None
    """The board of who names none, or nothing; without it the only one that there is."""
    leave: Callable[[], None] = lambda: None
    """Has the exporter end when no lease is served any more."""
    resume: Callable[[str], Awaitable[Sequence[str]]] = _nothing
    """Serves that board, or all, if they are not served and can be; gives the names of those that are, then."""
    reload: Callable[[], Awaitable[Sequence[Reloaded]]] = _no_reload
    """Has the files read again."""

    @property
    def names(self) -> list[str]:
        """All of them, in order."""
        return sorted({*self.served, *self.problems, *self.elsewhere})


class Door:
    """One way in.

    From the network (`is_remote`), each board's `fetch` setting bounds what its users reach, and they see recordings
    from the begin of their visit on.
    """

    def __init__(self, roll: Roll, *, is_remote: bool = False) -> None:
        self._roll = roll
        self._visits = Visits() if is_remote else None
        self._chosen: WeakKeyDictionary[ServedConnection, str] = WeakKeyDictionary()
        """The only board that there was, when somebody came in and named none: they go on to mean it."""

    def services(self) -> tuple[Servicer, ...]:
        """What is served behind it."""
        return (*services(self), _Host(self._roll, is_remote=self._visits is not None))

    async def enter(self, call: ServerCall[Any, Any], use: Use) -> Session:
        """A session of the board that the call is for. RpcError when it names none that can be used."""
        name = _chosen(call)
        board = await _board(
            self._roll, name or self._chosen.get(call.connection), is_remote=self._visits is not None
        )
        if not name:
            self._chosen[call.connection] = board.name
        if self._visits is not None:
            limit_reach(board.reach)
            see_since(self._visits.since(call))
        return await board.enter(call, use)


def _chosen(call: ServerCall[Any, Any]) -> str | None:
    """The name in the caller's metadata: as text, or as UTF-8 where it has other letters than ASCII's."""
    named = [value for key, value in call.metadata if key == f"{BOARD}-bin" and isinstance(value, bytes)]
    return named[-1].decode(errors="replace") if named else call.header(BOARD)


class _Host(HostServiceServicer):
    def __init__(self, roll: Roll, *, is_remote: bool) -> None:
        self._roll = roll
        self._is_remote = is_remote

    async def ListBoards(  # noqa: N802 - the wire's name
        self,
        request: host_pb2.ListBoardsRequest,
        call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse],
    ) -> host_pb2.ListBoardsResponse:
        boards = [_told(self._roll, name) for name in self._roll.names]
        found = self._roll.discovery
        elsewhere = self._roll.elsewhere
        if self._is_remote:
            for board in boards:
                board.socket = board.file = ""  # of this host
                if board.name in elsewhere:
                    board.problem = on_its_host_only(board.name)
        else:
            await look_elsewhere({elsewhere[one.name]: one for one in boards if one.name in elsewhere})
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
        why = f"by {await person_of(call)}"
        # Who ends all of it has no board in mind: the next process leases what this one did.
        ends = request.exit and not request.board
        _let_its_keeper_in(call)
        names = await self._changed(request.board, lambda board: not ends and board.drain(why))
        if request.exit:
            self._roll.leave()
            names = names or [name for name, board in self._roll.served.items() if board.is_leased]
        return host_pb2.DrainResponse(boards=[_told(self._roll, name) for name in names])

    async def Resume(  # noqa: N802
        self,
        request: host_pb2.ResumeRequest,
        call: ServerCall[host_pb2.ResumeRequest, host_pb2.ResumeResponse],
    ) -> host_pb2.ResumeResponse:
        _let_its_keeper_in(call)
        with _bounded_in_hooks(call):
            started = await self._roll.resume(request.board)
        names = (
            []
            if request.board in (*started, *self._roll.problems)
            else await self._changed(request.board, _resume)
        )
        names = sorted({*names, *started, *([request.board] if request.board else [])})
        return host_pb2.ResumeResponse(boards=[_told(self._roll, name) for name in names], started=started)

    async def Forget(  # noqa: N802
        self,
        request: host_pb2.ForgetRequest,
        call: ServerCall[host_pb2.ForgetRequest, host_pb2.ForgetResponse],
    ) -> host_pb2.ForgetResponse:
        _let_its_keeper_in(call)
        discovery, name = self._roll.discovery, shown(request.device)
        if not await discovery.forget(request.device):
            if request.device in discovery.known_names:
                raise RpcError(
                    StatusCode.FAILED_PRECONDITION,
                    f"{name} cannot be forgotten: it is plugged in; unplug it first",
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
            reloaded = await self._roll.reload()
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

    async def _changed(self, name: str, change: Callable[[Board], bool]) -> list[str]:
        """The boards that were changed: that one, or all."""
        if not name:
            return [one for one, board in self._roll.served.items() if change(board)]
        if name in self._roll.elsewhere:
            raise RpcError(
                StatusCode.FAILED_PRECONDITION, await not_here(name, self._roll.elsewhere[name], "--socket")
            )
        if not change(await _board(self._roll, name)):
            raise RpcError(
                StatusCode.FAILED_PRECONDITION,
                f"no controller leases the board {shown(name)}: there is nothing to drain or resume",
            )
        return [name]


class OwnDoor(HostServiceServicer):
    """At a board's own socket, for users of its host: who has the board, without the others of the host."""

    def __init__(self, roll: Roll, name: str) -> None:
        self._roll = roll
        self._name = name

    async def ListBoards(  # noqa: N802 - the wire's name
        self,
        request: host_pb2.ListBoardsRequest,
        call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse],
    ) -> host_pb2.ListBoardsResponse:
        """That one alone."""
        return host_pb2.ListBoardsResponse(boards=[_told(self._roll, self._name)])


def _let_its_keeper_in(call: ServerCall[Any, Any]) -> None:
    """RpcError for everybody else."""
    if call.uid not in (0, os.getuid()):
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            "only root and the exporter's own user, on its host, may drain, resume and reload boards, and forget "
            "devices; use sudo",
        )


@contextmanager
def _bounded_in_hooks(call: ServerCall[Any, Any]) -> Iterator[None]:
    """A hook that waits in the block for a board, which waits for the hook, is told so. RpcError."""
    with trio.CancelScope() as scope:
        if is_in_hook(call.pid):
            scope.deadline = trio.current_time() + HOOK_SECONDS
        yield
    if scope.cancelled_caught:
        raise RpcError(
            StatusCode.FAILED_PRECONDITION,
            "a hook cannot wait for this, as the exporter waits for the hook to end; what was begun goes on when it "
            "has, and what was not has to be asked for again then",
        )


def _resume(board: Board) -> bool:
    return board.resume()


async def _board(roll: Roll, name: str | None, *, is_remote: bool = False) -> Board:
    names = roll.names
    if not name and roll.default is not None:
        name = roll.default()
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
    if name in roll.problems:
        raise RpcError(
            StatusCode.FAILED_PRECONDITION,
            f"the board {shown(name)} is not served: {roll.problems[name]}",
        )
    if name in roll.elsewhere:
        if is_remote:
            why = f"the board {shown(name)} is not served here: {on_its_host_only(name)}"
        else:
            why = await not_here(name, roll.elsewhere[name])
        raise RpcError(StatusCode.FAILED_PRECONDITION, why)
    if name not in roll.served:
        raise RpcError(StatusCode.NOT_FOUND, f"this host has no board {shown(name)}; it has {choice}")
    return roll.served[name]


def _told(roll: Roll, name: str) -> host_pb2.Board:
    board = roll.served.get(name)
    report = None if board is None else board.report
    use = "" if board is None else board.use
    file = roll.file_of(name)
    # A file that is broken says nothing of the exporter that goes on as it was.
    exporter = "" if board is None else board.exporter
    if not exporter and file is not None and file.config is not None and file.config.enrolment is not None:
        exporter = str(file.config.enrolment)
    return host_pb2.Board(
        name=name,
        problem=roll.problems.get(name, ""),
        report=report,
        use=use,
        change=roll.changes.get(name, ""),
        file="" if file is None or file.is_discovered else path_text(file.path),
        discovered=file is not None and file.is_discovered,
        exporter=exporter,
    )
