"""What the door says of boards that have processes of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from google.protobuf import empty_pb2
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceServicer
from jumpstarter_proto.rpc import RpcError, Server, ServerCall, Servicer, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceServicer

from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.boards.claim import Holder, claim_holder, exclusive_claim
from jumpstarter_exporter.serve import other_processes
from jumpstarter_exporter.serve.boards import listen_at

REPORT = jumpstarter_pb2.GetReportResponse(motd="hello")


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locks"
    path.mkdir()
    monkeypatch.setattr(claim, "FOLDERS", (path,))


class Own(HostServiceServicer):
    """A process that has this board, and perhaps others; it may refuse, or take for ever."""

    def __init__(self, answer: RpcError | None = None, *, hangs: bool = False) -> None:
        self.answer = answer
        self.hangs = hangs

    async def ListBoards(  # noqa: N802 - the wire's name
        self,
        request: host_pb2.ListBoardsRequest,
        call: ServerCall[host_pb2.ListBoardsRequest, host_pb2.ListBoardsResponse],
    ) -> host_pb2.ListBoardsResponse:
        if self.hangs:
            await trio.sleep_forever()
        if self.answer is not None:
            raise self.answer
        names = ("another", "rock")
        return host_pb2.ListBoardsResponse(
            boards=[host_pb2.Board(name=name, use=f"{name} is leased", report=REPORT) for name in names]
        )


class Older(ExporterServiceServicer):
    """One that only knows its own board."""

    async def GetReport(  # noqa: N802
        self, request: empty_pb2.Empty, call: ServerCall[Any, Any]
    ) -> jumpstarter_pb2.GetReportResponse:
        return REPORT


@asynccontextmanager
async def served(folder: Path, servicer: Servicer | None) -> AsyncIterator[host_pb2.Board]:
    """What the door says of the board `rock`, which a process with that service has; with none nobody has it."""
    board, file, path = host_pb2.Board(name="rock"), folder / "rock.yaml", folder / "own.sock"
    async with trio.open_nursery() as nursery:
        if servicer is None:
            await other_processes.ask_other_processes({file: board})
        else:
            await nursery.start(Server([servicer]).serve, [listen_at(path)])
            async with exclusive_claim(file, socket=str(path)):
                await other_processes.ask_other_processes({file: board})
        yield board
        nursery.cancel_scope.cancel()
    path.unlink(missing_ok=True)


async def test_of_a_board_that_has_a_process_it_is_told_what_that_says_and_where_it_is(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, Own()) as board:
        assert board == host_pb2.Board(
            name="rock", use="rock is leased", report=REPORT, socket=str(tmp_path / "own.sock")
        )


async def test_an_older_process_is_asked_for_the_devices_alone(tmp_path: Path) -> None:
    async with served(tmp_path, Older()) as board:
        assert board == host_pb2.Board(name="rock", report=REPORT, socket=str(tmp_path / "own.sock"))


async def test_a_process_that_says_nothing_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_processes, "ANSWER_SECONDS", 0.1)
    async with served(tmp_path, Own(hangs=True)) as board:
        assert board.problem == (f"its process {os.getpid()} does not answer; look at its log, or restart it")
    monkeypatch.setattr(other_processes, "ANSWER_SECONDS", 30.0)
    refusal = RpcError(StatusCode.INTERNAL, "a fault")
    async with served(tmp_path, Own(refusal)) as board:
        assert board.problem == f"its process {os.getpid()} cannot be asked: a fault"
        assert board.socket == ""
    async with served(tmp_path, None) as board:
        assert board.problem.startswith("its own process has ended, or was not started")
        assert board.problem.endswith("jumpstarter-exporter run --board rock")


async def test_a_user_is_told_where_the_board_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "rock.yaml"
    async with exclusive_claim(file, socket="/run/own.sock"):
        said = await other_processes.served_elsewhere_error("rock", file)
        assert said == (
            f"the board rock is served by process {os.getpid()} of this host; "
            "use that from this host: --host /run/own.sock"
        )
        assert (await other_processes.served_elsewhere_error("rock", file, "--socket")).endswith(
            "--socket /run/own.sock"
        )
    async with exclusive_claim(file, endpoint="lab:8082"):
        assert (await other_processes.served_elsewhere_error("rock", file)).endswith(
            "which does not say where its users reach it"
        )
    assert (await other_processes.served_elsewhere_error("rock", file)).startswith(
        "the board rock is not served: its own process"
    )


async def test_locks_are_looked_at_by_one_turn_of_a_worker_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def looked_at(file: Path) -> Holder | None:
        threads.append(threading.current_thread())
        return claim_holder(file)

    monkeypatch.setattr(other_processes, "claim_holder", looked_at)
    boards = {tmp_path / f"{name}.yaml": host_pb2.Board(name=name) for name in ("one", "two", "three")}
    await other_processes.ask_other_processes(boards)
    assert [board.problem != "" for board in boards.values()] == [True] * 3
    assert "is not served" in await other_processes.served_elsewhere_error("one", tmp_path / "one.yaml")
    assert len(threads) == 4
    assert len(set(threads[:3])) == 1
    assert threading.current_thread() not in threads
