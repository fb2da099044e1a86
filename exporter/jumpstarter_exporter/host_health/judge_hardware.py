"""Findings about a host's hardware. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from jumpstarter_exporter.host_health.facts import (
    GpioFacts,
    MountFacts,
    PowerFacts,
    StorageFacts,
    TemperatureFacts,
    UsbFacts,
    UsbUnit,
)
from jumpstarter_exporter.host_health.findings import HealthFinding, Severity

__all__ = ["judge_gpio", "judge_power", "judge_storage", "judge_temperature", "judge_usb"]

UNDERVOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 1, 2, 4, 8
SINCE_BOOT = 16
"""The position of the bits for events since the boot, relative to those for now."""
HOT_CELSIUS = 80.0
"""From this temperature on a Raspberry Pi slows down."""
TOO_HOT_CELSIUS = 90.0
BELOW_CRITICAL_CELSIUS = 5.0
FEW_BYTES, NO_BYTES = 500_000_000, 50_000_000
FEW_INODES, NO_INODES = 0.05, 0.005
WORN_PERCENT = 90
VL805_SLOTS = 32
FEW_SLOTS = 2
HUB_MILLIAMPERES = 500
"""The current of a USB 2 port, for a hub without a supply of its own and everything behind it."""
_SUPPLY = (
    "use the supply that is made for this Raspberry Pi, a short cable, and a USB hub with its own power supply "
    "for the devices"
)


def judge_power(facts: PowerFacts) -> Iterator[HealthFinding]:
    """The supply of a Raspberry Pi; other machines do not report it."""
    flags = facts.flags or 0
    now = bool(flags & UNDERVOLTAGE or facts.alarm)
    since = bool(flags & UNDERVOLTAGE << SINCE_BOOT)
    if now:
        yield HealthFinding(
            "power.undervoltage", Severity.ERROR, "the supply's voltage is too low now", _SUPPLY
        )
    elif since:
        yield HealthFinding(
            "power.undervoltage",
            Severity.WARNING,
            "the supply's voltage has been too low since the boot",
            f"{_SUPPLY}; a reboot forgets this",
        )
    elif facts.flags is not None:
        yield HealthFinding("power.undervoltage", Severity.OK, "no under-voltage since the boot")
    elif facts.alarm is not None:
        yield HealthFinding(
            "power.undervoltage",
            Severity.OK,
            "no under-voltage now; this kernel does not say what was since the boot",
        )
    elif "Raspberry Pi" in facts.model:
        yield HealthFinding(
            "power.undervoltage",
            Severity.UNKNOWN,
            "neither firmware nor kernel tells of under-voltage",
            "load the driver for it, modprobe raspberrypi-hwmon, or update the kernel",
        )
    if flags & (CAPPED | THROTTLED | SOFT_LIMIT):
        why = "because it is too hot" if flags & SOFT_LIMIT else "for its supply or its temperature"
        cure = "cool it, or give it a heat sink or a fan" if flags & SOFT_LIMIT or not now else _SUPPLY
        yield HealthFinding(
            "power.throttled", Severity.WARNING, f"the processor is slowed down now, {why}", cure
        )
    elif flags >> SINCE_BOOT & SOFT_LIMIT:
        yield HealthFinding(
            "power.throttled",
            Severity.WARNING,
            "the processor was so hot since the boot that it was slowed down",
            "cool it, or give it a heat sink or a fan; a reboot forgets this",
        )


def judge_temperature(facts: TemperatureFacts) -> Iterator[HealthFinding]:
    """The processor's temperature; none for a machine without a sensor."""
    if facts.celsius is None:
        return
    # A passively cooled processor normally runs near the limit at which it slows down.
    worst = min(TOO_HOT_CELSIUS, (facts.critical or TOO_HOT_CELSIUS) - BELOW_CRITICAL_CELSIUS)
    severity = (
        Severity.ERROR
        if facts.celsius >= max(worst, HOT_CELSIUS)
        else Severity.WARNING
        if facts.celsius >= HOT_CELSIUS
        else Severity.OK
    )
    cure = "" if severity is Severity.OK else "cool it: a heat sink, a fan, or less in one box"
    yield HealthFinding("temperature.processor", severity, f"the processor has {facts.celsius:.0f} °C", cure)


def judge_storage(facts: StorageFacts) -> Iterator[HealthFinding]:
    """Disk space, and disks that fail."""
    uses = {space.target: space.uses for space in facts.spaces}
    for mount in facts.mounts:
        yield from _judge_mount(mount, uses.get(mount.target, ()))
    read_only = {mount.target for mount in facts.mounts if mount.is_read_only}
    for space in facts.spaces:
        if space.target in read_only:
            continue  # it has no usable space
        what = f"{space.target} ({', '.join(space.uses)})"
        room = f"{space.free / 1e9:.1f} GB of {space.total / 1e9:.1f} GB free"
        share = space.free_inodes / space.inodes if space.inodes else 1.0
        severity = Severity.OK
        if space.free < min(FEW_BYTES, space.total // 10):
            severity = Severity.WARNING
        if space.free < min(NO_BYTES, space.total // 50):
            severity = Severity.ERROR
        cure = (
            ""
            if severity is Severity.OK
            else "make room: old recordings, images, `journalctl --vacuum-size=50M`"
        )
        yield HealthFinding("disk.space", severity, f"{what} has {room}", cure, space.target)
        if share < FEW_INODES:
            yield HealthFinding(
                "disk.inodes",
                Severity.ERROR if share < NO_INODES else Severity.WARNING,
                f"{what} has {space.free_inodes} of {space.inodes} inodes free: no more files fit though there is room",
                "remove folders with many small files",
                space.target,
            )
    for wear in facts.wear:
        worn = wear.used_percent >= WORN_PERCENT or wear.reserve >= 2
        severity = Severity.ERROR if wear.used_percent > 100 or wear.reserve >= 3 else Severity.WARNING
        yield HealthFinding(
            "disk.wear",
            severity if worn else Severity.OK,
            f"the eMMC {wear.disk} has used up {_used(wear.used_percent)} of its life",
            "replace it before it turns read-only, and keep a copy of the host's state" if worn else "",
            wear.disk,
        )


def _used(percent: int) -> str:
    return "all" if percent > 100 else f"up to {percent} %"


def _judge_mount(mount: MountFacts, uses: tuple[str, ...]) -> Iterator[HealthFinding]:
    what = f"{mount.target} ({mount.source})"
    only_root = set(uses) <= {"the system"}
    if mount.is_read_only and not (
        mount.is_planned_read_only or (only_root and mount.is_planned_read_only is None)
    ):
        turned = mount.is_planned_read_only is False
        yield HealthFinding(
            "disk.read-only",
            Severity.ERROR,
            f"{what} is mounted read-only{', though /etc/fstab wants to write to it' if turned else ''}",
            "a card or disk that fails turns read-only: look for its errors with `dmesg`, copy what you need, and "
            "replace it",
            mount.target,
        )
    elif mount.is_read_only and not only_root:
        yield HealthFinding(
            "disk.read-only",
            Severity.ERROR,
            f"{what} is mounted read-only, and {' and '.join(uses)} cannot be written there",
            "mount a file system for it that can be written to",
            mount.target,
        )
    if mount.errors:
        yield HealthFinding(
            "disk.errors",
            Severity.WARNING,
            f"the file system of {what} has had {mount.errors} errors",
            "check it at the next boot (fsck.mode=force on the kernel's command line), and replace the card if they "
            "come back",
            mount.target,
        )


def judge_usb(facts: UsbFacts) -> Iterator[HealthFinding]:
    """Power and slots. The reported current should be a device's maximum, but some take more."""
    is_well = True
    for port, count in sorted(facts.over_currents.items()):
        is_well = False
        yield HealthFinding(
            "usb.over-current",
            Severity.WARNING,
            f"USB port {port} was switched off {_times(count)} for too much current since the boot",
            "the devices at that port need a power supply, or a hub with one",
            port,
        )
    names = {unit.name for unit in facts.units}
    below: Counter[str] = Counter()
    for unit in facts.units:
        if not unit.is_self_powered:
            below[_hub_of(unit.name)] += unit.milliamperes
    for hub in facts.units:
        if hub.is_hub and not hub.is_self_powered and not hub.name.startswith("usb"):
            wanted = below[hub.name] + 100
            if wanted > HUB_MILLIAMPERES:
                is_well = False
                yield HealthFinding(
                    "usb.hub-power",
                    Severity.WARNING,
                    f"the hub at {hub.name} has no power supply, provides {HUB_MILLIAMPERES - 100} mA, and what is "
                    f"plugged into it may take {wanted - 100} mA",
                    "give the hub its supply, or plug something in elsewhere",
                    hub.name,
                )
    powered = {one.name for one in facts.units if one.is_hub and one.is_self_powered}
    wanted = sum(unit.milliamperes for unit in facts.units if _is_fed_by_host(unit, powered, names))
    if facts.budget is not None and wanted > facts.budget:
        is_well = False
        yield HealthFinding(
            "usb.power",
            Severity.WARNING,
            f"what is plugged in may take {wanted} mA, and all ports together give {facts.budget} mA",
            "use a hub with its own power supply",
        )
    for controller, count in sorted(_slots(facts).items()):
        if controller in facts.vl805 and VL805_SLOTS - count <= FEW_SLOTS:
            is_well = False
            yield HealthFinding(
                "usb.slots",
                Severity.WARNING,
                f"the USB controller has {VL805_SLOTS} slots for devices and hubs, and {count} are taken: what is "
                "plugged in next may not appear",
                "plug in fewer devices here, or smaller hubs: each counts as one or two devices",
            )
    if is_well:
        devices = sum(not unit.is_hub for unit in facts.units)
        yield HealthFinding(
            "usb.power", Severity.OK, f"{_number(devices, 'USB device')}, and no over-current"
        )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _hub_of(name: str) -> str:
    """The port of its hub; empty for devices in the host's own ports, and root hubs."""
    return name.rpartition(".")[0]


def _root_of(name: str) -> str:
    return name if name.startswith("usb") else f"usb{name.partition('-')[0]}"


def _is_fed_by_host(unit: UsbUnit, powered: set[str], names: set[str]) -> bool:
    """Whether it is powered by the host's own ports, not by a hub with a supply: one of `powered`.

    A device on a Raspberry Pi's own hub, as on a Pi 3, which says that it has a supply, is the host's to feed.
    """
    if unit.name.startswith("usb") or unit.is_self_powered or unit.is_hub:
        return False
    above = _hub_of(unit.name)
    while above in names:
        if above in powered and "." in above:
            return False
        above = _hub_of(above)
    return True


def _slots(facts: UsbFacts) -> Counter[str]:
    """Devices and hubs of each host controller, without its root hubs."""
    controllers = {unit.name: unit.controller for unit in facts.units if unit.controller}
    return Counter(
        controllers[_root_of(unit.name)]
        for unit in facts.units
        if not unit.name.startswith("usb") and _root_of(unit.name) in controllers
    )


def judge_gpio(facts: GpioFacts) -> Iterator[HealthFinding]:
    """Whether relays fall when the exporter ends."""
    if not facts.outputs or not facts.is_raspberry:
        return
    named = ", ".join(facts.outputs[:4]) + (" and others" if len(facts.outputs) > 4 else "")
    if facts.persists:
        yield HealthFinding(
            "gpio.persist", Severity.OK, f"outputs stay as they are when the exporter ends: {named}"
        )
        return
    yield HealthFinding(
        "gpio.persist",
        Severity.WARNING,
        f"outputs become inputs, and relays fall, whenever the exporter ends or starts again: {named}",
        "add pinctrl_bcm2835.persist_gpio_outputs=1 to the kernel's command line and reboot (Debian 13 or later)",
    )
