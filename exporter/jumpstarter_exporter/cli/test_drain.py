"""How long an exporter is waited for that does not answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceServicer
from jumpstarter_proto.rpc import RpcError, Server, ServerCall

from jumpstarter_exporter.cli import drain
from jumpstarter_exporter.serve.boards import listen_at

ASKS = [drain.reload_boards, partial(drain.resume_boards, "rpi4")]


class Busy(HostServiceServicer):
    """A host whose board changes, and goes on doing so."""

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
        await trio.sleep_forever()
        raise AssertionError


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    path, scopes, listens = tmp_path / "exporter.sock", [], threading.Event()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            scopes.append((trio.lowlevel.current_trio_token(), scope))
            async with trio.open_nursery() as nursery:
                await nursery.start(Server([Busy()]).serve, [listen_at(path)])
                listens.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert listens.wait(20)
    yield path
    [(token, scope)] = scopes
    token.run_sync_soon(scope.cancel)
    thread.join(20)


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
