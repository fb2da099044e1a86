"""The end of one lease's session: how long it stays, and for whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.v1.jumpstarter_pb2 import ListenResponse

from jumpstarter_exporter.config import load
from jumpstarter_exporter.registration.controller import Controller
from jumpstarter_exporter.registration.serving import LAST_LOOK_SECONDS, LeaseServer
from jumpstarter_exporter.registration.tenancy import Tenant


class Tunnelled(Controller):
    """Its tunnels end in memory; one waits for the exporter."""

    def __init__(self, waiting: bool) -> None:
        super().__init__("lab:8082", Trust(), Identity(Kind.EXPORTER, "lab", "one", "token"))
        self._waiting = [ListenResponse()] if waiting else []
        self.near, self._far = trio.testing.memory_stream_pair()

    async def listen(self, lease: str, arrived: object) -> None:
        assert callable(arrived)
        for connection in self._waiting:
            arrived(connection)
        await trio.sleep_forever()

    @asynccontextmanager
    async def tunnel(self, connection: ListenResponse) -> AsyncIterator[trio.abc.Stream]:
        yield self._far


@pytest.mark.parametrize("connected", [False, True])
async def test_who_is_connected_sees_how_it_ended_and_nobody_waits_for_nobody(
    tmp_path: Path, connected: bool, autojump_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text("apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport: {}\n")
    server = LeaseServer(load(file), Tunnelled(connected), Tenant("mine", "ann"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        server.ended.set()
    assert (trio.current_time() - before >= LAST_LOOK_SECONDS) is connected


async def test_the_last_who_leaves_ends_it(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text("apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport: {}\n")
    controller = Tunnelled(True)
    server = LeaseServer(load(file), controller, Tenant("mine", "ann"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await trio.testing.wait_all_tasks_blocked()
        server.ended.set()
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        await controller.near.aclose()
    assert trio.current_time() - before < LAST_LOOK_SECONDS
