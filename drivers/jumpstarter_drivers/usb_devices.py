"""USB devices that drivers talk to through libusb: finds the one that is meant, and makes transfers.

It is found in sysfs, so that nothing is sent to a device before it is known to be the right one. pyusb is loaded with
the first transfer, never with the exporter. Everything here is blocking.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jumpstarter_exporter.driver import DeviceBusy, DeviceFailed, DeviceMissing
from jumpstarter_exporter.node_errors import check_access as check_node_access
from jumpstarter_exporter.node_errors import permission_hint, users_of
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.texts import shown

__all__ = [
    "ROOT",
    "SCSI_UNITS",
    "TRANSFER_SECONDS",
    "UsbConnection",
    "UsbDevice",
    "UsbSearch",
    "UsbTransferError",
    "check_access",
    "find_disk",
    "find_usb_device",
    "locked",
    "matching_devices",
    "open_usb_device",
    "read_ids",
    "read_text",
]

ROOT = Path("/")
"""In which `sys` and `dev` are."""
SCSI_UNITS = "*:*/host*/target*/*:*:*:*"
"""Below a USB device: a glob for the folders of its disks and card slots."""
TRANSFER_SECONDS = 1.0
_LOCK_SECONDS = 5.0
_REPEAT_SECONDS = 0.02
_GONE = (errno.ENODEV, errno.ENOENT, errno.ENXIO, errno.ESHUTDOWN)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_MAX_LISTED = 8
_MAX_DROPPED = 16
_DROP_MILLISECONDS = 20


class UsbTransferError(Exception):
    """A transfer failed although the device is there; the message says how. Another attempt may succeed."""


@dataclass(frozen=True)
class UsbDevice:
    """A device that is plugged in, as sysfs shows it."""

    port: str
    """Where it is plugged in: 1-1.4."""
    ids: str
    """Vendor and product: 04d8:f2f7."""
    product: str
    serial: str
    bus: int
    address: int

    @property
    def directory(self) -> Path:
        """Its folder in sysfs."""
        return _devices() / safe_name(self.port)

    @property
    def node(self) -> Path:
        """Its node, which libusb opens."""
        return ROOT / "dev/bus/usb" / safe_name(f"{self.bus:03}") / safe_name(f"{self.address:03}")

    def __str__(self) -> str:
        """The place and, if there is one, the serial number."""
        return f"{self.port} (serial number {shown(self.serial)})" if self.serial else self.port


@dataclass(frozen=True)
class UsbSearch:
    """Which device is meant. Without `serial` and `port`, the only one of its kind."""

    label: str
    """What messages call it: "YKUSH"."""
    ids: tuple[str, ...]
    product: str = "*"
    """A glob for its product string: ids alone are shared by devices of other kinds."""
    serial: str | None = None
    port: str | None = None
    port_key: str = "port"
    """The configuration key of `port`."""


def matching_devices(search: UsbSearch) -> list[UsbDevice]:
    """All devices of the kind that are plugged in, whatever their serial number and port."""
    found = []
    for directory in sorted(_devices().glob("*-*")):
        device = None if ":" in directory.name else _read_device(directory)
        if device is not None and device.ids in search.ids and fnmatchcase(device.product, search.product):
            found.append(device)
    return found


def find_usb_device(search: UsbSearch, every: Sequence[UsbDevice] | None = None) -> UsbDevice:
    """The device that is meant, of `every` one of its kind.

    Raises:
        DeviceMissing: it is not plugged in; the message lists those of its kind that are.
        DeviceFailed: several are meant: nothing tells them apart, or two have the same serial number.
    """
    every = matching_devices(search) if every is None else every
    found = [one for one in every if search.serial in (None, one.serial) and search.port in (None, one.port)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DeviceMissing(_not_found(search, every))
    if search.serial is not None:
        raise DeviceFailed(
            f"{len(found)} {search.label}s have the serial number {shown(search.serial)}; "
            f"tell them apart by `{search.port_key}`, which is one of {_listed(one.port for one in found)}"
        )
    raise DeviceFailed(
        f"{len(found)} {search.label}s are plugged in: {_listed(map(str, found))}; "
        f"say which one it is with `serial` or `{search.port_key}`"
    )


def check_access(device: UsbDevice) -> None:
    """Raise DeviceFailed if the exporter may not open the device. It is not opened."""
    if device.node.exists():
        check_node_access(device.node)


def _not_found(search: UsbSearch, every: Sequence[UsbDevice]) -> str:
    wanted = [
        *([f"with the serial number {shown(search.serial)}"] if search.serial is not None else []),
        *([f"in the port {search.port}"] if search.port is not None else []),
    ]
    if every:
        there = (
            f"plugged in: {_listed(map(str, every))}; correct `serial` or `{search.port_key}`, or plug it in"
        )
    else:
        there = f"no {search.label} is plugged in; check its cable"
    return f"there is no {' '.join((search.label, *wanted))}: {there}" if wanted else there


@contextmanager
def open_usb_device(
    device: UsbDevice, label: str, *, claims: bool = False, attaches: bool = True
) -> Iterator[UsbConnection]:
    """A connection to the device, which nobody else of the exporters has meanwhile.

    With `claims` its first interface is taken from the kernel's driver, and given back at the end if `attaches`.

    Raises:
        DeviceMissing: it was unplugged, before or in the block.
        DeviceBusy: another process uses it.
        DeviceFailed: there is no libusb, or the exporter may not use the device.
        UsbTransferError: from the transfers in the block.
    """
    import usb.core  # noqa: PLC0415 - see above
    import usb.util  # noqa: PLC0415

    with locked(device, label):
        try:
            found: Any = usb.core.find(bus=device.bus, address=device.address)
        except usb.core.NoBackendError:
            raise DeviceFailed("pyusb finds no libusb on this host; apt install libusb-1.0-0") from None
        if found is None:
            raise DeviceMissing(f"the {label} at {device} was unplugged; plug it in again")
        connection = UsbConnection(found, device, label)
        try:
            if claims:
                connection.claim()
            yield connection
        finally:
            connection.end(attaches=attaches)
            usb.util.dispose_resources(found)


class UsbConnection:
    """Transfers to one device. All of them raise UsbTransferError, DeviceMissing, DeviceFailed or DeviceBusy."""

    def __init__(self, found: Any, device: UsbDevice, label: str) -> None:
        self._found = found
        self._device = device
        self._label = label
        self._claimed = False
        self._was_attached = False

    def control_out(self, request_type: int, request: int, value: int, index: int, data: bytes = b"") -> None:
        """A control transfer to the device."""
        with self._errors():
            self._found.ctrl_transfer(request_type, request, value, index, data, _milliseconds())

    def control_in(self, request_type: int, request: int, value: int, index: int, length: int) -> bytes:
        """A control transfer from the device."""
        with self._errors():
            answer = self._found.ctrl_transfer(request_type, request, value, index, length, _milliseconds())
            return bytes(answer)

    def write_report(self, report: bytes) -> None:
        """An output report of a HID device whose interface is claimed."""
        with self._errors():
            self._endpoint(is_input=False).write(report, _milliseconds())

    def read_report(self, length: int = 64) -> bytes:
        """An input report of a HID device whose interface is claimed."""
        with self._errors():
            return bytes(self._endpoint(is_input=True).read(length, _milliseconds()))

    def drop_reports(self) -> None:
        """Drop input reports that nobody has read. What fails here fails in the next transfer, too."""
        with suppress(OSError):  # at the latest that there are no more
            for _ in range(_MAX_DROPPED):
                self._endpoint(is_input=True).read(64, _DROP_MILLISECONDS)

    def has_kernel_driver(self) -> bool:
        """Whether a driver of the kernel has the first interface."""
        with self._errors():
            return bool(self._found.is_kernel_driver_active(0))

    def set_kernel_driver(self, *, attached: bool) -> None:
        """Give the first interface to the kernel's driver, or take it from it."""
        if self.has_kernel_driver() is not attached:
            with self._errors():
                (self._found.attach_kernel_driver if attached else self._found.detach_kernel_driver)(0)

    def reset(self) -> None:
        """Reset the device, which the kernel then enumerates again."""
        with self._errors():
            self._found.reset()

    def claim(self) -> None:
        """Take the first interface."""
        import usb.util  # noqa: PLC0415

        self._was_attached = self.has_kernel_driver()
        if self._was_attached:
            self.set_kernel_driver(attached=False)
        with self._errors():
            usb.util.claim_interface(self._found, 0)
        self._claimed = True

    def end(self, *, attaches: bool) -> None:
        """Give the interface back. A device that is gone has none."""
        import usb.util  # noqa: PLC0415

        if self._claimed:
            with suppress(OSError):
                usb.util.release_interface(self._found, 0)
        if self._was_attached and attaches:
            with suppress(OSError):
                self._found.attach_kernel_driver(0)

    def _endpoint(self, *, is_input: bool) -> Any:
        import usb.util  # noqa: PLC0415

        wanted = usb.util.ENDPOINT_IN if is_input else usb.util.ENDPOINT_OUT
        interface = self._found.get_active_configuration()[(0, 0)]
        for endpoint in interface:
            if usb.util.endpoint_direction(endpoint.bEndpointAddress) == wanted:
                return endpoint
        direction = "input" if is_input else "output"
        raise DeviceFailed(f"the {self._label} at {self._device} has no endpoint for {direction}; is it one?")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """One sentence for an error of libusb."""
        what = f"the {self._label} at {self._device}"
        try:
            yield
        except OSError as error:  # USBError is one
            if error.errno in _GONE or not self._device.directory.exists():
                raise DeviceMissing(f"{what} was unplugged; plug it in again") from error
            node = str(self._device.node)
            if error.errno in _FORBIDDEN:
                raise DeviceFailed(
                    f"the exporter may not use {what}: it may not open {node}; {permission_hint(node)}"
                ) from error
            if error.errno == errno.EBUSY:
                users = " and ".join(users_of(node)) or "another program"
                raise DeviceBusy(f"{what} is in use by {users}; end that first") from error
            if error.errno == errno.EPIPE:
                raise UsbTransferError(f"{what} rejects the request") from error
            if error.errno == errno.ETIMEDOUT:
                raise UsbTransferError(f"{what} does not answer within {TRANSFER_SECONDS:g} s") from error
            raise UsbTransferError(f"{what} cannot be talked to: {error.strerror or error}") from error


@contextmanager
def locked(device: UsbDevice, label: str) -> Iterator[None]:
    """Only one process, and one device of it, talks to a USB device at a time."""
    try:
        descriptor = os.open(device.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise DeviceMissing(f"the {label} at {device} was unplugged; plug it in again") from None
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise DeviceBusy(f"another process is using the {label} at {device}; try again")
            time.sleep(_REPEAT_SECONDS)
        yield
    finally:
        os.close(descriptor)


def find_disk(reader: Path) -> Path | None:
    """The node of the disk that a USB device is, by its folder in sysfs; None if it is none, or has no driver now."""
    disks = sorted(reader.glob(f"{SCSI_UNITS}/block/*"))
    return ROOT / "dev" / safe_name(disks[0].name) if disks else None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _devices() -> Path:
    return ROOT / "sys/bus/usb/devices"


def _read_device(directory: Path) -> UsbDevice | None:
    try:
        return UsbDevice(
            directory.name,
            read_ids(directory),
            read_text(directory / "product"),
            read_text(directory / "serial"),
            int(read_text(directory / "busnum")),
            int(read_text(directory / "devnum")),
        )
    except ValueError:  # it is unplugged in this moment
        return None


def read_ids(directory: Path) -> str:
    """Vendor and product of the device with that folder: 04d8:f2f7."""
    return f"{read_text(directory / 'idVendor')}:{read_text(directory / 'idProduct')}".lower()


def read_text(file: Path) -> str:
    """An attribute without the blanks around it; empty if there is none."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _listed(names: Iterator[str] | map[str]) -> str:
    given = list(names)
    more = len(given) - _MAX_LISTED
    return ", ".join(given[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _milliseconds() -> int:
    return round(TRANSFER_SECONDS * 1000)
