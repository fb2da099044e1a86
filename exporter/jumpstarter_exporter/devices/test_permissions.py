"""What our rules for udev make of what is plugged in: who may use it, by which links, and who is kept off."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from jumpstarter_exporter.devices.hwdb import shipped
from tests.support.udev_rules import Given, apply_rules
from tools.mocked_host.udev import CAMERA, CDC, DISK, HID, HUB, UART, Host

RULES = sorted(Path(str(files("jumpstarter_udev"))).glob("*.rules"))
DEVICES = {
    "serial": ("0403:6001", "FT232R USB UART", UART),
    "debugger": ("2e8a:000c", "Debug Probe", CDC),
    "relay": ("16c0:05df", "USBRelay8", HID),
    "sdmux": ("0424:4041", "usb-sd-mux FAST", DISK),
    "loader": ("2e8a:0003", "RP2 Boot", DISK),
    "camera": ("534d:2109", "USB Video", CAMERA),
    "storage": ("0bda:0316", "Card Reader", DISK),
    "": ("04e8:6860", "SAMSUNG Android", ":ffff00:"),
}
"""By what the tables call it: its ids, its name and its interfaces."""
USED_BY_LIBUSB = {"sdmux", "relay", "loader", "debugger"}
BUSY_PROGRAMS_KEEP_OFF = {"serial", "debugger", "relay", "sdmux"}


def plugged(kind: str) -> Host:
    """One device of that kind, with a part of each sort."""
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    ids, model, interfaces = DEVICES[kind]
    device = host.plug(root, 4, ids, model=model, interfaces=interfaces)
    host.tty(device)
    host.disk(device, "vfat", interface=1)
    host.keyboard(device, 2)
    host.add(f"{host.interface(device, 3)}/video4linux/video0", "video4linux", DEVNAME="/dev/video0")
    host.add(f"{host.interface(device, 4)}/usbmisc/lp0", "usbmisc", DEVNAME="/dev/usb/lp0")
    return host


def given(host: Host, name: str, *, action: str = "add", **properties: str) -> Given:
    """What the rules make of the device of that name."""
    (device,) = (one for one in host.tree if one.name == name)
    device.properties.update(properties)  # type: ignore[attr-defined]
    return apply_rules(RULES, host.tree, device, shipped(), action=action)


@pytest.mark.parametrize("kind", DEVICES)
def test_only_what_has_no_kernel_driver_that_would_do_is_given_to_the_exporter(kind: str) -> None:
    host = plugged(kind)
    found = {name: (one.group, one.mode) for name in NODES if (one := given(host, name)).group or one.mode}
    expected = {}
    if kind in USED_BY_LIBUSB:
        expected["1-4"] = ("jumpstarter", "0664")
    if kind in ("relay", "debugger"):
        expected["hidraw0"] = ("jumpstarter", "0660")
    if kind == "sdmux":
        expected |= dict.fromkeys(("sg0", "sda", "sda1"), ("jumpstarter", "0660"))
    assert found == expected


NODES = ("1-4", "ttyUSB0", "sda", "sda1", "sg0", "hidraw0", "video0", "lp0")


@pytest.mark.parametrize("kind", DEVICES)
def test_what_the_tables_know_is_seen_by_the_exporter_and_has_a_link_that_names_its_socket(kind: str) -> None:
    host = plugged(kind)
    for name in NODES:
        found = given(host, name)
        assert found.env.get("ID_JUMPSTARTER_KIND", "") == kind, name
        assert found.tags == ({"jumpstarter"} if kind else set()), name
        links = {"1-4": {"jumpstarter/by-port/1-4"}, "ttyUSB0": {"jumpstarter/by-port/1-4:1.0"}}
        assert found.links == (links.get(name, set()) if kind else set()), name


@pytest.mark.parametrize("kind", DEVICES)
def test_programs_that_take_what_is_plugged_in_are_kept_off_a_boards_devices(kind: str) -> None:
    host = plugged(kind)
    for name in NODES:
        env = given(host, name).env
        ignored = "1" if kind in BUSY_PROGRAMS_KEEP_OFF else None
        assert (env.get("ID_MM_DEVICE_IGNORE"), env.get("ID_MM_PORT_IGNORE")) == (ignored, ignored), name
        is_kept = kind in ("sdmux", "debugger", "loader") and name.startswith("sda")
        assert (env.get("UDISKS_IGNORE"), env.get("UDISKS_AUTO")) == (("1", "0") if is_kept else (None, None))
    wants = given(host, "1-4", SYSTEMD_WANTS="brltty@usb-1-4.path").env["SYSTEMD_WANTS"]
    assert wants == ("" if kind in ("serial", "debugger", "relay") else "brltty@usb-1-4.path")
    others = given(host, "1-4", SYSTEMD_WANTS="usbmuxd.service").env["SYSTEMD_WANTS"]
    assert others == "usbmuxd.service"


def test_a_mux_brings_the_module_with_which_it_is_switched() -> None:
    assert given(plugged("sdmux"), "sda").runs == ["kmod load sg"]
    assert given(plugged("storage"), "sda").runs == []


def test_the_ports_of_a_hub_may_be_switched() -> None:
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    host.plug(root, 4, "2109:0817", model="USB3.0 Hub", interfaces=HUB)
    hub, interface = given(host, "1-4"), given(host, "1-4:1.0")
    assert (hub.group, hub.mode, hub.tags, hub.runs) == ("jumpstarter", "0664", {"jumpstarter"}, [])
    (run,) = interface.runs
    files = "$sys$devpath/*-port*/disable"
    assert run == f"/bin/sh -c 'chgrp -f jumpstarter {files}; chmod -f g+w {files}; true'"
    assert (interface.group, interface.tags) == ("", {"jumpstarter"})


@pytest.mark.parametrize("subsystem", ["gpio", "leds"])
def test_gpio_lines_are_the_exporters_those_of_an_adapter_with_a_link_that_names_its_socket(
    subsystem: str,
) -> None:
    host = Host()
    host.add("/devices/platform/soc", "platform")
    host.add("/devices/platform/soc/gpiochip0", subsystem, DEVNAME="/dev/gpiochip0")
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    device = host.plug(root, 4, "10c4:ea60", model="CP2102")
    host.add(f"{host.interface(device)}/gpiochip1", subsystem, DEVNAME="/dev/gpiochip1")
    host.add("/devices/pci0000:00/gpiochip2", subsystem, DEVNAME="/dev/gpiochip2")
    found = [given(host, f"gpiochip{number}") for number in range(3)]
    own, nothing = ("jumpstarter", "0660", {"jumpstarter"}), ("", "", set[str]())
    expected = [own, own, nothing] if subsystem == "gpio" else [nothing] * 3
    assert [(one.group, one.mode, one.tags) for one in found] == expected
    link = {"jumpstarter/by-port/1-4:1.0-gpio"} if subsystem == "gpio" else set()
    assert [one.links for one in found] == [set(), link, set()]


@pytest.mark.parametrize("kind", ["relay", "sdmux"])
def test_of_what_is_unplugged_nothing_is_said(kind: str) -> None:
    found = given(plugged(kind), "1-4", action="remove")
    assert (found.group, found.tags, found.links) == ("", set(), set())


def test_a_disk_that_is_not_on_usb_is_left_alone() -> None:
    host = Host()
    host.block("/devices/pci0000:00/ata1/host0/block/sda", 8, 0, "ext4")
    found = given(host, "sda")
    assert (found.group, found.tags, found.links, found.runs) == ("", set(), set(), [])
