"""The tables of kinds: read as systemd-hwdb reads them, looked up as our rules look devices up, and complete."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from jumpstarter_exporter.devices.hwdb import FILE, HwdbError, facts_of, lookup_key, parse_hwdb, shipped
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice
from tools.mocked_host.udev import CAMERA, DISK, HUB, UART, Host

RULES = sorted(Path(str(files("jumpstarter_udev"))).glob("*.rules"))

SERIAL = """
    0403:6001 FT232R 1 | 0403:6010 FT2232 2 | 0403:6011 FT4232H 4 | 0403:6014 FT232H 1 | 0403:6015 FT230X 1
    10c4:ea60 CP2102 1 | 10c4:ea70 CP2105 2 | 10c4:ea71 CP2108 4 | 10c4:ea80 CP2110 1
    1a86:7523 CH340 1 | 1a86:7522 CH340 1 | 1a86:5523 CH340 1 | 1a86:7584 CH340 1
    1a86:55d2 CH342 2 | 1a86:55d3 CH343 1 | 1a86:55d4 CH9102 1
    067b:2303 PL2303 1 | 067b:23a3 PL2303 1 | 067b:23b3 PL2303 1 | 067b:23c3 PL2303 1 | 067b:23f3 PL2303 1
    2341:0001 Arduino Uno 1 | 2341:0043 Arduino Uno 1 | 2341:0010 Arduino Mega 1 | 2341:003d Arduino Due 1
    2341:8036 Arduino Leonardo 1 | 303a:1001 ESP32 1 | 16c0:0483 Teensy 1 | 0525:a4a7 gadget 1 | 2e8a:000a Pico 1
"""
OTHERS = {
    "debugger": "2e8a:000c 0483:3748 0483:374b 0483:374e 1366:0101 1366:0108 1366:1055 0d28:0204 1d50:6018 04b4:f155",
    "hub": "0424:9514 2109:3431 2109:0817 0bda:0411 05e3:0608 04d8:f2f7 04d8:f11b",
    "relay": "0519:2018 5131:2007 2a19:0c01 04d8:ffee 0d50:0030 04b4:fd13",
    "loader": "2e8a:0003 2e8a:000f 0483:df11 18d1:4ee0 15a2:0054 2207:110a 2207:350f 0955:7c18 05c6:9008",
    "camera": "534d:2109 345f:2130 534d:0021",
    "storage": "0bda:0316 0424:4050",
    "sdmux": "33f7:0001 2b23:1012",
}
BY_TEXT = [
    ("04e8:6001", "sd-wire", UART, "sdmux"),
    ("04e8:6860", "SAMSUNG Android", ":ffff00:", ""),
    ("0424:4041", "usb-sd-mux FAST", DISK, "sdmux"),
    ("0424:4041", "Ultra Fast Media", DISK, "storage"),
    ("16c0:05df", "USBRelay8", ":030000:", "relay"),
    ("16c0:05df", "HIDKeys", ":030000:", ""),
    ("0403:0e48", "DEDITEC USB-OPT REL-8", UART, "relay"),
    ("1a86:55d9", "USB Quad Serial", ":020201:", "serial"),
    ("046d:0825", "HD Webcam C270", CAMERA, "camera"),
    ("0781:5581", "Ultra", DISK, "storage"),
    ("1a40:0101", "USB 2.0 Hub", HUB, "hub"),
    ("1d50:6089", "anything", ":fe0102:", "loader"),
    ("22d9:2764", "Android", ":ff4203:", "loader"),
    ("22d9:2764", "Android", ":ff4201:", ""),
]


def usb(ids: str, model: str = "", interfaces: str = UART, serial: str = "") -> DeviceTree:
    host = Host()
    (root,) = host.controller("/devices/platform/x.usb", 1, 2)
    host.plug(root, 1, ids, serial, model, interfaces)
    return host.tree


def facts(tree: DeviceTree) -> tuple[str, str, int, bool]:
    (device,) = tree.find("1-1")
    found = facts_of(device, tree, shipped())
    return found.kind, found.model, found.ports, found.shares_serial


@pytest.mark.parametrize("line", [one.strip() for one in re.split(r"[|\n]", SERIAL) if one.strip()])
def test_every_serial_adapter_is_known_with_its_ports(line: str) -> None:
    ids, _, rest = line.partition(" ")
    model, _, ports = rest.rpartition(" ")
    assert facts(usb(ids))[:3] == ("serial", model, int(ports))


@pytest.mark.parametrize(
    ("kind", "ids"), [(kind, ids) for kind, all_ids in OTHERS.items() for ids in all_ids.split()]
)
def test_other_kinds_are_known_by_their_ids(kind: str, ids: str) -> None:
    assert facts(usb(ids))[0] == kind


@pytest.mark.parametrize(("ids", "model", "interfaces", "kind"), BY_TEXT)
def test_ids_that_many_use_are_told_by_the_products_name_or_the_class(
    ids: str, model: str, interfaces: str, kind: str
) -> None:
    assert facts(usb(ids, model, interfaces))[0] == kind


@pytest.mark.parametrize(
    ("ids", "serial", "is_shared"),
    [
        ("10c4:ea60", "0001", True),
        ("10c4:ea60", "de422bbc516eef11a2f7e8c2c169b110", False),
        ("0403:6001", "A50285BI", True),
        ("0403:6001", "A50285BJ", False),
        ("2e8a:0003", "E0C9125B0D9B", True),
        ("1a86:55d2", "BC04A6ABCD", True),
    ],
)
def test_serial_numbers_of_whole_production_runs_are_known(ids: str, serial: str, is_shared: bool) -> None:
    assert facts(usb(ids, serial=serial))[3] is is_shared


def test_udevs_own_properties_come_before_the_tables() -> None:
    path = "/devices/x/usb1/1-1"
    properties = {
        "SUBSYSTEM": "usb",
        "DEVTYPE": "usb_device",
        "PRODUCT": "403/6001/600",
        "ID_JUMPSTARTER_KIND": "relay",
    }
    tree = DeviceTree([UdevDevice(path, properties)])
    assert facts(tree)[0] == "relay"


def test_a_device_is_known_without_udevd_by_what_the_kernel_says() -> None:
    attributes = {"product": "FT232R USB UART", "serial": "A50285BI"}
    properties = {"SUBSYSTEM": "usb", "DEVTYPE": "usb_device", "PRODUCT": "403/6001/600"}
    tree = DeviceTree([UdevDevice("/devices/x/usb1/1-1", properties, attributes)])
    assert lookup_key(next(iter(tree))) == "jumpstarter:usb:v0403p6001:i:sA50285BI:mFT232R_USB_UART"
    assert facts(tree) == ("serial", "FT232R", 1, True)


def test_the_rules_look_devices_up_as_we_do() -> None:
    text = "".join(file.read_text() for file in RULES)
    (key,) = re.findall(r"hwdb '([^']+)'", text)
    (device,) = usb("0403:6001", "FT232R USB UART", UART, "A5").find("1-1")
    assert re.sub(r"\$env\{(\w+)\}", lambda word: device.properties[word[1]], key) == lookup_key(device)


@pytest.mark.parametrize(
    "text", [" KEY=value\n", "pattern\n", "pattern\n KEY=value\npattern\n KEY=value\n", "pattern\n KEY\n"]
)
def test_what_systemd_would_not_take_is_an_error(text: str) -> None:
    with pytest.raises(HwdbError, match="line"):
        parse_hwdb(text)


def test_systemd_reads_the_same_from_the_file(tmp_path: Path) -> None:
    program = shutil.which("systemd-hwdb")
    if program is None:
        pytest.skip("missing: systemd-hwdb; apt install udev")
    folder = tmp_path / "etc" / "udev" / "hwdb.d"
    folder.mkdir(parents=True)
    text = (files("jumpstarter_udev") / FILE).read_text()
    (folder / FILE).write_text(text)
    subprocess.run([program, f"--root={tmp_path}", "--strict", "update"], check=True)
    patterns = [line for line in text.splitlines() if line.startswith("jumpstarter:")]
    keys = {re.sub(r"\[(.)[^]]*\]", r"\1", one).replace("?", "0").replace("*", "") for one in patterns}
    for key in sorted(keys):
        command = [program, f"--root={tmp_path}", "query", key]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert dict(line.split("=", 1) for line in said.splitlines()) == shipped().lookup(key), key
