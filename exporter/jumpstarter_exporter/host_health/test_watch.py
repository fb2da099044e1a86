"""A host is looked at now and then, once for all who ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from jumpstarter_exporter.config import load
from jumpstarter_exporter.config.board_devices import add_board
from jumpstarter_exporter.devices.inventory import Inventory
from jumpstarter_exporter.host_health import HostFacts, Severity
from jumpstarter_exporter.host_health.facts import MemoryFacts, PowerFacts, ServiceUnit
from jumpstarter_exporter.host_health.watch import (
    LOOK_SECONDS,
    LOOKS_PER_SYSTEM_READ,
    HealthWatch,
    HostReport,
)

SERVICE = ServiceUnit("jumpstarter-exporter.service", "loaded", "enabled", "active")


class Host:
    """What a look finds."""

    def __init__(self) -> None:
        self.power = PowerFacts("Raspberry Pi 4", None, alarm=False)
        self.looks = 0
        self.system_looks = 0
        self.devices: tuple[dict[str, list[str]], list[str]] = ({}, [])
        """Of the last look at the system: those of each node, and those with a pin."""
        self.alarmed = trio.Event()
        self.alarm_fault: Exception | None = None

    async def undervoltage(self) -> None:
        if self.alarm_fault is not None:
            raise self.alarm_fault
        await self.alarmed.wait()

    async def hardware(self, facts: HostFacts | None = None) -> HostFacts:
        self.looks += 1
        await trio.sleep(1)
        memory = MemoryFacts(10**9, 10**9 - self.looks)
        return replace(facts or HostFacts(), power=self.power, memory=memory)

    async def system(
        self,
        facts: HostFacts,
        nodes: Mapping[str, Sequence[str]],
        gpio_outputs: Sequence[str] = (),
        *,
        is_service: bool = False,
    ) -> HostFacts:
        assert is_service
        self.system_looks += 1
        self.devices = {node: list(names) for node, names in nodes.items()}, list(gpio_outputs)
        return replace(facts, services=(SERVICE,))


async def test_it_is_looked_at_once_for_all_who_ask_and_again_when_it_is_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    host = Host()
    watch = HealthWatch(Inventory(), lambda: host)
    found: list[HostReport] = []

    async def ask() -> None:
        found.append(await watch.newest())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert (host.looks, len(set(map(id, found)))) == (1, 1)
    await trio.sleep(LOOK_SECONDS / 2)
    assert await watch.newest() is found[0]
    await trio.sleep(LOOK_SECONDS)
    assert await watch.newest() is not found[0]
    assert host.looks == 2


async def test_programs_are_started_more_rarely_and_what_they_said_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    host = Host()
    watch = HealthWatch(Inventory(), lambda: host)
    for _ in range(LOOKS_PER_SYSTEM_READ):
        report = await watch.newest()
        assert "service.active" in {one.key for one in report.findings}
        await trio.sleep(LOOK_SECONDS)
    assert (host.looks, host.system_looks) == (LOOKS_PER_SYSTEM_READ, 1)
    await watch.newest()
    assert host.system_looks == 2


async def test_the_devices_of_all_boards_are_looked_at(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    inventory = Inventory()
    console = "type: serial.PySerial, config: {url: /dev/ttyUSB7}"
    relay = "type: power.GpioRelay, config: {pin: 17, chip: /dev/gpiochip1}"
    for name, entries in (
        ("rpi4", f"console: {{{console}}}"),
        ("rock", f"a: {{{console}}}, b: {{children: {{relay: {{{relay}}}}}}}"),
    ):
        file = tmp_path / f"{name}.yaml"
        file.write_text(f"export: {{{entries}}}\n")
        add_board(inventory, load(file))
    host = Host()
    await HealthWatch(inventory, lambda: host).newest()
    assert host.devices == (
        {"/dev/ttyUSB7": ["rpi4.console", "rock.a"], "/dev/gpiochip1": ["rock.b.relay"]},
        ["rock.b.relay"],
    )


async def test_only_other_findings_are_news(autojump_clock: trio.testing.MockClock) -> None:
    host = Host()
    watch = HealthWatch(Inventory(), lambda: host)
    first = await watch.newest()
    await trio.sleep(LOOK_SECONDS)
    second = await watch.newest()
    assert first.measures != second.measures
    assert (first.is_news(None), second.is_news(first)) == (True, False)
    host.power = replace(host.power, alarm=True)
    await trio.sleep(LOOK_SECONDS)
    third = await watch.newest()
    assert third.is_news(second)
    assert third.findings[0].severity is Severity.ERROR


async def test_under_voltage_that_was_seen_once_is_remembered(autojump_clock: trio.testing.MockClock) -> None:
    host = Host()
    watch = HealthWatch(Inventory(), lambda: host)
    host.power = replace(host.power, alarm=True)
    await watch.newest()
    host.power = replace(host.power, alarm=False)
    await trio.sleep(LOOK_SECONDS)
    report = await watch.newest()
    (power,) = [one for one in report.findings if one.key == "power.undervoltage"]
    assert power.severity is Severity.WARNING
    assert report.measures["undervoltage"] == 0


async def test_who_is_cancelled_leaves_the_look_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    host = Host()
    watch = HealthWatch(Inventory(), lambda: host)
    with trio.move_on_after(0.5) as limit:
        await watch.newest()
    assert limit.cancelled_caught
    assert (await watch.newest()).findings
    assert host.looks == 2


async def test_an_undervoltage_is_looked_at_at_once_and_the_next_one_with_the_next_look(
    autojump_clock: trio.testing.MockClock,
) -> None:
    host = Host()
    watch = HealthWatch(Inventory(), lambda: host)
    first = await watch.newest()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.wait)
        await trio.sleep(5)
        host.alarmed.set()
    assert trio.current_time() == 6
    second = await watch.newest()  # the kernel says nothing any more
    assert second.is_news(first)
    assert "power.undervoltage" in {one.key for one in second.findings if one.severity is not Severity.OK}
    began = trio.current_time()
    await watch.wait()
    assert trio.current_time() == began + LOOK_SECONDS


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), ValueError("a fault of ours")])
async def test_a_kernel_that_cannot_be_listened_to_is_looked_at_now_and_then(
    fault: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    host = Host()
    host.alarm_fault = fault
    watch = HealthWatch(Inventory(), lambda: host)
    await watch.wait()
    assert trio.current_time() == LOOK_SECONDS
