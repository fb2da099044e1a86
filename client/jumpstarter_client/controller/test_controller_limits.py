"""A controller that does not answer, and the one connection that many questions share."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import jwt
import pytest
import trio
import trio.testing
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.client.v1.client_grpc import ClientServiceServicer
from jumpstarter_proto.lab.v1.enrolment_grpc import EnrolmentServiceServicer
from jumpstarter_proto.remote import Trust
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceServicer

from jumpstarter_client.controller.client_login import LoginOptions, log_in_with_issuer
from jumpstarter_client.controller.controller_client import (
    CALL_SECONDS,
    DIAL_SECONDS,
    ControllerCalls,
    ControllerClient,
)
from jumpstarter_client.controller.token_renewal import list_issuers
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.conftest import CONTROLLER, FakeController, Network, Silent


async def all_leases(calls: ControllerCalls) -> list[pb.Lease]:
    return [one async for one in calls.leases()]


async def all_exporters(calls: ControllerCalls) -> list[pb.Exporter]:
    return [one async for one in calls.exporters()]


@pytest.mark.parametrize(
    ("ask", "seconds"),
    [
        (lambda calls: calls.create_lease("x", pb.Lease()), CALL_SECONDS),
        (lambda calls: calls.get_lease("x"), CALL_SECONDS),
        (lambda calls: calls.update_lease("x", pb.Lease(client="bob")), CALL_SECONDS),
        (lambda calls: calls.delete_lease("x"), CALL_SECONDS),
        (all_leases, CALL_SECONDS),
        (all_exporters, CALL_SECONDS),
        (lambda calls: calls.get_exporter("one"), CALL_SECONDS),
        (lambda calls: calls.check(), CALL_SECONDS),
        (lambda calls: calls.rotate_token(), CALL_SECONDS),
        (lambda calls: calls.dial("x", 1000), DIAL_SECONDS),
        (lambda calls: calls.dial("x", 4), 4),
    ],
)
async def test_a_controller_that_does_not_answer_is_given_up(
    ask: Callable[[ControllerCalls], Awaitable[object]],
    seconds: float,
    network: Network,
    config: ClientConfig,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network.hosts[CONTROLLER] = [Silent(ClientServiceServicer, ControllerServiceServicer)]
    async with ControllerClient(config).open() as calls:
        begun = trio.current_time()
        with trio.fail_after(5 * seconds), pytest.raises(RpcError) as caught:
            await ask(calls)
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        assert trio.current_time() - begun == pytest.approx(seconds, abs=1)


async def test_whoever_asks_for_issuers_is_not_kept_waiting(
    network: Network, trust: Trust, autojump_clock: trio.testing.MockClock
) -> None:
    network.hosts[CONTROLLER] = [Silent(EnrolmentServiceServicer)]
    for ask in (
        list_issuers(CONTROLLER, trust),
        log_in_with_issuer(CONTROLLER, trust, LoginOptions(), lambda _: None),
    ):
        begun = trio.current_time()
        with trio.fail_after(5 * CALL_SECONDS), pytest.raises(RpcError) as caught:
            await ask
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        assert trio.current_time() - begun == pytest.approx(CALL_SECONDS, abs=1)


# --- one connection


async def test_one_connection_is_kept_for_a_block_and_not_used_after_it(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.add("x")
    controller = ControllerClient(config)
    async with controller.keep_connected():
        for _ in range(3):
            async with controller.open() as calls:
                await calls.get_lease("x")
        assert network.opened[CONTROLLER] == 1
    async with controller.open() as calls:
        await calls.get_lease("x")
    assert network.opened[CONTROLLER] == 2


async def test_a_kept_connection_that_breaks_is_followed_by_others(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.add("x")
    controller = ControllerClient(config)
    async with controller.keep_connected():
        await network.cut(CONTROLLER)
        await trio.testing.wait_all_tasks_blocked()
        async with controller.open() as calls:
            await calls.get_lease("x")
    assert network.opened[CONTROLLER] == 2


async def test_a_new_token_has_a_connection_of_its_own(
    lab: FakeController, network: Network, config: ClientConfig, autojump_clock: trio.testing.MockClock
) -> None:
    lab.add("x")
    controller = ControllerClient(config)
    async with controller.keep_connected():
        controller.config = replace(config, identity=replace(config.identity, token="another"))
        async with controller.open() as calls:
            await calls.get_lease("x")
    assert network.opened[CONTROLLER] == 2


async def test_a_connection_that_is_kept_is_used_when_its_token_was_renewed_for_it(
    lab: FakeController, network: Network, config: ClientConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.add("x")
    fresh = replace(config, identity=replace(config.identity, token="another"), refresh_token="next")

    async def renew(_: ClientConfig) -> ClientConfig:
        return fresh

    monkeypatch.setattr("jumpstarter_client.controller.token_renewal.with_valid_token", renew)
    controller = ControllerClient(replace(config, refresh_token="first"))
    async with controller.keep_connected(), controller.open() as calls:
        await calls.get_lease("x")
    assert network.opened[CONTROLLER] == 1


@pytest.mark.parametrize(("left", "until"), [(3600, 3540), (90, 60), (10, 60), (None, math.inf)])
async def test_another_connection_is_due_before_a_token_ends_and_not_all_the_time(
    lab: FakeController,
    config: ClientConfig,
    left: float | None,
    until: float,
    autojump_clock: trio.testing.MockClock,
) -> None:
    claims = {} if left is None else {"exp": time.time() + left}
    identity = replace(config.identity, token=jwt.encode(claims, "x" * 32))
    async with ControllerClient(replace(config, identity=identity)).open() as calls:
        assert calls.until - trio.current_time() == pytest.approx(until, abs=2)


@pytest.mark.parametrize(("hours", "warnings"), [(-1, 0), (2, 1), (24 * 8, 0)])
async def test_the_end_of_a_token_is_told_once_and_in_time(
    lab: FakeController, config: ClientConfig, caplog: pytest.LogCaptureFixture, hours: float, warnings: int
) -> None:
    token = jwt.encode({"exp": time.time() + hours * 3600}, "x" * 32)
    controller = ControllerClient(replace(config, identity=replace(config.identity, token=token)))
    for _ in range(2):
        async with controller.open():
            pass
    told = [one for one in caplog.messages if "your token expires in" in one]
    assert len(told) == warnings
    assert all("in 2 h; renew it with: jumpstarter auth rotate" in one for one in told)
