"""The end of one lease's session: how long it stays, and for whom."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest
import trio
import trio.testing
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.v1.jumpstarter_pb2 import ListenResponse

from jumpstarter_exporter.config import load
from jumpstarter_exporter.registration.controller import Controller
from jumpstarter_exporter.registration.serving import LAST_LOOK_SECONDS, LeaseServer
from jumpstarter_exporter.registration.tenancy import Tenant
from jumpstarter_exporter.status import Report, Status


class Tunnelled(Controller):
    """Its tunnels end in memory; one waits for the exporter."""

    def __init__(self, *waiting: str) -> None:
        """`waiting`: the router's token of each."""
        super().__init__("lab:8082", Trust(), Identity(Kind.EXPORTER, "lab", "one", "token"))
        self._waiting = [ListenResponse(router_token=token) for token in waiting]
        self._pairs = {token: trio.testing.memory_stream_pair() for token in waiting}
        self.arrived: Callable[[ListenResponse], None]
        self.released: list[str] = []

    def near(self, token: str = "") -> trio.abc.Stream:
        """A client's end of that tunnel."""
        return self._pairs[token][0]

    async def listen(self, lease: str, arrived: object) -> None:
        assert callable(arrived)
        self.arrived = arrived
        for connection in self._waiting:
            arrived(connection)
        await trio.sleep_forever()

    async def release(self, lease: str) -> None:
        self.released.append(lease)

    @asynccontextmanager
    async def tunnel(self, connection: ListenResponse) -> AsyncIterator[trio.abc.Stream]:
        yield self._pairs[connection.router_token][1]


@pytest.mark.parametrize("connected", [False, True])
async def test_who_is_connected_sees_how_it_ended_and_nobody_waits_for_nobody(
    tmp_path: Path, connected: bool, autojump_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text("apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport: {}\n")
    server = LeaseServer(load(file), Tunnelled(*[""] * connected), Tenant("mine", "ann"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        server.ended.set()
    assert (trio.current_time() - before >= LAST_LOOK_SECONDS) is connected


async def test_the_last_who_leaves_ends_it(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text("apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport: {}\n")
    controller = Tunnelled("")
    server = LeaseServer(load(file), controller, Tenant("mine", "ann"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await trio.testing.wait_all_tasks_blocked()
        server.ended.set()
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        await controller.near().aclose()
    assert trio.current_time() - before < LAST_LOOK_SECONDS


def token(client: str, name: str = "") -> str:
    return jwt.encode({"client": client, "sub": name}, "x" * 32)


async def heard(stream: trio.abc.Stream) -> bool:
    """Whether the session is at the other end: a server's first words are its settings."""
    try:
        return bool(await stream.receive_some())
    except trio.BrokenResourceError:
        return False


async def test_who_had_the_lease_before_it_was_given_away_is_cut_off(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text("apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport: {}\n")
    late = token("ann", "late")
    old, unknown, new = token("ann"), "not ours", token("bob")
    controller = Tunnelled(old, unknown, new, late)
    controller._waiting.pop()
    server = LeaseServer(load(file), controller, Tenant("mine", "ann"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        for one in (old, unknown, new):
            assert await heard(controller.near(one))
        server.belongs_to("ann")
        await trio.testing.wait_all_tasks_blocked()
        server.belongs_to("bob")
        for one in (old, unknown):
            while await heard(controller.near(one)):
                pass
        controller.arrived(ListenResponse(router_token=late))
        with trio.move_on_after(1) as silent:
            await heard(controller.near(late))
        assert silent.cancelled_caught
        with trio.move_on_after(1) as connected:
            while await heard(controller.near(new)):
                pass
        assert connected.cancelled_caught
        server.ended.set()


async def test_a_host_without_room_says_why_and_gives_the_lease_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text("apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport: {}\n")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/gone")  # short enough for a socket
    controller = Tunnelled()
    server = LeaseServer(load(file), controller, Tenant("mine", "ann"))
    reports: list[Report] = []
    server.session.status.on_change = reports.append
    await server.run()
    assert reports[-1].status is Status.BEFORE_LEASE_HOOK_FAILED
    assert "make room where its temporary files are" in reports[-1].message
    assert controller.released == ["mine"]


async def test_a_hook_can_reach_the_lease_where_the_folder_of_temporary_files_has_a_long_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    hook = f"hooks: {{beforeLease: {{script: 'printf %s $JUMPSTARTER_HOST >{told}'}}}}\n"
    file = tmp_path / "exporter.yaml"
    file.write_text(f"apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nexport: {{}}\n{hook}")
    far = tmp_path / ("d" * 120)
    far.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(far))
    server = LeaseServer(load(file), Tunnelled(), Tenant("mine", "ann"))
    ready = trio.Event()

    def changed(report: Report) -> None:
        if report.status is Status.LEASE_READY:
            ready.set()

    server.session.status.on_change = changed
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await ready.wait()
        async with await trio.open_unix_socket(told.read_text()):
            server.ended.set()
