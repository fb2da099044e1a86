"""What the controller hears of an exporter, in which order, over connections that fail."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing
from jumpstarter_proto.exporter_status import ExporterStatus
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_exporter.registration.conftest import Lab, Wired
from jumpstarter_exporter.registration.status_reporter import SETTLE_SECONDS, StatusReporter
from jumpstarter_exporter.session.report import REASON, STATE


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
AVAILABLE = (ExporterStatus.AVAILABLE, "")


@asynccontextmanager
async def reporting(
    lab: Lab, reports: Callable[[], list[pb.DriverInstanceReport]] = devices
) -> AsyncIterator[StatusReporter]:
    """Introduced, and telling what is new."""
    controller = Wired(lab)
    reporter = StatusReporter(controller, lambda: {"jumpstarter.dev/rack": "3"}, reports, AVAILABLE)
    async with trio.open_nursery() as nursery:
        async with controller.open() as calls:
            await reporter.register(calls)
        nursery.start_soon(reporter.run)
        yield reporter
        nursery.cancel_scope.cancel()


async def test_it_registers_with_its_labels_before_it_says_how_it_is(lab: Lab) -> None:
    async with reporting(lab):
        await trio.testing.wait_all_tasks_blocked()
    assert lab.heard == ["register 1 {'jumpstarter.dev/rack': '3'}", "AVAILABLE"]


async def test_the_newest_status_is_told_last_whatever_happens_to_the_older(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with reporting(lab) as reporter:
        lab.heard.clear()
        lab.hold = trio.Event()
        reporter.set_status(ExporterStatus.BEFORE_LEASE_HOOK, "")
        await trio.testing.wait_all_tasks_blocked()
        reporter.set_status(ExporterStatus.LEASE_READY, "")
        reporter.set_status(ExporterStatus.AFTER_LEASE_HOOK, "")
        lab.failures = [RpcError(StatusCode.UNAVAILABLE, "away")]
        lab.hold.set()
        while "AFTER_LEASE_HOOK" not in lab.heard:
            await trio.sleep(1)
        await trio.sleep(60)
    assert lab.heard == ["BEFORE_LEASE_HOOK", "AFTER_LEASE_HOOK"], "what came between is history"
    assert lab.sequence == sorted(set(lab.sequence)), "one that arrives late is known by its number"


async def test_a_status_that_passes_is_told_only_if_it_stays(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with reporting(lab) as reporter:
        lab.heard.clear()
        reporter.set_status(ExporterStatus.BEFORE_LEASE_HOOK, "", passing=True)
        await trio.sleep(SETTLE_SECONDS / 2)
        reporter.set_status(ExporterStatus.LEASE_READY, "")
        await trio.sleep(2 * SETTLE_SECONDS)
        assert lab.heard == ["LEASE_READY"]
        reporter.set_status(ExporterStatus.AFTER_LEASE_HOOK, "", passing=True)
        await trio.sleep(SETTLE_SECONDS / 2)
        assert lab.heard == ["LEASE_READY"]
        await trio.sleep(SETTLE_SECONDS)
        assert lab.heard == ["LEASE_READY", "AFTER_LEASE_HOOK"]
        reporter.set_status(ExporterStatus.AVAILABLE, "")
        await trio.testing.wait_all_tasks_blocked()
        assert lab.heard[2:] == ["AVAILABLE"]


async def test_a_status_that_passes_is_told_at_once_with_a_new_connection_and_at_the_end(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with reporting(lab) as reporter:
        lab.heard.clear()
        reporter.set_status(ExporterStatus.BEFORE_LEASE_HOOK, "", passing=True)
        async with Wired(lab).open() as calls:
            await reporter.register(calls)
        assert lab.heard[-1] == "BEFORE_LEASE_HOOK"
        reporter.set_status(ExporterStatus.AFTER_LEASE_HOOK, "", passing=True)
        await reporter.stop()
        assert lab.heard[-1] == "AFTER_LEASE_HOOK"


async def test_a_new_connection_waits_for_a_report_that_is_on_its_way(lab: Lab) -> None:
    controller = Wired(lab)
    reporter = StatusReporter(controller, dict, devices, AVAILABLE)
    lab.hold = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reporter.run)
        reporter.set_status(ExporterStatus.LEASE_READY, "")
        await trio.testing.wait_all_tasks_blocked()
        async with controller.open() as calls, trio.open_nursery() as again:
            again.start_soon(reporter.register, calls)
            await trio.testing.wait_all_tasks_blocked()
            reporter.set_status(ExporterStatus.AFTER_LEASE_HOOK, "")
            assert lab.heard == ["register 1 {}", "LEASE_READY"]
            lab.hold.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert lab.heard[-1] == "AFTER_LEASE_HOOK"
    assert "AVAILABLE" not in lab.heard


async def test_devices_that_change_while_others_are_being_told_are_told_behind_them(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    states = ["ready"]
    async with reporting(lab, lambda: devices(*states)) as reporter:
        lab.hold_registration = trio.Event()
        for change in ("missing", "failed"):
            states.append(change)
            reporter.devices_changed()
            await trio.sleep(2 * SETTLE_SECONDS)
        lab.hold_registration.set()
        await trio.sleep(2 * SETTLE_SECONDS)
    assert [one for one in lab.heard if one.startswith("register")] == [
        f"register {count} {{'jumpstarter.dev/rack': '3'}}" for count in (2, 3, 4)
    ]


async def test_devices_that_vanish_and_return_are_told_when_they_have_settled(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    states = ["ready", "ready"]
    async with reporting(lab, lambda: devices(*states)) as reporter:
        for now in (["missing", "ready"], ["ready", "ready"], ["ready", "busy"], ["starting", "ready"]):
            states[:] = now
            reporter.devices_changed()
            await trio.sleep(SETTLE_SECONDS / 10)
        states[:] = ["ready", "busy"]
        await trio.sleep(10 * SETTLE_SECONDS)
        assert lab.heard == ["register 3 {'jumpstarter.dev/rack': '3'}", "AVAILABLE"], "nothing lasting"
        states[:] = ["ready", "missing"]
        reporter.devices_changed()
        await trio.sleep(10 * SETTLE_SECONDS)
        assert len([one for one in lab.heard if one.startswith("register")]) == 2
        states.append("ready")
        reporter.devices_changed()
        await trio.sleep(10 * SETTLE_SECONDS)
        assert lab.heard[-2].startswith("register 4")
        assert lab.heard[-1] == "AVAILABLE"


async def test_a_state_that_passes_is_not_what_a_controller_keeps(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with reporting(lab, lambda: devices("starting", "busy", "ready", "missing")):
        await trio.testing.wait_all_tasks_blocked()
    assert lab.devices == [{STATE: "ready"}] * 3 + [{STATE: "missing", REASON: "it is missing"}]


async def test_nothing_is_said_after_goodbye(lab: Lab) -> None:
    async with reporting(lab) as reporter:
        lab.heard.clear()
        await reporter.unregister("Exporter shutting down")
        reporter.set_status(ExporterStatus.LEASE_READY, "")
        reporter.devices_changed()
        async with Wired(lab).open() as calls:
            await reporter.register(calls)
        await trio.testing.wait_all_tasks_blocked()
    assert lab.heard == ["OFFLINE", "unregister"]
