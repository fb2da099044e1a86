"""An exporter from its registration to its end: leases one after another, signals, and a controller that is silent."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
import yaml
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_exporter.config import load
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.registration.conftest import Board, Configure, Lab, Wired
from jumpstarter_exporter.registration.host_users import HostUsers
from jumpstarter_exporter.registration.registered_exporter import (
    LEAVE_SECONDS,
    PROBE_SECONDS,
    RegisteredExporter,
)
from jumpstarter_exporter.registration.status_reporter import SETTLE_SECONDS

GOODBYE = ("OFFLINE", "unregister")


class Exporter:
    """One that runs."""

    def __init__(self, inner: RegisteredExporter) -> None:
        self._inner = inner
        self.codes: list[ExitCode] = []
        self.over = trio.Event()

    @property
    def board(self) -> Board:
        return Board.latest

    @property
    def devices(self) -> BoardDevices:
        return self._inner.devices

    async def run(self) -> None:
        await self._inner.serve()
        self.codes.append(self._inner.code)
        self.over.set()

    def end(self, code: ExitCode = ExitCode.OK) -> None:
        self._inner.end(code)

    def end_after_lease(self) -> None:
        self._inner.end_after_lease()


@pytest.fixture(autouse=True)
def guarded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@asynccontextmanager
async def running(
    configure: Configure, lab: Lab, keys: Mapping[str, object] | None = None, **hooks: dict[str, str]
) -> AsyncIterator[Exporter]:
    """Registered and available, with these keys in its configuration; the block has to end it."""
    file = configure(**hooks).file
    with file.open("a") as text:
        text.write(yaml.safe_dump(dict(keys)) if keys else "")
    exporter = Exporter(RegisteredExporter(load(file), Wired(lab)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exporter.run)
        await lab.until("register 2 {}", "AVAILABLE")
        yield exporter


async def test_it_says_that_it_is_not_registered_until_it_is(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    wired = Wired(lab)
    assert (
        RegisteredExporter(load(configure().file), wired).use == f"not registered yet with {wired.endpoint}"
    )
    async with running(configure, lab) as exporter:
        await trio.sleep(1)  # for the answer
        assert exporter._inner.use == ""
        exporter.end()


async def test_leases_are_served_one_after_the_other(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab) as exporter:
        lab.say("first")
        await lab.until("LEASE_READY")
        lab.say()
        await lab.until("AVAILABLE")
        lab.say("second")
        await lab.until("LEASE_READY")
        lab.say("third")
        await lab.until("LEASE_READY")
        exporter.end()
    assert [words for words in lab.heard if "listen" in words] == [
        "listen first",
        "listen second",
        "listen third",
    ]
    assert not any("release" in words for words in lab.heard), "the controller has ended them itself"


@pytest.mark.parametrize("leased", [False, True])
async def test_it_ends_and_the_lease_stays_its_clients(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock, leased: bool
) -> None:
    async with running(configure, lab) as exporter:
        if leased:
            lab.say("mine")
            await lab.until("LEASE_READY")
        exporter.end(ExitCode.INTERRUPTED)
    assert exporter.codes == [ExitCode.INTERRUPTED]
    assert lab.heard[-2:] == list(GOODBYE)
    assert not any("release" in words for words in lab.heard)


async def test_it_may_be_ended_when_nobody_uses_the_board(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab) as exporter:
        exporter.end_after_lease()
    assert exporter.codes == [ExitCode.OK]


async def test_it_may_be_ended_after_the_lease(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab) as exporter:
        lab.say("mine")
        await lab.until("LEASE_READY")
        exporter.end_after_lease()
        await trio.sleep(1000)
        assert not exporter.over.is_set()
        lab.say()
    assert exporter.codes == [ExitCode.OK]
    assert lab.heard[-2:] == list(GOODBYE)


async def test_a_hook_may_end_it(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    hook = {"script": "true", "exec": "/no/such/shell", "onFailure": "exit"}
    async with running(configure, lab, beforeLease=hook) as exporter:
        lab.say("mine")
    assert exporter.codes == [ExitCode.FAILED]


async def test_it_may_end_with_its_lease(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab, {"exitOnLeaseEnd": True}) as exporter:
        lab.say("mine")
        await lab.until("LEASE_READY")
        await trio.sleep(1000)
        assert not exporter.over.is_set()
        lab.say()
    assert exporter.codes == [ExitCode.OK]
    assert lab.heard[-2:] == list(GOODBYE)
    assert "AVAILABLE" not in lab.heard[lab.heard.index("LEASE_READY") :], "somebody else would get it"


@pytest.mark.parametrize(
    ("keys", "hooks"),
    [
        ({"exitOnLeaseEnd": True}, {}),
        ({}, {"beforeLease": {"script": "true", "exec": "/no/such/shell", "onFailure": "exit"}}),
    ],
)
async def test_where_others_are_served_too_it_stops_and_is_leased_again_when_it_is_started_again(
    configure: Configure,
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    keys: Mapping[str, object],
    hooks: dict[str, dict[str, str]],
) -> None:
    async with running(configure, lab, keys, **hooks) as exporter:
        inner = exporter._inner
        inner.is_alone = lambda: False
        assert not inner.start_again()
        lab.say("mine")
        await trio.sleep(100)
        lab.say()
        await trio.sleep(100)
        assert not exporter.over.is_set()
        assert inner.use.startswith("stopped: ")
        assert lab.heard[-1] == "AFTER_LEASE_HOOK", "nobody is given it"
        assert "OFFLINE" not in lab.heard, (
            "the exporter stays, and 0.9's controller leases it if it connects anew"
        )
        assert inner.start_again()
        await trio.sleep(1)
        assert lab.heard[-1] == "AVAILABLE"
        exporter.end()


AWAY = RpcError(StatusCode.UNAVAILABLE, "restarting")
GIVES_UP = {"failureDetection": {"maxRapidFailures": 3, "rapidFailureWindow": 60}}


def registrations(lab: Lab) -> int:
    return sum(words.startswith("register ") for words in lab.heard)


async def test_it_gives_up_after_too_many_rapid_failures(
    configure: Configure,
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lab.says = [AWAY] * 5
    async with running(configure, lab, GIVES_UP) as exporter:
        await exporter.over.wait()
    assert exporter.codes == [ExitCode.FAILED]
    assert registrations(lab) == 3
    assert (
        "the exporter ends now, for what started it to start it again: failureDetection: 3 times in a row the "
        "exporter was not served by lab:8082 for 60 s; the last reason was: restarting" in caplog.text
    )


async def test_who_starts_a_board_again_that_had_given_up_gives_it_as_many_tries_as_at_first(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    lab.says = [AWAY] * 3
    async with running(configure, lab, GIVES_UP) as exporter:
        inner = exporter._inner
        inner.is_alone = lambda: False
        await lab.until("AFTER_LEASE_HOOK")
        assert inner.use.startswith("stopped: failureDetection: 3 times in a row")
        lab.says = [AWAY] * 2
        assert inner.start_again()
        await trio.sleep(100)
        assert not inner.use.startswith("stopped")
        exporter.end()


async def test_a_controller_that_is_away_is_asked_at_once_when_somebody_starts_the_board_again(
    configure: Configure, lab: Lab, mock_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab) as exporter:
        lab.says = [AWAY]
        lab.say()
        await trio.testing.wait_all_tasks_blocked()
        tries = registrations(lab)
        assert not exporter._inner.start_again(), "it had not stopped"
        await trio.testing.wait_all_tasks_blocked()
        assert registrations(lab) == tries + 1
        exporter.end()
        mock_clock.autojump_threshold = 0


async def test_a_lease_that_never_had_the_board_does_not_end_what_is_to_end_behind_a_lease(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab, {"exitOnLeaseEnd": True}) as exporter:
        exporter._inner.drain("by root")
        lab.say("mine")
        await lab.until("listen mine")
        lab.say()
        await trio.sleep(100)
        assert not exporter.over.is_set()
        exporter.end()


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"token": "another"}, True),
        ({"endpoint": "elsewhere:8082"}, False),
        ({"namespace": "other"}, False),
        ({"name": "two"}, False),
    ],
)
def test_another_token_makes_no_other_exporter_of_it(
    configure: Configure, lab: Lab, change: dict[str, Any], is_same: bool
) -> None:
    config = configure()
    assert config.enrolment is not None
    exporter = RegisteredExporter(config, Wired(lab))
    assert exporter.is_exporter(replace(config.enrolment, **change)) is is_same
    assert not exporter.is_exporter(None)


async def test_it_never_gives_up_unless_the_configuration_says_when(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    lab.says = [AWAY] * 20
    async with running(configure, lab) as exporter:
        await trio.sleep(1000)
        assert not exporter.over.is_set()
        exporter.end()
    assert registrations(lab) == 21


async def test_why_nobody_leases_it_is_what_its_host_reads(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    lab.says = [AWAY] * 1000
    async with running(configure, lab) as exporter:
        await trio.sleep(100)
        assert exporter._inner.use == "not leased: restarting"
        lab.says = []
        lab.say()
        await trio.sleep(100)
        assert exporter._inner.use == ""
        exporter.end()


async def test_failures_after_a_long_time_are_not_a_reason_to_give_up(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab, GIVES_UP) as exporter:
        for _ in range(5):
            await trio.sleep(100)
            lab.says = [AWAY]
            lab.say()
        await trio.sleep(100)
        assert not exporter.over.is_set()
        exporter.end()
    assert registrations(lab) == 6


@pytest.mark.parametrize("gets_better", [True, False])
async def test_it_gives_up_no_lease(
    configure: Configure,
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    gets_better: bool,
) -> None:
    async with running(configure, lab, GIVES_UP) as exporter:
        lab.say("mine")
        await lab.until("LEASE_READY")
        lab.says = [AWAY] * (4 if gets_better else 1000)
        lab.say("mine")
        await trio.sleep(200)
        assert "the exporter ends after the lease, unless that gets better" in caplog.text
        assert not exporter.over.is_set()
        if gets_better:
            lab.say()
            await lab.until("AVAILABLE")
            exporter.end()
        else:
            lab.says = [pb.StatusResponse(), *[AWAY] * 5]
    assert exporter.codes == [ExitCode.OK if gets_better else ExitCode.FAILED]


async def test_a_controller_that_is_silent_does_not_hold_up_its_end(
    configure: Configure,
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(configure, lab) as exporter:
        lab.answers = False
        before = trio.current_time()
        exporter.end()
        await exporter.over.wait()
        assert trio.current_time() - before == pytest.approx(LEAVE_SECONDS, abs=0.1)
    assert "could not tell the controller that this exporter ends: no answer" in caplog.text


async def test_a_controller_that_refuses_does_not_hold_up_its_end(
    configure: Configure,
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(configure, lab) as exporter:
        lab.failures = [RpcError(StatusCode.UNAVAILABLE, "restarting")]
        exporter.end()
    assert exporter.codes == [ExitCode.OK]
    assert "could not tell the controller that this exporter ends: restarting" in caplog.text


async def test_a_lease_may_change_hands(
    configure: Configure,
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(configure, lab) as exporter:
        lab.say("mine")
        await lab.until("LEASE_READY")
        lab.say("mine", "bob")
        await trio.sleep(1)
        exporter.end()
    assert "lease mine was transferred from ann to bob" in caplog.text
    assert lab.heard.count("listen mine") == 1


async def test_a_device_that_vanishes_from_a_drivers_thread_is_told(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab) as exporter:
        lab.say("mine")
        await lab.until("LEASE_READY")
        before = trio.current_time()
        await trio.to_thread.run_sync(exporter.board.vanish)
        await lab.until("register 2 {}", "LEASE_READY")
        assert trio.current_time() - before == pytest.approx(SETTLE_SECONDS, abs=0.1)
        exporter.end()


async def test_what_becomes_of_a_device_between_leases_is_told_within_two_seconds(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab) as exporter:
        before = trio.current_time()
        exporter.devices.slots["board"].lifecycle.core.missing("it was unplugged")
        await lab.until("AFTER_LEASE_HOOK", "register 2 {}")
        assert trio.current_time() - before <= 2
        assert "Not available: hardware: the device board is missing: it was unplugged" in lab.messages
        exporter.devices.slots["board"].lifecycle.core.found()
        await lab.until("AVAILABLE")
        exporter.end()


async def test_hardware_that_does_not_say_that_it_is_back_is_looked_for(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(configure, lab) as exporter:
        before = trio.current_time()
        exporter.devices.slots["board"].lifecycle.missing("it was unplugged")
        await lab.until("AFTER_LEASE_HOOK", "AVAILABLE")
        assert trio.current_time() - before <= PROBE_SECONDS + 1
        exporter.end()


async def test_hardware_of_which_the_host_says_when_it_comes_is_not_looked_for(
    configure: Configure,
    lab: Lab,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[object] = []

    async def probe(self: object, slot: object) -> None:
        looked.append(slot)

    monkeypatch.setattr(HostUsers, "probe", probe)
    async with running(configure, lab) as exporter:
        slot = exporter.devices.slots["board"]
        slot.unplugged("it was unplugged at 12:00:01")
        await trio.sleep(4 * PROBE_SECONDS)
        assert not looked
        slot.plugged()
        await lab.until("AVAILABLE")
        exporter.end()


async def test_a_board_that_lacks_a_required_device_is_never_offered(
    configure: Configure, lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    file = configure().file
    document = yaml.safe_load(file.read_text())
    document["export"]["net"] = {"type": "nowhere.Driver", "required": True}
    file.write_text(yaml.safe_dump(document))
    exporter = Exporter(RegisteredExporter(load(file), Wired(lab)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exporter.run)
        await lab.until("register 3 {}", "AFTER_LEASE_HOOK")
        await trio.sleep(2 * PROBE_SECONDS)
        exporter.end()
    assert "AVAILABLE" not in lab.heard
    assert "the device net has failed: " in lab.messages[0]


def test_a_drivers_thread_that_outlives_the_exporter_says_so_to_nobody(
    configure: Configure, lab: Lab
) -> None:
    async def whole_life() -> Board:
        async with running(configure, lab) as exporter:
            lab.say("mine")
            await lab.until("LEASE_READY")
            board = exporter.board
            exporter.end()
        return board

    trio.run(whole_life, clock=trio.testing.MockClock(autojump_threshold=0)).vanish()
