"""SD cards behind multiplexers on USB. `UsbMux` knows kinds by rows of `mux_table`; `SDWire` is 0.9's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import trio
from jumpstarter_exporter.driver import DeviceMissing
from jumpstarter_exporter.node_errors import permission_hint
from jumpstarter_proto.yaml_files import nearest

from jumpstarter_drivers import usb_devices
from jumpstarter_drivers.sd_mux.mux_table import MUXES
from jumpstarter_drivers.sd_mux.scsi import ScsiError
from jumpstarter_drivers.storage.blocks import StorageError
from jumpstarter_drivers.storage.incomplete_marker import IncompleteMarker, marker_in_state_folder
from jumpstarter_drivers.storage.mux import StorageCore, StorageMux
from jumpstarter_drivers.storage.state import Position
from jumpstarter_drivers.usb_devices import UsbDevice, UsbSearch, UsbTransferError, find_usb_device

__all__ = ["SDWire", "UsbMux"]

T = TypeVar("T")

_LOOK_SECONDS = 0.1
_NO_MEDIUM = (errno.ENOMEDIUM, errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO)


class UsbMuxCore(StorageCore):
    """Besides the state of the storage: whether `at_open` was done."""

    def __init__(self, config: UsbMux) -> None:
        super().__init__(config)
        self.is_set = False


@dataclass(kw_only=True, eq=False)
class UsbMux(StorageMux):
    """An SD card behind a multiplexer on USB.

        export:
          storage:
            type: sd_mux.UsbMux
            config:
              mux: usb-sd-mux    # README.md lists them
              serial: "000000000042"   # or `port: 1-1.4`; left out if there is only one mux of the kind

    Opening it switches nothing, unless `at_open` says so; closing it leaves the card where it is.
    """

    packages: ClassVar[tuple[str, ...]] = ("usb",)
    core_of: ClassVar[type[UsbMuxCore]] = UsbMuxCore

    mux: str
    serial: str | None = None
    port: str | None = None
    """The USB port of the mux's control, as sysfs names it."""
    storage_device: str | None = None
    """The block device of the card, where it cannot be found."""
    storage_leeway: float = 6.0
    """Of 0.9's configurations; not needed, as the card is waited for."""
    at_open: Literal["leave", "host", "dut", "off"] | bool = "leave"
    """Where the exporter's first use of it switches the card to. (YAML reads a bare `off` as false.)"""
    state_dir: str | None = None
    """Where unfinished writes are noted; else systemd's state directory, else ~/.local/state/jumpstarter."""

    def __post_init__(self) -> None:
        """Find the row, and check the place."""
        super().__post_init__()
        if self.mux not in MUXES:
            raise ValueError(f"mux is {self.mux!r}; {nearest(self.mux, MUXES)}")
        self._kind = MUXES[self.mux]
        if self._kind.needs_place and self.serial is None and self.port is None:
            raise ValueError(
                f"an {self._kind.label} has the ids of a plain card reader; say which one it is with `port` or `serial`"
            )
        if self.at_open is True:
            raise ValueError("at_open is on; it takes leave, host, dut or off")

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        """The USB port, if one is named."""
        return [str(port)] if (port := values.get("port")) is not None else []

    @property
    def label(self) -> str:
        """The kind, and what of the place is configured."""
        where = " ".join(one for one in (self.serial, f"at {self.port}" if self.port else "") if one)
        return f"{self._kind.label} {where}".rstrip()

    def initial_position(self) -> Position:
        """Unknown until the mux is asked."""
        return Position.UNKNOWN

    @property
    def has_off(self) -> bool:
        """Only some muxes can disconnect the card from both."""
        return self._kind.has_off

    def look_at_hardware(self) -> str:
        """Find the mux."""
        device = self._find_mux()
        usb_devices.check_access(device)
        return f"there is a {self._kind.label} at {device}"

    def describe_hardware(self) -> str:
        """Find the mux. It is asked nothing."""
        device = self._find_mux()
        return f"the card in the {self._kind.label} at {device}"

    async def open(self) -> None:
        """Find the mux, and switch as `at_open` says if this is its first use."""
        await super().open()
        self.logger.info("%s", await self.in_thread(self.describe_hardware))
        core: UsbMuxCore = self.core
        if not core.is_set:
            if self.at_open != "leave":
                await self._move(Position(str(self.at_open or "off")))
            core.is_set = True

    async def read_position(self) -> Position:
        """Ask the mux."""
        position = await self._with_mux(self._kind.position)
        self.ready()
        return position

    async def switch(self, position: Position) -> None:
        """Switch the mux. A card that the host has mounted stays."""
        await self._with_mux(partial(self._switch_now, position))
        if await self.read_position() is not position:
            raise StorageError(
                f"the {self.label} was told to switch the card to {position}, and did not; {self._kind.hint}"
            )

    async def device(self) -> Path:
        """Wait until the reader has the card."""
        while True:
            path = await self._with_mux(self._card_node)
            if path is not None and await self.in_thread(_has_medium, path):
                return path
            await trio.sleep(_LOOK_SECONDS)

    def incomplete_marker(self) -> IncompleteMarker:
        """Return the marker in the state directory, named after the mux."""
        return marker_in_state_folder(f"{self.mux}-{self.serial or self.port or 'only'}", self.state_dir)

    async def _with_mux(self, use: Callable[[UsbDevice], T]) -> T:
        """Use the mux that is found now, in a thread. Errors become sentences and states."""
        try:
            return await self.in_thread(lambda: use(self._find_mux()))
        except DeviceMissing as error:
            self.missing(str(error))
            raise
        except (UsbTransferError, ScsiError) as error:
            raise StorageError(f"{error}; plug the {self._kind.label} in again") from error

    def _find_mux(self) -> UsbDevice:
        kind = self._kind
        return find_usb_device(UsbSearch(kind.label, kind.ids, kind.product, self.serial, self.port))

    def _switch_now(self, position: Position, device: UsbDevice) -> None:
        disk = self._card_node(
            device
        )  # also to the host: nothing is switched that could not be switched back
        if position is not Position.HOST and disk is not None:
            _check_unused(disk)
        self._kind.switch(device, position)

    def _card_node(self, device: UsbDevice) -> Path | None:
        """The block device of the card's reader; None if there is none now. Blocking."""
        if self.storage_device is not None:
            return Path(self.storage_device)
        reader = self._kind.reader(device)
        return None if reader is None else usb_devices.find_disk(reader)


@dataclass(kw_only=True, eq=False)
class SDWire(UsbMux):
    """An SD card in an SDWire or SDWireC: Jumpstarter 0.9's driver, with its keys.

        export:
          storage:
            type: sd_mux.SDWire
            config:
              serial: sdw-7      # left out if there is only one
              # mux: sdwire3     # for an SDWire3

    It has no off: `off` connects the card to the host. Closing it leaves the card where it is.
    """

    mux: str = "sdwire"


def _check_unused(disk: Path) -> None:
    """Raise StorageError if the host uses the disk, as it would lose what is not written yet. Blocking."""
    try:
        os.close(os.open(disk, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        # A disk that the exporter may not open may be mounted all the same. Without a card nothing can be lost.
        if error.errno == errno.EBUSY or (isinstance(error, PermissionError) and _is_mounted(disk)):
            raise StorageError(
                f"{disk} is in use on the exporter host; unmount it there, then switch again"
            ) from error


def _is_mounted(disk: Path) -> bool:
    mounts = (usb_devices.ROOT / "proc/self/mountinfo").read_text(errors="replace").splitlines()
    return any(
        line.partition(" - ")[2].split(" ")[1:2][0].startswith(str(disk)) for line in mounts if " - " in line
    )


def _has_medium(path: Path) -> bool:
    """Whether there is a card. Looking makes the kernel notice a new one. Blocking."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if isinstance(error, PermissionError):
            raise StorageError(f"the exporter may not open {path}; {permission_hint(path)}") from error
        if error.errno in _NO_MEDIUM:
            return False
        raise StorageError(f"{path} cannot be opened: {error.strerror}; check the card") from error
    try:
        return os.lseek(descriptor, 0, os.SEEK_END) > 0
    finally:
        os.close(descriptor)
