"""What bounds the wait for a board, and that it is given back whatever its user does meanwhile."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import kubernetes_pb2

from jumpstarter_client.controller.controller_client import ControllerClient
from jumpstarter_client.controller.lease_view import LeasePhase
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.conftest import CONTROLLER, FakeController, Network
from jumpstarter_client.lease.lease import (
    POLL_SECONDS,
    RELEASE_SECONDS,
    AcquisitionTimeoutError,
    LeaseRejectedError,
    create_lease,
    release_lease,
    wait_for_lease,
)

AWAY = RpcError(StatusCode.UNAVAILABLE, "shutting down")


@pytest.fixture
def controller(config: ClientConfig) -> ControllerClient:
    return ControllerClient(config)


async def refuse() -> None:
    raise AWAY


# --- asking for a lease


async def test_a_lease_that_was_made_although_its_answer_was_lost_is_not_asked_for_again(
    lab: FakeController,
    network: Network,
    controller: ControllerClient,
    autojump_clock: trio.testing.MockClock,
) -> None:
    lab.heard["CreateLease"] = lambda: network.cut(CONTROLLER)
    lease = await create_lease(controller, "x", pb.Lease(selector="board=rpi4"))
    assert lease.name.endswith("/leases/x")
    assert [method for method, _ in lab.asked] == ["CreateLease", "GetLease"]


async def test_a_lease_that_was_not_made_before_the_connection_broke_is_asked_for_again(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    async def once() -> None:
        lab.before.clear()
        raise AWAY

    lab.before["CreateLease"] = once
    lease = await create_lease(controller, "x", pb.Lease())
    assert lease.name.endswith("/leases/x")
    assert [method for method, _ in lab.asked] == ["CreateLease", "GetLease", "CreateLease"]


async def test_a_controller_that_refuses_to_say_whether_a_lease_was_made_is_an_error(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    async def deny() -> None:
        raise RpcError(StatusCode.PERMISSION_DENIED, "not yours")

    lab.before |= {"CreateLease": refuse, "GetLease": deny}
    with trio.fail_after(60), pytest.raises(RpcError, match="not yours"):
        await create_lease(controller, "x", pb.Lease())


async def test_who_asks_for_a_lease_is_patient_with_the_controller_for_half_a_minute(
    lab: FakeController,
    network: Network,
    controller: ControllerClient,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def leave() -> None:
        await network.leave(CONTROLLER)

    lab.before["CreateLease"] = leave
    begun = trio.current_time()
    with trio.fail_after(10 * RELEASE_SECONDS), pytest.raises(RpcError) as caught:
        await create_lease(controller, "x", pb.Lease())
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert RELEASE_SECONDS < trio.current_time() - begun <= RELEASE_SECONDS + POLL_SECONDS


async def test_a_controller_that_was_never_reached_is_an_error_at_once(
    network: Network, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.fail_after(10 * RELEASE_SECONDS), pytest.raises(RpcError, match="Connection refused"):
        await create_lease(controller, "x", pb.Lease())
    assert trio.current_time() < 0.1


async def test_a_refusal_is_not_a_reason_to_ask_again(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    async def full() -> None:
        raise RpcError(StatusCode.RESOURCE_EXHAUSTED, "the disk is full")

    lab.before["CreateLease"] = full
    with trio.fail_after(10 * RELEASE_SECONDS), pytest.raises(RpcError, match="the disk is full"):
        await create_lease(controller, "x", pb.Lease())
    assert len(lab.asked) == 1


# --- waiting for it


async def test_a_board_that_does_not_come_is_waited_for_only_so_long(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    lab.is_ready = False
    lease = lab.add("x")
    with (
        trio.fail_after(1000),
        pytest.raises(AcquisitionTimeoutError, match="no board became available within 5m") as caught,
    ):
        await wait_for_lease(controller, lease, lambda _: None, timeout=300)
    assert trio.current_time() == pytest.approx(300)
    assert "waiting for the controller" in str(caught.value)


async def test_a_controller_that_does_not_answer_makes_the_wait_no_longer(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    lab.is_ready = False
    lease = lab.add("x")
    lab.before["GetLease"] = trio.sleep_forever
    with trio.fail_after(1000), pytest.raises(AcquisitionTimeoutError):
        await wait_for_lease(controller, lease, lambda _: None, timeout=10)
    assert trio.current_time() == pytest.approx(10)


async def test_a_controller_that_goes_away_is_waited_for_and_its_return_is_noticed(
    lab: FakeController,
    network: Network,
    controller: ControllerClient,
    autojump_clock: trio.testing.MockClock,
) -> None:
    lab.is_ready = False
    lease = lab.add("x")
    told: list[str] = []

    def on_progress(sentence: str) -> None:
        told.append(sentence)
        if len(told) == 10:
            lab.make_ready("x")
            network.hosts[CONTROLLER] = [lab]

    await network.leave(CONTROLLER)
    with trio.fail_after(100):
        _, progress = await wait_for_lease(controller, lease, on_progress, timeout=math.inf)
    assert progress.phase is LeasePhase.READY
    assert told[0] == "the controller is unreachable; the wait continues when it is back"
    assert 5 < trio.current_time() < 10 * POLL_SECONDS + 1, "it is not asked without a pause"


async def test_who_is_next_in_line_is_looked_at_more_often(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    lab.is_ready = False
    lease = lab.add("x")

    async def tick() -> None:
        if trio.current_time() > 60 and not lab.leases["x"].conditions:
            pending = kubernetes_pb2.Condition(type="Pending", status="True", message="you are next")
            lab.leases["x"].conditions.append(pending)

    lab.before["GetLease"] = tick
    with pytest.raises(AcquisitionTimeoutError, match="you are next"):
        await wait_for_lease(controller, lease, lambda _: None, timeout=70)
    changed = next(number for number, when in enumerate(lab.times("GetLease")) if when > 60)
    looks = lab.times("GetLease")
    assert looks[changed] - looks[changed - 1] >= POLL_SECONDS / 2
    assert looks[changed + 1] - looks[changed] <= 0.1


async def test_a_controller_that_has_decided_is_asked_only_for_its_reason(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    lab.is_ready = False
    lease = lab.add("x")
    lab.end("x", "no such board")
    with trio.fail_after(1000), pytest.raises(LeaseRejectedError, match="no such board"):
        await wait_for_lease(controller, lease, lambda _: None, timeout=500)
    assert [method for method, _ in lab.asked] == ["GetLease"]


async def test_why_there_is_no_board_is_said_though_the_controller_says_no_more(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    lab.is_ready = False
    lease = lab.add("x")
    lab.end("x", "no such board")
    lab.leases.clear()
    with trio.fail_after(1000), pytest.raises(LeaseRejectedError, match="no such board"):
        await wait_for_lease(controller, lease, lambda _: None, timeout=500)


async def test_a_controller_that_refuses_to_say_how_a_lease_is_ends_the_wait(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    async def forget() -> None:
        lab.leases.clear()

    lab.is_ready = False
    lease = lab.add("x")
    lab.before["GetLease"] = forget
    told: list[str] = []
    with trio.fail_after(1000), pytest.raises(RpcError, match="not found"):
        await wait_for_lease(controller, lease, told.append, timeout=500)
    assert told == ["waiting for the controller"]


# --- giving it back


async def test_a_lease_is_given_back_although_its_user_is_cancelled(
    lab: FakeController, controller: ControllerClient, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await release_lease(controller, "x")
    assert lab.released == ["x"]


async def test_giving_a_lease_back_is_tried_for_half_a_minute_and_no_longer(
    lab: FakeController,
    controller: ControllerClient,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    lab.before["DeleteLease"] = refuse
    with trio.fail_after(10 * RELEASE_SECONDS):
        await release_lease(controller, "x")
    assert trio.current_time() == pytest.approx(RELEASE_SECONDS)
    assert 6 < len(lab.asked) < 20, "it is not asked without a pause"
    assert "lease x could not be released (shutting down); it stays active" in caplog.text


async def test_a_lease_that_has_ended_by_itself_need_not_be_given_back(
    lab: FakeController,
    controller: ControllerClient,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def ended() -> None:
        raise RpcError(StatusCode.FAILED_PRECONDITION, "lease x has ended")

    lab.before["DeleteLease"] = ended
    with trio.fail_after(10 * RELEASE_SECONDS):
        await release_lease(controller, "x")
    assert len(lab.asked) == 1
    assert "could not be released" not in caplog.text
