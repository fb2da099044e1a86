"""What is read of trees of /sys, /proc and /etc, written here as kernels and systems write them."""

from __future__ import annotations

import ctypes
import math
import os
from importlib.resources import files as package_files
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from jumpstarter_exporter.host_health import host_files, read_hardware, read_system
from jumpstarter_exporter.host_health.facts import DiskWear, HostFacts, MountFacts, TemperatureFacts
from jumpstarter_exporter.host_health.host_files import HostFiles
from jumpstarter_exporter.host_health.judge import judge, measure

MODEL = "Raspberry Pi 4 Model B Rev 1.4\0"


def write(root: Path, content: dict[str, str | bytes]) -> HostFiles:
    for place, text in content.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return HostFiles(root)


def test_supply_of_a_raspberry_pi(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "sys/firmware/devicetree/base/model": MODEL,
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
            "sys/class/hwmon/hwmon3/name": "rpi_volt\n",
            "sys/class/hwmon/hwmon3/in0_lcrit_alarm": "1\n",
        },
    )
    power = read_hardware.read_power(files)
    assert (power.model, power.flags, power.alarm) == (MODEL.strip("\0"), 0x50005, True)


def test_a_host_that_says_nothing_of_its_supply(tmp_path: Path) -> None:
    power = read_hardware.read_power(HostFiles(tmp_path))
    assert (power.model, power.flags, power.alarm) == ("", None, None)


def test_temperature_is_that_of_the_processor(tmp_path: Path) -> None:
    zones = {
        "sys/class/thermal/thermal_zone0/type": "acpitz\n",
        "sys/class/thermal/thermal_zone0/temp": "16800\n",
        "sys/class/thermal/thermal_zone1/type": "iwlwifi_1\n",
        "sys/class/thermal/thermal_zone2/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone2/temp": "48312\n",
        "sys/class/thermal/thermal_zone2/trip_point_0_type": "critical\n",
        "sys/class/thermal/thermal_zone2/trip_point_0_temp": "110000\n",
    }
    files = write(tmp_path, dict(zones))
    assert read_hardware.read_temperature(files) == TemperatureFacts(48.312, "cpu-thermal", 110.0)


def test_a_critical_temperature_that_is_invalid_is_none(tmp_path: Path) -> None:
    zone = {
        "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
        "sys/class/thermal/thermal_zone0/temp": "40000\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "-274000\n",
    }
    found = read_hardware.read_temperature(write(tmp_path, dict(zone)))
    assert found == TemperatureFacts(40.0, "x86_pkg_temp", None)


USB = {
    "sys/devices/pci0000:00/0000:01:00.0/vendor": "0x1106\n",
    "sys/devices/pci0000:00/0000:01:00.0/device": "0x3483\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/bDeviceClass": "09\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/bmAttributes": "e0\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/bMaxPower": "0mA\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/product": "xHCI Host Controller\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/1-1/bDeviceClass": "00\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/1-1/bmAttributes": "a0\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/1-1/bMaxPower": "90mA\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/1-1/product": "FT232R USB UART\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/1-0:1.0/usb1-port1/over_current_count": "0\n",
    "sys/devices/pci0000:00/0000:01:00.0/usb1/1-0:1.0/usb1-port2/over_current_count": "4\n",
}


def test_usb(tmp_path: Path) -> None:
    files = write(tmp_path, {**USB, "sys/firmware/devicetree/base/model": MODEL})
    bus = tmp_path / "sys/bus/usb/devices"
    bus.mkdir(parents=True)
    for name in ("usb1", "usb1/1-1", "usb1/1-0:1.0"):
        (bus / name.rpartition("/")[2]).symlink_to(f"../../../devices/pci0000:00/0000:01:00.0/{name}")
    facts = read_hardware.read_usb(files)
    root, adapter = sorted(facts.units, key=lambda one: one.name, reverse=True)
    assert (root.name, root.is_hub, root.is_self_powered, root.milliamperes) == ("usb1", True, True, 0)
    assert (adapter.name, adapter.product, adapter.is_hub) == ("1-1", "FT232R USB UART", False)
    assert (adapter.is_self_powered, adapter.milliamperes) == (False, 90)
    assert facts.over_currents == {"usb1-port2": 4}
    assert facts.vl805 == {root.controller}
    assert facts.budget == 1200


@pytest.mark.parametrize(("said", "budget"), [(b"\0\0\0\1", 1600), (b"\0\0\0\0", 600), (None, 600)])
def test_the_usb_budget_of_a_raspberry_pi_5_is_its_supplys(
    tmp_path: Path, said: bytes | None, budget: int
) -> None:
    tree: dict[str, str | bytes] = {"sys/firmware/devicetree/base/model": "Raspberry Pi 5 Model B Rev 1.0\0"}
    if said is not None:
        tree["proc/device-tree/chosen/power/usb_max_current_enable"] = said
    assert read_hardware.read_usb(write(tmp_path, tree)).budget == budget


MOUNTINFO = """
28 1 179:2 / / ro,noatime shared:1 - ext4 /dev/mmcblk0p2 ro,errors=remount-ro
30 28 179:3 / /var/lib rw,relatime shared:2 - ext4 /dev/mmcblk0p3 rw
22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
"""


def test_disks(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        {
            "proc/self/mountinfo": MOUNTINFO,
            "etc/fstab": "# comment\nPARTUUID=4c4e106f-02 / ext4 defaults,noatime 0 1\n",
            "sys/fs/ext4/mmcblk0p2/errors_count": "7\n",
            "sys/block/mmcblk0/device/life_time": "0x01 0x03\n",
            "sys/block/mmcblk0/device/pre_eol_info": "0x01\n",
            "sys/block/mmcblk1/device/cid": "0353445355313647\n",
            "var/lib/x": "",
        },
    )
    asked = []

    def statvfs(place: str) -> os.statvfs_result:
        asked.append(place)
        return os.statvfs_result((4096, 4096, 1000, 500, 400, 200, 100, 90, 0, 255))

    uses = [("/", "the system"), ("/var/lib/jumpstarter", "the exporter's state"), ("/var/log", "logs")]
    facts = read_system.read_storage(files, uses, statvfs)
    assert facts.mounts == (
        MountFacts("/", "/dev/mmcblk0p2", is_read_only=True, is_planned_read_only=False, errors=7),
        MountFacts("/var/lib", "/dev/mmcblk0p3", is_read_only=False, is_planned_read_only=None),
    )
    assert [(one.target, one.uses) for one in facts.spaces] == [
        ("/", ("the system", "logs")),
        ("/var/lib", ("the exporter's state",)),
    ]
    assert asked == ["/", "/var/lib", "/var"]
    one = facts.spaces[1]
    assert (one.total, one.free, one.inodes, one.free_inodes) == (4096000, 4096 * 400, 200, 90)
    assert facts.wear == (DiskWear("mmcblk0", 30, 1),)


def test_what_a_sandbox_mounts_read_only_is_not_a_card_that_fails(tmp_path: Path) -> None:
    sandbox = MOUNTINFO.replace("/var/lib rw,", "/var/lib ro,")
    facts = read_system.read_storage(
        write(tmp_path, {"proc/self/mountinfo": sandbox, "var/lib/x": ""}),
        [("/var/lib/jumpstarter", "state")],
    )
    assert [(one.target, one.is_read_only) for one in facts.mounts] == [("/var/lib", False)]


def test_disks_of_a_host_whose_mounts_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mountinfo"):
        read_system.read_storage(HostFiles(tmp_path), [("/", "the system")])


def test_memory(tmp_path: Path) -> None:
    tree = {
        "proc/meminfo": "MemTotal:        3884372 kB\nMemFree: 1 kB\nMemAvailable:    3012340 kB\n",
        "proc/vmstat": "nr_free_pages 1\noom_kill 2\n",
    }
    facts = read_system.read_memory(write(tmp_path, dict(tree)))
    assert (facts.total, facts.available, facts.kills) == (3884372 * 1024, 3012340 * 1024, 2)


@pytest.mark.parametrize("content", ["", "MemTotal: 1 kB\n", "MemTotal:\nMemAvailable: x\n"])
def test_memory_that_is_told_in_no_way_that_is_known(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match="MemTotal and MemAvailable"):
        read_system.read_memory(write(tmp_path, {"proc/meminfo": content}))


def test_the_clock(tmp_path: Path) -> None:
    files = HostFiles(tmp_path)
    without = read_system.read_clock(files, 5.0, lambda: False)
    assert (without.now, without.is_synchronised, without.has_rtc) == (5.0, False, False)
    assert read_system.read_clock(files, 5.0, lambda: None).is_synchronised is None
    write(tmp_path, {"run/systemd/timesync/synchronized": "", "sys/class/rtc/rtc0/since_epoch": "1\n"})
    with_one = read_system.read_clock(files, 5.0, lambda: None)
    assert (with_one.is_synchronised, with_one.has_rtc) == (True, True)


def test_this_kernel_says_whether_its_clock_is_synchronised_or_that_it_does_not() -> None:
    assert read_system.kernel_clock() in (True, False, None)


def test_a_sandbox_in_which_the_clock_may_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> int:
        return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(adjtimex=refuse))
    assert read_system.kernel_clock() is None


PEOPLE = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\njumpstarter:x:990:991::/:/sbin/nologin\nbad\n",
    "etc/group": "root:x:0:\ndialout:x:20:pi,jumpstarter\nlp:x:7:\njumpstarter:x:991:ann\nbad\n",
}


def test_the_services_user_has_the_groups_of_its_unit_as_well(tmp_path: Path) -> None:
    account = read_system.account_named(write(tmp_path, dict(PEOPLE)), "jumpstarter", ["lp", "none"])
    assert (account.uid, account.gids, account.is_exporters) == (990, frozenset({991, 20, 7}), True)
    with pytest.raises(ValueError, match="no user nobody"):
        read_system.account_named(HostFiles(tmp_path), "nobody")


def test_who_asks_is_named_as_in_the_list_of_users(tmp_path: Path) -> None:
    us = os.geteuid()
    others = "".join(f"other{one}:x:{one}:{one}::/:/bin/sh\n" for one in (us + 1, us + 2))
    groups = "dialout:x:20:pi,ann\nlp:x:7:pi\n"
    found = read_system.current_account(
        write(tmp_path, {"etc/passwd": f"{others}ann:x:{us}:1::/:/bin/sh\n", "etc/group": groups})
    )
    assert (found.name, found.uid, found.groups) == ("ann", us, frozenset({"dialout"}))
    assert read_system.current_account(write(tmp_path, {"etc/passwd": others})).name == str(us)


def test_who_may_use_a_node_is_said_by_its_permissions(tmp_path: Path) -> None:
    group = os.getgid()
    groups = f"console:x:{group}:jumpstarter\n"
    tree = {**PEOPLE, "etc/group": groups, "dev/ttyUSB0": "", "dev/ttyUSB1": "", "dev/ttyS0": ""}
    files = write(tmp_path, dict(tree))
    (tmp_path / "dev/ttyUSB0").chmod(0o660)
    (tmp_path / "dev/ttyUSB1").chmod(0o600)
    assert read_system.serial_nodes(files) == ["/dev/ttyUSB0", "/dev/ttyUSB1"]
    account = read_system.account_named(files, "jumpstarter")
    nodes = {"/dev/ttyUSB0": ["rpi4.console"], "/dev/ttyUSB1": [], "/dev/ttyUSB7": ["gone"]}
    first, second = read_system.read_devices(files, account, nodes)
    assert (first.is_allowed, first.boards) == (True, ("rpi4.console",))
    assert (first.node.group, first.node.mode) == ("console", 0o660)
    assert (second.node.place, second.is_allowed) == ("/dev/ttyUSB1", False)


def test_files_that_the_services_user_may_not_read(tmp_path: Path) -> None:
    places = [f"etc/{name}.yaml" for name in ("open", "group", "shut")]
    files = write(
        tmp_path, {**PEOPLE, **dict.fromkeys(places, ""), "etc/group": f"lab:x:{os.getgid()}:jumpstarter\n"}
    )
    for place, mode in zip(places, (0o604, 0o640, 0o600), strict=True):
        (tmp_path / place).chmod(mode)
    account = read_system.account_named(files, "jumpstarter")
    found = read_system.read_unreadable(files, account, [*(f"/{one}" for one in places), "/etc/gone.yaml"])
    # The first that fits counts: its group may not read what others may.
    assert [one.place for one in found] == ["/etc/open.yaml", "/etc/shut.yaml"]
    assert str(found[1]).endswith(":lab, mode 0600")


@pytest.mark.parametrize(
    ("tree", "persists"),
    [
        ({}, None),
        ({"sys/module/pinctrl_bcm2835/parameters/persist_gpio_outputs": "Y\n"}, True),
        ({"sys/module/pinctrl_bcm2835/parameters/persist_gpio_outputs": "N\n"}, False),
        ({"sys/module/pinctrl_rp1/parameters/persist_gpio_outputs": "Y\n"}, True),
        ({"proc/cmdline": "quiet pinctrl_bcm2835.persist_gpio_outputs=1 ro\n"}, True),
        ({"proc/cmdline": "xpinctrl_bcm2835.persist_gpio_outputs=1\n"}, None),
    ],
)
def test_outputs_that_the_kernel_keeps(
    tmp_path: Path, tree: dict[str, str | bytes], persists: bool | None
) -> None:
    facts = read_system.read_gpio(write(tmp_path, {**tree, "proc/device-tree/model": MODEL}), ["rpi4.power"])
    assert (facts.outputs, facts.is_raspberry, facts.persists) == (("rpi4.power",), True, persists)


def test_programs_by_their_processes_and_where_these_are_hidden_by_their_groups(tmp_path: Path) -> None:
    tree = {
        "proc/1/comm": "systemd\n",
        "proc/77/comm": "ModemManager\n",
        "proc/self/comm": "brltty\n",
        "sys/fs/cgroup/system.slice/brltty.service/cgroup.events": "populated 0\nfrozen 0\n",
    }
    files = write(tmp_path, dict(tree))
    assert read_system.read_programs(files).running == ("ModemManager",)
    events = "sys/fs/cgroup/system.slice/brltty.service/cgroup.events"
    write(tmp_path, {events: "populated 1\nfrozen 0\n"})
    assert read_system.read_programs(files).running == ("ModemManager", "brltty")


def test_udevs_files_are_compared_with_those_of_this_version(tmp_path: Path) -> None:
    ours = {
        one.name: one.read_bytes()
        for one in package_files("jumpstarter_udev").iterdir()
        if "jumpstarter" in one.name
    }
    files = write(
        tmp_path,
        {
            "usr/lib/udev/rules.d/71-jumpstarter.rules": ours["71-jumpstarter.rules"],
            "etc/udev/hwdb.d/70-jumpstarter.hwdb": ours["70-jumpstarter.hwdb"] + b"\n",
            "etc/udev/rules.d/other": "",
        },
    )
    (tmp_path / "etc/udev/rules.d/86-jumpstarter-brltty.rules").symlink_to("/dev/null")
    facts = read_system.read_udev(files)
    assert facts.files == {
        "70-jumpstarter.hwdb": "other",
        "71-jumpstarter.rules": "same",
        "86-jumpstarter-brltty.rules": "masked",
    }
    assert (facts.is_compiled, facts.is_running) == (False, False)
    write(tmp_path, {"etc/udev/hwdb.bin": b"KSLP\0\0 ID_JUMPSTARTER_KIND\0", "run/udev/control": ""})
    facts = read_system.read_udev(files)
    assert (facts.is_compiled, facts.is_running) == (True, True)
    write(tmp_path, {"etc/udev/hwdb.bin": b""})
    assert read_system.read_udev(files).is_compiled is None


def test_nothing_but_a_file_is_read_and_only_its_start(tmp_path: Path) -> None:
    files = write(tmp_path, {"proc/long": "x" * 100})
    os.mkfifo(tmp_path / "proc/pipe")
    assert files.read("/proc/long", 10) == b"x" * 10
    assert files.find_text("/proc/pipe") is None  # and does not wait for a writer
    assert files.number("/proc/long") is None
    assert files.names("/nowhere") == []
    assert str(HostFiles(Path("/")).path("/proc/stat")) == "/proc/stat"


def test_no_folder_is_looked_through_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {f"proc/{number}/comm": "brltty\n" for number in (7, 8, 9)} | {
        f"dev/ttyUSB{number}": "" for number in range(3)
    }
    files = write(tmp_path, dict(tree))
    account = read_system.current_account(files)
    nodes: dict[str, list[str]] = {f"/dev/ttyUSB{number}": [] for number in range(3)}
    assert len(read_system.read_devices(files, account, nodes)) == 3
    monkeypatch.setattr(read_system, "MAX_DEVICES", 2)
    assert len(read_system.read_devices(files, account, nodes)) == 2
    monkeypatch.setattr(read_system, "MAX_PROCESSES", 0)
    assert read_system.read_programs(files).running == ()
    monkeypatch.setattr(host_files, "MAX_ENTRIES", 1)
    assert len(files.names("/dev")) == 1


ODD_NUMBERS = [
    "",
    "NaN",
    "inf",
    "-1",
    "\u00b2",
    "\u0663",
    "9" * 18,
    "9" * 400,
    "9" * 5000,
    f"0x{'f' * 5000}",
    "\0",
    "1e9",
]


@pytest.mark.parametrize("odd", ODD_NUMBERS)
def test_a_host_that_lies_is_judged_all_the_same(tmp_path: Path, odd: str) -> None:
    files = write(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/temp": odd,
            "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical",
            "sys/class/thermal/thermal_zone0/trip_point_0_temp": odd,
            "sys/devices/platform/soc/soc:firmware/get_throttled": odd,
            "sys/class/hwmon/hwmon0/name": "rpi_volt",
            "sys/class/hwmon/hwmon0/in0_lcrit_alarm": odd,
            "sys/bus/usb/devices/1-1/bMaxPower": f"{odd}mA",
            "sys/bus/usb/devices/1-1/bmAttributes": odd,
            "sys/bus/usb/devices/1-1/bDeviceClass": "09",
            "sys/bus/usb/devices/1-1:1.0/1-1-port1/over_current_count": odd,
            "sys/block/mmcblk0/device/life_time": f"{odd} 0x01",
            "sys/block/mmcblk0/device/pre_eol_info": odd,
            "sys/fs/ext4/sda1/errors_count": odd,
            "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw",
            "proc/meminfo": f"MemTotal: {odd} kB\nMemAvailable: {odd} kB",
            "proc/vmstat": f"oom_kill {odd}",
            "etc/passwd": f"jumpstarter:x:{odd}:{odd}:::",
            "etc/group": f"video:x:{odd}:jumpstarter",
        },
    )
    facts = HostFacts(
        power=read_hardware.read_power(files),
        temperature=read_hardware.read_temperature(files),
        usb=read_hardware.read_usb(files),
        storage=read_system.read_storage(files, [("/", "the system")]),
    )
    if odd == "9" * 18:
        facts = replace(facts, memory=read_system.read_memory(files))
        account = read_system.account_named(files, "jumpstarter")
        assert (account.uid, account.gids) == (int(odd), frozenset({int(odd)}))
    else:
        with pytest.raises(ValueError, match="/proc/meminfo has no MemTotal and MemAvailable"):
            read_system.read_memory(files)
        with pytest.raises(ValueError, match="there is no user jumpstarter in /etc/passwd"):
            read_system.account_named(files, "jumpstarter")
    for finding in judge(facts):
        assert len(finding.sentence) < 300
    assert all(map(math.isfinite, measure(facts).values()))


def test_a_pipe_in_the_place_of_the_compiled_tables_keeps_no_thread(tmp_path: Path) -> None:
    files = write(tmp_path, {"usr/lib/udev/rules.d/x": ""})
    os.mkfifo(tmp_path / "usr/lib/udev/hwdb.bin")
    assert read_system.read_udev(files).is_compiled is None
