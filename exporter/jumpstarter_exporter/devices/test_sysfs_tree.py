"""The host's devices without pyudev: the same records, so that both say the same of what the host stands on."""

from __future__ import annotations

from pathlib import Path

import pytest

from jumpstarter_exporter.devices.hwdb import shipped
from jumpstarter_exporter.devices.offer import protect
from jumpstarter_exporter.devices.sysfs_tree import read_sysfs_tree
from jumpstarter_exporter.devices.udev_database import enumerate_devices
from jumpstarter_exporter.devices.udev_device import parse_database
from tests.support.udev_hosts import HOSTS
from tools.mocked_host.bus import MockedBus
from tools.mocked_host.udev import Host

SUBSYSTEMS = ("usb", "block", "net", "input")


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_is_read_as_udev_shows_it_and_keeps_the_same_ports(name: str, tmp_path: Path) -> None:
    host = HOSTS[name]()
    MockedBus(tmp_path).plug(host.devices)
    tree = read_sysfs_tree(tmp_path)
    expected = [one for one in host.tree if one.subsystem in SUBSYSTEMS]
    assert [one.path for one in tree] == [one.path for one in expected]
    for one, other in zip(tree, expected, strict=True):
        assert one.properties == {"DEVPATH": other.path, **other.properties}
    ports = {(path.rpartition("/")[2], port) for path, port in protect(tree, host.use, shipped()).hub_ports}
    assert ports == host.must_power


def test_what_udevd_knows_of_a_device_is_read_from_its_database(tmp_path: Path) -> None:
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    disk, part = host.disk(host.plug(root, 1, "152d:0583"), "")
    host.add(
        f"{host.interface(host.plug(root, 2, '0bda:8153'))}/net/eth7", "net", INTERFACE="eth7", IFINDEX="5"
    )
    host.add("/devices/platform/keys/input/input3", "input", PRODUCT="19/1/1/100")
    MockedBus(tmp_path).plug(host.devices)
    database = tmp_path / "run/udev/data"
    database.mkdir(parents=True)
    (database / "b8:1").write_text(
        "S:disk/by-uuid/b1946ac9\nS:disk/by-id/usb-0-part1\nI:8204\nE:ID_FS_TYPE=btrfs\nG:systemd\nV:1\n"
    )
    (database / "n5").write_text("E:ID_NET_NAME=enx0\n")
    (database / "+input:input3").write_text("E:ID_INPUT=1\nE:ID_INPUT_KEYBOARD=1\n")
    tree = read_sysfs_tree(tmp_path)
    (found,) = tree.find("/dev/disk/by-uuid/b1946ac9")
    assert (found.path, found.properties["ID_FS_TYPE"]) == (part, "btrfs")
    assert found.links == ["/dev/disk/by-id/usb-0-part1", "/dev/disk/by-uuid/b1946ac9"]
    assert tree.find("eth7")[0].properties["ID_NET_NAME"] == "enx0"
    assert tree.find("input3")[0].properties["ID_INPUT_KEYBOARD"] == "1"
    assert tree.get(disk)


def test_a_device_that_no_udevd_has_seen_has_what_the_kernel_says(tmp_path: Path) -> None:
    place = tmp_path / "sys/devices/pci0000:00/usb1"
    place.mkdir(parents=True)
    (tmp_path / "sys/bus/usb/devices").mkdir(parents=True)
    (tmp_path / "sys/bus/usb/devices/usb1").symlink_to(place)
    (place / "uevent").write_text("MAJOR=189\nMINOR=0\nDEVNAME=bus/usb/001/001\nDEVTYPE=usb_device\n")
    (place / "idVendor").write_text("1d6b\n")
    (device,) = read_sysfs_tree(tmp_path)
    assert (device.node, device.attributes) == ("/dev/bus/usb/001/001", {"idVendor": "1d6b"})


def test_a_name_that_a_device_has_of_itself_says_nothing_else_of_it(tmp_path: Path) -> None:
    """udevd keeps UTF-8 in it as it is, with characters that Python takes for the end of a line."""
    place = tmp_path / "sys/devices/pci0000:00/usb1"
    place.mkdir(parents=True)
    (tmp_path / "sys/bus/usb/devices").mkdir(parents=True)
    (tmp_path / "sys/bus/usb/devices/usb1").symlink_to(place)
    (place / "uevent").write_text("MAJOR=189\nMINOR=0\nDEVTYPE=usb_device\n")
    database = tmp_path / "run/udev/data"
    database.mkdir(parents=True)
    for end in ("\u2028", "\x85", "\x0b", "\r"):
        serial = f"1{end}E:ID_VENDOR_ID=0403{end}ID_MODEL_ID=6001"
        (database / "c189:0").write_bytes(f"E:ID_SERIAL_SHORT={serial}\n".encode())
        (device,) = read_sysfs_tree(tmp_path)
        assert device.properties["ID_SERIAL_SHORT"] == serial
        assert {"ID_VENDOR_ID", "ID_MODEL_ID"}.isdisjoint(device.properties)
        (dumped,) = parse_database(f"P: /devices/usb1\nE: ID_SERIAL_SHORT={serial}\n\n")
        assert dumped.properties["ID_SERIAL_SHORT"].startswith(f"1{end}")
        assert "ID_VENDOR_ID" not in dumped.properties


def test_this_host_is_read_as_pyudev_reads_it() -> None:
    """Except for what a device is asked for at each read, as the state of a network interface."""
    expected = {one.path: one for one in enumerate_devices() if one.subsystem in SUBSYSTEMS}
    found = {one.path: one for one in read_sysfs_tree()}
    assert found.keys() == expected.keys()
    for path, device in found.items():
        # What udevd says of its own work is none of the device's.
        own = {
            key: text
            for key, text in expected[path].properties.items()
            if key not in ("USEC_INITIALIZED", "TAGS", "CURRENT_TAGS")
        }
        assert device.properties == own


def test_a_host_without_sysfs_has_no_devices(tmp_path: Path) -> None:
    assert list(read_sysfs_tree(tmp_path)) == []
