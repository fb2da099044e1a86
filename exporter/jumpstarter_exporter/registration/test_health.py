"""What a controller is told of a host, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import pytest
import trio
import trio.testing
from jumpstarter_proto.lab.v1 import exporter_grpc, exporter_pb2
from jumpstarter_proto.rpc import ServerCall, Servicer

from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.host_health.facts import HostFacts, PowerFacts
from jumpstarter_exporter.host_health.findings import HealthFinding, Severity
from jumpstarter_exporter.host_health.test_watch import Host
from jumpstarter_exporter.host_health.watch import LOOK_SECONDS, HealthWatch
from jumpstarter_exporter.registration.conftest import Lab, Wired
from jumpstarter_exporter.registration.health import CALL_SECONDS, REFRESH_SECONDS, HealthReporter

Request = exporter_pb2.ReportHealthRequest
Response = exporter_pb2.ReportHealthResponse


class Ours(exporter_grpc.ExporterServiceServicer):
    """A controller of ours."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, Request]] = []
        self.hangs = False

    async def ReportHealth(  # noqa: N802 - the wire's name
        self, request: Request, call: ServerCall[Request, Response]
    ) -> Response:
        self.heard.append((trio.current_time(), request))
        if self.hangs:
            await trio.sleep_forever()
        return Response()


class Older(exporter_grpc.ExporterServiceServicer):
    """One that does not have the call."""


class Replaced(Ours):
    """One of which the answer takes its time: another has come to its place by then."""

    def __init__(self, *, knows: bool) -> None:
        super().__init__()
        self.knows = knows
        self.may_answer = trio.Event()

    async def ReportHealth(  # noqa: N802 - the wire's name
        self, request: Request, call: ServerCall[Request, Response]
    ) -> Response:
        if not self.heard:
            self.heard.append((trio.current_time(), request))
            await self.may_answer.wait()
            if not self.knows:
                raise self.unimplemented("ReportHealth")
            return Response()
        return await super().ReportHealth(request, call)


async def at_rest() -> None:
    """As long as it takes for a look and a call, and no longer than it takes to the next look."""
    await trio.sleep(5)


class Told:
    """A reporter, its host and the connections that it opened."""

    def __init__(self, lab: Lab, *also: Servicer) -> None:
        self.host = Host()
        self.wired = Wired(lab, also=also)
        self.reporter = HealthReporter(self.wired, HealthWatch(Inventory(), lambda: self.host))


@contextmanager
def running(told: Told, nursery: trio.Nursery) -> Iterator[None]:
    nursery.start_soon(told.reporter.run)
    yield
    nursery.cancel_scope.cancel()


async def test_a_controller_is_told_at_once_then_of_changes_and_of_numbers_now_and_then(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    told = Told(lab, ours)
    async with trio.open_nursery() as nursery:
        with running(told, nursery):
            await at_rest()
            assert ours.heard == []
            told.reporter.connected()
            told.reporter.connected()
            await at_rest()
            ((_, request),) = ours.heard
            assert {one.key for one in request.findings} >= {"power.undervoltage", "memory.available"}
            assert request.measures["memory_available_bytes"] > 0
            await trio.sleep(REFRESH_SECONDS / 2)
            assert len(ours.heard) == 1
            told.host.power = PowerFacts("Raspberry Pi 4", 0x50005)
            await trio.sleep(told.reporter._watch.seconds + 5)
            assert ours.heard[1][1].findings[0].severity == "error"
            await trio.sleep(REFRESH_SECONDS + 2 * told.reporter._watch.seconds)
            assert len(ours.heard) == 3


async def test_whoever_connects_anew_is_told_anew_without_waiting(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    told = Told(lab, ours)
    async with trio.open_nursery() as nursery:
        with running(told, nursery):
            told.reporter.connected()
            await at_rest()
            told.reporter.disconnected()
            await trio.sleep(1000)
            assert len(ours.heard) == 1
            told.reporter.connected()
            await at_rest()
            assert len(ours.heard) == 2
            told.reporter.disconnected()
            told.reporter.connected()
            await at_rest()
            assert len(ours.heard) == 3


async def test_another_controller_than_ours_hears_nothing(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told(lab)
    async with trio.open_nursery() as nursery:
        with running(told, nursery):
            told.reporter.disconnected()
            await trio.sleep(3 * REFRESH_SECONDS)
            assert (told.wired.opened, told.host.looks) == (0, 0)


async def test_an_older_one_of_ours_is_asked_once_for_each_connection(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    told = Told(lab, Older())
    async with trio.open_nursery() as nursery:
        with running(told, nursery):
            told.reporter.connected()
            await trio.sleep(3 * REFRESH_SECONDS)
            told.reporter.connected()
            await trio.sleep(3 * REFRESH_SECONDS)
            assert told.wired.opened == 1
            told.reporter.disconnected()
            told.reporter.connected()
            await trio.sleep(3 * REFRESH_SECONDS)
            assert told.wired.opened == 2


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("is_back", [True, False])
async def test_the_one_that_has_come_meanwhile_is_told_whatever_the_one_before_has_answered(
    lab: Lab, autojump_clock: trio.testing.MockClock, knows: bool, is_back: bool
) -> None:
    replaced = Replaced(knows=knows)
    told = Told(lab, replaced)
    async with trio.open_nursery() as nursery:
        with running(told, nursery):
            told.reporter.connected()
            await at_rest()
            assert len(replaced.heard) == 1
            told.reporter.disconnected()
            if is_back:
                told.reporter.connected()
            replaced.may_answer.set()
            await trio.testing.wait_all_tasks_blocked()
            told.reporter.connected()
            await at_rest()
            assert len(replaced.heard) == 2


async def test_a_finding_is_told_with_all_that_is_said_of_it(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    told = Told(lab, ours)
    watch = told.reporter._watch
    async with trio.open_nursery() as nursery:
        with running(told, nursery):
            report = await watch.newest()
            finding = HealthFinding("disk.space", Severity.WARNING, "it is full", "make room", "/var")
            watch._report = replace(report, findings=(finding,))
            told.reporter.connected()
            await at_rest()
            ((_, request),) = ours.heard
            assert list(request.findings) == [
                exporter_pb2.HealthFinding(
                    key="disk.space",
                    severity="warning",
                    subject="/var",
                    sentence="it is full",
                    cure="make room",
                )
            ]


async def test_long_findings_are_cut(lab: Lab, autojump_clock: trio.testing.MockClock) -> None:
    ours = Ours()
    told = Told(lab, ours)
    told.host.power = msgspec.structs.replace(told.host.power, flags=1)
    watch = told.reporter._watch
    async with trio.open_nursery() as nursery:
        with running(told, nursery):
            report = await watch.newest()
            long = replace(report.findings[0], sentence="x" * 5000, cure="y" * 5000, subject="z" * 5000)
            watch._report = replace(report, findings=(long,) * 100)
            told.reporter.connected()
            await at_rest()
            ((_, request),) = ours.heard
            assert len(request.findings) == 64
            one = request.findings[0]
            assert {len(text) for text in (one.sentence, one.cure, one.subject)} == {1000}


async def test_a_controller_that_hangs_is_told_again_with_the_next_look(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    ours = Ours()
    ours.hangs = True
    told = Told(lab, ours)
    async with trio.open_nursery() as nursery:
        with running(told, nursery):
            told.reporter.connected()
            await at_rest()
            assert len(ours.heard) == 1
            ours.hangs = False
            await trio.sleep(CALL_SECONDS + LOOK_SECONDS + 5)
            assert len(ours.heard) == 2
            await trio.sleep(REFRESH_SECONDS / 2)
            assert len(ours.heard) == 2


async def test_a_fault_in_a_look_ends_nothing(
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = Ours()
    told = Told(lab, ours)

    async def fail(_: object = None) -> HostFacts:
        raise KeyError("typ")

    async with trio.open_nursery() as nursery:
        with running(told, nursery), monkeypatch.context() as patch:
            patch.setattr(told.host, "hardware", fail)
            told.reporter.connected()
            await at_rest()
            assert (ours.heard, "reporting the host's health failed" in caplog.text) == ([], True)
            patch.undo()
            await trio.sleep(LOOK_SECONDS)
            assert len(ours.heard) == 1
