"""What was read of a host. Plain records: nothing here says what is good or bad.

A field that is None could not be read, or the host has no such thing; a whole area that could not be read is `Unread`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Unread:
    """An area that could not be read, and why."""

    why: str


@dataclass(frozen=True)
class PowerFacts:
    """What the firmware and the kernel say of the supply."""

    model: str = ""
    """Of the device tree, such as `Raspberry Pi 4 Model B Rev 1.4`; empty on other machines."""
    flags: int | None = None
    """`get_throttled` of the Raspberry Pi's firmware: bits 0 to 3 are now, 16 to 19 since the boot."""
    alarm: bool | None = None
    """Of the kernel's driver `rpi_volt`: under-voltage in the last two seconds or so."""


@dataclass(frozen=True)
class TemperatureFacts:
    """Of the processor, in degrees Celsius."""

    celsius: float | None = None
    sensor: str = ""
    critical: float | None = None
    """Where the kernel switches the machine off."""


@dataclass(frozen=True)
class MountFacts:
    """A mounted file system that somebody writes to."""

    target: str
    source: str
    is_read_only: bool
    is_planned_read_only: bool | None
    """What /etc/fstab says of it; None if it does not name it."""
    errors: int = 0
    """That ext4 has found."""


@dataclass(frozen=True)
class FilesystemSpace:
    """Room on a file system, in bytes and inodes."""

    target: str
    """Where it is mounted."""
    uses: tuple[str, ...]
    """What lies on it, such as `the exporter's state`."""
    total: int
    free: int
    inodes: int
    """0 where it has no limit."""
    free_inodes: int


@dataclass(frozen=True)
class DiskWear:
    """How worn an eMMC is (JEDEC 5.0)."""

    disk: str
    used_percent: int
    """The upper end of what it says; 110 is beyond its life."""
    reserve: int
    """pre_eol_info: 1 normal, 2 uses 80 % of the reserve, 3 uses 90 %; 0 does not say."""


@dataclass(frozen=True)
class StorageFacts:
    """Where state, recordings and logs lie."""

    mounts: tuple[MountFacts, ...] = ()
    spaces: tuple[FilesystemSpace, ...] = ()
    wear: tuple[DiskWear, ...] = ()


@dataclass(frozen=True)
class MemoryFacts:
    """In bytes."""

    total: int
    available: int
    kills: int = 0
    """Programs that the kernel has ended since the boot because there was no memory."""


@dataclass(frozen=True)
class ClockFacts:
    """The host's idea of time."""

    now: float
    is_synchronised: bool | None = None
    has_rtc: bool = False


@dataclass(frozen=True)
class Account:
    """Who uses devices: by whom the exporter runs."""

    name: str
    uid: int
    gids: frozenset[int]
    groups: frozenset[str] = frozenset()
    """Those that /etc/group gives it, whether a process of it has them yet or not."""
    is_exporters: bool = False
    """It is the user of the service, and not the one who asks."""


@dataclass(frozen=True)
class FileAccess:
    """Whose a file or node is."""

    place: str
    owner: str
    group: str
    mode: int
    """The permission bits."""

    def __str__(self) -> str:
        """For people."""
        return f"it is {self.owner}:{self.group}, mode {self.mode:04o}"


@dataclass(frozen=True)
class DeviceAccess:
    """A node, and whether the account may read and write it."""

    node: FileAccess
    is_allowed: bool
    boards: tuple[str, ...] = ()
    """Which devices of boards it is of."""


@dataclass(frozen=True)
class UsbUnit:
    """A USB device as sysfs has it."""

    name: str
    """Its port, such as `1-1.4`, or `usb1` for a root hub."""
    product: str = ""
    is_hub: bool = False
    is_self_powered: bool = False
    """It says that it has a supply of its own."""
    milliamperes: int = 0
    """That it may take, as it says."""
    controller: str = ""
    """Where its host controller is below /sys/devices; of root hubs."""


@dataclass(frozen=True)
class UsbFacts:
    """The host's USB."""

    units: tuple[UsbUnit, ...] = ()
    over_currents: Mapping[str, int] = field(default_factory=dict)
    """How often each port was switched off for too much current; ports with none are left out."""
    vl805: frozenset[str] = frozenset()
    """Controllers that are a VIA VL805, which has 32 device slots."""
    budget: int | None = None
    """What all ports may give together, in mA; None where nobody says."""


@dataclass(frozen=True)
class GpioFacts:
    """GPIO outputs of boards."""

    outputs: tuple[str, ...] = ()
    """Devices that hold one."""
    is_raspberry: bool = False
    persists: bool | None = None
    """Whether the kernel keeps an output when its process ends; None where it does not say."""


@dataclass(frozen=True)
class ServiceUnit:
    """What `systemctl show` says of a unit."""

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


@dataclass(frozen=True)
class UdevFacts:
    """Our files for udev, by name: `same`, `other` (than this version's) or `missing`."""

    files: Mapping[str, str]
    is_compiled: bool | None
    """Whether the compiled hwdb has our tables; None if it cannot be read."""
    is_running: bool = True


@dataclass(frozen=True)
class ProgramFacts:
    """Programs that open serial ports which are not theirs."""

    running: tuple[str, ...] = ()


@dataclass(frozen=True)
class IdentityFacts:
    """Who a board, or the host, is to a controller."""

    who: str
    endpoint: str = ""
    expires: float | None = None
    """End of its token, in seconds since the epoch."""
    problem: str = ""
    """Why it cannot be used."""


@dataclass(frozen=True)
class ConfigurationFacts:
    """What the exporter is told in files."""

    boards: int = 0
    problems: Mapping[str, str] = field(default_factory=dict)
    """By file or folder: what is wrong."""
    unseen: Mapping[str, str] = field(default_factory=dict)
    """The same of what this user may not look at, which is no fault of it."""
    files: tuple[str, ...] = ()
    """Of the boards."""
    identities: tuple[IdentityFacts, ...] = ()


@dataclass(frozen=True)
class ControllerFacts:
    """Whether a controller can be reached."""

    endpoint: str
    problem: str = ""


@dataclass(frozen=True)
class ExporterFacts:
    """The exporter that runs on this host."""

    is_running: bool
    boards: int = 0
    problems: Mapping[str, str] = field(default_factory=dict)
    """By board: why it is not served."""
    why: str = ""
    """Why nobody can tell."""


@dataclass(frozen=True)
class HostFacts:
    """All that was read. An area that was not looked at is None."""

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
