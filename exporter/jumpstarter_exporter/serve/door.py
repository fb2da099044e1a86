"""The door: where users of a host come in, whichever of its boards they use.

A host with one board has that behind its door. With several, each call says which one it is for, and what says
nothing is answered with the choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceServicer
from jumpstarter_proto.rpc import RpcError, ServerCall, Servicer, StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.serve.board import Board
from jumpstarter_exporter.services import Use, services
from jumpstarter_exporter.session import Session
from jumpstarter_exporter.user_reach import limit_reach

__all__ = ["BOARD", "Door", "Roll"]

BOARD = "x-jumpstarter-board"
"""The metadata key that chooses a board."""


@dataclass
class Roll:
    """The boards of a host, by name."""

    served: dict[str, Board] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Why others are not."""

    @property
    def names(self) -> list[str]:
        """All of them, in order."""
        return sorted({*self.served, *self.problems})


class Door:
    """One way in. From the network (`is_remote`), each board's `fetch` setting bounds what its users reach."""

    def __init__(self, roll: Roll, *, is_remote: bool = False) -> None:
        self._roll = roll
        self._is_remote = is_remote

    def services(self) -> tuple[Servicer, ...]:
        """What is served behind it."""
        return (*services(self), _Host(self._roll))

    async def enter(self, call: ServerCall[Any, Any], use: Use) -> Session:
        """A session of the board that the call is for. RpcError when it names none that can be used."""
        board = self._board(call.header(BOARD))
        if self._is_remote:
            limit_reach(board.reach)
        return await board.enter(call, use)

    def _board(self, name: str | None) -> Board:
        names = self._roll.names
        if not name and len(names) == 1:
            name = names[0]
        choice = ", ".join(map(shown, names))
        if not name:
            raise RpcError(
                StatusCode.FAILED_PRECONDITION,
                f"this host has the boards {choice}; choose one: --board {shown(names[0])}",
            )
        if name in self._roll.problems:
            raise RpcError(
                StatusCode.FAILED_PRECONDITION,
                f"the board {shown(name)} is not served: {self._roll.problems[name]}",
            )
        if name not in self._roll.served:
            raise RpcError(StatusCode.NOT_FOUND, f"this host has no board {shown(name)}; it has {choice}")
        return self._roll.served[name]


class _Host(HostServiceServicer):
    def __init__(self, roll: Roll) -> None:
        self._roll = roll

    async def ListBoards(  # noqa: N802 - the wire's name
        self,
        request: host_pb2.ListBoardsRequest,
        call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse],
    ) -> host_pb2.ListBoardsResponse:
        return host_pb2.ListBoardsResponse(boards=[_told(self._roll, name) for name in self._roll.names])


def _told(roll: Roll, name: str) -> host_pb2.Board:
    board = roll.served.get(name)
    report = None if board is None else board.report
    return host_pb2.Board(name=name, problem=roll.problems.get(name, ""), report=report)
