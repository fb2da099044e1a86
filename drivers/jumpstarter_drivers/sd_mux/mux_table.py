"""What kinds of SD multiplexers there are: one row a kind, with the functions that switch it. All of them block.

They raise DeviceMissing, DeviceBusy and DeviceFailed, and UsbTransferError and ScsiError if the mux rejects a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jumpstarter_exporter.driver import DeviceFailed, DeviceMissing
from jumpstarter_proto.file_names import safe_name

from jumpstarter_drivers import usb_devices
from jumpstarter_drivers.sd_mux import usb_sd_mux
from jumpstarter_drivers.sd_mux.scsi import ScsiDevice, open_scsi
from jumpstarter_drivers.storage.state import Position
from jumpstarter_drivers.usb_devices import UsbDevice, UsbTransferError, open_usb_device

__all__ = ["MUXES", "MuxKind"]


@dataclass(frozen=True)
class MuxKind:
    """A kind of multiplexer. Its functions get the device that a driver has found."""

    label: str
    """What messages call it."""
    ids: tuple[str, ...]
    switch: Callable[[UsbDevice, Position], None]
    """Connects the card to the host, the board or, if `has_off`, neither."""
    position: Callable[[UsbDevice], Position]
    """Asks what the card is connected to."""
    reader: Callable[[UsbDevice], Path | None]
    """The folder in sysfs of the USB device that is the card reader."""
    product: str = "*"
    """A glob for the product string: ids alone are shared by other devices."""
    has_off: bool = False
    needs_place: bool = False
    """Whether it cannot be told from a plain card reader, so that the configuration has to say which one it is."""
    hint: str = "check its cable and power"
    """What to do if it does not switch."""


# SDWire and SDWireC: pin CBUS0 of an FT200X, beside a reader behind one hub of their own.

_SDWIRE_HUB = "0424:2640"


def _sdwire_switch(device: UsbDevice, position: Position) -> None:
    with open_usb_device(device, "SDWire") as connection:
        connection.control_out(0x40, 0x0B, 0x20F0 | (position is Position.HOST), 0)


def _sdwire_position(device: UsbDevice) -> Position:
    with open_usb_device(device, "SDWire") as connection:
        pins = connection.control_in(0xC0, 0x0C, 0, 0, 1)
    if not pins:
        raise UsbTransferError(f"the SDWire at {device} does not say where the card is")
    return Position.HOST if pins[0] & 1 else Position.DUT


def _sdwire_reader(device: UsbDevice) -> Path | None:
    hub = device.directory.resolve().parent
    if usb_devices.read_ids(hub) != _SDWIRE_HUB:
        raise DeviceFailed(
            f"the SDWire at {device} is not behind a hub of its own, so its card reader is not known; "
            "set `storage_device`"
        )
    readers = [
        one for one in sorted(hub.glob(f"{hub.name}.*")) if ":" not in one.name and one.name != device.port
    ]
    return readers[0] if readers else None


# SDWire3: a stock reader, which has the card while the kernel's driver is bound to it.


def _sdwire3_switch(device: UsbDevice, position: Position) -> None:
    with open_usb_device(device, "SDWire3") as connection:
        connection.set_kernel_driver(attached=position is Position.HOST)
        with suppress(DeviceMissing):  # a device that gets another number after its reset
            connection.reset()


def _sdwire3_position(device: UsbDevice) -> Position:
    with open_usb_device(device, "SDWire3") as connection:
        return Position.HOST if connection.has_kernel_driver() else Position.DUT


# USB-SD-Mux: an expander, through the SCSI node of the reader.


@contextmanager
def _usb_sd_mux(device: UsbDevice) -> Iterator[tuple[ScsiDevice, usb_sd_mux.Expander]]:
    what = f"the USB-SD-Mux at {device}"
    units = list(device.directory.glob(usb_devices.SCSI_UNITS))
    nodes = [node for unit in units for node in (unit / "scsi_generic").glob("sg*")]
    if not nodes:
        raise DeviceMissing(f"{what} has no /dev/sg node; plug it in again, and load the module: modprobe sg")
    model = usb_devices.read_text(nodes[0].parent.parent / "model")
    with open_scsi(usb_devices.ROOT / "dev" / safe_name(nodes[0].name), what) as scsi:
        yield scsi, usb_sd_mux.FAST if model.startswith("sdFST") else usb_sd_mux.CLASSIC


def _register(scsi: ScsiDevice, chip: usb_sd_mux.Expander, register: int) -> int:
    return scsi.read(usb_sd_mux.read_command(chip, register), usb_sd_mux.DATA_BYTES)[0]


def _usb_sd_mux_switch(device: UsbDevice, position: Position) -> None:
    with usb_devices.locked(device, "USB-SD-Mux"), _usb_sd_mux(device) as (scsi, chip):
        output = _register(scsi, chip, usb_sd_mux.OUTPUT)
        configuration = _register(scsi, chip, usb_sd_mux.CONFIGURATION)
        for step in usb_sd_mux.steps(chip, position, output, configuration):
            if step is None:
                time.sleep(usb_sd_mux.SETTLE_SECONDS)
            else:
                scsi.write(*usb_sd_mux.write_command(chip, *step))


def _usb_sd_mux_position(device: UsbDevice) -> Position:
    with usb_devices.locked(device, "USB-SD-Mux"), _usb_sd_mux(device) as (scsi, chip):
        return usb_sd_mux.position(chip, _register(scsi, chip, usb_sd_mux.INPUT))


MUXES: Final[Mapping[str, MuxKind]] = {
    "sdwire": MuxKind(
        "SDWire",
        ("04e8:6001",),
        _sdwire_switch,
        _sdwire_position,
        _sdwire_reader,
        product="sd-wire*",
        hint="its chip may not be programmed for it; run sd-mux-ctrl --init",
    ),
    "sdwire3": MuxKind(
        "SDWire3",
        ("0bda:0316",),
        _sdwire3_switch,
        _sdwire3_position,
        lambda device: device.directory,
        needs_place=True,
        hint="this may be a plain card reader; correct `port` or `serial`",
    ),
    "usb-sd-mux": MuxKind(
        "USB-SD-Mux",
        ("0424:4041",),
        _usb_sd_mux_switch,
        _usb_sd_mux_position,
        lambda device: device.directory,
        product="usb-sd-mux*",
        has_off=True,
    ),
}
