"""What facts about hardware mean, from what is known of Raspberry Pis and their disks."""

from __future__ import annotations

from collections.abc import Iterator

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
        (79.9, None, "ok"),
        (80.0, None, "warning"),
        (84.9, None, "warning"),
        (85.0, None, "error"),
        (79.0, 70.0, "ok"),
        (80.0, 70.0, "error"),
        (90.0, 110.0, "error"),
        (89.9, 110.0, "warning"),
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
        (500_000_000, 32_000_000_000, "ok"),
        (499_999_999, 32_000_000_000, "warning"),
        (50_000_000, 32_000_000_000, "warning"),
        (49_999_999, 32_000_000_000, "error"),
        (10_000_000, 100_000_000, "ok"),
        (9_999_999, 100_000_000, "warning"),
        (2_000_000, 100_000_000, "warning"),
        (1_999_999, 100_000_000, "error"),
    ],
)
def test_room_on_a_disk(free: int, total: int, severity: str) -> None:
    (found,) = judge_storage(space(free, total=total))
    assert (found.key, found.severity.value, found.subject) == ("disk.space", severity, "/")


@pytest.mark.parametrize(
    ("inodes", "left", "severity"),
    [
        (1000, 50, None),
        (1000, 49, "warning"),
        (1000, 5, "warning"),
        (1000, 4, "error"),
        (0, 0, None),
    ],
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


@pytest.mark.parametrize(
    ("used", "reserve", "severity"),
    [
        (89, 1, "ok"),
        (90, 1, "warning"),
        (100, 1, "warning"),
        (101, 1, "error"),
        (10, 2, "warning"),
        (10, 3, "error"),
    ],
)
def test_how_worn_a_card_may_be(used: int, reserve: int, severity: str) -> None:
    (found,) = judge_storage(StorageFacts(wear=(DiskWear("mmcblk0", used, reserve),)))
    assert (found.severity.value, bool(found.cure)) == (severity, severity != "ok")


def test_sentences_about_disks_have_their_numbers_and_say_what_is_to_be_done() -> None:
    def sentences(facts: StorageFacts) -> list[str]:
        return [one.sentence for one in judge_storage(facts)]

    assert sentences(space(1_234_000_000, total=16_000_000_000, free_inodes=40)) == [
        "/ (the system, the exporter's state) has 1.2 GB of 16.0 GB free",
        "/ (the system, the exporter's state) has 40 of 1000 inodes free: no more files fit though there is room",
    ]
    ok, short = (next(judge_storage(space(free))) for free in (10**10, 10**6))
    assert (ok.cure, short.cure.startswith("make room: old recordings")) == ("", True)
    assert sentences(StorageFacts(wear=(DiskWear("a", 60, 1), DiskWear("b", 101, 1)))) == [
        "the eMMC a has used up up to 60 % of its life",
        "the eMMC b has used up all of its life",
    ]

    def mounted(planned: bool | None, *uses: str, errors: int = 0) -> list[str]:
        mount = MountFacts("/var", "/dev/sda1", not errors, planned, errors)
        spaces = () if errors else (FilesystemSpace("/var", uses, 10**9, 0, 0, 0),)
        return sentences(StorageFacts((mount,), spaces))

    assert mounted(False, "logs") == [
        "/var (/dev/sda1) is mounted read-only, though /etc/fstab wants to write to it"
    ]
    assert mounted(None, "logs") == ["/var (/dev/sda1) is mounted read-only"]
    assert mounted(True, "logs", "the system") == [
        "/var (/dev/sda1) is mounted read-only, and logs and the system cannot be written there"
    ]
    assert mounted(False, errors=3) == ["the file system of /var (/dev/sda1) has had 3 errors"]


def test_a_processor_that_is_slowed_down_is_cooled_or_given_a_better_supply() -> None:
    def throttled(flags: int) -> tuple[str, str]:
        (found,) = (one for one in judge_power(PowerFacts(PI4, flags)) if one.key == "power.throttled")
        return found.sentence, found.cure.partition(",")[0]

    assert throttled(0x8) == ("the processor is slowed down now, because it is too hot", "cool it")
    assert throttled(0x9) == ("the processor is slowed down now, because it is too hot", "cool it")
    why = "the processor is slowed down now, for its supply or its temperature"
    assert throttled(0x4) == (why, "cool it")
    assert throttled(0x2) == (why, "cool it")
    assert throttled(0x5) == (why, "use the supply that is made for this Raspberry Pi")
    assert throttled(0x80000)[0] == "the processor was so hot since the boot that it was slowed down"
    assert len(list(judge_power(PowerFacts(PI4, 0x60000)))) == 1, (
        "what is over and did not come of heat is over"
    )


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
    assert "USB port 1-1-port2 was switched off 3 times" in found[0].sentence
    (once,) = judge_usb(pi4(over={"1-1-port2": 1}))
    assert "was switched off once for" in once.sentence


def test_all_ports_together_and_a_hub_with_a_supply_of_its_own() -> None:
    sticks = [UsbUnit(f"1-1.{number}", "stick", milliamperes=500) for number in (1, 2, 3)]
    (found,) = judge_usb(pi4(*sticks))
    assert (found.key, "1500 mA" in found.sentence, "1200 mA" in found.sentence) == ("usb.power", True, True)
    assert [one.severity for one in judge_usb(pi4(*sticks, budget=1500))] == [Severity.OK]
    powered = UsbUnit("1-1.1", "hub", is_hub=True, is_self_powered=True)
    behind = [UsbUnit(f"1-1.1.{number}", "stick", milliamperes=500) for number in (1, 2, 3)]
    assert [one.severity for one in judge_usb(pi4(powered, *behind))] == [Severity.OK]
    assert [one.severity for one in judge_usb(pi4(*sticks, budget=None))] == [Severity.OK]


def test_thousands_of_devices_are_looked_through_a_few_times() -> None:
    """Once for each of them would block the exporter's event loop for seconds."""

    class Units(tuple[UsbUnit, ...]):
        __slots__ = ()

        def __iter__(self) -> Iterator[UsbUnit]:
            looks.append(1)
            return super().__iter__()

    looks: list[int] = []

    hubs = [UsbUnit(f"1-{number}", is_hub=True) for number in range(2000)]
    devices = [UsbUnit(f"1-{number}.1", milliamperes=500) for number in range(2000)]
    findings = list(judge_usb(UsbFacts(Units((*hubs, *devices)), budget=1200)))
    assert [one.key for one in findings] == [*["usb.hub-power"] * 2000, "usb.power"]
    assert len(looks) < 10


def test_a_hub_without_a_supply() -> None:
    hub = UsbUnit("1-1.2", "hub", is_hub=True, milliamperes=100)
    behind = [UsbUnit(f"1-1.2.{number}", "adapter", milliamperes=200) for number in (1, 2, 3)]
    found = list(judge_usb(pi4(hub, *behind)))
    assert told(found) == [("usb.hub-power", "warning", "1-1.2")]
    assert "at 1-1.2 has no power supply, provides 400 mA" in found[0].sentence
    assert "plugged into it may take 600 mA" in found[0].sentence
    assert [one.severity for one in judge_usb(pi4(hub, *behind[:2]))] == [Severity.OK]
    disk = UsbUnit("1-1.2.4", "disk with a supply", is_self_powered=True, milliamperes=500)
    assert [one.severity for one in judge_usb(pi4(hub, *behind[:2], disk))] == [Severity.OK]
    # What is behind it is fed by the host all the same.
    found = list(judge_usb(pi4(hub, *behind[:2], budget=300)))
    assert told(found) == [("usb.power", "warning", "")]


def test_slots_of_the_controller_of_a_raspberry_pi_4() -> None:
    many = [UsbUnit(f"1-1.{number}", "adapter") for number in range(1, 30)]
    found = list(judge_usb(pi4(*many)))
    assert told(found) == [("usb.slots", "warning", "")]
    assert "has 32 slots for devices and hubs, and 30 are taken" in found[0].sentence
    assert [one.severity for one in judge_usb(pi4(*many[:-1]))] == [Severity.OK]
    elsewhere = UsbFacts(pi4(*many).units)
    assert [one.severity for one in judge_usb(elsewhere)] == [Severity.OK]


@pytest.mark.parametrize(("persists", "severity"), [(True, "ok"), (False, "warning"), (None, "warning")])
def test_outputs_that_fall_with_the_process(persists: bool | None, severity: str) -> None:
    (found,) = judge_gpio(GpioFacts(("rpi4.power",), is_raspberry=True, persists=persists))
    assert (found.key, found.severity.value) == ("gpio.persist", severity)
    assert "rpi4.power" in found.sentence


def test_of_many_outputs_some_are_named() -> None:
    names = tuple(f"rpi4.{number}" for number in range(5))
    (found,) = judge_gpio(GpioFacts(names[:4], is_raspberry=True, persists=True))
    assert found.sentence.endswith(": rpi4.0, rpi4.1, rpi4.2, rpi4.3")
    (found,) = judge_gpio(GpioFacts(names, is_raspberry=True, persists=True))
    assert found.sentence.endswith(": rpi4.0, rpi4.1, rpi4.2, rpi4.3 and others")


def test_a_host_without_outputs_has_none_that_fall() -> None:
    assert list(judge_gpio(GpioFacts((), is_raspberry=True, persists=False))) == []
    assert list(judge_gpio(GpioFacts(("rpi4.power",), is_raspberry=False))) == []
