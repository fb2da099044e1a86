"""A lease while a block lasts: given back however the block ends, and the way to its board."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace

import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2
from jumpstarter_proto.rpc import RpcError, StatusCode, connect_unix, open_channel
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.conftest import (
    CONTROLLER,
    ROUTER,
    BoardExporter,
    FakeController,
    Network,
)
from jumpstarter_client.lease.lease import (
    ACKNOWLEDGE_SECONDS,
    POLL_SECONDS,
    PROXY_DIAL_SECONDS,
    RELEASE_SECONDS,
    AcquisitionTimeoutError,
    LeaseRejectedError,
    NotYoursError,
    acquire_lease,
)
from jumpstarter_client.lease.own_leases import NoLeaseError, SeveralLeasesError
from jumpstarter_client.lease.request import LeaseRequest
from jumpstarter_client.transport import FinalError

PICKUP_SECONDS = 30.0
"""As long waits a controller of ours."""
NEW = LeaseRequest(selector="board=rpi4")


async def never_ready() -> None:
    raise RpcError(StatusCode.UNAVAILABLE, "the exporter is not there")


# --- a lease


async def test_a_lease_ends_with_its_block_and_with_an_error_in_it(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async with acquire_lease(config, NEW) as lease:
        assert lab.released == []
    assert lab.released == [lease.name]
    with pytest.raises(ZeroDivisionError):
        async with acquire_lease(config, NEW):
            raise ZeroDivisionError
    assert len(lab.released) == 2


async def test_a_lease_is_given_back_at_once_when_its_block_is_cancelled(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.move_on_after(50) as scope:
        async with acquire_lease(config, NEW):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert len(lab.released) == 1
    assert trio.current_time() == pytest.approx(50), "over a connection that is not being cancelled, too"


async def test_a_lease_is_given_back_when_the_wait_for_its_board_is_cancelled(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.is_ready = False
    with trio.move_on_after(50):
        async with acquire_lease(config, NEW):
            pytest.fail("there is no board")
    assert lab.released == list(lab.leases)
    assert trio.current_time() == pytest.approx(50)


async def test_a_lease_is_given_back_that_was_made_behind_a_cancelled_question(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.heard["CreateLease"] = trio.sleep_forever
    with trio.move_on_after(5):
        async with acquire_lease(config, NEW):
            pytest.fail("nobody answered")
    assert lab.released == list(lab.leases)


async def test_a_board_that_does_not_come_in_time_or_at_all_is_not_waited_for_any_longer(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.is_ready = False
    with trio.fail_after(1000), pytest.raises(AcquisitionTimeoutError):
        async with acquire_lease(replace(config, acquisition_timeout=20), NEW):
            pytest.fail("there is no board")
    assert trio.current_time() == pytest.approx(20)
    assert lab.released == list(lab.leases)

    async def end() -> None:
        for name in lab.leases:
            lab.end(name, "there is none")

    lab.before["GetLease"] = end
    with pytest.raises(LeaseRejectedError, match=r"there is none.*; nor here"):
        async with acquire_lease(config, replace(NEW, not_found_hint="nor here")):
            pytest.fail("there is no board")
    assert lab.released == list(lab.leases)


async def test_a_lease_that_was_there_before_is_left_alone_and_one_of_somebody_else_is_not_used(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.add("mine")
    lab.add("bobs", "bob")
    async with acquire_lease(config, LeaseRequest(lease="mine")) as lease:
        assert not lease.is_owned
    with pytest.raises(NotYoursError, match="lease bobs belongs to bob"):
        async with acquire_lease(config, LeaseRequest(lease="bobs")):
            pytest.fail("it is bob's")
    assert lab.released == []


async def test_a_lease_that_nobody_named_is_the_users_only_one(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.add("bobs", "bob")
    with pytest.raises(NoLeaseError, match=r"^ann has no lease; lease a board with -l SELECTOR"):
        async with acquire_lease(config, LeaseRequest(client="ann")):
            pytest.fail("it is bob's")
    lab.add("mine")
    async with acquire_lease(config, LeaseRequest(client="ann")) as lease:
        assert (lease.name, lease.is_owned) == ("mine", False)
    lab.is_ready = False
    lab.add("next")
    with pytest.raises(SeveralLeasesError, match=r"name one of them: mine \(one\), next \(waiting\)$"):
        async with acquire_lease(config, LeaseRequest(client="ann")):
            pytest.fail("which of them?")
    assert lab.released == []


async def test_a_controller_that_is_gone_at_the_end_keeps_its_user_for_half_a_minute_and_no_longer(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.fail_after(10 * RELEASE_SECONDS):
        async with acquire_lease(config, NEW):
            await network.leave(CONTROLLER)
    assert trio.current_time() == pytest.approx(RELEASE_SECONDS)


@pytest.mark.parametrize("lease_request", [NEW, LeaseRequest(lease="mine")])
async def test_a_controller_hears_of_a_lease_that_is_held_but_not_of_one_that_is_over_by_then(
    lease_request: LeaseRequest,
    lab: FakeController,
    config: ClientConfig,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It would give the board of a command to others that has not said that it knows of it."""
    lab.add("mine")
    async with acquire_lease(config, lease_request):
        asked = len(lab.times("GetLease"))
        await trio.sleep(ACKNOWLEDGE_SECONDS - 0.1)
    await trio.sleep(1)
    assert len(lab.times("GetLease")) == asked
    async with acquire_lease(config, lease_request):
        await trio.sleep(10 * PICKUP_SECONDS)
    assert len(lab.times("GetLease")) == 2 * asked + 1, "it is said once"


async def test_who_has_dialled_has_said_enough(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async with acquire_lease(config, NEW) as lease:
        async with lease.dial():
            pass
        await trio.sleep(10 * PICKUP_SECONDS)
    assert lab.times("GetLease") == []


async def test_a_controller_that_was_away_hears_of_a_lease_that_is_held_when_it_is_back(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async with acquire_lease(config, NEW):
        services = await network.leave(CONTROLLER)
        await trio.sleep(10 * RELEASE_SECONDS)
        assert lab.times("GetLease") == []
        network.hosts[CONTROLLER] = services
        await trio.sleep(2 * POLL_SECONDS)
        assert len(lab.times("GetLease")) == 1


async def test_a_lease_is_no_worse_for_a_controller_that_cannot_be_told_that_it_is_held(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    async def forget() -> None:
        raise RpcError(StatusCode.UNKNOWN, "what lease?")

    lab.before["GetLease"] = forget
    async with acquire_lease(config, NEW) as lease:
        await trio.sleep(PICKUP_SECONDS)
        assert len(lab.times("GetLease")) == 1
    assert lab.released == [lease.name]


# --- the way to its board


async def test_a_board_that_cannot_be_reached_is_tried_for_so_long_and_told_of_once(
    lab: FakeController,
    network: Network,
    config: ClientConfig,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    caplog.set_level(logging.INFO)
    await network.leave(ROUTER)
    async with acquire_lease(config, NEW) as lease:
        begun = trio.current_time()
        with collapsed(), trio.fail_after(500), pytest.raises(RpcError, match="for 60 s: cannot connect"):
            async with lease.dial():
                pytest.fail("there is no router")
        assert 57 < trio.current_time() - begun <= 60
        warnings = [one for one in caplog.records if one.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert 30 < len(lab.times("Dial")) < 100, "it is not asked without a pause"
        begun = trio.current_time()
        with trio.fail_after(500), pytest.raises(RpcError, match="for 5 s"):
            async with lease.dial(5):
                pytest.fail("there is no router")
        assert 2.5 < trio.current_time() - begun <= 5


async def test_a_board_that_comes_back_in_time_is_reached(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    router = await network.leave(ROUTER)

    async def come_back() -> None:
        if trio.current_time() > 20:
            network.hosts[ROUTER] = router

    lab.before["Dial"] = come_back
    async with acquire_lease(config, NEW) as lease, lease.connect() as channel:
        assert (await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())).reports


@pytest.mark.parametrize(
    ("status", "is_final"),
    [
        (RpcError(StatusCode.UNKNOWN, "lease x has ended"), True),
        (RpcError(StatusCode.FAILED_PRECONDITION, "lease x has ended"), True),
        (RpcError(StatusCode.FAILED_PRECONDITION, "exporter one is offline"), False),
        (RpcError(StatusCode.FAILED_PRECONDITION, "exporter one is not ready"), False),
        (RpcError(StatusCode.RESOURCE_EXHAUSTED, "too many"), False),
    ],
)
async def test_who_hears_that_a_lease_is_over_does_not_dial_again(
    status: RpcError,
    is_final: bool,
    lab: FakeController,
    config: ClientConfig,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def refuse() -> None:
        raise status

    lab.before["Dial"] = refuse
    async with acquire_lease(config, NEW) as lease:
        with trio.fail_after(500), pytest.raises(RpcError, match=status.details) as caught:
            async with lease.dial(10):
                pytest.fail("it was refused")
    assert isinstance(caught.value, FinalError) == is_final
    assert (len(lab.times("Dial")) == 1) == is_final


async def test_a_controller_that_does_not_answer_a_dial_is_not_waited_for_longer_than_its_caller_would(
    lab: FakeController, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.before["Dial"] = trio.sleep_forever
    async with acquire_lease(config, NEW) as lease:
        begun = trio.current_time()
        with trio.fail_after(500), pytest.raises(RpcError, match="for 5 s"):
            async with lease.dial(5):
                pytest.fail("nobody answered")
        assert trio.current_time() - begun <= 6


@pytest.mark.parametrize(("host", "seconds"), [*itertools.product([CONTROLLER, ROUTER], [5, 12])])
async def test_a_host_that_is_silent_is_not_waited_for_longer_than_its_caller_would(  # noqa: PLR0917 - pytest names them
    host: str,
    seconds: float,
    lab: FakeController,
    network: Network,
    config: ClientConfig,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with acquire_lease(config, NEW) as lease:
        await network.cut(host)
        network.silent.add(host)
        begun = trio.current_time()
        with trio.fail_after(500), pytest.raises(RpcError, match=f"for {seconds} s: {host} does not answer"):
            async with lease.dial(seconds):
                pytest.fail("nobody answered")
        assert seconds - 2 <= trio.current_time() - begun <= seconds + 1
        network.silent.clear()


@pytest.mark.parametrize("patience", [PROXY_DIAL_SECONDS * 3, 6.0])
async def test_the_socket_of_a_lease_says_why_before_its_client_gives_up(
    patience: float,
    lab: FakeController,
    network: Network,
    config: ClientConfig,
    autojump_clock: trio.testing.MockClock,
) -> None:
    autojump_clock.autojump_threshold = 0.02  # a socket is the kernel's, which this clock does not know of
    await network.leave(ROUTER)
    async with acquire_lease(replace(config, dial_timeout=patience), NEW) as lease, lease.listen() as path:
        stream = await connect_unix(path, timeout=100)
        async with open_channel(stream) as channel:
            begun = trio.current_time()
            with trio.fail_after(500), pytest.raises(RpcError, match="could not be reached"):
                await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())
            assert trio.current_time() - begun <= min(PROXY_DIAL_SECONDS, patience) + 1


async def test_the_socket_of_a_lease_leads_to_its_board(
    lab: FakeController, board: BoardExporter, config: ClientConfig
) -> None:
    async with acquire_lease(config, NEW) as lease, lease.listen() as path:
        stream = await connect_unix(path)
        async with open_channel(stream) as channel:
            assert (await ExporterServiceStub(channel).GetReport(empty_pb2.Empty())).reports
