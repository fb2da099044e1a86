"""Clients' connections to one lease: how many, how long, and what the failure of one does to the others."""

from __future__ import annotations

import logging
from collections.abc import Callable

import jwt
import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2
from jumpstarter_proto.rpc import LimitedLog, RpcError, StatusCode, open_channel
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import DriverCallRequest, ListenResponse
from jumpstarter_proto.value import to_value

from jumpstarter_exporter.registration.conftest import ANN, Configure, Tunnelled, lease_server, serving
from jumpstarter_exporter.registration.lease_server import (
    FIRST_BYTE_SECONDS,
    MAX_PREVIOUS_CLIENTS,
    MAX_TUNNELS,
    MAX_WAITING_TUNNELS,
)


async def heard(stream: trio.abc.Stream) -> bool:
    """Whether the session is at the other end: a server's first words are its settings."""
    try:
        return bool(await stream.receive_some())
    except trio.BrokenResourceError:
        return False


async def cut(stream: trio.abc.Stream) -> None:
    """Until the session has left."""
    while await heard(stream):
        pass


def token(client: str, name: str = "") -> str:
    return jwt.encode({"client": client, "sub": name}, "x" * 32)


async def test_one_connection_too_many_waits_for_another_to_end(
    configure: Configure, autojump_clock: trio.testing.MockClock
) -> None:
    tokens = [f"number {number}" for number in range(MAX_TUNNELS + 1)]
    controller = Tunnelled(*tokens)
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        assert len(controller.connected) == MAX_TUNNELS
        waiting = (set(tokens) - set(controller.connected)).pop()
        await controller.near(controller.connected[0]).aclose()
        assert await heard(controller.near(waiting))
        server.stopping.set()


async def test_more_connections_than_may_wait_are_refused_and_the_log_says_so_once(
    configure: Configure, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    controller = Tunnelled(*(f"number {number}" for number in range(MAX_TUNNELS)))
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        for number in range(MAX_WAITING_TUNNELS + 9):
            controller.dial(f"later {number}")
            await trio.testing.wait_all_tasks_blocked()
        assert (
            caplog.text.count(
                "could not be accepted: too many connections are waiting; the client will dial again"
            )
            == 1
        )
        for token in controller.connected[:MAX_TUNNELS]:
            await controller.near(token).aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert set(controller.connected[MAX_TUNNELS:]) == {f"later {number}" for number in range(MAX_TUNNELS)}
        server.stopping.set()


async def test_a_connection_on_which_nobody_speaks_is_ended(
    configure: Configure, autojump_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled("silent")
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        before = trio.current_time()
        with trio.fail_after(2 * FIRST_BYTE_SECONDS):
            await cut(controller.near("silent"))
        assert trio.current_time() - before == pytest.approx(FIRST_BYTE_SECONDS)
        server.stopping.set()


async def test_a_connection_on_which_somebody_has_spoken_may_be_silent_for_as_long_as_they_like(
    configure: Configure, autojump_clock: trio.testing.MockClock
) -> None:
    controller = Tunnelled("spoken")
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        async with open_channel(controller.near("spoken")) as channel:
            exporter = ExporterServiceStub(channel)
            await exporter.GetReport(empty_pb2.Empty())
            await trio.sleep(3 * FIRST_BYTE_SECONDS)
            await exporter.GetReport(empty_pb2.Empty())
        server.stopping.set()


async def test_a_connection_that_fails_is_logged_and_the_lease_goes_on(
    configure: Configure, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    away = RpcError(StatusCode.UNAVAILABLE, "the router is away")
    controller = Tunnelled("fine", away=away, broken=ZeroDivisionError("a fault"))
    server = lease_server(configure(), controller, ANN)
    async with serving(server) as over:
        assert await heard(controller.near("fine"))
        assert not over.is_set()
        server.stopping.set()
    assert "could not be accepted: the router is away; the client will dial again" in caplog.text
    assert "ZeroDivisionError: a fault" in caplog.text


async def test_who_had_the_lease_before_it_was_given_away_is_cut_off(
    configure: Configure, autojump_clock: trio.testing.MockClock
) -> None:
    old, unknown, new, late = token("ann"), "not ours", token("bob"), token("ann", "late")
    controller = Tunnelled(old, unknown, new)
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        for one in (old, unknown, new):
            assert await heard(controller.near(one))
        server.set_client("ann")
        await trio.testing.wait_all_tasks_blocked()
        server.set_client("bob")
        for one in (old, unknown):
            await cut(controller.near(one))
        controller.dial(late)
        await trio.testing.wait_all_tasks_blocked()
        assert late not in controller.connected
        with trio.move_on_after(1) as connected:
            await cut(controller.near(new))
        assert connected.cancelled_caught
        server.set_client("carl")
        await cut(controller.near(new))
        for name in ("ann", "bob", "carl"):
            controller.dial(token(name, "later"))
        await trio.testing.wait_all_tasks_blocked()
        assert controller.connected[3:] == [token("carl", "later")]
        server.ended.set()


@pytest.mark.parametrize(
    "owners", [["bob", "ann"], ["bob", "ann", "bob"], ["bob", "carl", "ann", "carl", "bob"]]
)
async def test_who_gets_a_lease_back_is_let_in_and_all_who_had_it_in_between_are_not(
    configure: Configure, autojump_clock: trio.testing.MockClock, owners: list[str]
) -> None:
    controller = Tunnelled()
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        for number, owner in enumerate(owners):
            server.set_client(owner)
            for name in {"ann", *owners[: number + 1]}:
                controller.dial(token(name, str(number)))
            await trio.testing.wait_all_tasks_blocked()
        assert controller.connected == [token(owner, str(number)) for number, owner in enumerate(owners)]
        server.ended.set()


class Deaf(Tunnelled):
    """Says when nobody hears any more of clients that dial."""

    is_deaf = False

    async def listen(self, lease: str, arrived: Callable[[ListenResponse], None]) -> None:
        try:
            await super().listen(lease, arrived)
        finally:
            self.is_deaf = True


@pytest.mark.parametrize("how", ["ended", "stopping"])
async def test_nobody_is_taken_who_dials_again_when_they_are_cut_off(
    configure: Configure, autojump_clock: trio.testing.MockClock, how: str
) -> None:
    controller = Deaf("one")
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        assert await heard(controller.near("one"))
        getattr(server, how).set()
        await cut(controller.near("one"))
        assert controller.is_deaf


async def test_a_controller_that_gives_a_lease_away_for_ever_fills_neither_log_nor_memory(
    configure: Configure, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    controller = Tunnelled()
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        await trio.testing.wait_all_tasks_blocked()
        for number in range(1000):
            server.set_client(f"client-{number}")
        assert caplog.text.count(" was transferred from ") <= LimitedLog.BURST
        for name in ("client-999", "client-998", f"client-{999 - MAX_PREVIOUS_CLIENTS}", "ann"):
            controller.dial(token(name))
        await trio.testing.wait_all_tasks_blocked()
        # The oldest are forgotten.
        assert sorted(controller.connected) == sorted([token("client-999"), token("ann")])
        server.ended.set()


async def test_a_leases_user_does_not_reach_the_host_by_a_url(configure: Configure) -> None:
    controller = Tunnelled("far")
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        async with open_channel(controller.near("far")) as channel:
            exporter = ExporterServiceStub(channel)
            [_, board] = (await exporter.GetReport(empty_pb2.Empty())).reports
            request = DriverCallRequest(
                uuid=board.uuid, method="fetch", args=[to_value("http://127.0.0.1:1/x")]
            )
            with pytest.raises(RpcError, match="loopback") as refused:
                await exporter.DriverCall(request)
            assert refused.value.code is StatusCode.PERMISSION_DENIED
        server.stopping.set()


async def test_connections_that_fail_for_ever_new_reasons_do_not_fill_the_log(
    configure: Configure, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    why = {
        f"bad{number}": RpcError(StatusCode.UNAVAILABLE, f"{number} " + 5000 * "x") for number in range(60)
    }
    controller = Tunnelled(**why)
    server = lease_server(configure(), controller, ANN)
    async with serving(server):
        server.stopping.set()
    said = [one for one in caplog.messages if "could not be accepted" in one]
    assert 0 < len(said) < 15
    assert max(map(len, said)) < 1200


async def test_who_had_the_lease_before_and_dials_on_does_not_fill_the_log(
    configure: Configure, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    controller = Tunnelled()
    server = lease_server(configure(), controller, ANN)
    server.set_client("bob")
    async with serving(server):
        for number in range(60):
            controller.dial(token("ann", str(number)))
        await trio.testing.wait_all_tasks_blocked()
        server.stopping.set()
    assert 0 < sum("connection of ann" in one for one in caplog.messages) < 15
    assert controller.connected == []
