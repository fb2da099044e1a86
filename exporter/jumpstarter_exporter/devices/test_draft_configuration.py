"""The first configuration of a host: what is offered, what is in comments, and that every draft is right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.devices.draft_configuration import DraftConfiguration, draft_configuration
from jumpstarter_exporter.devices.host_parts import HostParts
from jumpstarter_exporter.devices.hwdb import shipped as shipped_tables
from jumpstarter_exporter.devices.profiles import ProfileSet, combine, parse, shipped
from tests.support.udev_hosts import HOSTS, pc, pi4, pi5
from tools.mocked_host.udev import CAMERA, DISK, HID, HUB, KEYBOARD, UART, Host

SHIPPED_FILES = shipped()
SHIPPED = combine(SHIPPED_FILES, [])


def draft(
    host: Host,
    profiles: ProfileSet = SHIPPED,
    attributes: dict[str, dict[str, str]] | None = None,
    mounts: dict[str, str] | None = None,
    configured: dict[str, str] | None = None,
) -> DraftConfiguration:
    all_mounts = {**host.use.mounts, **(mounts or {})}
    parts = HostParts(host.tree, host.use, attributes or {}, all_mounts, configured or {})
    return draft_configuration("rpi4", parts, profiles, shipped_tables())


def exported(text: str) -> dict[str, Any]:
    """The devices that a file offers, after the exporter has found nothing wrong with it."""
    loaded = configuration.load(Path("rpi4.yaml"), raw=text.encode())
    for child in configuration.build(loaded).children.values():
        assert not child.fault
    devices = yaml.safe_load(text)["export"]
    assert isinstance(devices, dict)
    return devices


def uncommented(text: str) -> str:
    """The file after its user has followed its advice: the # removed before everything that is in a comment."""
    return re.sub(r"(?m)^  #(?! \S)", "  ", text)


def comments(text: str) -> str:
    """All comments on one line."""
    return " ".join(line.strip(" #") for line in text.split("\n"))


def bench(*devices: tuple[str, str, str, str]) -> tuple[Host, list[str]]:
    """A host with these USB devices: ids, serial number, model, interfaces."""
    host = Host()
    (root,) = host.controller("/devices/platform/soc/3f980000.usb", 1, 2)
    return host, [host.plug(root, port, *device) for port, device in enumerate(devices, 1)]


def test_the_devices_of_profiles_are_offered_by_names_that_do_not_change() -> None:
    host, (adapter, _, mux, camera) = bench(
        ("0403:6001", "A50285BJ", "FT232R USB UART", UART),
        ("16c0:05df", "", "USBRelay2", HID),
        ("0424:4041", "000042", "usb-sd-mux_rev2", DISK),
        ("046d:0825", "ABCD", "HD Webcam C270", CAMERA),
    )
    host.tty(adapter)
    host.disk(mux)
    host.add(
        f"{host.interface(camera)}/video4linux/video0",
        "video4linux",
        DEVNAME="/dev/video0",
        DEVLINKS="/dev/v4l/by-id/usb-046d_HD_Webcam_C270_ABCD-video-index0",
        ID_V4L_CAPABILITIES=":capture:",
    )
    made = draft(host)
    assert exported(made.text) == {
        "relays": {
            "type": "relay_power.RelayBoard",
            "config": {"board": "dcttech", "channels": 2, "port": "1-2"},
        },
        "serial": {
            "type": "serial.PySerial",
            "config": {
                "url": "/dev/serial/by-id/usb-0403_FT232R_USB_UART_A50285BJ-if00-port0",
                "baudrate": 115200,
            },
        },
        "storage": {"type": "sd_mux.UsbMux", "config": {"mux": "usb-sd-mux", "port": "1-3"}},
        "video": {
            "type": "video.UStreamer",
            "config": {"device": "/dev/v4l/by-id/usb-046d_HD_Webcam_C270_ABCD-video-index0"},
        },
    }
    assert set(made.offered) == {"relays", "serial", "storage", "video"}
    assert not made.commented  # the card of the mux is not a disk besides
    assert "FT232R (0403:6001) at USB port 1-1, now /dev/ttyUSB0" in comments(made.text)
    assert "Found by its serial number A50285BJ, so it may be plugged into any port." in comments(made.text)
    assert "HD Webcam C270 (046d:0825) at USB port 1-4, now /dev/video0" in comments(made.text)


@pytest.mark.parametrize("name", HOSTS)
def test_every_draft_is_right_also_with_all_that_is_in_comments(name: str) -> None:
    host = HOSTS[name]()
    made = draft(host)
    assert list(exported(made.text)) == list(made.offered)
    assert set(exported(uncommented(made.text))) == {*made.offered, *made.commented}


@pytest.mark.parametrize("name", HOSTS)
def test_disks_that_the_host_uses_are_not_in_it(name: str) -> None:
    host = HOSTS[name]()
    for device in exported(uncommented(draft(host).text)).values():
        if device["type"] == "storage.BlockStorage":
            (disk,) = host.tree.find(device["config"]["path"])
            assert disk.name not in host.must_keep


def test_a_stick_is_in_a_comment_and_a_mounted_one_is_not() -> None:
    host, (stick,) = bench(("0781:5581", "4C530001", "Ultra", DISK))
    disk, _ = host.disk(stick, "vfat")
    size = {disk: {"size": "60088320", "removable": "1"}}
    made = draft(host, attributes=size)
    assert made.is_virtual
    assert made.commented == ("disk",)
    assert exported(uncommented(made.text))["disk"] == {
        "type": "storage.BlockStorage",
        "config": {"path": "/dev/sda"},
    }
    assert "Ultra (0781:5581) at USB port 1-1, 30.8 GB, now /dev/sda" in comments(made.text)
    made = draft(host, attributes=size, mounts={"8:1": "/media/ann/STICK"})
    assert not made.commented
    assert "it is mounted at /media/ann/STICK; unmount it, and run init again." in comments(made.text)


def test_a_disk_that_the_admin_has_allowed_is_offered() -> None:
    host, (stick,) = bench(("0781:5581", "4C530001", "Ultra", DISK))
    host.disk(stick)
    allowed = combine(SHIPPED_FILES, [parse(Path("mine.yaml"), b"enable: [usb-storage]\n")])
    assert draft(host, allowed).offered == ("storage",)
    parts = HostParts(host.tree)
    made = draft_configuration(
        "rpi4", parts, allowed, shipped_tables(), lambda match: f"{match.type} is wrong"
    )
    assert (made.is_virtual, made.commented) == (True, ("disk",))


@pytest.mark.parametrize(
    ("path", "attributes", "is_listed"),
    [
        ("/devices/platform/mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0", {}, True),
        ("/devices/platform/mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0boot0", {}, False),
        ("/devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda", {"removable": "0"}, False),
        ("/devices/pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda", {"removable": "1"}, True),
        ("/devices/virtual/block/loop0", {"removable": "1"}, False),
    ],
)
def test_only_disks_that_can_be_taken_out_are_in_it(
    path: str, attributes: dict[str, str], *, is_listed: bool
) -> None:
    host = Host()
    host.block(path, 179, 0)
    assert draft(host, attributes={path: attributes}).commented == (("disk",) if is_listed else ())


def test_the_reader_in_an_sdwire_is_its_card_and_not_a_disk() -> None:
    host, (hub,) = bench(("0424:2640", "", "", HUB))
    host.plug(hub, 2, "04e8:6001", "sdw-7", "sd-wire")
    host.disk(host.plug(hub, 1, "0424:4050", "", "", DISK))
    made = draft(host)
    assert (made.offered, made.commented) == (("storage",), ())
    other, (hub,) = bench(("0424:2640", "", "", HUB))
    other.disk(other.plug(hub, 1, "0424:4050", "", "", DISK))
    assert draft(other).commented == ("disk",)


def test_lines_of_the_header_are_an_example_and_those_of_the_host_a_warning() -> None:
    host = pi5()
    chip = "/devices/platform/axi/1000120000.pcie/1f00000000.rp1/1f000d0000.gpio"
    host.add(f"{chip}/gpiochip0", "gpio", DEVNAME="/dev/gpiochip0")
    label = {f"{chip}/gpio/gpiochip569": {"label": "pinctrl-rp1", "ngpio": "54"}}
    made = draft(host, attributes=label)
    assert "GPIO chip /dev/gpiochip0 (pinctrl-rp1, 54 lines): the header of the Raspberry Pi" in comments(
        made.text
    )
    assert exported(uncommented(made.text))["relay"] == {"type": "power.GpioRelay", "config": {"pin": 17}}
    made = draft(host)
    assert "relay" not in made.commented
    assert "GPIO chip /dev/gpiochip0: the host itself may use its lines." in comments(made.text)


def test_a_port_of_the_host_is_in_a_comment_unless_its_console_is_there() -> None:
    host = pi4()
    port = host.add("/devices/platform/soc/fe201000.serial/tty/ttyAMA0", "tty", DEVNAME="/dev/ttyAMA0")
    empty = host.add("/devices/platform/serial8250/tty/ttyS3", "tty", DEVNAME="/dev/ttyS3")
    said = {port: {"type": "30"}, empty: {"type": "0"}}
    found = exported(uncommented(draft(host, attributes=said).text))
    assert {name: one["config"]["url"] for name, one in found.items() if name.startswith("serial")} == {
        "serial": "/dev/serial/by-path/platform-usb-0:1.4:1.0-port0",
        "serial-2": "/dev/ttyAMA0",
    }
    said["/devices/virtual/tty/console"] = {"active": "tty0 ttyAMA0"}
    made = draft(host, attributes=said)
    assert "serial-2" not in made.commented
    assert "/dev/ttyAMA0, a serial port of this host: it is the console of the host itself." in comments(
        made.text
    )


def test_what_needs_a_decision_says_which() -> None:
    host, _ = bench(("2a19:0800", "", "Numato Lab 4 Channel", HID), ("04d8:f2f7", "YK1", "YKUSH", HID))
    made = draft(host)
    assert "configure relay_power.SerialRelay with board numato" in comments(made.text)
    assert made.commented == ("ports",)
    assert exported(uncommented(made.text))["ports"]["config"] == {
        "board": "ykush",
        "channels": 3,
        "port": "1-2",
    }
    assert "Make sure that none of its ports supplies the host's own devices." in comments(made.text)


def test_ports_of_a_hub_are_in_a_comment_and_never_one_that_the_host_needs() -> None:
    made = draft(pc())
    assert exported(uncommented(made.text))["power"] == {
        "type": "power.HubPort",
        "config": {"port": "1-7.1"},
    }
    host, (hub,) = bench(("05e3:0608", "", "USB2.0 Hub", HUB))
    host.keyboard(host.plug(hub, 1, "046d:c31c", interfaces=KEYBOARD))
    assert exported(uncommented(draft(host).text))["power"]["config"] == {"port": "1-1.2"}
    host.keyboard(host.plug(hub, 2, "046d:c31c", interfaces=KEYBOARD))
    text = draft(host, attributes={hub: {"maxchild": "2"}}).text
    assert "power" not in exported(uncommented(text)), "there is no third port"
    assert "the host needs what is in each of its ports" in comments(text)


def test_what_another_configuration_has_is_only_named() -> None:
    host, (one, other) = bench(
        ("0403:6001", "A1", "FT232R USB UART", UART), ("0403:6001", "A2", "FT232R USB UART", UART)
    )
    host.tty(one)
    host.tty(other)
    link = "/dev/serial/by-id/usb-0403_FT232R_USB_UART_A1-if00-port0"
    made = draft(host, configured={link: "/etc/jumpstarter/exporters/rock.yaml"})
    assert exported(made.text)["serial"]["config"]["url"].endswith("A2-if00-port0")
    assert made.offered == ("serial",)
    said = "now /dev/ttyUSB0: /etc/jumpstarter/exporters/rock.yaml has it already."
    assert f"- FT232R (0403:6001) at USB port 1-1, {said}" in comments(made.text)


def test_where_nothing_is_found_a_virtual_board_works_and_the_file_says_what_to_plug_in() -> None:
    made = draft(Host())
    assert exported(made.text) == {"virtual": {"type": "virtual.VirtualBoard"}}
    assert "Plug in a serial adapter" in comments(made.text)


UGLY = st.text(st.characters(exclude_characters="\0"), max_size=40) | st.sampled_from(
    [
        "x\n  evil:\n    type: power.MockPower",
        "x\r  evil: 1",
        "\x1b[2J\u202e\u2028\x85",
        "'\"{}[]&*!|>%@`: # ",
        "\ud800",
        "- ",
    ]
)


@settings(max_examples=60)
@example(serial="", model=" 0", link="", label="")
@example(serial="", model="", link="\ud800", label="")
@example(serial="", model=" ", link="", label="")
@given(serial=UGLY, model=UGLY, link=UGLY, label=UGLY)
def test_what_devices_call_themselves_is_only_text(serial: str, model: str, link: str, label: str) -> None:
    host, (adapter, stick, relay) = bench(
        ("0403:6001", serial, model, UART),
        ("0781:5581", serial, model, DISK),
        ("16c0:05df", serial, "USBRelay2", HID),
    )
    host.tty(adapter)
    disk, *_ = host.disk(stick, DEVLINKS=f"/dev/disk/by-path/{link}", ID_PATH=link)
    chip = host.add(f"{host.interface(relay)}/gpiochip0", "gpio", DEVNAME="/dev/gpiochip0", ID_MODEL=model)
    said = {disk: {"size": label}, chip: {"label": label, "ngpio": label}}
    made = draft(host, attributes=said, mounts={link: label} if link else {})
    assert all(one.isprintable() for one in made.text.split("\n"))
    assert set(exported(made.text)) == {"serial", "relays"}
    assert set(exported(uncommented(made.text))) >= {"serial", "relays", "relay"}
    for line in made.text.split("\n"):
        assert re.match(r"(  )*(#|  |[a-zA-Z]+:|$)", line)
