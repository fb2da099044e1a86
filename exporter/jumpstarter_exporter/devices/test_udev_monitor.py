"""The host's devices as they come and go: on a bus of umockdev's, and with the kernel's own socket."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from jumpstarter_exporter.devices import udev_monitor
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.udev_database import UdevError
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice
from jumpstarter_exporter.devices.udev_monitor import watch_devices
from tests.support.device_watcher import Seen, watching
from tests.support.umockdev import require_umockdev
from tools.mocked_host.bus import MockedBus
from tools.mocked_host.udev import Host

CONTROLLER = "/devices/platform/soc/3f980000.usb"
ROOT = f"{CONTROLLER}/usb1"
FTDI = ("0403:6001", "A50285BJ", "FT232R USB UART")
CH340 = ("1a86:7523", "", "USB Serial")


@pytest.fixture
def bus(tmp_path: Path) -> MockedBus:
    require_umockdev()
    mocked = MockedBus(tmp_path)
    host = Host()
    host.controller(CONTROLLER, 1, 2)
    mocked.plug(host.devices)
    return mocked


def adapter(port: int, ids: str, serial: str, model: str, *, number: int = 0) -> list[UdevDevice]:
    """A serial adapter, with /dev/ttyUSB of that number."""
    host = Host(_numbers={"ttyUSB": number - 1, "usb": port})
    host.tty(host.plug(ROOT, port, ids, serial, model))
    return host.devices


def at_port(port: int) -> str:
    return f"{ROOT}/1-{port}"


def is_shown(tree: DeviceTree, seen: Seen) -> bool:
    """All of it, with the same properties."""
    return {one.path for one in tree} == set(seen.devices) and all(
        value == seen.devices[one.path][key]
        for one in tree
        for key, value in one.properties.items()
        if key != "DEVLINKS"
    )


def test_an_adapter_that_is_plugged_in_is_shown_and_one_that_is_unplugged_is_not(bus: MockedBus) -> None:
    with watching(bus) as watcher:
        before = len(watcher.seen)
        bus.plug(adapter(1, *FTDI))
        watcher.until(lambda seen: is_shown(bus.tree, seen))
        bus.unplug(at_port(1))
        seen = watcher.until(lambda seen: is_shown(bus.tree, seen))
        assert seen.nodes == []
        assert seen.enumerations == 1
        assert len(watcher.seen) <= before + 3  # one plug; the node that went, and the rest


def test_what_is_there_at_the_start_is_as_its_events_say(bus: MockedBus) -> None:
    bus.plug(adapter(1, *FTDI))
    with watching(bus) as watcher:
        enumerated = watcher.seen[-1].devices
        bus.unplug(at_port(1))
        watcher.until(lambda seen: seen.nodes == [])
        bus.plug(adapter(1, *FTDI))
        assert watcher.until(lambda seen: seen.nodes != []).devices == enumerated


def test_an_adapter_that_comes_back_with_another_number_is_shown_with_that(bus: MockedBus) -> None:
    bus.plug(adapter(1, *FTDI))
    with watching(bus) as watcher:
        bus.unplug(at_port(1))
        bus.plug(adapter(1, *FTDI, number=1))
        watcher.until(lambda seen: is_shown(bus.tree, seen) and seen.nodes == ["/dev/ttyUSB1"])


def test_two_adapters_that_are_swapped_are_shown_at_their_new_ports(bus: MockedBus) -> None:
    bus.plug(adapter(1, *FTDI))
    bus.plug(adapter(2, *CH340, number=1))
    with watching(bus) as watcher:
        bus.unplug(at_port(1))
        bus.unplug(at_port(2))
        bus.plug(adapter(1, *CH340))
        bus.plug(adapter(2, *FTDI, number=1))
        seen = watcher.until(lambda seen: is_shown(bus.tree, seen))
        assert seen.devices[at_port(2)]["ID_SERIAL_SHORT"] == "A50285BJ"


def test_changed_properties_are_shown(bus: MockedBus) -> None:
    with watching(bus) as watcher:
        (root,) = (one for one in bus.tree if one.path == ROOT)
        bus.change(replace(root, properties={**root.properties, "ID_FOR_SEAT": "x"}))
        watcher.until(lambda seen: seen.devices[ROOT].get("ID_FOR_SEAT") == "x")


def test_a_device_whose_name_is_cut_within_a_character_is_shown_without_it_and_so_are_the_others(
    bus: MockedBus,
) -> None:
    # So does the kernel with long names of input devices. Python writes a byte that is no text as a surrogate.
    cut = "\u952e\u76d8\udce9"
    devices = adapter(1, *FTDI)
    bus.plug([*devices[:-1], replace(devices[-1], properties={**devices[-1].properties, "NAME": cut})])
    with watching(bus) as watcher:
        shown = watcher.seen[-1].devices
        assert "NAME" not in shown[devices[-1].path]
        assert shown[devices[-1].path]["DEVNAME"] == "/dev/ttyUSB0"
        bus.unplug(at_port(1))
        bus.plug([replace(one, properties={**one.properties, "NAME": cut}) for one in adapter(1, *FTDI)])
        bus.plug(adapter(2, *CH340, number=1))
        watcher.until(lambda seen: seen.nodes == ["/dev/ttyUSB0", "/dev/ttyUSB1"])


def test_a_storm_of_500_events_is_shown_in_effect_and_never_blocks_the_loop(bus: MockedBus) -> None:
    bus.plug([one for port in range(1, 17) for one in adapter(port, *CH340, number=port)])
    with watching(bus) as watcher:
        for turn in range(4):
            for port in range(1, 17):
                bus.unplug(at_port(port))
            for port in range(1, 17):
                bus.plug(adapter(port, *CH340, number=16 * turn + port))
        seen = watcher.until(lambda seen: is_shown(bus.tree, seen))
        assert bus.events >= 500
        assert seen.longest_block < 0.05
        assert len(watcher.seen) < bus.events / 2


def test_events_that_were_lost_are_found_by_an_enumeration(bus: MockedBus) -> None:
    bus.plug(adapter(1, *FTDI))
    with watching(bus, losing=8) as watcher:
        bus.unplug(at_port(1))
        bus.plug(adapter(2, *CH340))
        seen = watcher.until(lambda seen: is_shown(bus.tree, seen))
        assert seen.enumerations > 1


def test_a_node_is_shown_soon(bus: MockedBus) -> None:
    """Within what the whole way to a controller may take."""
    with watching(bus) as watcher:
        bus.plug(adapter(1, *FTDI), bind=False)
        sent = time.monotonic()
        seen = watcher.until(lambda seen: seen.nodes != [])
        assert seen.at - sent < 1.0


NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
KERNEL_EVENT = Path("/sys/devices/virtual/net/lo/uevent")


def hears_kernel() -> bool:
    """Whether an event that is made here arrives here."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as listener:
        listener.bind((0, KERNEL_GROUP))
        listener.settimeout(5)
        KERNEL_EVENT.write_text("change")
        try:
            return bool(listener.recv(8192))
        except TimeoutError:
            return False


@pytest.fixture
def _no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0 or not os.access(KERNEL_EVENT, os.W_OK):
        pytest.skip("missing: root, who may make the kernel send events")
    if not hears_kernel():
        pytest.skip("the kernel sends its events to the host's own network namespace, and this is another")
    monkeypatch.setattr(udev_monitor, "_RECEIVE_BUFFER_BYTES", 2048)


@pytest.mark.usefixtures("_no_room")
async def test_an_overflow_of_the_kernels_socket_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyudev says neither which error a socket has, nor takes it off."""
    enumerated = trio.Event()
    token = trio.lowlevel.current_trio_token()
    times = 0

    def enumerate_devices() -> DeviceTree:
        nonlocal times
        times += 1
        if times == 2:
            token.run_sync_soon(enumerated.set)
        return DeviceTree(())

    monkeypatch.setattr(udev_monitor, "enumerate_devices", enumerate_devices)
    with trio.fail_after(10):
        async with watch_devices(trio.CapacityLimiter(2)):
            for _ in range(50):
                KERNEL_EVENT.write_text("change")
            await enumerated.wait()


def unheard() -> udev_monitor._Monitor:
    raise UdevError("no events of devices can be received: Address family not supported by protocol")


async def test_devices_are_looked_for_where_no_events_come(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = iter([DeviceTree(()), *[DeviceTree([UdevDevice("/devices/a")])] * 1000])
    monkeypatch.setattr(udev_monitor, "_Monitor", unheard)
    monkeypatch.setattr(udev_monitor, "enumerate_devices", lambda: next(trees))
    monkeypatch.setattr(udev_monitor, "LOOK_SECONDS", 0.01)
    with trio.fail_after(10):
        async with watch_devices(trio.CapacityLimiter(2)) as watch:
            assert "Address family not supported" in watch.source
            with subscribed(watch) as revisions:
                async for _ in revisions:
                    if len(watch.tree):
                        break


async def test_who_cannot_read_devices_at_all_is_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def enumerate_devices() -> DeviceTree:
        raise UdevError(
            "the devices of this host cannot be read: there is no /sys/devices; mount sysfs at /sys"
        )

    monkeypatch.setattr(udev_monitor, "enumerate_devices", enumerate_devices)
    with pytest.raises(UdevError, match="mount sysfs"):
        async with watch_devices(trio.CapacityLimiter(2)):
            raise AssertionError


async def test_a_loop_has_one_watch_of_the_hosts_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udev_monitor, "enumerate_devices", lambda: DeviceTree(()))
    limiter = trio.CapacityLimiter(2)
    async with watch_devices(limiter) as first:
        async with watch_devices(limiter) as second:
            assert second is first
        assert first.enumerations == 1
    async with watch_devices(limiter) as third:
        assert third is not first


async def test_in_a_container_nobody_relies_on_events_and_nodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(udev_monitor, "_CONTAINER_MARKS", (str(tmp_path),))
    monkeypatch.setattr(udev_monitor, "enumerate_devices", lambda: DeviceTree(()))
    async with watch_devices(trio.CapacityLimiter(2)) as watch:
        assert not watch.has_nodes
    monkeypatch.setattr(udev_monitor, "_CONTAINER_MARKS", ())
    async with watch_devices(trio.CapacityLimiter(2)) as watch:
        assert watch.has_nodes


@pytest.mark.usefixtures("_no_room")
async def test_a_monitor_that_breaks_is_opened_again_and_everything_read_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(udev_monitor, "enumerate_devices", lambda: DeviceTree(()))
    monkeypatch.setattr(udev_monitor, "LOOK_SECONDS", 0.01)
    original = udev_monitor._Monitor.receive
    failed = False

    def receive(self: udev_monitor._Monitor) -> udev_monitor._Batch:
        nonlocal failed
        if not failed:
            failed = True
            raise OSError(9, "Bad file descriptor")
        return original(self)

    monkeypatch.setattr(udev_monitor._Monitor, "receive", receive)
    with trio.fail_after(10):
        async with watch_devices(trio.CapacityLimiter(2)) as watch:
            with subscribed(watch) as changes:
                await anext(changes)
                KERNEL_EVENT.write_text("change")
                await anext(changes)
            assert failed
            assert watch.source.startswith("events of")
