"""What a client dialled reaches its exporter, also when the call that was to bring it there ended on the way."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.remote import Identity, Kind
from jumpstarter_proto.rpc import ClientCall, Options, RpcError, Server, StatusCode, open_channel
from jumpstarter_proto.v1 import jumpstarter_grpc
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from msgspec.structs import replace

from jumpstarter_controller.identity import Authenticator, Subject, TokenIssuer
from jumpstarter_controller.lab import Client, Draft, Exporter, ExporterStatus, Key, Lease
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.scheduling import OFFLINE_SECONDS
from jumpstarter_controller.services import (
    CallAuthenticator,
    ControllerService,
    DialQueues,
    ExporterStreams,
    Router,
    Routers,
    changes,
    objects,
)
from jumpstarter_controller.services.controller_service import LISTEN_SECONDS, READY_SECONDS
from jumpstarter_controller.services.dial_queues import (
    DELIVERED_SECONDS,
    MAX_WAITING_CONNECTIONS,
    RETURN_SECONDS,
    DialQueue,
)
from jumpstarter_controller.services.exporter_sessions import INSTANCE
from jumpstarter_controller.services.rendezvous import Rendezvous as MeetingPlace
from jumpstarter_controller.store import MemoryStore
from jumpstarter_controller.store.whole import fill

SIGNING = ec.generate_private_key(ec.SECP256R1())
ANN = Client(namespace="default", name="ann", uid="1")
ONE = Exporter(namespace="default", name="one", uid="2", devices=1, status=ExporterStatus.LEASE_READY)
MINE = Key("default", "mine")
WINDOW = 65535
"""Bytes that a caller takes before it reads; HTTP/2 knows no smaller one from the start."""


class Rendezvous:
    """A controller with a lease of ann's on one. Its tokens say which dial they are of, and each fills a window."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.dials = 0
        self.nursery = nursery
        store = MemoryStore()
        fill(store, ANN, ONE)
        self.reconciler = Reconciler(store, clock=self.clock)
        self.listening = DialQueues()
        self.issuer = TokenIssuer(SIGNING, "lab:1", clock=self.clock)
        auth = CallAuthenticator(self.reconciler, Authenticator(self.issuer))
        self.server = Server(
            [
                ControllerService(
                    self.reconciler,
                    auth,
                    MeetingPlace(self.listening),
                    Routers([Router("router:1")], lambda *_: self.token()),
                    ExporterStreams(self.reconciler, auth),
                )
            ]
        )

    @staticmethod
    def clock() -> float:
        return 1000.0 + trio.current_time()

    def token(self) -> str:
        self.dials += 1
        return f"{self.dials}" + " " * WINDOW

    def identity(self, kind: Kind, record: Client | Exporter) -> Identity:
        token, _ = self.issuer.issue(Subject(kind, record.namespace, record.name, record.uid))
        return Identity(kind, record.namespace, record.name, token)

    async def lease(self) -> None:
        asked = client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=86400))
        self.reconciler.presence.connected(ONE.key, self.clock())
        await self.report(ExporterStatus.AVAILABLE)
        await self.reconciler.change(lambda lab, now: changes.create_lease(lab, now, ANN, "mine", asked))
        await self.report(ExporterStatus.LEASE_READY)

    async def report(self, status: ExporterStatus) -> None:
        await self.reconciler.change(lambda lab, _: changes.report(lab, ONE.key, status, ""))

    @asynccontextmanager
    async def controller(self) -> AsyncIterator[jumpstarter_grpc.ControllerServiceStub]:
        near, far = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.server.serve_connection, far)
        async with open_channel(near, options=Options(stream_window=WINDOW)) as channel:
            yield jumpstarter_grpc.ControllerServiceStub(channel)

    @asynccontextmanager
    async def listen(
        self, process: str = ""
    ) -> AsyncIterator[ClientCall[pb.ListenRequest, pb.ListenResponse]]:
        """An exporter's call, on a connection of its own."""
        metadata = [
            *self.identity(Kind.EXPORTER, ONE).metadata(),
            *([(INSTANCE, process)] if process else []),
        ]
        async with (
            self.controller() as controller,
            controller.Listen(pb.ListenRequest(lease_name="mine"), metadata=metadata) as call,
        ):
            await call.initial_metadata()
            yield call

    async def dial(self) -> str:
        metadata = self.identity(Kind.CLIENT, ANN).metadata()
        async with self.controller() as controller:
            response = await controller.Dial(pb.DialRequest(lease_name="mine"), metadata=metadata)
        return response.router_token.strip()


@pytest.fixture
async def lab() -> AsyncIterator[Rendezvous]:
    async with trio.open_nursery() as nursery:
        rendezvous = Rendezvous(nursery)
        await nursery.start(rendezvous.reconciler.run)
        await rendezvous.lease()
        yield rendezvous
        nursery.cancel_scope.cancel()


async def heard(call: ClientCall[pb.ListenRequest, pb.ListenResponse]) -> str:
    with trio.fail_after(10):
        return (await call.receive()).router_token.strip()


async def test_a_connection_whose_delivery_failed_goes_to_the_exporters_next_call(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    async with lab.listen():
        # The exporter reads nothing: the first has filled its window, the second is stuck, the third waits.
        assert [await lab.dial() for _ in range(3)] == ["1", "2", "3"]
        await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(RETURN_SECONDS / 2)
    async with lab.listen() as call:
        assert [await heard(call), await heard(call)] == ["2", "3"]
        await lab.dial()
        assert await heard(call) == "4"


@pytest.mark.parametrize(
    ("process", "seconds", "hears"),
    [
        ("b", 0, ["1", "2", "3"]),
        ("b", DELIVERED_SECONDS + 1, ["3"]),
        ("a", 0, ["3"]),
        ("", 0, ["3"]),
    ],
)
@pytest.mark.parametrize("is_seen", [True, False])
async def test_what_a_process_heard_of_and_died_goes_to_the_next_process_of_its_exporter(
    lab: Rendezvous,
    autojump_clock: trio.testing.MockClock,
    *,
    process: str,
    seconds: float,
    hears: list[str],
    is_seen: bool,
) -> None:
    """Its client waits at the router: so it is not for half a minute, after which it would dial again."""
    async with AsyncExitStack() as stack:
        call = await stack.enter_async_context(lab.listen("a"))
        for number in ("1", "2"):
            await lab.dial()
            assert await heard(call) == number
        await trio.sleep(seconds)
        if is_seen:
            await stack.aclose()
            await trio.testing.wait_all_tasks_blocked()
        async with lab.listen(process) as after:
            await lab.dial()
            assert [await heard(after) for _ in hears] == hears
            with trio.move_on_after(60):
                pytest.fail(f"heard {await after.receive()}, too")


async def test_an_exporter_that_listens_no_more_cannot_be_dialled(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    async with lab.listen():
        await lab.dial()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(RpcError, match="not listening on lease mine") as caught:
        await lab.dial()
    assert caught.value.code is StatusCode.UNAVAILABLE


async def test_an_exporter_that_is_about_to_listen_is_waited_for(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    """It says that it is ready before, on another connection."""
    dialled = []

    async def dial() -> None:
        dialled.append(await lab.dial())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(dial)
        await trio.sleep(LISTEN_SECONDS / 2)
        async with lab.listen() as call:
            assert {await heard(call), await heard(call)} == {"1", "2"}
    assert sorted(dialled) == ["1", "2"]
    assert not lab.listening._arrivals


async def test_who_waits_for_an_exporter_to_listen_may_leave_before_others(
    listening: DialQueues, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.until, MINE, 10)
        with trio.move_on_after(1):
            await listening.until(MINE, 100)
        before = trio.current_time()
        await listening.until(MINE, 2)
        assert trio.current_time() - before == pytest.approx(2, abs=0.1)
        await trio.sleep(1)
        listening.listen(MINE)
    assert trio.current_time() - before == pytest.approx(3, abs=0.1)
    assert not listening._arrivals


async def test_a_newer_call_of_an_exporter_ends_the_older(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    async with lab.listen() as older, lab.listen() as newer:
        with trio.fail_after(10), pytest.raises(trio.EndOfChannel):
            await older.receive()
        await lab.dial()
        assert await heard(newer) == "1"


async def test_it_goes_to_a_call_that_has_taken_over_meanwhile(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    async def stuck(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            async with lab.listen():
                task_status.started(scope)
                await trio.sleep_forever()

    older = await lab.nursery.start(stuck)
    assert [await lab.dial() for _ in range(3)] == ["1", "2", "3"]
    await trio.testing.wait_all_tasks_blocked()
    async with lab.listen() as call:
        assert await heard(call) == "3"
        older.cancel()
        assert await heard(call) == "2"


@asynccontextmanager
async def status(
    lab: Rendezvous, instance: str = "a"
) -> AsyncIterator[ClientCall[pb.StatusRequest, pb.StatusResponse]]:
    """An exporter's status stream, on a connection of its own, after its first word."""
    metadata = [*lab.identity(Kind.EXPORTER, ONE).metadata(), (INSTANCE, instance)]
    async with (
        lab.controller() as controller,
        controller.Status(pb.StatusRequest(), metadata=metadata) as call,
    ):
        assert (await call.receive()).lease_name == "mine"
        yield call


async def test_an_exporter_whose_status_stream_has_ended_is_gone_and_another_process_may_come(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    lab.reconciler.presence.disconnected(ONE.key, lab.clock())
    async with status(lab):
        assert lab.reconciler.presence.is_connected(ONE.key)
    await trio.testing.wait_all_tasks_blocked()
    assert not lab.reconciler.presence.is_connected(ONE.key)
    async with status(lab, "b"):
        assert lab.reconciler.presence.is_connected(ONE.key)
    began = trio.current_time()
    while (
        one := lab.reconciler.committed.get(Exporter, ONE.key)
    ) and one.status is not ExporterStatus.OFFLINE:
        await lab.reconciler.wait(Exporter, ONE.key, math.inf)
    assert OFFLINE_SECONDS < trio.current_time() - began < OFFLINE_SECONDS + 1


async def test_a_process_that_is_served_hears_at_once_of_another(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    async with status(lab) as served, lab.controller() as controller:
        began = trio.current_time()
        metadata = [*lab.identity(Kind.EXPORTER, ONE).metadata(), (INSTANCE, "b")]
        with pytest.raises(RpcError) as refused:
            await controller.Register(pb.RegisterRequest(), metadata=metadata)
        assert refused.value.code is StatusCode.ALREADY_EXISTS
        with pytest.raises(RpcError, match="this process is served, stop the other") as told:
            await served.receive()
        assert told.value.code is StatusCode.ABORTED
        assert trio.current_time() - began < 1


async def test_an_exporter_hears_that_a_lease_is_over_before_it_hears_of_the_next(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    async with status(lab) as call:
        asked = client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=60))
        available = ExporterStatus.AVAILABLE
        await lab.reconciler.change(lambda draft, now: changes.create_lease(draft, now, ANN, "next", asked))

        def hand_over(draft: Draft, _: float) -> None:
            changes.report(draft, ONE.key, available, "")
            lease = draft.get(Lease, MINE)
            assert lease is not None
            changes.release(draft, lease)

        await lab.reconciler.change(hand_over)
        heard = [await call.receive() for _ in range(2)]
        assert [one.lease_name for one in heard] == ["", "next"]


async def test_a_dial_waits_for_an_exporter_that_is_about_to_begin(lab: Rendezvous) -> None:
    await lab.report(ExporterStatus.AVAILABLE)
    async with lab.listen() as call:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lab.dial)
            await trio.testing.wait_all_tasks_blocked()
            assert lab.dials == 0
            await lab.report(ExporterStatus.LEASE_READY)
        assert await heard(call) == "1"


async def test_a_dial_does_not_wait_for_ever_for_an_exporter_that_never_begins(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    await lab.report(ExporterStatus.AVAILABLE)
    began = trio.current_time()
    async with lab.listen():
        with pytest.raises(RpcError, match="exporter is not ready") as caught:
            await lab.dial()
    assert caught.value.code is StatusCode.FAILED_PRECONDITION
    assert trio.current_time() - began == pytest.approx(READY_SECONDS, abs=0.1)


async def test_an_exporter_that_accepts_leases_is_dialled_as_soon_as_it_listens(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    """It says that it prepares the board only if that takes long."""

    def answers(draft: Draft, _: float) -> None:
        record = draft.get(Exporter, ONE.key)
        assert record is not None
        draft.put(replace(record, answers=True))

    await lab.reconciler.change(answers)
    await lab.report(ExporterStatus.AVAILABLE)
    tokens: list[str] = []

    async def dial() -> None:
        tokens.append(await lab.dial())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        await trio.sleep(LISTEN_SECONDS / 2)
        assert not tokens
        async with lab.listen() as call:
            assert await heard(call) == "1"
        await trio.testing.wait_all_tasks_blocked()
        assert tokens == ["1"]
        nursery.start_soon(dial)
        await trio.sleep(2 * LISTEN_SECONDS)
        assert len(tokens) == 1, "nobody listens any more"
        await lab.report(ExporterStatus.LEASE_READY)
        async with lab.listen() as call:
            assert await heard(call) == "2"


async def test_an_audit_stream_ends_with_its_exporters_token(
    lab: Rendezvous, autojump_clock: trio.testing.MockClock
) -> None:
    metadata = lab.identity(Kind.EXPORTER, ONE).metadata()
    async with lab.controller() as controller, controller.AuditStream(metadata=metadata) as call:
        await call.send(pb.AuditStreamRequest(severity="info", message="before"))
        await trio.testing.wait_all_tasks_blocked()
        await lab.reconciler.change(lambda draft, _: objects.renew(draft, ONE))
        await call.send(pb.AuditStreamRequest(severity="info", message="after"))
        with pytest.raises(RpcError, match="was deleted or has a new token") as caught:
            await call.receive()
    assert caught.value.code is StatusCode.UNAUTHENTICATED


@pytest.fixture
def listening() -> DialQueues:
    return DialQueues()


def connection(number: int) -> pb.ListenResponse:
    return pb.ListenResponse(router_token=str(number))


async def following(listener: DialQueue) -> str | None:
    with trio.move_on_after(1):
        found = await listener.next()
        return None if found is None else found.router_token
    return "nothing"


async def test_what_could_not_be_delivered_comes_before_what_was_dialled_later(
    listening: DialQueues, autojump_clock: trio.testing.MockClock
) -> None:
    first = listening.listen(MINE)
    second = listening.listen(MINE)
    listening.push(MINE, connection(2))
    listening.put_back(MINE, connection(1))
    assert await following(first) is None
    assert [await following(second) for _ in range(3)] == ["1", "2", "nothing"]


async def test_what_comes_back_when_nobody_listens_waits_for_who_does_next(
    listening: DialQueues, autojump_clock: trio.testing.MockClock
) -> None:
    first = listening.listen(MINE)
    second = listening.listen(MINE)
    listening.push(MINE, connection(2))
    listening.close(MINE, second)
    listening.put_back(MINE, connection(1))
    listening.close(MINE, first)
    third = listening.listen(MINE)
    assert [await following(third) for _ in range(3)] == ["1", "2", "nothing"]


async def test_of_two_calls_at_the_same_moment_one_gets_what_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for _ in range(30):  # trio lets either go first
        listening = DialQueues()
        older = listening.listen(MINE)
        listening.push(MINE, connection(1))
        ends: dict[str, str | None] = {}

        async def ask(
            name: str, listener: Callable[[], DialQueue], ends: dict[str, str | None] = ends
        ) -> None:
            ends[name] = await following(listener())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "older", partial(_same, older))
            nursery.start_soon(ask, "newer", partial(listening.listen, MINE))
        assert ends in ({"older": None, "newer": "1"}, {"older": "1", "newer": "nothing"})


def _same(listener: DialQueue) -> DialQueue:
    return listener


async def test_what_nobody_fetches_is_forgotten(
    listening: DialQueues, autojump_clock: trio.testing.MockClock
) -> None:
    for number in range(50):
        lease = Key("default", f"l{number}")
        listener = listening.listen(lease)
        listening.push(lease, connection(number))
        listening.close(lease, listener)
        with pytest.raises(RpcError, match="not listening on lease"):
            listening.push(lease, connection(number))
    await trio.sleep(RETURN_SECONDS)
    assert await following(listening.listen(Key("default", "l0"))) == "nothing"
    listening.close(MINE, listening.listen(MINE))
    assert not listening._left


async def test_so_many_connections_wait_for_one_lease(
    listening: DialQueues, autojump_clock: trio.testing.MockClock
) -> None:
    listener = listening.listen(MINE)
    for number in range(MAX_WAITING_CONNECTIONS):
        listening.push(MINE, connection(number))
    with pytest.raises(RpcError, match="listener buffer full") as caught:
        listening.push(MINE, connection(MAX_WAITING_CONNECTIONS))
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert await following(listener) == "0"
    listening.push(MINE, connection(MAX_WAITING_CONNECTIONS))
