"""The use of a board that a shell holds, and what its user hears meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from jumpstarter_proto.lab.v1.devices_grpc import DevicesServiceServicer
from jumpstarter_proto.lab.v1.devices_pb2 import HoldRequest, HoldResponse
from jumpstarter_proto.rpc import RpcError, Server, ServerCall, StatusCode, unix_listener

from jumpstarter_client.conftest import FakeExporter
from jumpstarter_client.connections.local_use import hold_board


class Holds(DevicesServiceServicer):
    """Gives the use of its board, unless it `refuses`, until `lost` is set."""

    def __init__(self) -> None:
        self.refuses: RpcError | None = None
        self.says: list[str] = []
        self.lost = trio.Event()
        self.held = 0

    async def Hold(self, request: HoldRequest, call: ServerCall[HoldRequest, HoldResponse]) -> None:  # noqa: N802
        if self.refuses is not None:
            raise self.refuses
        self.held += 1
        try:
            await call.send(HoldResponse())
            for sentence in self.says:
                await call.send(HoldResponse(said=sentence))
            await self.lost.wait()
            raise RpcError(StatusCode.ABORTED, "somebody else has it now")
        finally:
            self.held -= 1


@pytest.fixture
async def holds(exporter: FakeExporter, nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Holds]:
    holds = Holds()
    server = Server([exporter, holds])
    await nursery.start(server.serve, [unix_listener(tmp_path / "s")])
    yield holds
    nursery.cancel_scope.cancel()


async def test_a_board_is_held_for_the_block_and_its_user_hears_what_is_said(
    holds: Holds, exporter: FakeExporter, tmp_path: Path
) -> None:
    holds.says = ["a lease waits for it", "\x1b[2J" + "x" * 500]
    messages: list[str] = []
    with trio.fail_after(10):
        async with hold_board(str(tmp_path / "s"), None, messages.append) as client:
            assert holds.held == 1
            await client.rpi4.power.call_async("on")
            while len(messages) < 2:
                await trio.sleep(0.01)
            holds.lost.set()
            while len(messages) < 3:
                await trio.sleep(0.01)
            await client.rpi4.power.call_async("off")
        assert holds.held == 0
    assert messages[0] == "a lease waits for it"
    assert (messages[1].isprintable(), len(messages[1])) == (True, 404)
    assert "somebody else has it now; the next command takes the board again, if it can" in messages[2]
    assert [method for _, method, _ in exporter.called] == ["on", "off"]


async def test_a_board_that_somebody_else_has_is_refused(holds: Holds, tmp_path: Path) -> None:
    holds.refuses = RpcError(StatusCode.PERMISSION_DENIED, "bob has it")
    with trio.fail_after(10), pytest.raises(RpcError, match="bob has it"):
        async with hold_board(str(tmp_path / "s"), None, pytest.fail):
            pytest.fail("it is bob's")


async def test_an_exporter_that_knows_no_such_use_is_used_all_the_same(holds: Holds, tmp_path: Path) -> None:
    holds.refuses = RpcError(StatusCode.UNIMPLEMENTED, "what?")
    with trio.fail_after(10):
        async with hold_board(str(tmp_path / "s"), None, pytest.fail) as client:
            await client.rpi4.power.call_async("on")
