"""What is discovered becomes specifications like those of a file."""

from __future__ import annotations

from pathlib import Path

import msgspec
from jumpstarter_drivers.serial.driver import PySerial

from jumpstarter_exporter.devices.hwdb import shipped as shipped_tables
from jumpstarter_exporter.devices.known import KnownDevices
from jumpstarter_exporter.devices.layout import layout
from jumpstarter_exporter.devices.profiles import combine, parse, shipped
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.serve.discovered_devices import DiscoveredDevice, spec_of, tree_of
from tests.support.udev_hosts import pc, pi4, pi5
from tools.mocked_host.udev import Host


def tree(host: Host, text: str = "disable: []") -> Spec:
    profiles = combine(shipped(), [parse(Path("mine.yaml"), text.encode())])
    found = KnownDevices().inspect(host.tree, profiles, shipped_tables(), host.use)
    devices = []
    for one in found.devices:
        assert one.match is not None
        devices.append(DiscoveredDevice(one.device, spec_of(one.device, one.match.profile.document), ""))
    content = tree_of(devices, found.known.groups)
    assert set(content.uuids) == {line.path for line in layout(content.spec)} - {""}
    return content.spec


def test_each_device_is_below_its_group_with_its_driver_and_values() -> None:
    root = tree(pc())
    quad = root.children["ft4232h-1-7-1"]
    assert list(quad.children) == ["serial-0", "serial-1", "serial-2", "serial-3"]
    console = quad.children["serial-2"]
    assert (console.kind, console.fault) == (PySerial, "")
    assert console.values == {"url": "/dev/serial/by-path/platform-usb-0:7.1:1.2-port0"}
    assert "ft4232h-1-7-1.serial-3" in {line.path for line in layout(root)}


def test_a_device_without_a_driver_has_a_fault_that_says_so() -> None:
    probe = tree(pi5()).children["debug-probe-e6633861a355b838"]
    assert probe.children["debugger"].fault == "there is no driver for debug probes yet"
    assert probe.children["serial"].kind is PySerial


def test_a_profile_that_its_driver_does_not_take_is_a_fault_with_its_place() -> None:
    text = "profiles:\n mine:\n  match: {subsystem: tty, kind: serial}\n  type: serial.PySerial\n  config: {ulr: x}\n"
    (group,) = tree(pi4(), text).children.values()
    (console,) = group.children.values()
    assert console.fault.startswith(
        "mine.yaml:5:12: profiles.mine.config.ulr: serial.PySerial has no key 'ulr'"
    )


def test_a_device_that_is_in_no_port_has_no_label_of_one() -> None:
    found = KnownDevices().inspect(pi4().tree, combine(shipped(), []), shipped_tables(), pi4().use)
    device = msgspec.structs.replace(found.devices[0].device, port="", labels={})
    assert spec_of(device).given_labels.keys() == {
        "jumpstarter.dev/profile",
        "jumpstarter.dev/identity",
        "jumpstarter.dev/identity-reason",
    }


def test_labels_of_a_profile_are_labels_of_the_device() -> None:
    mine = "{match: {subsystem: tty}, type: serial.PySerial, config: {url: '{node}'}, labels: {port: 'usb-{port}'}}"
    (group,) = tree(pi4(), f"profiles: {{mine: {mine}}}").children.values()
    assert group.children["serial"].given_labels == {
        "port": "usb-1-1.4",
        "jumpstarter.dev/port": "1-1.4",
        "jumpstarter.dev/profile": "mine",
        "jumpstarter.dev/identity": "port 1-1.4",
        "jumpstarter.dev/identity-reason": "many CP2102 have the serial number 0001, so its port identifies it",
    }
