"""What facts about hardware mean, from what is known of Raspberry Pis and their disks."""

from __future__ import annotations

import pytest

from jumpstarter_exporter.host_health.facts import (
    DiskWear,
    FilesystemSpace,
    GpioFacts,
    MountFacts,
    PowerFacts,
    StorageFacts,
    TemperatureFacts,
    UsbFacts,
    UsbUnit,
)
from jumpstarter_exporter.host_health.findings import HealthFinding, Severity
from jumpstarter_exporter.host_health.judge_hardware import (
    judge_gpio,
    judge_power,
    judge_storage,
    judge_temperature,
    judge_usb,
)

PI4 = "Raspberry Pi 4 Model B Rev 1.4"


def told(findings: list[HealthFinding]) -> list[tuple[str, str, str]]:
    return [(one.key, one.severity.value, one.subject) for one in findings]


@pytest.mark.parametrize(
    ("flags", "alarm", "found"),
    [
        (0x0, None, [("power.undervoltage", "ok")]),
        (0x50005, None, [("power.undervoltage", "error"), ("power.throttled", "warning")]),
        (0x1, None, [("power.undervoltage", "error")]),
        (0x50000, None, [("power.undervoltage", "warning")]),
        (0x80008, None, [("power.undervoltage", "ok"), ("power.throttled", "warning")]),
        (0x80000, None, [("power.undervoltage", "ok"), ("power.throttled", "warning")]),
        (None, True, [("power.undervoltage", "error")]),
        (None, False, [("power.undervoltage", "ok")]),
        (0x0, True, [("power.undervoltage", "error")]),
        (None, None, [("power.undervoltage", "unknown")]),
    ],
)
def test_the_supply_of_a_raspberry_pi(
    flags: int | None, alarm: bool | None, found: list[tuple[str, str]]
) -> None:
    findings = list(judge_power(PowerFacts(PI4, flags, alarm)))
    assert [(one.key, one.severity.value) for one in findings] == found
    assert all(one.cure for one in findings if one.is_problem)


def test_other_machines_do_not_tell_of_their_supply() -> None:
    assert list(judge_power(PowerFacts("", None, None))) == []


@pytest.mark.parametrize(
    ("celsius", "critical", "severity"),
    [
        (48.3, None, "ok"),
        (80.0, None, "warning"),
        (85.0, None, "error"),
        (91.0, 110.0, "error"),
        (89.0, 110.0, "warning"),
    ],
)
def test_temperature(celsius: float, critical: float | None, severity: str) -> None:
    (found,) = judge_temperature(TemperatureFacts(celsius, "cpu-thermal", critical))
    assert (found.key, found.severity.value) == ("temperature.processor", severity)


def test_without_a_sensor_there_is_no_temperature() -> None:
    assert list(judge_temperature(TemperatureFacts())) == []


def space(
    free: int, *, total: int = 32_000_000_000, inodes: int = 1000, free_inodes: int = 900
) -> StorageFacts:
    one = FilesystemSpace("/", ("the system", "the exporter's state"), total, free, inodes, free_inodes)
    return StorageFacts(spaces=(one,))


@pytest.mark.parametrize(
    ("free", "total", "severity"),
    [
        (20_000_000_000, 32_000_000_000, "ok"),
        (499_000_000, 32_000_000_000, "warning"),
        (40_000_000, 32_000_000_000, "error"),
        (60_000_000, 100_000_000, "ok"),
        (9_000_000, 100_000_000, "warning"),
        (1_000_000, 100_000_000, "error"),
    ],
)
def test_room_on_a_disk(free: int, total: int, severity: str) -> None:
    (found,) = judge_storage(space(free, total=total))
    assert (found.key, found.severity.value, found.subject) == ("disk.space", severity, "/")


@pytest.mark.parametrize(
    ("inodes", "left", "severity"),
    [(1000, 100, None), (1000, 40, "warning"), (1000, 4, "error"), (0, 0, None)],
)
def test_inodes(inodes: int, left: int, severity: str | None) -> None:
    found = [
        one
        for one in judge_storage(space(10**10, inodes=inodes, free_inodes=left))
        if one.key == "disk.inodes"
    ]
    assert [one.severity.value for one in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("planned", "uses", "found"),
    [
        (False, ("the system",), [("disk.read-only", "error")]),  # the card has turned read-only
        (True, ("the system",), []),  # as an image with a read-only root is meant
        (None, ("the system",), []),
        (None, ("the exporter's state",), [("disk.read-only", "error")]),
        (True, ("the exporter's state",), [("disk.read-only", "error")]),
    ],
)
def test_what_is_mounted_read_only(
    planned: bool | None, uses: tuple[str, ...], found: list[tuple[str, str]]
) -> None:
    mount = MountFacts("/", "/dev/mmcblk0p2", is_read_only=True, is_planned_read_only=planned)
    facts = StorageFacts((mount,), (FilesystemSpace("/", uses, 10**9, 0, 0, 0),))
    # There is no room on it either, of which nothing has to be said.
    assert [(one.key, one.severity.value) for one in judge_storage(facts)] == found


def test_room_is_judged_where_something_can_be_written() -> None:
    mounts = [
        MountFacts("/", "/dev/mmcblk0p2", is_read_only=True, is_planned_read_only=True),
        MountFacts("/data", "/dev/mmcblk0p3", is_read_only=False, is_planned_read_only=False),
    ]
    spaces = [FilesystemSpace(mount.target, ("the system",), 10**9, 0, 0, 0) for mount in mounts]
    found = told(list(judge_storage(StorageFacts(tuple(mounts), tuple(spaces)))))
    assert found == [("disk.space", "error", "/data")]


def test_errors_of_a_file_system_and_wear() -> None:
    mount = MountFacts("/", "/dev/mmcblk0p2", is_read_only=False, is_planned_read_only=False, errors=3)
    wear = (
        DiskWear("mmcblk0", 10, 1),
        DiskWear("mmcblk1", 60, 2),
        DiskWear("mmcblk2", 110, 1),
        DiskWear("mmcblk3", 90, 1),
    )
    assert told(list(judge_storage(StorageFacts((mount,), wear=wear)))) == [
        ("disk.errors", "warning", "/"),
        ("disk.wear", "ok", "mmcblk0"),
        ("disk.wear", "warning", "mmcblk1"),
        ("disk.wear", "error", "mmcblk2"),
        ("disk.wear", "warning", "mmcblk3"),
    ]


def pi4(*units: UsbUnit, budget: int | None = 1200, over: dict[str, int] | None = None) -> UsbFacts:
    roots = [
        UsbUnit(
            name, "xHCI Host Controller", is_hub=True, is_self_powered=True, controller="/pci/0000:01:00.0"
        )
        for name in ("usb1", "usb2")
    ]
    hub = UsbUnit("1-1", "USB2.0 Hub", is_hub=True, is_self_powered=True, milliamperes=100)
    return UsbFacts((*roots, hub, *units), over or {}, frozenset({"/pci/0000:01:00.0"}), budget)


def test_usb_without_trouble() -> None:
    (found,) = judge_usb(pi4(UsbUnit("1-1.4", "FT232R USB UART", milliamperes=90)))
    assert (found.key, found.severity, found.sentence) == (
        "usb.power",
        Severity.OK,
        "1 USB device, and no over-current",
    )


def test_over_current_is_told_with_its_port() -> None:
    found = list(judge_usb(pi4(over={"1-1-port2": 3})))
    assert told(found) == [("usb.over-current", "warning", "1-1-port2")]
    assert "3 times" in found[0].sentence


def test_all_ports_together_and_a_hub_with_a_supply_of_its_own() -> None:
    sticks = [UsbUnit(f"1-1.{number}", "stick", milliamperes=500) for number in (1, 2, 3)]
    (found,) = judge_usb(pi4(*sticks))
    assert (found.key, "1500 mA" in found.sentence, "1200 mA" in found.sentence) == ("usb.power", True, True)
    powered = UsbUnit("1-1.1", "hub", is_hub=True, is_self_powered=True)
    behind = [UsbUnit(f"1-1.1.{number}", "stick", milliamperes=500) for number in (1, 2, 3)]
    assert [one.severity for one in judge_usb(pi4(powered, *behind))] == [Severity.OK]
    assert [one.severity for one in judge_usb(pi4(*sticks, budget=None))] == [Severity.OK]


def test_a_hub_without_a_supply() -> None:
    hub = UsbUnit("1-1.2", "hub", is_hub=True, milliamperes=100)
    behind = [UsbUnit(f"1-1.2.{number}", "adapter", milliamperes=200) for number in (1, 2, 3)]
    assert told(list(judge_usb(pi4(hub, *behind)))) == [("usb.hub-power", "warning", "1-1.2")]
    assert [one.severity for one in judge_usb(pi4(hub, *behind[:2]))] == [Severity.OK]
    disk = UsbUnit("1-1.2.4", "disk with a supply", is_self_powered=True, milliamperes=500)
    assert [one.severity for one in judge_usb(pi4(hub, *behind[:2], disk))] == [Severity.OK]
    # What is behind it is fed by the host all the same.
    found = told(list(judge_usb(pi4(hub, *behind[:2], budget=300))))
    assert found == [("usb.power", "warning", "")]


def test_slots_of_the_controller_of_a_raspberry_pi_4() -> None:
    many = [UsbUnit(f"1-1.{number}", "adapter") for number in range(1, 30)]
    assert told(list(judge_usb(pi4(*many)))) == [("usb.slots", "warning", "")]
    assert [one.severity for one in judge_usb(pi4(*many[:-1]))] == [Severity.OK]
    elsewhere = UsbFacts(pi4(*many).units)
    assert [one.severity for one in judge_usb(elsewhere)] == [Severity.OK]


@pytest.mark.parametrize(("persists", "severity"), [(True, "ok"), (False, "warning"), (None, "warning")])
def test_outputs_that_fall_with_the_process(persists: bool | None, severity: str) -> None:
    (found,) = judge_gpio(GpioFacts(("rpi4.power",), is_raspberry=True, persists=persists))
    assert (found.key, found.severity.value) == ("gpio.persist", severity)
    assert "rpi4.power" in found.sentence


def test_a_host_without_outputs_has_none_that_fall() -> None:
    assert list(judge_gpio(GpioFacts((), is_raspberry=True, persists=False))) == []
    assert list(judge_gpio(GpioFacts(("rpi4.power",), is_raspberry=False))) == []
