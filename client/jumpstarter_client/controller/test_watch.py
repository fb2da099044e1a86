"""A controller that tells of a lease that is waited for or held, and one that goes away, lies or is an old one."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
import trio.testing
from google.protobuf import timestamp_pb2
from jumpstarter_proto.client.v1 import client_grpc
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.lab.v1 import exporters_grpc, exporters_pb2
from jumpstarter_proto.remote import Identity, Kind, ReasonCode, Trust, refused
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode, open_channel, serve_connection
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.v1 import kubernetes_pb2

from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient
from jumpstarter_client.controller.lab_snapshot import LabSnapshot
from jumpstarter_client.controller.lease_view import LeasePhase
from jumpstarter_client.controller.watch import (
    ANSWER_SECONDS,
    BURST_UPDATES,
    UPDATES_PER_SECOND,
    watch_lab,
    watch_lease,
)
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.lease import LeaseRejectedError, wait_for_lease
from jumpstarter_client.lease.monitor import WATCH_AFTER_SECONDS, LeaseMonitor

LAB = "namespaces/lab"
WAITING = pb.Lease(name=f"{LAB}/leases/x", client=f"{LAB}/clients/ann")


def waiting(text: str) -> pb.Lease:
    said = kubernetes_pb2.Condition(type="Pending", status="True", message=text)
    return pb.Lease(name=WAITING.name, client=WAITING.client, conditions=[said])


def ready(seconds: int = 3600, age: float = 0) -> pb.Lease:
    said = kubernetes_pb2.Condition(type="Ready", status="True", reason="Ready")
    lease = pb.Lease(
        name=WAITING.name, client=WAITING.client, exporter=f"{LAB}/exporters/one", conditions=[said]
    )
    lease.duration.seconds = seconds
    lease.effective_begin_time.seconds = 1
    lease.effective_duration.seconds = int(age)
    return lease


def ended(why: str, kind: str = "Ready", status: str = "False") -> pb.Lease:
    said = kubernetes_pb2.Condition(type=kind, status=status, message=why)
    end = timestamp_pb2.Timestamp(seconds=2)
    return pb.Lease(name=WAITING.name, client=WAITING.client, conditions=[said], effective_end_time=end)


class Telling(exporters_grpc.LabServiceServicer):
    """A controller that tells of one lease what its script has."""

    def __init__(self, *script: Callable[[Telling], Awaitable[None]]) -> None:
        self.script = list(script)
        """For each Watch what happens in it."""
        self.requests: list[exporters_pb2.WatchRequest] = []
        self.opened: list[float] = []
        self._call: ServerCall[exporters_pb2.WatchRequest, exporters_pb2.LabNews] | None = None

    async def Watch(  # noqa: N802
        self,
        request: exporters_pb2.WatchRequest,
        call: ServerCall[exporters_pb2.WatchRequest, exporters_pb2.LabNews],
    ) -> None:
        self.requests.append(request)
        self.opened.append(trio.current_time())
        self._call = call
        step = self.script.pop(0) if self.script else _hangs
        await step(self)

    async def tell(self, lease: pb.Lease, reason: str = "", *, snapshot: bool = False) -> None:
        assert self._call is not None
        news = exporters_pb2.LeaseNews(lease=lease, reason=reason)
        await self._call.send(exporters_pb2.LabNews(snapshot=snapshot, revision="1", leases=[news]))

    async def say(self, news: exporters_pb2.LabNews) -> None:
        assert self._call is not None
        await self._call.send(news)


async def _hangs(_: Telling) -> None:
    await trio.sleep_forever()


def tells(*leases: tuple[float, pb.Lease], reason: str = "") -> Callable[[Telling], Awaitable[None]]:
    """Each lease after so many seconds, and then nothing more."""

    async def run(telling: Telling) -> None:
        for seconds, lease in leases:
            await trio.sleep(seconds)
            await telling.tell(lease, reason)
        await trio.sleep_forever()

    return run


def fails(code: StatusCode, details: str = "x") -> Callable[[Telling], Awaitable[None]]:
    async def run(_: Telling) -> None:
        raise RpcError(code, details)

    return run


class Old(client_grpc.ClientServiceServicer):
    """A controller that has to be asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.ready_at = math.inf

    async def GetLease(self, request: pb.GetLeaseRequest, call: object) -> pb.Lease:  # noqa: N802
        self.asked.append(trio.current_time())
        return ready() if trio.current_time() >= self.ready_at else waiting("the queue")


class Access:
    """As a `ControllerClient`; `is_there` may be taken away, and a connection may be for some seconds only."""

    def __init__(self, *services: Telling | Old, lasts: float = math.inf) -> None:
        self.services = services
        self.supports_watch = True
        self.is_there = True
        self.connections = 0
        self.config = ClientConfig("lab:1", Identity(Kind.CLIENT, "lab", "ann", "token"), Trust())
        self._lasts = lasts

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ControllerCalls]:
        await trio.lowlevel.checkpoint()
        if not self.is_there:
            raise RpcError(StatusCode.UNAVAILABLE, "nobody is there")
        self.connections += 1
        ours, theirs = trio.testing.memory_stream_pair()
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_connection, theirs, self.services)
                async with open_channel(ours) as channel:
                    yield ControllerCalls(channel, LAB, until=trio.current_time() + self._lasts)
                nursery.cancel_scope.cancel()

    def as_controller(self) -> ControllerClient:
        return cast("ControllerClient", self)


async def wait(access: Access, *, timeout: float = 7200) -> tuple[LeasePhase, list[str]]:
    said: list[str] = []

    def tell(sentence: str) -> None:
        if not said or said[-1] != sentence:
            said.append(sentence)

    _, progress = await wait_for_lease(access.as_controller(), WAITING, tell, timeout=timeout)
    return progress.phase, said


async def test_who_waits_makes_one_call_and_hears_at_once(autojump_clock: trio.testing.MockClock) -> None:
    old = Old()
    steps = tells((0.01, waiting("number 2")), (600, waiting("number 1")), (600, ready()))
    telling = Telling(steps)
    access = Access(telling, old)
    assert await wait(access) == (LeasePhase.READY, ["number 2", "number 1"])
    assert trio.current_time() == pytest.approx(1200.01)
    (request,) = telling.requests
    assert (request.lease, request.waits, request.knows) == ("x", True, False)
    assert old.asked == []


async def test_how_long_one_has_waited_is_said_again_and_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    said: list[str] = []
    access = Access(Telling(tells((0, waiting("number 2")), (60, ready()))))
    await wait_for_lease(access.as_controller(), WAITING, said.append, timeout=100)
    assert 50 < len(said) < 70


async def test_a_board_that_is_free_at_once_costs_no_call(autojump_clock: trio.testing.MockClock) -> None:
    access = Access()
    _, progress = await wait_for_lease(access.as_controller(), ready(), lambda _: None, timeout=10)
    assert progress.phase is LeasePhase.READY
    assert access.connections == 0


async def test_who_waits_with_an_old_controller_asks_it(autojump_clock: trio.testing.MockClock) -> None:
    old = Old()
    old.ready_at = 100
    access = Access(old)
    assert await wait(access) == (LeasePhase.READY, ["waiting for the controller", "the queue"])
    assert not access.supports_watch
    assert 50 < len(old.asked) < 120


async def test_what_is_behind_a_gateway_that_knows_no_watch_is_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    old = Old()
    old.ready_at = 100
    access = Access(Telling(fails(StatusCode.PERMISSION_DENIED, "the peer answered HTTP 403")), old)
    assert (await wait(access))[0] is LeasePhase.READY
    held = Held(Access(Telling(fails(StatusCode.PERMISSION_DENIED)), old))
    with trio.move_on_after(100):
        await held.monitor.run()
    assert not [sentence for sentence in held.said if "away" in sentence]


async def test_who_is_refused_is_told_why(autojump_clock: trio.testing.MockClock) -> None:
    denied = refused(StatusCode.PERMISSION_DENIED, "the token is not yours", ReasonCode.CALLER_DENIED)

    async def denies(_: Telling) -> None:
        raise denied

    access = Access(Telling(denies), Old())
    with pytest.raises(RpcError, match="not yours"):
        await wait(access)
    assert access.supports_watch


async def test_a_controller_that_is_restarted_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    shuts_down = fails(StatusCode.UNAVAILABLE, "the server is shutting down")

    async def ends(telling: Telling) -> None:
        await telling.tell(waiting("number 1"))

    telling = Telling(shuts_down, ends, tells((1, ready())))
    stage, said = await wait(Access(telling))
    assert stage is LeasePhase.READY
    assert said == [
        away := "the controller is unreachable; the wait continues when it is back",
        "number 1",
        away,
    ]
    assert len(telling.requests) == 3


async def test_an_old_controller_in_the_place_of_a_new_one_is_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    old = Old()
    access = Access(Telling(fails(StatusCode.UNAVAILABLE), fails(StatusCode.UNIMPLEMENTED)), old)
    old.ready_at = 20
    assert (await wait(access))[0] is LeasePhase.READY
    assert old.asked


@pytest.mark.parametrize("reason", [ReasonCode.NO_BOARD.value, "another", ""])
async def test_who_finds_no_board_hears_so_in_the_same_call(
    reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    none = ended("no exporter matches x", "Unsatisfiable", "True")
    access = Access(Telling(tells((1, none), reason=reason)))
    with pytest.raises(LeaseRejectedError) as refused:
        await wait(access)
    cure = "; to wait until there is one, add --wait-for-board" if reason == ReasonCode.NO_BOARD else ""
    assert str(refused.value) == f"the lease cannot be satisfied: no exporter matches x{cure}"
    assert access.connections == 1


async def test_a_wait_is_longer_than_a_token(autojump_clock: trio.testing.MockClock) -> None:
    telling = Telling(*[tells((0, waiting("number 1")))] * 3, tells((1, ready())))
    access = Access(telling, lasts=100)
    assert await wait(access) == (LeasePhase.READY, ["number 1"])
    assert [round(when, -1) for when in telling.opened] == [0, 100, 200, 300]


async def test_a_controller_that_takes_the_call_and_says_nothing_is_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    access = Access(Telling())
    with pytest.raises(RpcError, match="sent no state within 30 s") as silent:
        await watch_lease(access.as_controller(), "x", lambda *_: True)
    assert silent.value.code is StatusCode.DEADLINE_EXCEEDED
    assert trio.current_time() <= ANSWER_SECONDS + 2


async def test_a_controller_that_tells_without_end_is_not_listened_to(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sent = 0

    async def floods(telling: Telling) -> None:
        nonlocal sent
        while True:
            sent += 1
            exporters = [pb.Exporter(name=f"{LAB}/exporters/{sent}", status_message="x" * 10_000)]
            await telling.say(exporters_pb2.LabNews(snapshot=sent % 3 == 0, exporters=exporters))

    with pytest.raises(RpcError, match="sends more than 1 MiB"):
        await wait(Access(Telling(floods)))
    assert sent < 1000


async def test_a_controller_that_never_comes_to_an_end_with_what_it_tells_is_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def trickles(telling: Telling) -> None:
        while True:
            await telling.say(exporters_pb2.LabNews())
            await trio.sleep(0.5)

    async def begins_well(telling: Telling) -> None:
        await telling.tell(waiting("number 2"), snapshot=True)
        await trickles(telling)

    for script in (trickles, begins_well):
        began = trio.current_time()
        with pytest.raises(RpcError, match="sent no state within 30 s"):
            await watch_lease(Access(Telling(script)).as_controller(), "x", lambda *_: False)
        assert trio.current_time() - began == pytest.approx(ANSWER_SECONDS, abs=1)


async def test_a_controller_that_tells_faster_than_anybody_reads_is_looked_at_now_and_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Twenty times at once, for what happens at the same time; the first news is never late."""
    looks: list[float] = []

    async def hurries(telling: Telling) -> None:
        for number in range(2000):
            await telling.tell(waiting(f"number {number}"), snapshot=number == 0)
        await telling.tell(ready())

    def see(lease: pb.Lease, _: str | None) -> bool:
        looks.append(trio.current_time())
        return bool(lease.exporter)

    await watch_lease(Access(Telling(hurries)).as_controller(), "x", see)
    assert len(looks) == 2001
    assert looks[BURST_UPDATES - 1] - looks[0] < 0.1
    assert looks[-1] - looks[0] == pytest.approx(2000 / UPDATES_PER_SECOND, rel=0.1)


async def test_what_is_watched_goes_on_from_where_it_was_known(
    autojump_clock: trio.testing.MockClock,
) -> None:
    exporter = pb.Exporter(name=f"{LAB}/exporters/one")

    async def first(telling: Telling) -> None:
        await telling.say(exporters_pb2.LabNews(snapshot=True, revision="r1", exporters=[exporter]))
        await telling.say(exporters_pb2.LabNews(gone_exporters=["one"]))  # and breaks before it is complete

    async def second(telling: Telling) -> None:
        await telling.say(exporters_pb2.LabNews(revision="r2", gone_exporters=["one"]))
        await trio.sleep_forever()

    telling, known = Telling(first, second), LabSnapshot()
    access, seen = Access(telling), list[set[str]]()
    request = exporters_pb2.WatchRequest(exporters=True)

    def look() -> None:
        seen.append(set(known.exporters))

    controller = access.as_controller()
    with pytest.raises(RpcError, match="ended the watch"):
        await watch_lab(controller, request, known, look)
    with trio.move_on_after(1):
        await watch_lab(controller, request, known, look)
    assert [one.after for one in telling.requests] == ["", "r1"]
    assert seen == [{"one"}, set()]


class Held:
    """A lease that is held, and what its user hears."""

    def __init__(self, access: Access, seconds: int = 3600) -> None:
        self.said: list[str] = []
        self.known = 0
        self.monitor = LeaseMonitor(
            access.as_controller(), ready(seconds), "x", self.said.append, on_update=self._count
        )

    def _count(self) -> None:
        self.known += 1


async def test_a_lease_that_is_held_for_a_moment_costs_no_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    access = Access(Telling())
    held = Held(access)
    with trio.move_on_after(WATCH_AFTER_SECONDS - 0.1):
        await held.monitor.run()
    assert (access.connections, held.known) == (0, 0)


async def test_a_lease_that_is_held_is_told_of_in_one_call(autojump_clock: trio.testing.MockClock) -> None:
    old = Old()
    telling = Telling(tells((0, ready()), (900, ready(7200, 900)), (900, ended("it was released"))))
    held = Held(Access(telling, old))
    assert await held.monitor.run() == "the lease has ended: it was released"
    assert trio.current_time() == pytest.approx(WATCH_AFTER_SECONDS + 1800)
    assert held.said == ["lease x was extended; it ends in 1h45m"]
    assert held.known
    (request,) = telling.requests
    assert (request.lease, request.waits, request.knows) == ("x", True, True)
    assert old.asked == [], "nobody looks at what is told"


async def test_the_end_of_a_lease_is_announced_though_nothing_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    held = Held(Access(Telling(tells((0, ready())))))
    with trio.move_on_after(3400):
        await held.monitor.run()
    assert held.said == ["the lease ends in 5m; to keep the board: jumpstarter lease extend x 30m"]


async def test_a_controller_that_is_restarted_is_no_news_and_one_that_is_away_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    breaks = fails(StatusCode.UNAVAILABLE, "shutting down")

    async def told_and_broken(telling: Telling) -> None:
        await telling.tell(ready(age=trio.current_time()))
        await trio.sleep(60)
        await breaks(telling)

    telling = Telling(*[told_and_broken] * 3)
    access = Access(telling)
    held = Held(access)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held.monitor.run)
        await trio.sleep(100)
        assert (len(telling.requests), held.said) == (2, [])
        access.is_there = False
        await trio.sleep(100)
        assert held.said == ["the controller is unreachable (nobody is there); lease x continues"]
        access.is_there = True
        await trio.sleep(20)
        assert held.said[1:] == ["the controller is reachable again"]
        nursery.cancel_scope.cancel()


async def test_a_lease_that_is_deleted_is_over(autojump_clock: trio.testing.MockClock) -> None:
    gone = fails(StatusCode.UNKNOWN, 'leases.jumpstarter.dev "x" not found')
    held = Held(Access(Telling(gone)))
    assert await held.monitor.run() == "the lease has ended: the controller no longer has it"


async def test_an_old_controller_is_asked_how_a_lease_is(autojump_clock: trio.testing.MockClock) -> None:
    old = Old()
    old.ready_at = 0
    held = Held(Access(old))
    with trio.move_on_after(300):
        await held.monitor.run()
    assert len(old.asked) == pytest.approx(10, abs=1)
    assert held.known == 0
