"""Reads the host's devices through pyudev. No device is opened: only udev's database and sysfs are read."""

from __future__ import annotations

import os
from contextlib import suppress
from sys import intern
from typing import Any

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice

__all__ = [
    "SUBSYSTEMS",
    "SYSFS_ATTRIBUTES",
    "UdevError",
    "enumerate_devices",
    "open_context",
    "read_devices",
    "record_of",
]

SUBSYSTEMS = (
    "usb",
    "tty",
    "block",
    "scsi_generic",
    "video4linux",
    "hidraw",
    "usbmisc",
    "gpio",
    "net",
    "input",
)
"""The subsystems that matter for boards or for the host itself."""
_OF_EVENTS = frozenset({"ACTION", "SEQNUM", "SYNTH_UUID", "DISK_MEDIA_CHANGE", "DISK_EJECT_REQUEST"})
"""Properties of an event, not of its device."""
SYSFS_ATTRIBUTES = ("idVendor", "idProduct", "serial", "product")
"""Attributes of a USB device that replace udevd's properties where udevd does not run."""


class UdevError(JumpstarterError):
    """The devices of this host cannot be read."""

    status = "UNAVAILABLE"
    exit_code = ExitCode.UNAVAILABLE


async def read_devices(limiter: trio.CapacityLimiter) -> DeviceTree:
    """All devices of this host now. A cancellation abandons the thread, which only reads.

    Raises:
        UdevError: see there.
    """
    return await trio.to_thread.run_sync(enumerate_devices, limiter=limiter, abandon_on_cancel=True)


def enumerate_devices() -> DeviceTree:
    """All devices of this host now. Blocking, for some tens of milliseconds.

    Raises:
        UdevError: see `open_context`.
    """
    found = open_context().list_devices()
    for subsystem in SUBSYSTEMS:
        found.match_subsystem(subsystem)
    return DeviceTree(record_of(device) for device in found)


def open_context() -> Any:
    """A pyudev.Context. Blocking, for its import.

    Raises:
        UdevError: pyudev or libudev is not installed, or there is no sysfs.
    """
    try:
        import pyudev  # noqa: PLC0415 - most commands need no devices

        context = pyudev.Context()
    except ImportError as error:
        raise UdevError(
            f"the devices of this host cannot be read: {error}; "
            "pip install 'jumpstarter-sbc[exporter]', and install libudev1"
        ) from None
    if not os.path.isdir("/sys/devices"):
        raise UdevError(
            "the devices of this host cannot be read: there is no /sys/devices; mount sysfs at /sys"
        )
    return context


def record_of(device: Any) -> UdevDevice:
    """The record of one of pyudev's devices: the same whether an event brought it or an enumeration.

    Blocking where no udevd runs, for as long as the kernel keeps a USB device for itself.
    """
    properties = {}
    every = device.properties
    for key in every:
        if key not in _OF_EVENTS:
            # The kernel cuts long device names, also within a character, so that the result is not text.
            with suppress(UnicodeDecodeError):
                properties[intern(key)] = every[key]
    if links := properties.get("DEVLINKS"):
        properties["DEVLINKS"] = " ".join(sorted(links.split()))  # udev has them in any order
    attributes = {}
    if (
        properties.get("DEVTYPE") == "usb_device" and "ID_VENDOR_ID" not in properties
    ):  # no udevd has processed it
        for name in SYSFS_ATTRIBUTES:
            value = device.attributes.get(name)
            if value is not None:
                attributes[name] = value.decode(errors="replace").strip()
    return UdevDevice(device.device_path, properties, attributes)
