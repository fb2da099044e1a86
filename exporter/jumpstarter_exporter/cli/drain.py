"""`jumpstarter-exporter drain` and `resume`: asked of the exporter that runs on this host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.rpc import RpcError, StatusCode, connect_unix, open_channel
from jumpstarter_proto.terminal import print_line
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.errors import collapsed
from jumpstarter_exporter.serve import sockets

__all__ = ["drain_boards", "resume_boards"]

SECONDS = 10.0


def drain_boards(board: str, *, exit_after: bool, socket: Path | None) -> int:
    """The exit code. RpcError: there is no exporter, no such board, or it is not for this user."""

    async def ask(stub: HostServiceStub) -> Sequence[host_pb2.Board]:
        request = host_pb2.DrainRequest(board=board, exit=exit_after)
        return (await stub.Drain(request, timeout=SECONDS)).boards

    return _done(ask, socket, "the exporter ends when no lease is served any more" if exit_after else "")


def resume_boards(board: str, *, socket: Path | None) -> int:
    """The same."""

    async def ask(stub: HostServiceStub) -> Sequence[host_pb2.Board]:
        return (await stub.Resume(host_pb2.ResumeRequest(board=board), timeout=SECONDS)).boards

    return _done(ask, socket)


def _done(
    ask: Callable[[HostServiceStub], Awaitable[Sequence[host_pb2.Board]]], socket: Path | None, also: str = ""
) -> int:
    async def call() -> Sequence[host_pb2.Board]:
        with collapsed():
            try:
                async with open_channel(await connect_unix(socket or sockets.default_path())) as channel:
                    return await ask(HostServiceStub(channel))
            except RpcError as error:
                if error.code is StatusCode.UNIMPLEMENTED:
                    error = RpcError(error.code, "the exporter that runs is an older one; restart it first")
                raise error from None

    boards = trio.run(call)
    for board in boards:
        print_line(f"{shown(board.name)}: {shown(board.use, 400) or 'can be leased'}")
    if also:
        print_line(also)
    elif not boards:
        print_line("this host has no board that a controller leases")
    return ExitCode.OK
