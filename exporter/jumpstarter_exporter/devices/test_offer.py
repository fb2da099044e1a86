"""What the host stands on is never offered: by hand-written hosts, and in every tree that hypothesis makes up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.mounts import PlannedMount

from jumpstarter_exporter.devices.hwdb import shipped
from jumpstarter_exporter.devices.offer import HostUse, protect
from tests.support.udev_hosts import HOSTS, pc, pi4, pi5
from tools.mocked_host.udev import DISK, HUB, UART, Host


@pytest.mark.parametrize("name", HOSTS)
def test_what_a_host_stands_on_is_protected_and_nothing_else_that_is_plugged_in(name: str) -> None:
    host = HOSTS[name]()
    tree = host.tree
    protection = protect(tree, host.use, shipped())
    kept = {device.name for device in tree if protection.reason(device)}
    assert host.must_keep - kept == set()
    assert {(path.rpartition("/")[2], port) for path, port in protection.hub_ports} == host.must_power
    free = {device.name for device in tree if device.subsystem in ("tty", "video4linux", "gpio")}
    assert free & kept == set()


def test_the_reason_says_what_the_host_does_with_it() -> None:
    host = pi4()
    protection = protect(host.tree, host.use, shipped())
    reasons = {device.name: protection.reason(device) for device in host.tree}
    assert reasons["sda2"] == "the host has / on it"
    assert reasons["2-2"] == "/dev/sda1 hangs on it, and the host has /boot/firmware on it"
    assert reasons["input0"] == "the host has its keyboard there"
    assert reasons["eth0"] == "the host reaches others through it"
    (hub,) = host.tree.find("1-1")
    assert protection.ports_of(hub)[4] == (
        "input0 hangs on it at port 2, which is switched with it, and the host has its keyboard there"
    )


def test_a_disk_without_a_use_is_free_also_with_the_names_of_one_that_has() -> None:
    """A board's card is often a copy of the host's own, with all of its UUIDs."""
    host = pi5()
    (disk,) = host.tree.find("/dev/sda1")
    host.use = replace(
        host.use, planned=(PlannedMount("LABEL=rootfs", "/"), PlannedMount("LABEL=data", "/data"))
    )
    for label, is_kept in ("rootfs", False), ("data", True):
        host.devices = [
            replace(one, properties={**one.properties, "ID_FS_LABEL": label})
            if one.path == disk.path
            else one
            for one in host.devices
        ]
        (named,) = host.tree.find("/dev/sda1")
        assert bool(protect(host.tree, host.use, shipped()).reason(named)) is is_kept


def test_all_disks_of_a_btrfs_are_kept() -> None:
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    for port in (1, 2):
        host.disk(host.plug(root, port, "152d:0583", interfaces=DISK), ID_FS_TYPE="btrfs", ID_FS_UUID="u")
    host.use = HostUse({"/dev/sda": "/srv"})
    protection = protect(host.tree, host.use, shipped())
    assert all(protection.reason(device) for device in host.tree if device.subsystem == "block")


def test_all_disks_of_an_array_are_kept_if_a_partition_of_it_is_used() -> None:
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    for port in (1, 2):
        host.disk(host.plug(root, port, "152d:0583", interfaces=DISK))
    host.block("/devices/virtual/block/md0", 9, 0, "ext4")
    host.use = HostUse({"9:1": "/srv"}, made_of={"md0": ("sda", "sdb")})
    protection = protect(host.tree, host.use, shipped())
    assert {port for _, port in protection.hub_ports} == {1, 2}


@pytest.mark.parametrize(("interface", "kind"), [("3/1/1", "keyboard"), ("3/1/2", "mouse"), ("3/1/0", "")])
def test_keyboard_and_mouse_are_known_where_no_udevd_runs(interface: str, kind: str) -> None:
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    device = host.plug(root, 3, "04d9:0024", interfaces=":")
    host.add(f"{device}/1-3:1.0", "usb", DEVTYPE="usb_interface", INTERFACE=interface)
    protection = protect(host.tree, host.use, shipped())
    (hub,) = host.tree.find("usb1")
    expected = {3: f"1-3:1.0 hangs on it, and the host has its {kind} there"} if kind else {}
    assert protection.ports_of(hub) == expected


def test_parts_of_parts_that_go_round_in_circles_end() -> None:
    host = pc()
    host.use = replace(host.use, made_of={"br0": ("veth7",), "veth7": ("br0", "enp0s31f6")})
    (net,) = host.tree.find("enp0s31f6")
    assert protect(host.tree, host.use, shipped()).reason(net)


@st.composite
def used_hosts(draw: st.DrawFn) -> tuple[Host, set[str]]:
    """A random tree of hubs with devices of two functions, and the USB interfaces of which the host uses something."""
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    hubs, used = [root], set()
    mounts: dict[str, str] = {}
    routes: set[str] = set()
    for number in range(draw(st.integers(1, 12))):
        hub = draw(st.sampled_from(hubs))
        name = hub.rpartition("/")[2]
        port = 1 + sum(one.path.startswith(f"{hub}/") and one.is_usb_device for one in host.devices)
        if draw(st.booleans()) and name.count(".") < 4:
            hubs.append(host.plug(hub, port, "1a40:0101", interfaces=HUB))
            continue
        device = host.plug(hub, port, "1234:5678", interfaces=UART)
        for interface in range(draw(st.integers(1, 2))):
            kind = draw(st.sampled_from(["tty", "disk", "net", "keyboard"]))
            is_used = draw(st.booleans())
            above = host.interface(device, interface)
            if kind == "tty":
                host.tty(device, interface)
            elif kind == "disk":
                made = host.disk(device, "ext4", "ext4", interface=interface)
                if is_used:
                    path = draw(st.sampled_from(made))
                    mounts[next(one.number for one in host.devices if one.path == path)] = "/data"
                    used.add(above)
            elif kind == "net":
                host.net(above, f"eth{number}{interface}")
                if is_used:
                    routes.add(f"eth{number}{interface}")
                    used.add(above)
            elif is_used:
                host.keyboard(device, interface)
                used.add(above)
    host.use = HostUse(mounts, routes=frozenset(routes))
    return host, used


@given(used_hosts())
def test_in_any_tree_what_is_above_or_in_a_used_function_is_kept_and_all_else_is_free(
    made: tuple[Host, set[str]],
) -> None:
    host, used = made
    protection = protect(host.tree, host.use, shipped())
    ports = set()
    for device in host.tree:
        above = any(one == device.path or one.startswith(f"{device.path}/") for one in used)
        inside = any(device.path.startswith(f"{one}/") for one in used)
        assert bool(protection.reason(device)) == (above or inside), device.path
        if device.is_usb_device and "-" in device.name and above:
            hub, _, name = device.path.rpartition("/")
            ports.add((hub, int(name.replace("-", ".").rpartition(".")[2])))
    assert set(protection.hub_ports) == ports
