"""The boards of a host with several boards, as the daemon's main socket lists them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.lab.v1.host_pb2 import ListBoardsRequest
from jumpstarter_proto.rpc import Caller, Metadata, RpcError

from jumpstarter_client.blocking import BlockingPortal
from jumpstarter_client.connection import ExporterConnection
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.node import Allowed, Node
from jumpstarter_client.tree import build_tree

__all__ = ["MAX_BOARDS", "HostBoard", "SeveralBoardsError", "board_use", "list_boards"]

LIST_SECONDS = 10.0
MAX_BOARDS = 4096
"""The limit for one host."""
MAX_NAME_LENGTH = 255
"""Of the name of a board, in characters."""


@dataclass(frozen=True, eq=False)
class HostBoard:
    """One of the boards of a host."""

    name: str
    problem: str = ""
    """Why it is not served; empty if it is."""
    root: Node | None = None
    """Its devices, for lists only: their clients need a connection to this board."""
    socket: str = ""
    """The socket of the process that serves this board alone; empty if the main process serves it."""
    use: str = ""
    """Who uses it, or why it cannot be leased; empty if it is free, or not registered with a controller."""


class SeveralBoardsError(JumpstarterError):
    """The host has several boards and none was selected."""

    status = "FAILED_PRECONDITION"
    exit_code = ExitCode.USAGE

    def __init__(self, error: RpcError, boards: list[HostBoard]) -> None:
        """`error` is the error of the daemon."""
        super().__init__(str(error))
        self.boards = boards


async def list_boards(channel: Caller, allowed: Allowed, metadata: Metadata = ()) -> list[HostBoard]:
    """Return all boards of the host with one call; empty if the exporter is not ours.

    Raises:
        ConnectError: there are too many boards, or a report is invalid.
    """
    try:
        service = HostServiceStub(channel)
        reply = await service.ListBoards(ListBoardsRequest(), timeout=LIST_SECONDS, metadata=metadata)
    except RpcError:
        return []
    listed = reply.boards
    if len(listed) > MAX_BOARDS or any(not 0 < len(one.name) <= MAX_NAME_LENGTH for one in listed):
        raise ConnectError(
            f"the exporter lists more than {MAX_BOARDS} boards, or one without a name; choose one: --board NAME"
        )
    async with BlockingPortal.open() as portal:
        connection = ExporterConnection(channel, portal)
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
    """Return `HostBoard.use` of a board, or of the only board, with one call. Empty if the exporter is not ours."""
    try:
        listed = (await HostServiceStub(channel).ListBoards(ListBoardsRequest(), timeout=LIST_SECONDS)).boards
    except RpcError:
        return ""
    return next((one.use for one in listed if name == one.name or (name is None and len(listed) == 1)), "")
