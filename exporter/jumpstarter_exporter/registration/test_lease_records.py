"""What a lease comes to is on the disk before anybody acts on it: at its begin, its hooks, and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_exporter.boards.events import ServingPhase
from jumpstarter_exporter.registration.conftest import Configure, Lab
from jumpstarter_exporter.registration.test_host_users import Host, Memory, elsewhere, guarded, hosting

__all__ = ["guarded"]


class Slow(Memory):
    """A disk that takes its time once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_for: str | None = None
        """This phase is not written before `go_on`."""
        self.phases: list[object] = []
        """Of each record."""
        self.asked = trio.Event()
        """It was to be written."""
        self.go_on = trio.Event()

    async def write(self, plain: object) -> None:
        assert isinstance(plain, dict)
        if plain.get("phase") == self.waits_for:
            self.asked.set()
            await self.go_on.wait()
        self.phases.append(plain.get("phase"))
        await super().write(plain)


@pytest.mark.parametrize("hooks", [{}, {"beforeLease": {"script": "true"}}])
async def test_nobody_hears_that_a_board_is_ready_before_a_restart_would_know(
    configure: Configure, lab: Lab, hooks: dict[str, Any]
) -> None:
    memory = Slow()
    memory.waits_for = "leased"
    with trio.fail_after(60):
        async with hosting(configure, lab, memory, **hooks) as host:
            lab.say("lease")
            await memory.asked.wait()
            await trio.testing.wait_all_tasks_blocked(0.05)
            server = host.exporter._server
            assert server is None or server.session.status.report.status is not ExporterStatus.LEASE_READY
            assert "LEASE_READY" not in lab.heard
            memory.go_on.set()
            await lab.until("LEASE_READY")
            assert memory.plain["phase"] == "leased"


async def test_a_lease_without_a_hook_begins_behind_one_record(configure: Configure, lab: Lab) -> None:
    memory = Slow()
    with trio.fail_after(60):
        async with hosting(configure, lab, memory):
            lab.say("lease")
            await lab.until("LEASE_READY")
    assert memory.phases == ["leased"]


async def test_a_hook_that_puts_a_board_in_order_does_not_begin_before_a_restart_would_know(
    configure: Configure, lab: Lab, tmp_path: Any
) -> None:
    memory = Slow()
    memory.waits_for = "cleaning"
    with trio.fail_after(60):
        async with hosting(configure, lab, memory, afterLease={"script": f"touch {tmp_path}/ran"}) as host:
            lab.say("lease")
            await lab.until("LEASE_READY")
            lab.say()
            while host.phase is not ServingPhase.CLEANING:
                await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not (tmp_path / "ran").exists()
            memory.go_on.set()
            await lab.until("AVAILABLE")
            assert (tmp_path / "ran").exists()


@asynccontextmanager
async def ended_by_its_user(host: Host, lab: Lab) -> AsyncIterator[None]:
    """The lease's user has ended it while the controller is away."""
    lab.say("lease")
    await lab.until("LEASE_READY")
    away = RpcError(StatusCode.UNAVAILABLE, "away")
    lab.refusals = [away] * 1000
    lab.says += [away] * 1000
    server = host.exporter._server
    assert server is not None
    async with elsewhere(server.session.server) as leaser:
        assert (await leaser.stub.EndSession(pb.EndSessionRequest())).success
        yield


async def test_a_lease_that_its_user_ends_frees_the_board_for_the_host_though_its_controller_is_away(
    configure: Configure, lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("jumpstarter_exporter.registration.lease_server.RELEASE_SECONDS", 0.1)
    memory = Memory()
    hook = {"script": f"echo $LEASE_NAME >> {tmp_path}/said"}
    with trio.fail_after(60):
        async with hosting(configure, lab, memory, afterLease=hook) as host:
            async with ended_by_its_user(host, lab):
                pass
            while host.phase is not None:
                await trio.sleep(0.01)
            assert (tmp_path / "said").read_text() == "lease\n"
            async with host.user() as user:
                assert await user.call("wait", 0) == "done"
        while memory.plain.get("finished") != "lease":
            await trio.sleep(0.01)
        lab.says, lab.refusals = [], []
        async with hosting(configure, lab, memory, afterLease=hook):
            lab.say("lease")
            await lab.until("release lease")
            lab.say()
    assert (tmp_path / "said").read_text() == "lease\n"


async def test_a_lease_is_given_back_as_soon_as_its_controller_can_be_heard(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host:
        async with ended_by_its_user(host, lab):
            pass
        while host.phase is not None:
            await trio.sleep(1)
        await trio.sleep(100)
        lab.says, lab.refusals = [], []
        before = lab.heard.count("release lease")
        lab.say("lease")
        while lab.heard.count("release lease") == before:
            await trio.sleep(1)
        lab.say("another")
        await lab.until("LEASE_READY")


async def test_a_lease_that_its_user_has_ended_does_not_go_on_after_a_restart(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    memory = Memory()
    async with hosting(configure, lab, memory) as host, ended_by_its_user(host, lab):
        while not any(words == "release lease" for words in lab.heard):
            await trio.sleep(0.01)
        assert memory.plain["phase"] == "cleaning"
    lab.says, lab.refusals, lab.heard[:] = [], [], []
    lab._read = 0
    async with hosting(configure, lab, memory):
        lab.say("lease")
        await lab.until("release lease")
        assert "LEASE_READY" not in lab.heard


async def test_a_board_whose_record_cannot_be_read_is_given_to_nobody_before_its_controller_is_heard(
    configure: Configure, lab: Lab
) -> None:
    memory = Memory()
    memory.plain = {"version": 99, "holder": "lease"}
    away = RpcError(StatusCode.UNAVAILABLE, "away")
    with trio.fail_after(60):
        lab.says.append(away)
        async with hosting(configure, lab, memory) as host, host.user() as user:
            with pytest.raises(
                RpcError, match="not known whether a lease has the board: its record is of a later version"
            ):
                await user.call("wait", 0)
            while memory.plain.get("version") != 1:
                await trio.sleep(0.01)
            assert memory.plain == {
                "version": 1,
                "unknown": "its record is of a later version of the exporter",
            }
            host.exporter.resume()
            assert await user.call("wait", 0) == "done"
