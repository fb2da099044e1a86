"""Who uses a board that has a controller: leases and the users of its host, one after the other."""

from __future__ import annotations

import logging
import os
import pwd
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1.devices_grpc import DevicesServiceStub
from jumpstarter_proto.lab.v1.devices_pb2 import HoldRequest
from jumpstarter_proto.rpc import Channel, Metadata, RpcError, Server, StatusCode, open_channel
from jumpstarter_proto.v1 import common_pb2
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.value import from_value, to_value

from jumpstarter_exporter import callers
from jumpstarter_exporter.boards import occupancy_runner
from jumpstarter_exporter.boards.events import ServingPhase
from jumpstarter_exporter.boards.occupancy import Occupancy
from jumpstarter_exporter.boards.occupancy_runner import OccupancyRunner
from jumpstarter_exporter.record_clock import RecordClock
from jumpstarter_exporter.registration.conftest import Board, Configure, Lab, Wired
from jumpstarter_exporter.registration.host_users import FORCE, OVERRIDE, REFUSAL, HostUsers
from jumpstarter_exporter.registration.lease_assignment import LeaseAssignment
from jumpstarter_exporter.registration.registered_exporter import RegisteredExporter
from jumpstarter_exporter.session.services import services
from jumpstarter_exporter.session.tree import Tree

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(autouse=True)
def guarded(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of these tests does not wait for threads, and a user's name is looked up in one."""
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(callers._names, os.getuid(), ME)


class Memory:
    """Records that outlive an exporter."""

    def __init__(self) -> None:
        self.plain: Any = None

    async def read(self) -> object:
        return self.plain

    async def write(self, plain: object) -> None:
        self.plain = plain


class User:
    """Somebody at the host's socket."""

    def __init__(self, channel: Channel) -> None:
        self.stub = ExporterServiceStub(channel)
        self.devices = DevicesServiceStub(channel)

    async def status(self) -> str:
        report = await self.stub.GetStatus(pb.GetStatusRequest())
        return f"{common_pb2.ExporterStatus.Name(report.status).removeprefix('EXPORTER_STATUS_')}: {report.message}"

    async def call(self, method: str, *arguments: Any, metadata: Metadata = ()) -> Any:
        report = await self.stub.GetReport(empty_pb2.Empty())
        uuid = next(one.uuid for one in report.reports if one.parent_uuid)
        request = pb.DriverCallRequest(uuid=uuid, method=method, args=[to_value(one) for one in arguments])
        return from_value((await self.stub.DriverCall(request, metadata=metadata)).result)

    async def refused(self, method: str, *arguments: Any, metadata: Metadata = ()) -> RpcError:
        with pytest.raises(RpcError) as caught:
            await self.call(method, *arguments, metadata=metadata)
        return caught.value


class Host:
    """A registered exporter, and the socket of its host."""

    def __init__(self, exporter: RegisteredExporter) -> None:
        self.exporter = exporter

    @property
    def phase(self) -> ServingPhase | None:
        lease = self.exporter._occupancy.lease
        return None if lease is None else lease.phase

    @asynccontextmanager
    async def user(self) -> AsyncIterator[User]:
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Server(services(self.exporter.users)).serve_connection, theirs)
            async with open_channel(ours) as channel:
                yield User(channel)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def elsewhere(server: Server) -> AsyncIterator[User]:
    """Somebody who comes through no socket of the host: from the network, or through a lease's tunnel."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, theirs)
        async with open_channel(ours) as channel:
            yield User(channel)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def hosting(
    configure: Configure, lab: Lab, memory: Memory | None = None, **hooks: dict[str, str]
) -> AsyncIterator[Host]:
    """It runs for the block, and dies at its end: nothing is said to the controller, and no hook runs."""
    exporter = RegisteredExporter(configure(**hooks), Wired(lab), records=memory)
    async with trio.open_nursery() as nursery:
        await nursery.start(exporter.serve)
        await lab.until("register 2 {}")
        yield Host(exporter)
        nursery.cancel_scope.cancel()


def message(lab: Lab) -> str:
    return lab.messages[-1]


async def test_who_looks_takes_the_board_from_nobody(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host, host.user() as user:
        assert await user.call("look") == "fine"
        assert await user.status() == "LEASE_READY: Ready for commands"
        lab.say("mine")
        await lab.until("LEASE_READY")
        assert await user.call("look") == "fine"
    assert "AFTER_LEASE_HOOK" not in lab.heard


async def test_a_call_takes_the_board_until_ten_seconds_after_its_user_has_left(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host:
        async with host.user() as user, host.user() as other:
            assert await user.call("wait", 0) == await other.call("wait", 0) == "done"
            await lab.until("AFTER_LEASE_HOOK")
            assert message(lab) == f"Not available: in local use by {ME}"
            await trio.sleep(1000)
        left = trio.current_time()
        await lab.until("AVAILABLE")
        assert trio.current_time() - left == pytest.approx(10, abs=0.1)


async def test_a_lease_waits_for_the_users_of_the_host_and_has_driver_objects_of_its_own(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host:
        async with host.user() as user, host.user() as reader:
            await user.call("wait", 0)
            mine = Board.latest
            async with reader.stub.LogStream(empty_pb2.Empty()) as log:
                await log.initial_metadata()
                lab.say("lease")
                await lab.until("BEFORE_LEASE_HOOK")
                assert message(lab) == f"Waiting for the board: in local use by {ME}"
                while "the lease lease of ann waits for this board" not in (await log.receive()).message:
                    pass
            assert await user.call("wait", 0) == "done"
            assert host.phase is ServingPhase.WAITING
        await lab.until("LEASE_READY")
        assert Board.latest is not mine


async def test_users_of_the_host_read_once_of_each_lease_that_waits(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    messages = []
    async with hosting(configure, lab) as host, host.user() as user:
        await user.call("wait", 0)
        async with user.stub.LogStream(empty_pb2.Empty()) as log:
            await log.initial_metadata()
            for lease in ("one", "two"):
                lab.say(lease)
                while f"the lease {lease} of ann" not in (message := (await log.receive()).message):
                    messages.append(message)
                messages.append(message)
    assert [message for message in messages if "waits for this board" in message] == [
        f"the lease {lease} of ann waits for this board; it begins when you leave" for lease in ("one", "two")
    ]


async def test_a_lease_that_waits_too_long_is_given_back_with_the_reason(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host, host.user() as user:
        await user.call("wait", 0)
        lab.say("lease")
        await lab.until("BEFORE_LEASE_HOOK")
        waiting = host.exporter._server
        since = trio.current_time()
        while trio.current_time() < since + 235:
            await user.call("wait", 60)
        await lab.until("release lease")
        assert 240 <= trio.current_time() - since < 260
        assert waiting is not None
        assert f"in local use by {ME}" in waiting.session.obstacle
        assert await user.call("wait", 0) == "done"


async def test_calls_of_a_lease_that_waits_are_refused_with_the_reason(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host, host.user() as user:
        await user.call("wait", 0)
        lab.say("lease")
        await lab.until("BEFORE_LEASE_HOOK")
        server = host.exporter._server
        assert server is not None
        async with elsewhere(server.session.server) as leaser:
            error = await leaser.refused("wait", 0)
            assert error.code is StatusCode.FAILED_PRECONDITION
            assert error.details == f"not ready: in local use by {ME}"
            assert await leaser.status() == f"BEFORE_LEASE_HOOK: Waiting for the board: in local use by {ME}"


async def test_a_lease_that_is_taken_back_while_it_waits_disturbs_nobody(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host, host.user() as user:
        await user.call("wait", 0)
        mine = Board.latest
        lab.say("lease")
        await lab.until("BEFORE_LEASE_HOOK")
        lab.say()
        await lab.until("AFTER_LEASE_HOOK")
        assert await user.call("wait", 0) == "done"
        assert mine is not Board.latest  # the lease had objects, and used none
        assert "release lease" not in lab.heard


async def test_an_override_runs_in_the_lease_and_is_said_to_its_user(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host, host.user() as user:
        lab.say("lease")
        await lab.until("LEASE_READY")
        error = await user.refused("wait", 0)
        assert error.code is StatusCode.PERMISSION_DENIED
        assert error.details == (
            "the board is leased by ann (lease, leased); wait for its end, or take part with --override"
        )
        assert dict(error.trailing_metadata)[REFUSAL] == "leased"
        leased = Board.latest
        server = host.exporter._server
        assert server is not None
        with server.session.log.reader(from_start=True) as entries:
            assert await user.call("wait", 0, metadata=[(OVERRIDE, "1")]) == "done"
            assert await user.call("wait", 0, metadata=[(OVERRIDE, "1")]) == "done"
            said = [entry.message async for entry in _there(entries)]
        assert said.count(f"{ME} on the exporter's host uses the lease with --override") == 1
        assert Board.latest is leased


async def _there(entries: Any) -> AsyncIterator[Any]:
    with trio.move_on_after(1):
        async for entry in entries:
            yield entry


@pytest.mark.parametrize("word", [OVERRIDE, FORCE])
async def test_a_hook_is_disturbed_only_by_force(
    configure: Configure, lab: Lab, word: str, tmp_path: Any
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with trio.fail_after(30):
        async with (
            hosting(configure, lab, beforeLease={"script": f"cat {fifo}"}) as host,
            host.user() as user,
        ):
            lab.say("lease")
            await lab.until("BEFORE_LEASE_HOOK")
            metadata = [(OVERRIDE, "1"), (word, "1")]
            if word == FORCE:
                assert await user.call("wait", 0, metadata=metadata) == "done"
            else:
                error = await user.refused("wait", 0, metadata=metadata)
                assert "a hook of the lease lease runs; wait for it, or add --override=force" in error.details
            await trio.to_thread.run_sync(fifo.write_bytes, b"")
            await lab.until("LEASE_READY")


async def test_somebody_from_the_network_cannot_take_part(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host:
        lab.say("lease")
        await lab.until("LEASE_READY")
        async with elsewhere(Server(services(host.exporter.users))) as somebody:
            error = await somebody.refused("wait", 0, metadata=[(OVERRIDE, "1"), (FORCE, "1")])
            assert error.code is StatusCode.PERMISSION_DENIED


async def test_somebody_from_the_network_sees_no_recording_of_a_lease_that_is_over(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with (
        hosting(configure, lab) as host,
        elsewhere(Server(services(host.exporter.users))) as somebody,
        host.user() as user,
    ):
        before = await somebody.call("recordings_from")
        lab.say("lease")
        await lab.until("LEASE_READY")
        ready = time.time()
        lab.say()
        await lab.until("AVAILABLE")
        assert before < ready < await somebody.call("recordings_from") <= time.time()
        assert await user.call("recordings_from") == 0.0


async def test_somebody_from_the_network_reads_nothing_of_a_lease_that_is_not_served_yet(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    """The exporter was started again, and its controller has said nothing since."""
    memory = Memory()
    memory.plain = {"version": 1, "lease": "lease", "client": "ann", "phase": "leased"}
    async with hosting(configure, lab, memory) as host:
        async with host.user() as user:
            assert await user.call("look") == "fine"
        async with elsewhere(Server(services(host.exporter.users))) as somebody:
            assert (await somebody.refused("look")).code is StatusCode.PERMISSION_DENIED


async def test_what_a_user_of_the_host_does_ends_when_a_lease_begins(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    """Who only looks does not keep a lease waiting, and is told why the session has ended."""
    async with (
        hosting(configure, lab) as host,
        host.user() as user,
        user.stub.LogStream(empty_pb2.Empty()) as log,
    ):
        await log.initial_metadata()
        lab.say("lease")
        await lab.until("LEASE_READY")
        with pytest.raises(RpcError, match="lease lease has the board"):
            [entry async for entry in log]


@pytest.mark.parametrize("is_wanted", [False, True])
async def test_who_does_nothing_for_an_hour_loses_the_board(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock, is_wanted: bool
) -> None:
    """For two minutes, if a lease waits for it."""
    async with hosting(configure, lab) as host, host.user() as user:
        await user.call("wait", 0)
        await trio.sleep(60)
        await user.call("wait", 0)
        since = trio.current_time()
        if is_wanted:
            lab.say("lease")
        await lab.until("LEASE_READY" if is_wanted else "AFTER_LEASE_HOOK")
        if not is_wanted:
            await lab.until("AVAILABLE")
        expected = (120 if is_wanted else 3600) + 10
        assert trio.current_time() - since == pytest.approx(expected, abs=1)
        with pytest.raises(RpcError, match="nothing was done for"):
            await user.call("wait", 0)


async def test_a_lease_goes_on_after_a_restart_without_its_hook(configure: Configure, lab: Lab) -> None:
    memory = Memory()
    hook = {"script": "echo prepared"}
    with trio.fail_after(60):
        async with hosting(configure, lab, memory, beforeLease=hook):
            lab.say("lease")
            await lab.until("BEFORE_LEASE_HOOK", "LEASE_READY")
        assert memory.plain["phase"] == "leased"
        async with hosting(configure, lab, memory, beforeLease=hook) as host:
            lab.say("lease")
            await lab.until("listen lease")
            while host.exporter._server is None or not host.exporter._server.is_begun:
                await trio.sleep(0.01)
            async with host.user() as user:
                assert await user.status() == "LEASE_READY: Ready for commands"
    assert lab.heard.count("BEFORE_LEASE_HOOK") == 1


async def test_a_leases_user_sees_what_was_recorded_since_its_begin_also_after_a_restart(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async def sees_since(host: Host) -> float:
        while host.exporter._server is None or not host.exporter._server.is_begun:
            await trio.sleep(0.01)
        server = host.exporter._server
        assert server is not None
        async with elsewhere(server.session.server) as leaser:
            return float(await leaser.call("recordings_from"))

    memory, before = Memory(), time.time()
    async with hosting(configure, lab, memory) as host:
        async with host.user() as user:
            await user.call("wait", 0)
            lab.say("lease")
            await lab.until("BEFORE_LEASE_HOOK")
            left = time.time()
        first = await sees_since(host)
    assert before < left < first < time.time(), "what was recorded while it waited was not its own"
    async with hosting(configure, lab, memory) as host:
        lab.say("lease")
        assert await sees_since(host) == first


async def test_a_lease_after_the_clock_was_set_back_sees_nothing_of_the_one_before(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sees_since(name: str) -> float:
        lab.say(name)
        while (server := host.exporter._server) is None or server.lease != name or not server.is_begun:
            await trio.sleep(0.01)
        async with elsewhere(server.session.server) as leaser:
            return float(await leaser.call("recordings_from"))

    memory, wall = Memory(), 1_800_000_000_000_000_000
    clocks = [RecordClock(), RecordClock()]
    monkeypatch.setattr("time.time_ns", lambda: wall)
    async with hosting(configure, lab, memory) as host:
        monkeypatch.setattr(occupancy_runner, "RECORD_CLOCK", clocks[0])
        first = await sees_since("first")
        theirs = clocks[0].now() / 1e9
        wall -= 3_600_000_000_000
        lab.say()
        await lab.until("AVAILABLE")
        second = await sees_since("second")
        assert first <= theirs < second <= clocks[0].now() / 1e9
    monkeypatch.setattr(occupancy_runner, "RECORD_CLOCK", clocks[1])
    async with hosting(configure, lab, memory) as host:
        assert await sees_since("second") == second <= clocks[1].now() / 1e9, (
            "it sees its own, also after a restart"
        )


async def test_a_hook_that_ran_runs_again_after_a_restart(
    configure: Configure, lab: Lab, tmp_path: Any
) -> None:
    memory, fifo = Memory(), tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"script": f"echo began >> {tmp_path}/said; cat {fifo}"}
    with trio.fail_after(60):
        async with hosting(configure, lab, memory, beforeLease=hook):
            lab.say("lease")
            await lab.until("BEFORE_LEASE_HOOK")
            while not (tmp_path / "said").exists():
                await trio.sleep(0.01)
        assert memory.plain["phase"] == "preparing"
        async with hosting(configure, lab, memory, beforeLease=hook):
            lab.say("lease")
            await trio.to_thread.run_sync(fifo.write_bytes, b"")
            await lab.until("LEASE_READY")
    assert (tmp_path / "said").read_text() == "began\nbegan\n"


@pytest.mark.parametrize("next_lease", ["", "another"])
async def test_a_lease_that_was_over_meanwhile_is_cleaned_up_first(
    configure: Configure, lab: Lab, tmp_path: Any, next_lease: str
) -> None:
    memory = Memory()
    hooks = {
        "beforeLease": {"script": f"echo before $LEASE_NAME >> {tmp_path}/said"},
        "afterLease": {"script": f"echo after $LEASE_NAME >> {tmp_path}/said"},
    }
    with trio.fail_after(60):
        async with hosting(configure, lab, memory, **hooks):
            lab.say("lease")
            await lab.until("LEASE_READY")
        async with hosting(configure, lab, memory, **hooks):
            lab.say(next_lease)
            await lab.until("AFTER_LEASE_HOOK", "LEASE_READY" if next_lease else "AVAILABLE")
    assert (tmp_path / "said").read_text().splitlines() == [
        "before lease",
        "after lease",
        *(["before another"] if next_lease else []),
    ]
    assert "release lease" not in lab.heard


async def test_without_a_word_of_the_controller_a_lease_goes_on_after_a_minute(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    memory = Memory()
    memory.plain = {"version": 1, "lease": "lease", "client": "ann", "phase": "leased"}
    async with hosting(configure, lab, memory) as host, host.user() as user:
        error = await user.refused("wait", 0, metadata=[(OVERRIDE, "1")])
        assert "the exporter was started again" in error.details
        await trio.sleep(61)
        assert await user.call("wait", 0, metadata=[(OVERRIDE, "1")]) == "done"


async def test_a_lease_ends_by_itself_five_minutes_behind_its_end_when_its_controller_is_away(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    memory.plain = {"version": 1, "lease": "lease", "client": "ann", "phase": "leased", "end": 100.0}
    monkeypatch.setattr("time.time", lambda: 50.0 + trio.current_time())
    away = RpcError(StatusCode.UNAVAILABLE, "away")
    lab.says = [away] * 1000
    began = trio.current_time()
    async with hosting(configure, lab, memory) as host:
        while host.phase is not None:
            await trio.sleep(1)
        assert trio.current_time() - began == pytest.approx(50 + 300, abs=5)
        async with host.user() as user:
            assert await user.call("wait", 0) == "done"
    assert "release lease" not in lab.heard


async def test_a_board_whose_hook_failed_is_available_again_when_the_lease_is_released(
    configure: Configure, lab: Lab
) -> None:
    hook = {"script": "exit 3", "onFailure": "endLease"}
    with trio.fail_after(60):
        async with hosting(configure, lab, beforeLease=hook):
            lab.say("lease")
            await lab.until("BEFORE_LEASE_HOOK", "BEFORE_LEASE_HOOK_FAILED")
            lab.say()
            await lab.until("AVAILABLE")


async def test_a_board_that_is_drained_is_not_leased_until_it_is_resumed(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    memory = Memory()
    async with hosting(configure, lab, memory) as host:
        host.exporter.drain("by ana")
        await lab.until("AFTER_LEASE_HOOK")
        assert message(lab) == "Not available: drained: by ana"
        async with host.user() as user:
            assert await user.call("wait", 0) == "done", "users of the host may use it all the same"
    async with hosting(configure, lab, memory) as host:
        await lab.until("AFTER_LEASE_HOOK")
        lab.say("lease")
        await lab.until("BEFORE_LEASE_HOOK")
        assert message(lab) == "Waiting for the board: drained: by ana"
        host.exporter.resume()
        await lab.until("LEASE_READY")


async def test_a_call_that_takes_its_time_is_not_cut_though_a_lease_waits(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host, host.user() as user:
        await user.call("wait", 0)
        lab.say("lease")
        await lab.until("BEFORE_LEASE_HOOK")
        assert await user.call("wait", 200) == "done"


async def test_somebody_from_the_network_does_not_read_along_in_a_lease(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host:
        lab.say("lease")
        await lab.until("LEASE_READY")
        async with elsewhere(Server(services(host.exporter.users))) as user:
            assert (await user.refused("look")).code is StatusCode.PERMISSION_DENIED
            assert await user.status() == "LEASE_READY: Ready for commands"
            async with user.stub.LogStream(empty_pb2.Empty()) as log:
                with pytest.raises(RpcError, match="the board is leased by ann"):
                    await log.receive()


async def test_a_lease_that_waits_can_be_ended_by_its_user(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host, host.user() as user:
        await user.call("wait", 0)
        lab.say("lease")
        await lab.until("BEFORE_LEASE_HOOK")
        server = host.exporter._server
        assert server is not None
        async with elsewhere(server.session.server) as somebody:
            answer = await somebody.stub.EndSession(pb.EndSessionRequest())
            assert answer.success
        await lab.until("release lease", "AFTER_LEASE_HOOK")
        assert await user.call("wait", 0) == "done"


@pytest.mark.parametrize("told_when", ["before", "while it stops"])
async def test_a_board_whose_exporter_stops_behind_a_lease_is_put_in_order_by_the_next(
    configure: Configure, lab: Lab, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, told_when: str
) -> None:
    monkeypatch.setattr("jumpstarter_exporter.registration.lease_server.HOOK_SECONDS", 0.1)
    memory, fifo = Memory(), tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"script": f"echo began >> {tmp_path}/said; cat {fifo}"}
    with trio.fail_after(60):
        async with hosting(configure, lab, memory, afterLease=hook) as host:
            lab.say("lease")
            await lab.until("LEASE_READY")
            if told_when == "before":
                lab.say()
                await lab.until("AFTER_LEASE_HOOK")
                while not (tmp_path / "said").exists():  # a hook has no time to begin when the exporter stops
                    await trio.sleep(0.01)
            host.exporter.end(ExitCode.OK)
            if told_when != "before":
                lab.say()
            await lab.until("OFFLINE", "unregister")
            while host.exporter._server is not None:
                await trio.sleep(0.01)
        assert memory.plain["lease"] == "lease"
        async with hosting(configure, lab, memory, afterLease=hook):
            lab.say()
            await lab.until("AFTER_LEASE_HOOK")
            await trio.to_thread.run_sync(fifo.write_bytes, b"")
            await lab.until("AVAILABLE")
        assert "lease" not in memory.plain
    assert (tmp_path / "said").read_text().count("began") == (2 if told_when == "before" else 1)


async def test_a_lease_that_was_over_long_ago_is_cleaned_up_though_its_controller_is_away(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    memory.plain = {"version": 1, "lease": "lease", "client": "ann", "phase": "leased", "end": 100.0}
    monkeypatch.setattr("time.time", lambda: 1000.0 + trio.current_time())
    lab.says = [RpcError(StatusCode.UNAVAILABLE, "away")] * 1000
    async with hosting(configure, lab, memory) as host, host.user() as user:
        await trio.sleep(65)
        assert await user.call("wait", 0) == "done"


async def test_a_hook_that_ended_the_exporter_does_not_run_again_at_its_next_start(
    configure: Configure, lab: Lab, tmp_path: Any
) -> None:
    memory = Memory()
    hook = {"script": f"echo ran >> {tmp_path}/said; exit 3", "onFailure": "exit"}
    with trio.fail_after(60):
        async with hosting(configure, lab, memory, afterLease=hook) as host:
            lab.say("lease")
            await lab.until("LEASE_READY")
            lab.say()
            await lab.until("OFFLINE", "unregister")
            while host.exporter.code is not ExitCode.FAILED:
                await trio.sleep(0.01)
            while "lease" in memory.plain:
                await trio.sleep(0.01)
        async with hosting(configure, lab, memory, afterLease=hook):
            lab.say()
            await lab.until("AVAILABLE")
    assert (tmp_path / "said").read_text() == "ran\n"


async def test_a_lease_that_was_ended_before_a_restart_is_given_back(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    memory = Memory()
    memory.plain = {"version": 1, "finished": "lease"}
    async with hosting(configure, lab, memory) as host:
        lab.say("lease")
        await lab.until("release lease")
        lab.say("lease")
        await trio.sleep(10)
        assert host.phase is None
    assert lab.heard.count("release lease") == 1


async def test_an_offer_whose_controller_goes_away_keeps_the_board_from_nobody(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    memory = Memory()
    async with hosting(configure, lab, memory) as host, host.user() as user:
        assert host.exporter._answer_offer(LeaseAssignment("lease", "ann")) == ()
        error = await user.refused("wait", 0, metadata=[(OVERRIDE, "1")])
        assert error.details == "the lease lease is just beginning; try again"
        host.exporter._conversation_failed(RpcError(StatusCode.UNAVAILABLE, "away"))
        assert await user.call("wait", 0) == "done"
        assert memory.plain is None or "lease" not in memory.plain


async def test_a_lease_from_before_a_restart_is_cleaned_up_though_the_controller_goes_away_behind_its_next_offer(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    memory = Memory()
    memory.plain = {"version": 1, "lease": "lease", "client": "ann", "phase": "leased"}
    async with hosting(configure, lab, memory) as host, host.user() as user:
        assert host.exporter._answer_offer(LeaseAssignment("next", "bob")) == ()
        host.exporter._conversation_failed(RpcError(StatusCode.UNAVAILABLE, "away"))
        with trio.fail_after(600):
            while memory.plain is None or "lease" in memory.plain:
                await trio.sleep(1)
        assert await user.call("wait", 0) == "done"


async def test_a_shell_holds_the_board_between_its_commands_and_hears_of_a_lease(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host, host.user() as user:
        async with user.devices.Hold(HoldRequest()) as call:
            assert (await call.receive()).said == ""
            await trio.sleep(100)
            lab.say("lease")
            await lab.until("BEFORE_LEASE_HOOK")
            assert (await call.receive()).said == (
                "the lease lease of ann waits for this board; it begins when you leave"
            )
        async with user.devices.Hold(HoldRequest()) as call:
            await call.receive()


async def test_a_shell_in_which_nothing_is_done_loses_the_board_and_one_with_commands_does_not(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with (
        hosting(configure, lab) as host,
        host.user() as shell,
        host.user() as command,
        shell.devices.Hold(HoldRequest()) as call,
    ):
        await call.receive()
        for _ in range(3):
            await trio.sleep(3000)
            await command.call("wait", 0)
        since = trio.current_time()
        with pytest.raises(RpcError, match="nothing was done for 3600 s"):
            await call.receive()
        assert trio.current_time() - since == pytest.approx(3600, abs=1)


async def test_a_shell_is_refused_while_the_board_is_leased(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with hosting(configure, lab) as host, host.user() as user:
        lab.say("lease")
        await lab.until("LEASE_READY")
        async with user.devices.Hold(HoldRequest()) as call:
            with pytest.raises(RpcError, match="the board is leased by ann"):
                await call.receive()
        async with user.devices.Hold(HoldRequest(), metadata=[(OVERRIDE, "1")]) as call:
            await call.receive()
            lab.say()
            with pytest.raises(RpcError, match="the session has ended"):
                await call.receive()


async def test_a_board_is_served_on_though_the_session_of_its_host_does_not_close(
    configure: Configure,
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_: object) -> None:
        raise ValueError("a fault of ours")

    async with hosting(configure, lab) as host, host.user() as user:
        for _ in range(2):
            assert await user.call("wait", 0) == "done"
            with monkeypatch.context() as patch:
                patch.setattr(Tree, "close", broken)
                await host.exporter.users.leave("a lease begins")
        assert await user.call("wait", 0) == "done"
    assert [one.levelno for one in caplog.records if "closing a session of" in one.message] == [40, 40]


def test_leases_that_want_the_board_without_end_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    occupancy = OccupancyRunner(Occupancy(), perform=lambda _: None, changed=lambda: None)
    users = HostUsers(occupancy, lambda: pytest.fail("nobody has come"))
    for number in range(60):
        users.notify(f"the lease {number} of ann wants this board")
    assert 0 < sum("wants this board" in one for one in caplog.messages) < 15
