"""Boards of this host with a process of their own: what the host socket reports about them, and to their users.

Nothing is stored: each time, the lock on a board shows whether its process runs, however it may have ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode, connect_unix, open_channel
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.texts import shown
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_exporter.boards.claim import Holder, claim_holder

__all__ = ["ask_other_processes", "on_its_host_only", "served_elsewhere_error"]

ANSWER_SECONDS = 2.0
"""Limit for the answer of a board's process, so that a listing is not delayed."""


async def served_elsewhere_error(name: str, file: Path, option: str = "--host") -> str:
    """Why a call for that board cannot be made here, and where it can. `option` takes its socket."""
    return _sentence(name, await trio.to_thread.run_sync(claim_holder, file), option)


def _sentence(name: str, held: Holder | None, option: str = "--host") -> str:
    if held is None:
        return f"the board {shown(name)} is not served: {_absent(name)}"
    socket = held.error.socket
    who = f"process {held.process}" if held.process else "another process"
    where = (
        f"use that from this host: {option} {socket}"
        if socket
        else "which does not say where its users reach it"
    )
    return f"the board {shown(name)} is served by {who} of this host; {where}"


def on_its_host_only(name: str) -> str:
    """Why users of other hosts cannot use that board through the host socket.

    Their calls are not forwarded: the board's process would take them for calls of a local user, who has more rights.
    """
    return (
        "its own process serves it, to users of its host only; use it there, such as through ssh, or let that "
        f"process listen, too: jumpstarter-exporter run --board {shown(name)} --listen HOST:PORT"
    )


async def ask_other_processes(boards: Mapping[Path, host_pb2.Board]) -> None:
    """Fill in what the process of each board says of it, or why there is nothing to say. Boards are by their files.

    The locks are looked at in one turn of a worker thread: their folder may be slow, and each is opened.
    """
    if not boards:
        return
    holders = await trio.to_thread.run_sync(lambda: {file: claim_holder(file) for file in boards})
    async with trio.open_nursery() as nursery:
        for file, board in boards.items():
            nursery.start_soon(_look, board, holders[file])


async def _look(board: host_pb2.Board, held: Holder | None) -> None:
    if held is None:
        board.problem = _absent(board.name)
        return
    socket = held.error.socket
    if not socket:
        board.problem = _sentence(board.name, held)
        return
    with trio.move_on_after(ANSWER_SECONDS) as limit:
        try:
            with collapsed():
                async with open_channel(await connect_unix(socket)) as channel:
                    board.CopyFrom(await _asked(channel, board.name))
        except RpcError as error:
            board.problem = f"its process {held.process} cannot be asked: {error}"
            return
        board.socket = socket
    if limit.cancelled_caught:
        board.problem = f"its process {held.process} does not answer; look at its log, or restart it"


async def _asked(channel: Channel, name: str) -> host_pb2.Board:
    """Ask its process. RpcError if it does not answer."""
    try:
        listed = (await HostServiceStub(channel).ListBoards(host_pb2.ListBoardsRequest())).boards
    except RpcError as error:
        if (
            error.code is not StatusCode.UNIMPLEMENTED
        ):  # it serves other boards, too, and this is the board's own socket
            raise
        report = await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())
        return host_pb2.Board(name=name, report=report)
    return next((one for one in listed if one.name == name), host_pb2.Board(name=name))


def _absent(name: str) -> str:
    return (
        "its own process has ended, or was not started; its service manager starts it again, or start it "
        f"yourself: jumpstarter-exporter run --board {shown(name)}"
    )
