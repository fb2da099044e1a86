"""The end of one lease's session: how long it stays, for whom, and what is done before it is over."""

from __future__ import annotations

import math
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.rpc import RpcError, open_channel
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverCallRequest, EndSessionRequest, GetStatusRequest
from jumpstarter_proto.value import from_value, to_value

from jumpstarter_exporter.conftest import HookOutput, Witness
from jumpstarter_exporter.registration.conftest import ANN, Configure, Tunnelled, lease_server, serving
from jumpstarter_exporter.registration.lease_server import (
    GRACE_SECONDS,
    HOOK_SECONDS,
    LAST_STATUS_SECONDS,
    LINGER_SECONDS,
    REASON_SECONDS,
    RELEASE_SECONDS,
    LeaseServer,
)
from jumpstarter_exporter.status import StatusReport

NO_SHELL = {"script": "true", "exec": "/no/such/shell"}
"""A hook that fails."""


class Statuses:
    """What a lease's users are told, as it comes."""

    def __init__(self, server: LeaseServer) -> None:
        self.seen: list[StatusReport] = []
        self._news = trio.Event()
        server.session.status.on_change = self._changed

    def _changed(self, report: StatusReport) -> None:
        self.seen.append(report)
        self._news.set()
        self._news = trio.Event()

    async def until(self, status: ExporterStatus) -> None:
        while not self.seen or self.seen[-1].status is not status:
            await self._news.wait()


@pytest.mark.parametrize("connected", [False, True])
async def test_who_is_connected_sees_how_it_ended_and_nobody_waits_for_nobody(
    configure: Configure, connected: bool, autojump_clock: trio.testing.MockClock
) -> None:
    server = lease_server(configure(), Tunnelled(*[""] * connected), ANN)
    before = trio.current_time()
    async with serving(server):
        server.ended.set()
    assert trio.current_time() - before == pytest.approx(LINGER_SECONDS if connected else 0, abs=0.1)


async def test_the_last_who_leaves_ends_it(
    configure: Configure, autojump_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled("one", "other")
    server = lease_server(configure(), controller, ANN)
    before = trio.current_time()
    async with serving(server) as over:
        server.ended.set()
        await trio.testing.wait_all_tasks_blocked()
        await controller.near("one").aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not over.is_set()
        await controller.near("other").aclose()
    assert trio.current_time() - before < LINGER_SECONDS


@pytest.mark.parametrize("asks_after", [LINGER_SECONDS / 2, 2 * LINGER_SECONDS, math.inf])
async def test_who_ended_it_is_waited_for_until_they_have_heard_of_it(
    configure: Configure, autojump_clock: trio.testing.MockClock, asks_after: float
) -> None:
    controller = Tunnelled("")
    server = lease_server(configure(), controller, ANN)
    async with serving(server) as over, open_channel(controller.near()) as channel:
        exporter = ExporterServiceStub(channel)
        await exporter.GetStatus(GetStatusRequest())
        await exporter.EndSession(EndSessionRequest())
        await trio.testing.wait_all_tasks_blocked()
        assert server.session.status.report.status is ExporterStatus.AVAILABLE
        before = trio.current_time()
        with trio.move_on_after(asks_after):
            await over.wait()
        if not over.is_set():
            report = await exporter.GetStatus(GetStatusRequest())
            assert ExporterStatus(report.status) is ExporterStatus.AVAILABLE
        await over.wait()
    longest = LINGER_SECONDS + LAST_STATUS_SECONDS
    expected = max(LINGER_SECONDS, min(asks_after, longest))
    assert trio.current_time() - before == pytest.approx(expected, abs=2 * GRACE_SECONDS)


async def test_who_ended_it_is_waited_for_no_longer_when_the_exporter_stops(
    configure: Configure, autojump_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled("")
    server = lease_server(configure(), controller, ANN)
    before = trio.current_time()
    async with serving(server) as over, open_channel(controller.near()) as channel:
        await ExporterServiceStub(channel).EndSession(EndSessionRequest())
        await trio.sleep(2 * LINGER_SECONDS)
        server.stopping.set()
        await over.wait()
    assert trio.current_time() - before < 2 * LINGER_SECONDS + 2 * GRACE_SECONDS


async def test_a_call_that_is_about_to_answer_does_so_though_the_exporter_stops(
    configure: Configure, autojump_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled("")
    server = lease_server(configure(), controller, ANN)
    board = server.session.tree.nodes[1]
    answers: list[object] = []

    async def call(exporter: ExporterServiceStub, seconds: float) -> None:
        request = DriverCallRequest(uuid=str(board.driver.uuid), method="wait", args=[to_value(seconds)])
        try:
            answers.append(from_value((await exporter.DriverCall(request)).result))
        except RpcError as error:
            answers.append(error.code.name)

    async with serving(server) as over, open_channel(controller.near()) as channel:
        exporter = ExporterServiceStub(channel)
        await exporter.GetReport(empty_pb2.Empty())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, exporter, GRACE_SECONDS / 2)
            nursery.start_soon(call, exporter, 1000 * GRACE_SECONDS)
            await trio.testing.wait_all_tasks_blocked()
            server.stopping.set()
        await over.wait()
    assert answers == ["done", "UNAVAILABLE"]
    assert controller.released == [], "it is its client's still"


async def test_a_hook_that_puts_the_board_in_order_has_some_seconds_when_the_exporter_stops(
    configure: Configure, witness: Witness, hook_output: HookOutput, mock_clock: trio.testing.MockClock
) -> None:
    """Meanwhile the lease's end has come; the hook runs, and would run for longer than the exporter may."""
    script = "trap 'echo alive' USR1; echo $$; while true; do read -r _; done"
    server = lease_server(configure(afterLease={"script": witness.keep + script}), Tunnelled(), ANN)
    async with serving(server):
        server.ended.set()
        hook = int(await hook_output.line())
        server.stopping.set()
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(HOOK_SECONDS - 0.5)
        await trio.testing.wait_all_tasks_blocked()
        os.kill(hook, signal.SIGUSR1)
        assert await hook_output.line() == "alive"
        mock_clock.jump(0.5)
        await witness.ended()


async def test_no_hook_runs_and_nothing_is_given_back_when_the_exporter_stops_in_a_lease(
    configure: Configure, autojump_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled()
    server = lease_server(configure(afterLease=NO_SHELL), controller, ANN)
    statuses = Statuses(server)
    async with serving(server):
        server.stopping.set()
    assert [report.status for report in statuses.seen] == [ExporterStatus.LEASE_READY]
    assert controller.released == []


async def test_a_user_who_is_done_ends_it_with_its_hook_and_it_is_given_back(
    configure: Configure, hook_output: HookOutput, mock_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled("")
    server = lease_server(configure(afterLease={"script": "echo in order"}), controller, ANN)
    statuses = Statuses(server)
    async with serving(server) as over:
        async with open_channel(controller.near()) as channel:
            exporter = ExporterServiceStub(channel)
            await exporter.EndSession(EndSessionRequest())
            assert await hook_output.line() == "in order"
            await statuses.until(ExporterStatus.AVAILABLE)
        await over.wait()
    assert controller.released == ["mine"]


@pytest.mark.parametrize(
    ("event", "left"), [("ended", 0.0), ("stopping", HOOK_SECONDS), ("", RELEASE_SECONDS - 0.5)]
)
async def test_giving_it_back_ends_when_the_controller_has_it_or_the_time_for_it_is_over(
    configure: Configure, event: str, left: float, autojump_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled()
    controller.releasing = trio.Event()
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        server.session.end()
        await trio.sleep(0.5)
        assert controller.released == ["mine"]
        before = trio.current_time()
        if event:
            getattr(server, event).set()
    assert trio.current_time() - before == pytest.approx(left, abs=0.1)
    assert not server.is_released


async def test_a_board_that_its_hook_refuses_is_kept_until_its_user_has_seen_why(
    configure: Configure, autojump_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled()
    server = lease_server(configure(beforeLease=NO_SHELL | {"onFailure": "endLease"}), controller, ANN)
    statuses = Statuses(server)
    async with serving(server):
        await statuses.until(ExporterStatus.BEFORE_LEASE_HOOK_FAILED)
        before = trio.current_time()
        assert controller.released == []
    assert trio.current_time() - before == pytest.approx(REASON_SECONDS, abs=0.1)
    assert controller.released == ["mine"]
    assert not server.exiting


async def test_a_hook_that_ends_the_exporter_says_so_last_and_the_lease_is_not_given_back(
    configure: Configure, mock_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled("")
    server = lease_server(configure(beforeLease=NO_SHELL | {"onFailure": "exit"}), controller, ANN)
    statuses = Statuses(server)
    async with serving(server):
        await statuses.until(ExporterStatus.BEFORE_LEASE_HOOK_FAILED)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(REASON_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
        assert statuses.seen[-1].status is ExporterStatus.BEFORE_LEASE_HOOK_FAILED, (
            "who is connected sees why first"
        )
        mock_clock.jump(LINGER_SECONDS)
        await statuses.until(ExporterStatus.OFFLINE)
        mock_clock.autojump_threshold = 0
    assert server.exiting
    assert controller.released == []


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Afterwards there is no room for temporary files."""
    return lambda: monkeypatch.setattr(tempfile, "tempdir", "/proc/gone")  # short enough for a socket


async def test_a_host_without_room_says_why_and_gives_the_lease_back(
    configure: Configure, full: Callable[[], None], autojump_clock: trio.testing.MockClock
) -> None:
    full()
    controller = Tunnelled()
    server = lease_server(configure(), controller, ANN)
    statuses = Statuses(server)
    before = trio.current_time()
    await server.run()
    assert trio.current_time() - before == pytest.approx(REASON_SECONDS)
    assert statuses.seen[-1].status is ExporterStatus.BEFORE_LEASE_HOOK_FAILED
    assert "free some space in its temporary folder" in statuses.seen[-1].message
    assert controller.released == ["mine"]


async def test_a_hook_can_reach_the_lease_where_the_folder_of_temporary_files_has_a_long_path(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    far = tmp_path / ("d" * 120)
    far.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(far))
    config = configure(beforeLease={"script": f"printf %s $JUMPSTARTER_HOST >{told}"})
    server = lease_server(config, Tunnelled(), ANN)
    statuses = Statuses(server)
    async with serving(server):
        await statuses.until(ExporterStatus.LEASE_READY)
        async with await trio.open_unix_socket(told.read_text()):
            server.ended.set()


@pytest.mark.parametrize("event", ["ended", "stopping"])
async def test_a_host_without_room_does_not_outlast_the_lease_or_the_exporter(
    configure: Configure, full: Callable[[], None], event: str, autojump_clock: trio.testing.MockClock
) -> None:
    full()
    controller = Tunnelled()
    server = lease_server(configure(), controller, ANN)
    before = trio.current_time()
    async with serving(server):
        getattr(server, event).set()
    assert trio.current_time() - before < REASON_SECONDS / 10
    assert controller.released == []


async def test_a_host_without_room_stops_in_time_though_the_controller_does_not_take_the_lease(
    configure: Configure, full: Callable[[], None], autojump_clock: trio.testing.MockClock
) -> None:
    full()
    controller = Tunnelled()
    controller.releasing = trio.Event()
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        await trio.sleep(REASON_SECONDS + 0.5)
        before = trio.current_time()
        server.stopping.set()
    assert trio.current_time() - before == pytest.approx(HOOK_SECONDS)
