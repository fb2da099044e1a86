"""How long an exporter is waited for that does not answer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceServicer
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_exporter.cli import drain
from jumpstarter_exporter.cli.conftest import host_served

ASKS = [drain.reload_boards, partial(drain.resume_boards, ["rpi4"])]


asked_for: list[tuple[str, bool]] = []
refused: set[str] = set()
"""Boards of which the host refuses everything."""
reloaded: dict[str, str] = {}
"""What a reload makes of boards, at once; without any it takes for ever."""


class Busy(HostServiceServicer):
    """A host whose board changes, and goes on doing so."""

    async def Drain(  # noqa: N802
        self, request: host_pb2.DrainRequest, call: ServerCall[host_pb2.DrainRequest, host_pb2.DrainResponse]
    ) -> host_pb2.DrainResponse:
        if request.board not in ("rock", "rpi4"):
            raise RpcError(StatusCode.NOT_FOUND, f"this host has no board {request.board}")
        if request.board in refused:
            raise RpcError(StatusCode.FAILED_PRECONDITION, f"no controller leases {request.board}")
        asked_for.append((request.board, request.exit))
        return host_pb2.DrainResponse(boards=[host_pb2.Board(name=request.board, use="drained")])

    async def Resume(  # noqa: N802
        self,
        request: host_pb2.ResumeRequest,
        call: ServerCall[host_pb2.ResumeRequest, host_pb2.ResumeResponse],
    ) -> host_pb2.ResumeResponse:
        if request.board in refused:
            raise RpcError(StatusCode.FAILED_PRECONDITION, f"nothing to resume at {request.board}")
        problem = "broken" if request.board == "rock" else ""
        if not request.board:
            return host_pb2.ResumeResponse()
        started = [request.board] if request.board == "started" else []
        use = "leased by ann" if request.board == "leased" else ""
        board = host_pb2.Board(name=request.board, problem=problem, use=use)
        return host_pb2.ResumeResponse(boards=[board], started=started)

    async def ListBoards(  # noqa: N802 - the wire's name
        self,
        request: host_pb2.ListBoardsRequest,
        call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse],
    ) -> host_pb2.ListBoardsResponse:
        return host_pb2.ListBoardsResponse(
            boards=[host_pb2.Board(name="rock"), host_pb2.Board(name="rpi4", change="its file has changed")]
        )

    async def Reload(  # noqa: N802
        self,
        request: host_pb2.ReloadRequest,
        call: ServerCall[host_pb2.ReloadRequest, host_pb2.ReloadResponse],
    ) -> host_pb2.ReloadResponse:
        if not reloaded:
            await trio.sleep_forever()
        return host_pb2.ReloadResponse(
            boards=[
                host_pb2.ReloadedBoard(name=name, outcome=f"OUTCOME_{outcome}", text=f"is {outcome.lower()}")
                for name, outcome in reloaded.items()
            ]
        )


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    asked_for.clear()
    refused.clear()
    reloaded.clear()
    path = tmp_path / "exporter.sock"
    with host_served(Busy(), path):
        yield path


@pytest.mark.parametrize("ask", ASKS)
def test_an_exporter_that_hangs_ends_the_wait_with_a_sentence(
    tmp_path: Path, ask: Callable[..., int]
) -> None:
    with socket.socket(
        socket.AF_UNIX
    ) as hung:  # as of a stopped process: the kernel lets its clients connect
        hung.bind(str(tmp_path / "exporter.sock"))
        hung.listen()
        with pytest.raises(RpcError, match=r"has not answered within 0.2 s; .*a longer --timeout") as raised:
            ask(socket=tmp_path / "exporter.sock", timeout=0.2)
    assert raised.value.exit_code is ExitCode.TIMEOUT


def test_boards_that_are_waited_for_are_named_meanwhile(
    busy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drain, "PROGRESS_SECONDS", 0.05)
    with pytest.raises(RpcError):
        drain.reload_boards(socket=busy, timeout=1.0)
    assert "still waiting: rpi4: its file has changed\n" in capsys.readouterr().err


def test_several_boards_are_drained_and_the_last_one_ends_the_exporter(
    busy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drain.drain_boards(["rpi4", "rock"], exit_after=True, socket=busy) == ExitCode.OK
    assert asked_for == [("rpi4", False), ("rock", False), ("rock", True)]
    assert capsys.readouterr().out.startswith("rpi4: drained\nrock: drained\nthe exporter ends")


def test_of_several_boards_none_is_drained_if_there_is_one_that_is_not_known(busy: Path) -> None:
    with pytest.raises(RpcError, match="no board rook"):
        drain.drain_boards(["rpi4", "rook"], exit_after=False, socket=busy)
    assert asked_for == []


def test_of_several_boards_one_that_cannot_be_served_fails_the_command_and_keeps_no_other_from_it(
    busy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drain.resume_boards(["rock", "rpi4"], socket=busy) == ExitCode.FAILED
    assert capsys.readouterr().out == "rock: not served: broken\nrpi4: can be leased\n"


def test_what_has_become_of_a_board_is_said(busy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert drain.resume_boards(["started", "leased", "rpi4"], socket=busy) == ExitCode.OK
    assert capsys.readouterr().out == ("started: served again\nleased: leased by ann\nrpi4: can be leased\n")
    assert drain.resume_boards([], socket=busy) == ExitCode.OK
    assert capsys.readouterr().out == "this host has no board that was drained or stopped\n"


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (("UNCHANGED", "STARTED", "RESTARTED", "REMOVED", "WAITING"), ExitCode.OK),
        (("STARTED", "FAILED"), ExitCode.FAILED),
        (("BROKEN", "STARTED"), ExitCode.USAGE),
        (("FAILED", "BROKEN"), ExitCode.USAGE),
    ],
)
def test_a_reload_says_what_has_become_of_each_board_and_ends_as_the_worst_of_them(
    busy: Path, capsys: pytest.CaptureFixture[str], outcomes: tuple[str, ...], code: ExitCode
) -> None:
    reloaded.update((f"board-{number}", outcome) for number, outcome in enumerate(outcomes))
    assert drain.reload_boards(socket=busy) == code
    assert capsys.readouterr().out.splitlines() == [
        f"board-{number}: is {outcome.lower()}" for number, outcome in enumerate(outcomes)
    ]


@pytest.mark.parametrize("exit_after", [False, True])
def test_one_board_that_is_refused_keeps_no_other_from_being_drained_and_the_exporter_from_its_end(
    busy: Path, capsys: pytest.CaptureFixture[str], exit_after: bool
) -> None:
    refused.add("rock")
    code = drain.drain_boards(["rock", "rpi4"], exit_after=exit_after, socket=busy)
    assert code == ExitCode.FAILED
    assert asked_for == [("rpi4", False)]
    out, err = capsys.readouterr()
    assert out == "rpi4: drained\n"
    assert err.startswith("jumpstarter-exporter: no controller leases rock\n")
    assert ("the exporter keeps running" in err) is exit_after


def test_one_board_that_is_refused_keeps_no_other_from_being_resumed(
    busy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused.add("rock")
    assert drain.resume_boards(["rock", "rpi4"], socket=busy) == ExitCode.FAILED
    out, err = capsys.readouterr()
    assert out == "rpi4: can be leased\n"
    assert err == "jumpstarter-exporter: nothing to resume at rock\n"


@pytest.mark.parametrize(("boards", "is_all"), [(["rpi4"], True), (["rpi4", ""], False)])
def test_which_boards_are_meant_has_to_be_clear(boards: list[str], is_all: bool) -> None:
    with pytest.raises(drain.BoardChoiceError, match="--all"):
        drain.chosen_boards(boards, is_all=is_all)
    assert drain.chosen_boards(["rpi4", "rock", "rpi4"], is_all=False) == ["rpi4", "rock"]
    assert drain.chosen_boards([], is_all=True) == []
