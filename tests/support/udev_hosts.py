"""Hosts and what is plugged into them, as udev shows them: written by hand from what such machines print.

`HOSTS` are a Raspberry Pi 3, 4 and 5, a PC and a virtual machine, each with what it stands on. Nothing here comes from
our own tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jumpstarter_exporter.devices.offer import HostUse
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice
from jumpstarter_proto.mounts import PlannedMount

from tools.mocked_host.udev import CAMERA, DISK, HUB, KEYBOARD, Host


def pi3() -> Host:
    """Its wired network hangs on the hub, with which the ports for users share a chip."""
    host = Host()
    (root,) = host.controller("/devices/platform/soc/3f980000.usb", 1, 2)
    hub = host.plug(root, 1, "0424:9514", interfaces=HUB)
    net = host.plug(hub, 1, "0424:ec00")
    host.net(host.interface(net), "eth0")
    host.tty(host.plug(hub, 3, "0403:6001", "A50285BJ", "FT232R USB UART"))
    host.block(
        "/devices/platform/soc/3f202000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0", 179, 0, "vfat", "ext4"
    )
    host.use = HostUse({"179:1": "/boot/firmware", "179:2": "/"}, routes=frozenset({"eth0"}))
    host.must_keep = {"eth0", "1-1.1", "1-1.1:1.0", "mmcblk0", "mmcblk0p1", "mmcblk0p2"}
    host.must_power = {("usb1", 1), ("1-1", 1)}
    return host


def pi4() -> Host:
    """Boots from a USB disk, and has a keyboard with a hub in it."""
    host = Host()
    two, three = host.controller(
        "/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0", 1, 2, 3
    )
    hub = host.plug(two, 1, "2109:3431", model="USB2.0 Hub", interfaces=HUB)
    host.net("/devices/platform/scb/fd580000.ethernet", "eth0")
    keyboard_hub = host.plug(hub, 2, "04d9:1503", interfaces=HUB)
    host.keyboard(host.plug(keyboard_hub, 1, "04d9:0024", interfaces=KEYBOARD))
    host.tty(host.plug(hub, 4, "10c4:ea60", "0001", "CP2102 USB to UART Bridge Controller"))
    host.disk(host.plug(three, 2, "152d:0583", "DB00000000013B", "Tech", DISK), "vfat", "ext4")
    host.use = HostUse({"8:1": "/boot/firmware", "8:2": "/"}, routes=frozenset({"eth0"}))
    host.must_keep = {"eth0", "input0", "hidraw0", "1-1.2.1", "sda", "sda1", "sda2", "sg0", "2-2"}
    # All ports of its own hub are switched together.
    host.must_power = {("usb1", 1), ("1-1.2", 1), ("usb2", 2), *(("1-1", port) for port in (1, 2, 3, 4))}
    return host


def pi5() -> Host:
    """Two controllers with two root hubs each, an NVMe disk, wireless network, a mouse."""
    host = Host()
    rp1 = "/devices/platform/axi/1000120000.pcie/1f00000000.rp1"
    first, _ = host.controller(f"{rp1}/1f00200000.usb/xhci-hcd.0", 1, 2, 3)
    second, fast = host.controller(f"{rp1}/1f00300000.usb/xhci-hcd.1", 3, 2, 3)
    host.add("/devices/platform/axi/1000120000.pcie/1f00000000.rp1/1f000d0000.gpio/gpiochip0", "gpio")
    host.keyboard(
        host.plug(first, 1, "046d:c077", model="USB Optical Mouse", interfaces=":030102:"), kind="MOUSE"
    )
    probe = host.plug(
        second, 2, "2e8a:000c", "E6633861A355B838", "Debug Probe (CMSIS-DAP)", ":ff0000:020201:0a0000:"
    )
    host.tty(probe, 1, acm=True)
    host.disk(host.plug(fast, 1, "0781:5581", "4C530001", "Ultra", DISK), "vfat")
    nvme = "/devices/platform/axi/1000110000.pcie/pci0001:00/0001:00:00.0/0001:01:00.0/nvme/nvme0/nvme0n1"
    host.block(nvme, 259, 0, "vfat", "ext4", "swap")
    host.net("/devices/platform/axi/1001100000.mmc/mmc_host/mmc1/mmc1:0001/mmc1:0001:1", "wlan0")
    host.net(f"{rp1}/1f00100000.ethernet", "eth0")
    host.use = HostUse(
        {"259:1": "/boot/firmware", "259:2": "/"}, (), frozenset({"/dev/nvme0n1p3"}), frozenset({"wlan0"})
    )
    host.must_keep = {"wlan0", "input0", "hidraw0", "1-1", "nvme0n1", "nvme0n1p1", "nvme0n1p2", "nvme0n1p3"}
    host.must_power = {("usb1", 1)}
    return host


def pc() -> Host:
    """An encrypted root in a volume group, a RAID, a disk in fstab, a bridge for containers, a camera, a hub."""
    host = Host()
    two, three = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2, 3)
    host.block(
        "/devices/pci0000:00/0000:00:17.0/ata1/host9/target9:0:0/9:0:0:0/block/sdx",
        65,
        0,
        "vfat",
        "crypto_LUKS",
    )
    host.block("/devices/virtual/block/dm-0", 253, 0)
    host.block("/devices/virtual/block/dm-1", 253, 1)
    raid = host.plug(three, 4, "152d:0578", "RAID1", "Disk", DISK)
    host.disk(raid, "linux_raid_member")
    backup = host.plug(three, 5, "0bc2:2344", "NAABCDEF", "Expansion", DISK)
    (_, part) = host.disk(backup, "ext4")
    host.devices = [
        UdevDevice(one.path, {**one.properties, "ID_FS_UUID": "b1946ac9"}) if one.path == part else one
        for one in host.devices
    ]
    host.net("/devices/pci0000:00/0000:00:1f.6", "enp0s31f6")
    host.net("/devices/virtual", "br0")
    hub = host.plug(two, 7, "05e3:0608", model="USB2.0 Hub", interfaces=HUB)
    quad = host.plug(hub, 1, "0403:6011", model="Quad RS232-HS", interfaces=":ffffff:")
    for interface in range(4):
        host.tty(quad, interface)
    host.keyboard(host.plug(hub, 2, "046d:c31c", interfaces=":030101:030000:"))
    camera = host.plug(two, 9, "046d:0825", "ABCD", "HD Webcam C270", CAMERA)
    for index, capability in enumerate((":capture:", ":")):
        host.add(
            f"{host.interface(camera)}/video4linux/video{index}",
            "video4linux",
            DEVNAME=f"/dev/video{index}",
            ID_V4L_CAPABILITIES=capability,
        )
    host.use = HostUse(
        {"253:1": "/", "65:1": "/boot/efi"},
        (PlannedMount("UUID=B1946AC9", "/backup"),),
        frozenset(),
        frozenset({"br0"}),
        {"dm-1": ("dm-0",), "dm-0": ("sdx2",), "br0": ("enp0s31f6", "veth7")},
    )
    host.must_keep = {
        "sdx",
        "sdx1",
        "sdx2",
        "dm-0",
        "dm-1",
        "sda",
        "sda1",
        "sg0",
        "2-4",
        "sdb",
        "sdb1",
        "2-5",
    }
    host.must_keep |= {"enp0s31f6", "br0", "input0", "1-7.2"}
    host.must_power = {("usb2", 4), ("usb2", 5), ("usb1", 7), ("1-7", 2)}
    return host


def vm() -> Host:
    """A guest with a virtual disk and a USB serial port of QEMU's."""
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:01.2", 1, 2)
    host.block("/devices/pci0000:00/0000:00:05.0/virtio2/block/vda", 254, 0, "ext4", "swap")
    host.net("/devices/pci0000:00/0000:00:03.0/virtio0", "ens3")
    host.tty(host.plug(root, 1, "0403:6001", "1", "QEMU USB SERIAL"))
    host.keyboard(host.plug(root, 2, "0627:0001", "28754-0000", "QEMU USB Tablet", ":030000:"), kind="MOUSE")
    host.use = HostUse({"/dev/vda1": "/"}, swaps=frozenset({"/dev/vda2"}), routes=frozenset({"ens3"}))
    host.must_keep = {"vda", "vda1", "vda2", "ens3", "input0", "1-2"}
    host.must_power = {("usb1", 2)}
    return host


HOSTS: Mapping[str, Callable[[], Host]] = {"pi3": pi3, "pi4": pi4, "pi5": pi5, "pc": pc, "vm": vm}


def exported(tree: DeviceTree) -> str:
    """The tree as `udevadm info --export-db` prints it, with attributes as umockdev wants them."""
    blocks = []
    for device in tree:
        lines = [f"P: {device.path}"]
        if device.node:
            lines.append(f"N: {device.node.removeprefix('/dev/')}")
        lines += [f"S: {link.removeprefix('/dev/')}" for link in device.links]
        lines += [f"E: {key}={value}" for key, value in device.properties.items()]
        lines += [f"A: {key}={value}" for key, value in device.attributes.items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"
