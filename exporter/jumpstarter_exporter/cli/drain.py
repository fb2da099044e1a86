"""`jumpstarter-exporter drain`, `resume` and `reload`: requests to the host's exporter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.rpc import RpcError, StatusCode, connect_unix, open_channel
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.terminal import print_error_line, print_line
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.serve import sockets

__all__ = [
    "CALL_SECONDS",
    "MAX_TEXT",
    "BoardChoiceError",
    "asked",
    "chosen_boards",
    "drain_boards",
    "reload_boards",
    "resume_boards",
]

CALL_SECONDS = 10.0
START_SECONDS = 300.0
"""Time limit for running hooks and opening devices."""
PROGRESS_SECONDS = 10.0
"""Interval of progress messages."""
MAX_TEXT = 400
"""Characters of a board's line."""

Answer = TypeVar("Answer")


_OF_ONE_BOARD = frozenset((StatusCode.FAILED_PRECONDITION, StatusCode.INTERNAL, StatusCode.UNKNOWN))
"""Errors that concern only one board."""


class _Refusals:
    """Several boards are tried one by one; the exit code is that of the first refusal."""

    def __init__(self) -> None:
        self.code = ExitCode.OK

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Print a refusal for the block's board; an error for all boards is raised."""
        try:
            yield
        except RpcError as error:
            if error.code not in _OF_ONE_BOARD:
                raise
            self.code = self.code or error.exit_code
            print_error_line(f"jumpstarter-exporter: {shown(str(error), MAX_TEXT)}")


def drain_boards(boards: Sequence[str], *, exit_after: bool, socket: Path | None) -> int:
    """Drain boards, or without names all of them, and return the exit code.

    If one is refused, the others stay drained and the exporter keeps running.

    RpcError: there is no exporter, or it is not for this user; or no such board, and no other one is changed then.
    """
    refusals = _Refusals()

    async def ask(stub: HostServiceStub) -> bool:
        found = False
        for name in await _unknown_first(stub, boards):
            request = host_pb2.DrainRequest(board=name, exit=exit_after and not boards)
            with refusals.reported():
                answer = await stub.Drain(request, timeout=CALL_SECONDS)
                _print_boards(answer.boards)
                found |= bool(answer.boards)
        if exit_after and boards and not refusals.code:
            await stub.Drain(host_pb2.DrainRequest(board=boards[-1], exit=True), timeout=CALL_SECONDS)
        return found

    is_found = asked(ask, socket)
    if refusals.code:
        if exit_after:
            print_error_line(
                "jumpstarter-exporter: the exporter keeps running, because not all boards were drained"
            )
    elif exit_after:
        print_line("the exporter ends when no lease is served any more")
    elif not is_found:
        print_line("this host has no board that a controller leases")
    return refusals.code


def resume_boards(boards: Sequence[str], *, socket: Path | None, timeout: float = START_SECONDS) -> int:
    """Returns the exit code; `ExitCode.FAILED` if a board cannot be served.

    `timeout`, in seconds, is for all of them.
    """
    refusals = _Refusals()

    async def ask(stub: HostServiceStub) -> list[host_pb2.Board]:
        deadline = trio.current_time() + timeout
        changed: list[host_pb2.Board] = []
        for name in await _unknown_first(stub, boards):
            with refusals.reported(), _limited(timeout):  # a start takes time
                left = max(0.0, deadline - trio.current_time())
                answer = await stub.Resume(host_pb2.ResumeRequest(board=name), timeout=left)
                _print_boards(answer.boards, answer.started)
                changed += answer.boards
                if any(one.problem for one in answer.boards):
                    refusals.code = refusals.code or ExitCode.FAILED
        return changed

    changed = asked(ask, socket)
    if not changed and not refusals.code:
        print_line("this host has no board that was drained or stopped")
    return refusals.code


class BoardChoiceError(JumpstarterError):
    """It is not clear which boards are meant."""

    exit_code = ExitCode.USAGE


def chosen_boards(boards: Sequence[str], *, is_all: bool) -> list[str]:
    """Each named board once; empty for all of them. BoardChoiceError."""
    if boards and is_all:
        raise BoardChoiceError("--all is for all boards; leave it out, or the names")
    if "" in boards:
        raise BoardChoiceError("the name of a board is empty; name one, or use --all")
    return list(dict.fromkeys(boards))


async def _unknown_first(stub: HostServiceStub, boards: Sequence[str]) -> list[str]:
    """The names, unknown ones first; "" stands for all boards."""
    names = list(boards) or [""]
    if len(names) > 1:
        listed = await stub.ListBoards(host_pb2.ListBoardsRequest(), timeout=CALL_SECONDS)
        known = {one.name for one in listed.boards}
        names.sort(key=lambda name: name in known)
    return names


def reload_boards(*, socket: Path | None, timeout: float = START_SECONDS) -> int:
    """Returns the exit code: `ExitCode.USAGE` if a file is invalid, `ExitCode.FAILED` if a board cannot be served."""

    async def ask(stub: HostServiceStub) -> host_pb2.ReloadResponse:
        with _limited(timeout):  # hooks run, and devices are opened
            return await stub.Reload(host_pb2.ReloadRequest(), timeout=timeout)

    boards = asked(ask, socket).boards
    for one in boards:
        print_line(f"{shown(one.name)}: {shown(one.text, MAX_TEXT)}")
    outcomes = {one.outcome for one in boards}
    if host_pb2.ReloadedBoard.OUTCOME_BROKEN in outcomes:
        return ExitCode.USAGE
    return ExitCode.FAILED if host_pb2.ReloadedBoard.OUTCOME_FAILED in outcomes else ExitCode.OK


def _print_boards(boards: Sequence[host_pb2.Board], started: Sequence[str] = ()) -> None:
    for board in boards:
        free = "served again" if board.name in started else "can be leased"
        problem = f"not served: {board.problem}" if board.problem else ""
        print_line(f"{shown(board.name)}: {shown(problem or board.use, MAX_TEXT) or free}")


@contextmanager
def _limited(timeout: float) -> Iterator[None]:
    try:
        yield
    except RpcError as error:
        if error.code is not StatusCode.DEADLINE_EXCEEDED:
            raise
        raise RpcError(
            error.code,
            f"the exporter has not answered within {timeout:g} s; it may still be working: check its log, "
            "try again with a longer --timeout, or restart it if it hangs",
        ) from None


async def _tell_progress(stub: HostServiceStub) -> None:
    """Print on standard error which boards are changing, until cancelled."""
    while True:
        await trio.sleep(PROGRESS_SECONDS)
        try:
            listed = await stub.ListBoards(host_pb2.ListBoardsRequest(), timeout=PROGRESS_SECONDS)
        except RpcError as error:
            if error.code is not StatusCode.DEADLINE_EXCEEDED:
                return  # the request itself reports the error
            print_error_line("still waiting: the exporter does not answer")
            continue
        changing = [
            f"{shown(one.name)}: {shown(one.change, MAX_TEXT)}" for one in listed.boards if one.change
        ]
        print_error_line(f"still waiting: {'; '.join(changing) or 'the exporter is at work'}")


def asked(ask: Callable[[HostServiceStub], Awaitable[Answer]], socket: Path | None) -> Answer:
    """Return the exporter's answer. RpcError: there is no exporter, or it rejects the request."""

    async def call() -> Answer:
        try:
            with collapsed():
                async with open_channel(await connect_unix(socket or sockets.path_to_ask())) as channel:
                    stub = HostServiceStub(channel)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_tell_progress, stub)
                        answer = await ask(stub)
                        nursery.cancel_scope.cancel()
                    return answer
        except RpcError as error:
            if error.code is StatusCode.UNIMPLEMENTED:
                error = RpcError(error.code, "the exporter that runs is an older one; restart it first")
            raise error from None

    return trio.run(call)
