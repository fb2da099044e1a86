"""What the controller hears of an exporter, in which order, over connections that fail."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode, open_channel, serve_connection
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceServicer, ControllerServiceStub

from jumpstarter_exporter.errors import collapsed
from jumpstarter_exporter.registration.announcer import SETTLE_SECONDS, Announcer
from jumpstarter_exporter.registration.controller import SEQUENCE, Calls, Controller
from jumpstarter_exporter.registration.tenancy import Tenant
from jumpstarter_exporter.report import REASON, STATE
from jumpstarter_exporter.status import Status

Call: TypeAlias = ServerCall[Any, Any]


class Lab(ControllerServiceServicer):
    """A controller that writes down what it hears, and says what a test tells it to."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.sequence: list[int] = []
        self.failures: list[RpcError] = []
        self.hold: trio.Event | None = None
        self.says: list[pb.StatusResponse | RpcError | None] = []

    async def Register(self, request: pb.RegisterRequest, call: Call) -> pb.RegisterResponse:  # noqa: N802
        self.heard.append(f"register {len(request.reports)} {dict(request.labels)}")
        return pb.RegisterResponse(uuid="x")

    async def Unregister(self, request: pb.UnregisterRequest, call: Call) -> pb.UnregisterResponse:  # noqa: N802
        self.heard.append("unregister")
        return pb.UnregisterResponse()

    async def ReportStatus(self, request: pb.ReportStatusRequest, call: Call) -> pb.ReportStatusResponse:  # noqa: N802
        self.heard.append(Status(request.status).name)
        self.sequence.append(int(call.header(SEQUENCE) or "0"))
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            raise self.failures.pop(0)
        return pb.ReportStatusResponse()

    async def Status(self, request: pb.StatusRequest, call: Call) -> None:  # noqa: N802
        while self.says:
            match self.says.pop(0):
                case RpcError() as error:
                    raise error
                case None:
                    return
                case message:
                    await call.send(message)
        await trio.sleep_forever()


class Wired(Controller):
    """Connections in memory instead of TLS."""

    def __init__(self, lab: Lab) -> None:
        super().__init__("lab:8082", Trust(), Identity(Kind.EXPORTER, "lab", "one", "token"))
        self.lab = lab

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Calls]:
        ours, theirs = trio.testing.memory_stream_pair()
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_connection, theirs, [self.lab])
                async with open_channel(ours) as channel:
                    yield Calls(ControllerServiceStub(channel), self._sequence)
                nursery.cancel_scope.cancel()


def devices(*states: str) -> list[pb.DriverInstanceReport]:
    """A root and a device below it for each state, with UUIDs of their own each time."""
    number = next(_numbers)
    return [
        pb.DriverInstanceReport(uuid=f"root{number}"),
        *(
            pb.DriverInstanceReport(
                uuid=f"{number}.{place}",
                parent_uuid=f"root{number}",
                labels={STATE: state, REASON: f"it is {state}"},
            )
            for place, state in enumerate(states)
        ),
    ]


_numbers = itertools.count()
AVAILABLE = (Status.AVAILABLE, "")


@pytest.fixture
def lab() -> Lab:
    return Lab()


@asynccontextmanager
async def announcing(
    lab: Lab, reports: Callable[[], list[pb.DriverInstanceReport]] = devices
) -> AsyncIterator[Announcer]:
    """Introduced, and telling what is new."""
    controller = Wired(lab)
    announcer = Announcer(controller, {"jumpstarter.dev/rack": "3"}, reports, AVAILABLE)
    async with trio.open_nursery() as nursery:
        async with controller.open() as calls:
            await announcer.introduce(calls)
        nursery.start_soon(announcer.run)
        yield announcer
        nursery.cancel_scope.cancel()


async def test_it_registers_with_its_labels_before_it_says_how_it_is(lab: Lab) -> None:
    async with announcing(lab):
        await trio.testing.wait_all_tasks_blocked()
    assert lab.heard == ["register 1 {'jumpstarter.dev/rack': '3'}", "AVAILABLE"]


async def test_the_newest_status_is_told_last_whatever_happens_to_the_older(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with announcing(lab) as announcer:
        lab.heard.clear()
        lab.hold = trio.Event()
        announcer.become(Status.BEFORE_LEASE_HOOK, "")
        await trio.testing.wait_all_tasks_blocked()
        announcer.become(Status.LEASE_READY, "")
        announcer.become(Status.AFTER_LEASE_HOOK, "")
        lab.failures = [RpcError(StatusCode.UNAVAILABLE, "away")]
        lab.hold.set()
        while "AFTER_LEASE_HOOK" not in lab.heard:
            await trio.sleep(1)
        await trio.sleep(60)
    assert lab.heard == ["BEFORE_LEASE_HOOK", "AFTER_LEASE_HOOK"], "what came between is history"
    assert lab.sequence == sorted(set(lab.sequence)), "one that arrives late is known by its number"


async def test_a_new_connection_waits_for_a_report_that_is_on_its_way(lab: Lab) -> None:
    controller = Wired(lab)
    announcer = Announcer(controller, {}, devices, AVAILABLE)
    lab.hold = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(announcer.run)
        announcer.become(Status.LEASE_READY, "")
        await trio.testing.wait_all_tasks_blocked()
        async with controller.open() as calls, trio.open_nursery() as again:
            again.start_soon(announcer.introduce, calls)
            await trio.testing.wait_all_tasks_blocked()
            announcer.become(Status.AFTER_LEASE_HOOK, "")
            assert lab.heard == ["register 1 {}", "LEASE_READY"]
            lab.hold.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert lab.heard[-1] == "AFTER_LEASE_HOOK"
    assert "AVAILABLE" not in lab.heard


async def test_devices_that_vanish_and_return_are_told_when_they_have_settled(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    states = ["ready", "ready"]
    async with announcing(lab, lambda: devices(*states)) as announcer:
        for now in (["missing", "ready"], ["ready", "ready"], ["ready", "busy"], ["starting", "ready"]):
            states[:] = now
            announcer.devices_changed()
            await trio.sleep(SETTLE_SECONDS / 10)
        states[:] = ["ready", "busy"]
        await trio.sleep(10 * SETTLE_SECONDS)
        assert lab.heard == ["register 3 {'jumpstarter.dev/rack': '3'}", "AVAILABLE"], "nothing lasting"
        states[:] = ["ready", "missing"]
        announcer.devices_changed()
        await trio.sleep(10 * SETTLE_SECONDS)
        assert len([one for one in lab.heard if one.startswith("register")]) == 2
        states.append("ready")
        announcer.devices_changed()
        await trio.sleep(10 * SETTLE_SECONDS)
        assert lab.heard[-2].startswith("register 4")
        assert lab.heard[-1] == "AVAILABLE"


async def test_nothing_is_said_after_goodbye(lab: Lab) -> None:
    async with announcing(lab) as announcer:
        lab.heard.clear()
        await announcer.leave("Exporter shutting down")
        announcer.become(Status.LEASE_READY, "")
        announcer.devices_changed()
        async with Wired(lab).open() as calls:
            await announcer.introduce(calls)
        await trio.testing.wait_all_tasks_blocked()
    assert lab.heard == ["OFFLINE", "unregister"]


async def follow(lab: Lab, told: Callable[[Tenant | None], None]) -> None:
    controller = Wired(lab)
    announcer = Announcer(controller, {}, devices, AVAILABLE)
    await controller.follow(announcer.introduce, told)


async def test_devices_are_told_anew_on_every_new_connection(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    """The controller behind it may be another one, which has never heard of them."""
    lab.says = [RpcError(StatusCode.UNAVAILABLE, "restarting")]
    with trio.move_on_after(60):
        await follow(lab, lambda _: None)
    assert lab.heard == ["register 1 {}", "AVAILABLE"] * 2


async def test_a_stream_that_ended_well_is_opened_again_without_a_new_introduction(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ann = pb.StatusResponse(leased=True, lease_name="a", client_name="ann")
    lab.says = [ann, None, ann, None, pb.StatusResponse(leased=False)]
    told: list[Tenant | None] = []
    with trio.move_on_after(2):
        await follow(lab, told.append)
    assert told == [Tenant("a", "ann"), Tenant("a", "ann"), None]
    assert lab.heard == ["register 1 {}", "AVAILABLE"]


async def test_who_was_deleted_says_so_and_goes_on_asking(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lab.says = [RpcError(StatusCode.UNAUTHENTICATED, "exporter one was deleted")] * 5
    with trio.move_on_after(300):
        await follow(lab, lambda _: None)
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "lab:8082: the controller does not take this exporter: exporter one was deleted" in errors[0]
    assert lab.says == []
    assert lab.heard.count("AVAILABLE") == 6


async def test_a_fault_of_ours_in_the_conversation_is_logged_and_the_conversation_goes_on(
    lab: Lab, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    lab.says = [pb.StatusResponse(leased=False), None] * 3
    told: list[Tenant | None] = []

    def broken(tenant: Tenant | None) -> None:
        told.append(tenant)
        if len(told) == 1:
            raise ZeroDivisionError("a fault")

    with trio.move_on_after(10):
        await follow(lab, broken)
    assert told == [None, None, None]
    assert "ZeroDivisionError: a fault" in caplog.text
