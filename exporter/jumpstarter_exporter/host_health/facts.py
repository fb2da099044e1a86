"""What was read of a host. Plain records: nothing here says what is good or bad.

A field that is None could not be read, or the host has no such thing; a whole area that could not be read is `Unread`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = [
    "Account",
    "ClockFacts",
    "ConfigurationFacts",
    "ControllerFacts",
    "DeviceAccess",
    "DiskWear",
    "ExporterFacts",
    "FileAccess",
    "FilesystemSpace",
    "GpioFacts",
    "HostFacts",
    "IdentityFacts",
    "MemoryFacts",
    "MountFacts",
    "PowerFacts",
    "ProgramFacts",
    "ServiceUnit",
    "StorageFacts",
    "TemperatureFacts",
    "UdevFacts",
    "Unread",
    "UsbFacts",
    "UsbUnit",
]


class Unread(msgspec.Struct, frozen=True):
    """An area that could not be read, with the reason."""

    why: str


class PowerFacts(msgspec.Struct, frozen=True):
    """What firmware and kernel report about the supply."""

    model: str = ""
    """From the device tree, such as `Raspberry Pi 4 Model B Rev 1.4`; empty on other machines."""
    flags: int | None = None
    """`get_throttled` of the Raspberry Pi's firmware: bits 0 to 3 are now, 16 to 19 since the boot."""
    alarm: bool | None = None
    """The alarm of the kernel driver `rpi_volt`: under-voltage in about the last two seconds."""


class TemperatureFacts(msgspec.Struct, frozen=True):
    """The processor's temperature, in degrees Celsius."""

    celsius: float | None = None
    sensor: str = ""
    critical: float | None = None
    """The temperature at which the kernel switches the machine off."""


class MountFacts(msgspec.Struct, frozen=True):
    """A mounted file system that is writable."""

    target: str
    source: str
    is_read_only: bool
    is_planned_read_only: bool | None
    """Its options in /etc/fstab; None if it is not there."""
    errors: int = 0
    """Errors that ext4 has counted."""


class FilesystemSpace(msgspec.Struct, frozen=True):
    """Space on a file system, in bytes and inodes."""

    target: str
    """Where it is mounted."""
    uses: tuple[str, ...]
    """Its use, such as `the exporter's state`."""
    total: int
    free: int
    inodes: int
    """0 if it has no limit."""
    free_inodes: int


class DiskWear(msgspec.Struct, frozen=True):
    """The wear of an eMMC (JEDEC 5.0)."""

    disk: str
    used_percent: int
    """The upper end of the reported range; 110 is beyond its life."""
    reserve: int
    """pre_eol_info: 1 normal, 2 uses 80 % of the reserve, 3 uses 90 %; 0 is unknown."""


class StorageFacts(msgspec.Struct, frozen=True):
    """The file systems of state, recordings and logs."""

    mounts: tuple[MountFacts, ...] = ()
    spaces: tuple[FilesystemSpace, ...] = ()
    wear: tuple[DiskWear, ...] = ()


class MemoryFacts(msgspec.Struct, frozen=True):
    """The host's memory, in bytes."""

    total: int
    available: int
    kills: int = 0
    """Programs that the kernel has killed since the boot for lack of memory."""


class ClockFacts(msgspec.Struct, frozen=True):
    """The host's clock."""

    now: float
    is_synchronised: bool | None = None
    has_rtc: bool = False


class Account(msgspec.Struct, frozen=True):
    """The user that the exporter runs as."""

    name: str
    uid: int
    gids: frozenset[int]
    groups: frozenset[str] = frozenset()
    """Its groups in /etc/group, whether a running process has them or not."""
    is_exporters: bool = False
    """It is the service's user, and not the caller."""


class FileAccess(msgspec.Struct, frozen=True):
    """The owner of a file or node."""

    place: str
    owner: str
    group: str
    mode: int
    """The permission bits."""

    def __str__(self) -> str:
        """For people."""
        return f"it is {self.owner}:{self.group}, mode {self.mode:04o}"


class DeviceAccess(msgspec.Struct, frozen=True):
    """A node, and whether the account may read and write it."""

    node: FileAccess
    is_allowed: bool
    boards: tuple[str, ...] = ()
    """The boards' devices that use it."""


class UsbUnit(msgspec.Struct, frozen=True):
    """A USB device in sysfs."""

    name: str
    """Its port, such as `1-1.4`, or `usb1` for a root hub."""
    product: str = ""
    is_hub: bool = False
    is_self_powered: bool = False
    """It reports a supply of its own."""
    milliamperes: int = 0
    """The maximum current that it reports."""
    controller: str = ""
    """The path of its host controller below /sys/devices; for root hubs."""


class UsbFacts(msgspec.Struct, frozen=True):
    """The host's USB."""

    units: tuple[UsbUnit, ...] = ()
    over_currents: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Over-current events of each port; ports without any are left out."""
    vl805: frozenset[str] = frozenset()
    """Controllers that are a VIA VL805, which has 32 device slots."""
    budget: int | None = None
    """The total current of all ports, in mA; None if unknown."""


class GpioFacts(msgspec.Struct, frozen=True):
    """GPIO outputs of boards."""

    outputs: tuple[str, ...] = ()
    """Devices that hold one."""
    is_raspberry: bool = False
    persists: bool | None = None
    """Whether the kernel keeps an output when its process ends; None if unknown."""


class ServiceUnit(msgspec.Struct, frozen=True):
    """The output of `systemctl show` for a unit."""

    name: str
    load: str
    """`loaded`, `not-found`, `masked`, …"""
    enabled: str
    active: str
    sub: str = ""
    result: str = ""
    restarts: int = 0
    user: str = ""
    supplementary_groups: tuple[str, ...] = ()


class UdevFacts(msgspec.Struct, frozen=True):
    """Our files for udev, by name: `same`, `other` (another version's) or `missing`."""

    files: Mapping[str, str]
    is_compiled: bool | None
    """Whether the compiled hwdb has our tables; None if it cannot be read."""
    is_running: bool = True


class ProgramFacts(msgspec.Struct, frozen=True):
    """Programs that open serial ports of other programs."""

    running: tuple[str, ...] = ()


class IdentityFacts(msgspec.Struct, frozen=True):
    """The identity of a board, or of the host, at a controller."""

    who: str
    endpoint: str = ""
    expires: float | None = None
    """End of its token, in seconds since the epoch."""
    problem: str = ""
    """Why it cannot be used."""


class ConfigurationFacts(msgspec.Struct, frozen=True):
    """The exporter's configuration files."""

    boards: int = 0
    problems: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Errors, by file or folder."""
    unseen: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Paths that this user may not read, which is not an error."""
    files: tuple[str, ...] = ()
    """Of the boards."""
    identities: tuple[IdentityFacts, ...] = ()


class ControllerFacts(msgspec.Struct, frozen=True):
    """Whether a controller can be reached."""

    endpoint: str
    problem: str = ""


class ExporterFacts(msgspec.Struct, frozen=True):
    """The running exporter of this host."""

    is_running: bool
    boards: int = 0
    problems: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By board: why it is not served."""
    why: str = ""
    """Why that is unknown."""


class HostFacts(msgspec.Struct, frozen=True):
    """All facts. An area that was not read is None."""

    power: PowerFacts | Unread | None = None
    temperature: TemperatureFacts | Unread | None = None
    storage: StorageFacts | Unread | None = None
    memory: MemoryFacts | Unread | None = None
    clock: ClockFacts | Unread | None = None
    account: Account | Unread | None = None
    devices: tuple[DeviceAccess, ...] | Unread | None = None
    usb: UsbFacts | Unread | None = None
    gpio: GpioFacts | Unread | None = None
    services: tuple[ServiceUnit, ...] | Unread | None = None
    udev: UdevFacts | Unread | None = None
    programs: ProgramFacts | Unread | None = None
    configuration: ConfigurationFacts | Unread | None = None
    unreadable: tuple[FileAccess, ...] | Unread | None = None
    """Files of boards that the account may not read."""
    controllers: tuple[ControllerFacts, ...] | Unread | None = None
    exporter: ExporterFacts | Unread | None = None
