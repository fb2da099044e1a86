"""The boards of a host that serves several, as its door lists them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.lab.v1.host_pb2 import ListBoardsRequest
from jumpstarter_proto.rpc import Caller, RpcError

from jumpstarter_client.blocking import Bridge
from jumpstarter_client.connection import Connection
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.node import Allowed, Node
from jumpstarter_client.tree import build_tree

__all__ = ["MAX_BOARDS", "HostBoard", "SeveralBoardsError", "board_use", "list_boards"]

LIST_SECONDS = 10.0
MAX_BOARDS = 4096
"""Of one host."""
MAX_NAME_LENGTH = 255
"""Of a board, in characters."""


@dataclass(frozen=True, eq=False)
class HostBoard:
    """One of the boards of a host."""

    name: str
    problem: str = ""
    """Why it is not served; empty when it is."""
    root: Node | None = None
    """Its devices, to be looked at: their clients work through a connection of the board's own only."""
    socket: str = ""
    """Where a process of its own serves it to users of its host; empty when it is behind the door."""
    use: str = ""
    """Who has it, or what keeps it from being leased; empty when it is free, or no controller leases it."""


class SeveralBoardsError(JumpstarterError):
    """A host has several boards, and it was not said which of them is meant."""

    status = "FAILED_PRECONDITION"
    exit_code = ExitCode.USAGE

    def __init__(self, error: RpcError, boards: list[HostBoard]) -> None:
        """`error` is the door's answer."""
        super().__init__(str(error))
        self.boards = boards


async def list_boards(channel: Caller, allowed: Allowed) -> list[HostBoard]:
    """All boards behind the door; none if it is no door of ours. One call.

    Raises:
        ConnectError: there are too many, or what is reported of one is no tree.
    """
    try:
        listed = (await HostServiceStub(channel).ListBoards(ListBoardsRequest(), timeout=LIST_SECONDS)).boards
    except RpcError:
        return []
    if len(listed) > MAX_BOARDS or any(not 0 < len(one.name) <= MAX_NAME_LENGTH for one in listed):
        raise ConnectError(
            f"the exporter lists more than {MAX_BOARDS} boards, or one without a name; choose one: --board NAME"
        )
    async with Bridge.open() as bridge:
        connection = Connection(channel, bridge)
        return [
            HostBoard(
                one.name,
                one.problem,
                build_tree(one.report, connection, allowed) if one.HasField("report") else None,
                one.socket if os.path.isabs(one.socket) and one.socket.isprintable() else "",
                one.use,
            )
            for one in listed
        ]


async def board_use(channel: Caller, name: str | None) -> str:
    """See `HostBoard.use`; without a name, of the only board. Empty if there is no door of ours. One call."""
    try:
        listed = (await HostServiceStub(channel).ListBoards(ListBoardsRequest(), timeout=LIST_SECONDS)).boards
    except RpcError:
        return ""
    return next((one.use for one in listed if name == one.name or (name is None and len(listed) == 1)), "")
