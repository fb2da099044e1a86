"""Which device becomes what: by hand-written hosts and profiles, and by properties of all that hypothesis makes up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_exporter.devices.hwdb import shipped as shipped_tables
from jumpstarter_exporter.devices.identity import shared_serials
from jumpstarter_exporter.devices.match import Finding, Named, ProfileMatch, match_devices
from jumpstarter_exporter.devices.profiles import ProfileSet, combine, parse, shipped
from tests.support.udev_hosts import HOSTS, pi4
from tools.mocked_host.udev import CAMERA, CDC, DISK, HID, HUB, UART, Host

SHIPPED_FILES = shipped()
SHIPPED = combine(SHIPPED_FILES, [])


def admin(text: str) -> ProfileSet:
    return combine(SHIPPED_FILES, [parse(Path("mine.yaml"), text.encode())])


def found(host: Host, profiles: ProfileSet = SHIPPED, named: dict[str, Named] | None = None) -> list[Finding]:
    return match_devices(host.tree, profiles, shipped_tables(), host.use, named=named)


def names_of(matches: dict[str, ProfileMatch]) -> dict[str, Named]:
    return {match.key: Named(match.path, match.template) for match in matches.values()}


def matches(
    host: Host, profiles: ProfileSet = SHIPPED, named: dict[str, Named] | None = None
) -> dict[str, ProfileMatch]:
    return {match.path: match for finding in found(host, profiles, named) for match in finding.matches}


def finding(host: Host, name: str, profiles: ProfileSet = SHIPPED) -> Finding:
    (device,) = host.tree.find(name)
    return next(one for one in found(host, profiles) if one.device.path == device.path)


def host_with(ids: str, serial: str = "", model: str = "", interfaces: str = UART) -> tuple[Host, str]:
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    return host, host.plug(root, 1, ids, serial, model, interfaces)


def test_no_name_is_not_a_device() -> None:
    host, _ = host_with("0403:6001", "A5")
    assert host.tree.find("") == []


OFFERED = {
    "pi3": {"ft232r-a50285bj.serial": "serial.PySerial"},
    "pi4": {"cp2102-1-1-4.serial": "serial.PySerial"},
    "pi5": {
        "debug-probe-e6633861a355b838.serial": "serial.PySerial",
        "debug-probe-e6633861a355b838.debugger": None,
    },
    "pc": {
        **{f"ft4232h-1-7-1.serial-{number}": "serial.PySerial" for number in range(4)},
        "camera-abcd.video": "video.UStreamer",
    },
    "vm": {"ft232r-1.serial": "serial.PySerial"},
}


@pytest.mark.parametrize("name", HOSTS)
def test_what_hangs_on_a_host_is_named_and_storage_and_hubs_are_not_offered(name: str) -> None:
    assert {path: match.type for path, match in matches(HOSTS[name]()).items()} == OFFERED[name]


@pytest.mark.parametrize("name", HOSTS)
def test_what_the_host_stands_on_is_not_offered_even_if_its_admin_says_so(name: str) -> None:
    host = HOSTS[name]()
    everything = "enable: [usb-storage, usb-hub]\nprofiles:\n" + "".join(
        f"  {subsystem}: {{match: {{subsystem: {subsystem}}}, interface: power, no_driver: none, name: '{{port}}'}}\n"
        for subsystem in ("usb", "block", "net", "input", "scsi_generic", "hidraw")
    )
    offered = [one for one in found(host, admin(everything)) if one.matches]
    kept = [one.device.name for one in offered if one.device.name in host.must_keep]
    assert kept == []
    hubs = {
        (one.device.name, port) for one in offered for match in one.matches for port in match.protected_ports
    }
    assert {(hub, port) for hub, port in host.must_power} == hubs
    refused = next(one for one in found(host, admin(everything)) if one.device.subsystem == "block")
    assert refused.refusals[0].reason == refused.protection != ""


def test_a_console_has_the_link_that_follows_its_identity() -> None:
    for serial, by in ("A50285BJ", "by-id"), ("A50285BI", "by-path"):
        host, device = host_with("0403:6001", serial, "FT232R USB UART")
        host.tty(device)
        (console,) = matches(host).values()
        assert f"/dev/serial/{by}/" in console.config["url"]


def test_a_console_without_links_has_its_node() -> None:
    host, device = host_with("1a86:7523")
    host.add(f"{host.interface(device)}/ttyUSB0/tty/ttyUSB0", "tty", DEVNAME="/dev/ttyUSB0")
    assert matches(host)["ch340-1-1.serial"].config == {"url": "/dev/ttyUSB0"}


def test_renumbered_ports_are_the_same_devices() -> None:
    configs = []
    for start in (-1, 6):
        host, device = host_with("1a86:7523")
        host._numbers["ttyUSB"] = start
        host.tty(device)
        configs.append({path: (match.key, match.config) for path, match in matches(host).items()})
    assert configs[0] == configs[1]


@pytest.mark.parametrize(
    ("ids", "model", "interfaces", "interface", "node", "reason"),
    [
        ("10c4:ea80", "CP2110", ":030000:", "serial", "hidraw", "a CP2110 is a HID device"),
        ("1d50:6018", "Black Magic Probe", CDC, "serial", "tty", "this port of the probe is for GDB"),
        ("0d50:0008", "USB-Switch", ":030000:", "power", "usb", "there is no driver for this relay yet"),
        ("2a19:0c02", "Numato 4 Channel", CDC, "power", "usb", "it does not say how many relays it has"),
        ("2b23:1012", "DUTLink", UART, "storage", "usb", "there is no driver for this mux yet"),
        (
            "0483:df11",
            "STM32  BOOTLOADER",
            ":fe0102:",
            "flasher",
            "usb",
            "there is no driver for this loader yet",
        ),
        (
            "2e8a:0003",
            "RP2 Boot",
            ":080650:ff0000:",
            "flasher",
            "usb",
            "there is no driver for this loader yet",
        ),
    ],
)
def test_what_no_driver_drives_is_known_with_the_reason(  # noqa: PLR0917 - a table
    ids: str, model: str, interfaces: str, interface: str, node: str, reason: str
) -> None:
    host, device = host_with(ids, "", model, interfaces)
    if node == "tty":
        host.tty(device, acm=True)
    elif node != "usb":
        host.add(f"{host.interface(device)}/{node}/{node}0", node)
    (match,) = [one for one in matches(host).values() if one.interface == interface]
    assert match.type is None
    assert match.no_driver.startswith(reason)


@pytest.mark.parametrize(
    ("ids", "model", "interfaces", "path", "driver", "config"),
    [
        ("16c0:05df", "USBRelay1", HID, "usbrelay-1-1.power", "HidRelay", {"board": "dcttech"}),
        (
            "16c0:05df",
            "USBRelay4",
            HID,
            "usbrelay-1-1.relays",
            "RelayBoard",
            {"board": "dcttech", "channels": 4},
        ),
        ("04b4:fd13", "", HID, "energenie-1-1.sockets", "RelayBoard", {"board": "energenie", "channels": 4}),
        ("04d8:f2f7", "YKUSH", HID, "ykush-1-1.ports", "RelayBoard", {"board": "ykush", "channels": 3}),
        ("04e8:6001", "sd-wire", UART, "sdwire-1-1.storage", "UsbMux", {"mux": "sdwire"}),
        ("0424:4041", "usb-sd-mux_rev2", DISK, "usb-sd-mux-1-1.storage", "UsbMux", {"mux": "usb-sd-mux"}),
        ("0bda:0316", "USB3.0-CRW", DISK, "card-reader-1-1.storage", "UsbMux", {"mux": "sdwire3"}),
    ],
)
def test_relays_and_muxes_are_driven_at_their_port(  # noqa: PLR0917 - a table
    ids: str, model: str, interfaces: str, path: str, driver: str, config: dict[str, Any]
) -> None:
    host, device = host_with(ids, "", model, interfaces)
    if interfaces == DISK:
        host.disk(device)
    needs_admin = ids in ("04d8:f2f7", "0bda:0316")
    assert bool(matches(host)) is not needs_admin
    (match,) = matches(host, admin("enable: [ykush, sdwire3]")).values()
    assert (match.path, str(match.type).rpartition(".")[2]) == (path, driver)
    assert match.config == {**config, "port": "1-1"}


@pytest.mark.parametrize(
    ("ids", "resolution"), [("046d:0825", None), ("534d:2109", "1280x720"), ("345f:2130", "1280x720")]
)
def test_of_a_cameras_nodes_one_gives_pictures(ids: str, resolution: str | None) -> None:
    host, device = host_with(ids, "", "USB Video", CAMERA)
    for number, capabilities in enumerate((":capture:", ":")):
        node = f"video{number}"
        host.add(
            f"{host.interface(device)}/video4linux/{node}",
            "video4linux",
            DEVNAME=f"/dev/{node}",
            ID_V4L_CAPABILITIES=capabilities,
        )
    (match,) = [one for one in matches(host).values() if one.interface == "video"]
    assert match.type == "video.UStreamer"
    assert match.config.get("resolution") == resolution
    assert match.config["device"] == "/dev/video0"


def test_the_serial_chip_of_an_sdwire_is_not_a_console() -> None:
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    mux = host.plug(root, 1, "0424:2640", interfaces=HUB)
    host.tty(host.plug(mux, 2, "04e8:6001", "bdgrd_sdwirec_202", "sd-wire"))
    host.tty(host.plug(mux, 3, "0403:6015", "D30A", "FT200X USB I2C"))
    host.disk(host.plug(mux, 1, "0424:4050", "000000264001", "Ultra Fast Media Reader", DISK))
    by_path = matches(host)
    assert {path: match.type for path, match in by_path.items()} == {
        "sdwire-bdgrd_sdwirec_202.storage": "sd_mux.UsbMux",
        "ft230x-d30a.serial": None,
    }
    assert "chip is not programmed" in by_path["ft230x-d30a.serial"].no_driver


@pytest.mark.parametrize(
    ("conditions", "difference"),
    [
        ("vendor: '10C4', product: 'EA60'", ""),
        ("vendor: '10c[45]', product: 'ea6*'", ""),
        ("vendor: '0403'", "vendor is 10c4, not 0403"),
        ("kind: serial, port: '1-1.*'", ""),
        ("port: '1-1.3'", "port is 1-1.4, not 1-1.3"),
        ("serial: '0001'", ""),
        ("serial: '[!0]*'", "serial is 0001, not [!0]*"),
        ("usb_interface: 0", ""),
        ("usb_interface: 1", "usb_interface is 0, not 1"),
        ("devtype: usb_device", "it has no devtype, and usb_device is wanted"),
        ("properties: {ID_JUMPSTARTER_MODEL: CP*, ID_BUS: usb}", ""),
        ("properties: {ID_NET_NAME: '*'}", "it has no property ID_NET_NAME, and * is wanted"),
        ("ancestor: {vendor: '2109', product: '3431'}", ""),
        ("ancestor: {vendor: '2109', product: '3432'}", "no device above it has vendor 2109, product 3432"),
    ],
)
def test_a_condition_holds_or_says_what_differs(conditions: str, difference: str) -> None:
    text = f"profiles: {{mine: {{match: {{subsystem: tty, {conditions}}}, type: serial.PySerial}}}}"
    (attempt,) = [
        one for one in finding(pi4(), "/dev/ttyUSB0", admin(text)).attempts if one.profile.name == "mine"
    ]
    assert attempt.difference == difference


def test_an_admins_profile_counts_before_the_shipped_one_for_the_same_interface() -> None:
    text = """
        profiles:
          bench:
            match: {subsystem: tty, port: 1-1.4}
            group: rpi4
            name: console
            type: serial.PySerial
            config: {url: "{link}", baudrate: 9600}
          outlet: {match: {subsystem: tty, port: 1-1.4}, group: rpi4, interface: power, no_driver: none yet}
    """
    host = pi4()
    assert set(matches(host, admin(text))) == {"rpi4.console", "rpi4.power"}
    refused = finding(host, "/dev/ttyUSB0", admin(text)).refusals
    assert [(one.profile.name, one.reason) for one in refused] == [
        ("serial-adapter", "bench is used for serial: it is the admin's")
    ]


def test_two_profiles_that_match_equally_are_both_refused() -> None:
    text = """
        profiles:
          one: {match: {subsystem: tty, vendor: 10c4}, type: serial.PySerial}
          two: {match: {subsystem: tty, product: ea60}, type: serial.PySerial}
    """
    one = finding(pi4(), "/dev/ttyUSB0", admin(text))
    assert one.matches == ()
    assert one.refusals[0].reason == (
        "one and two match equally well for serial; add a condition to one of them, or disable it"
    )


@pytest.mark.parametrize(("name", "profile"), [("/dev/sda", "usb-storage"), ("1-1", "usb-hub")])
def test_disks_and_hubs_are_offered_when_the_admin_names_their_profile(name: str, profile: str) -> None:
    host, device = (
        host_with("0bda:9210", "1", "disk", DISK)
        if name == "/dev/sda"
        else host_with("2109:0817", interfaces=HUB)
    )
    if name == "/dev/sda":
        host.disk(device)
    (refusal,) = finding(host, name).refusals
    assert f"write `enable: [{profile}]` into" in refusal.reason
    (match,) = finding(host, name, admin(f"enable: [{profile}]")).matches
    assert match.profile.name == profile


def test_a_shipped_profile_offers_no_disk_whatever_the_tables_call_it() -> None:
    text = b"profiles: {pico: {match: {subsystem: block}, interface: storage, no_driver: none}}"
    profiles = combine([parse(Path("shipped.yaml"), text, by_admin=False)], [])
    for ids in "2e8a:0003", "dead:beef":
        host, device = host_with(ids, interfaces=":080650:ff0000:" if ids == "2e8a:0003" else UART)
        host.disk(device)
        assert matches(host, profiles) == {}


def test_two_devices_with_one_path_keep_theirs_whoever_comes_and_goes() -> None:
    text = "profiles: {mine: {match: {subsystem: tty, kind: serial}, group: bench, name: console, type: serial.Any}}"
    profiles = admin(text)

    def host(*ports: int) -> Host:
        made = Host()
        (root,) = made.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
        for port in ports:
            made.tty(made.plug(root, port, "1a86:7523"))
        return made

    alone = matches(host(3), profiles)
    assert set(alone) == {"bench.console"}
    both = matches(host(1, 3), profiles, names_of(alone))
    assert both["bench.console"].key == alone["bench.console"].key
    assert set(both) == {"bench.console", "bench.console-1-1"}
    assert set(matches(host(1, 3), profiles)) == {"bench.console", "bench.console-1-3"}


def test_what_a_device_says_of_itself_is_a_word_in_a_name_and_text_in_a_configuration() -> None:
    evil = "{port}../../x; rm -rf\u202e"
    host, device = host_with("0403:6001", evil, evil)
    host.tty(device)
    text = "{match: {subsystem: tty}, name: '{serial}', type: serial.PySerial, config: {url: 'x{serial}'}}"
    (match,) = matches(host, admin(f"profiles: {{mine: {text}}}")).values()
    assert all(part.replace("-", "").replace("_", "").isalnum() for part in match.path.split("."))
    assert match.path.count(".") == 1


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    """Adapters of all kinds in a hub, with serial numbers that repeat."""
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    kinds = ["0403:6001", "0403:6011", "10c4:ea60", "1a86:7523", "1366:1055", "2e8a:000c", "dead:beef"]
    for port in draw(st.sets(st.integers(1, 9))):
        device = host.plug(
            root, port, draw(st.sampled_from(kinds)), draw(st.sampled_from(["", "0001", "a.b", "a-b", "A B"]))
        )
        for interface in range(draw(st.integers(0, 4))):
            host.tty(device, interface)
    return host


SOME_PROFILES = st.lists(
    st.sampled_from(
        [
            "a{n}: {{match: {{subsystem: tty}}, group: x, name: y, type: serial.PySerial}}",
            "b{n}: {{match: {{subsystem: tty, kind: serial}}, name: '{{model}}', type: serial.PySerial}}",
            "c{n}: {{match: {{subsystem: tty, port: '1-[1-4]'}}, group: g, interface: power, no_driver: none}}",
            "d{n}: {{match: {{subsystem: usb, devtype: usb_device}}, interface: serial, no_driver: none}}",
        ]
    ),
    max_size=4,
).map(
    lambda texts: admin(
        "profiles:\n"
        + "".join(f"  {text.format(n=n)}\n" for n, text in enumerate(texts))
        + "\n  z: {match: {subsystem: none}, type: a.B}\n"
    )
)


@settings(max_examples=40)
@given(hosts(), SOME_PROFILES)
def test_whatever_hangs_on_a_host_each_device_has_one_path_one_key_and_one_driver_for_each_interface(
    host: Host, profiles: ProfileSet
) -> None:
    findings = found(host, profiles)
    everything = [match for one in findings for match in one.matches]
    assert len({match.path for match in everything}) == len(everything)
    assert len({match.key for match in everything}) == len(everything)
    for one in findings:
        matched = {attempt.profile.name for attempt in one.attempts if not attempt.difference}
        assert len({match.interface for match in one.matches}) == len(one.matches)
        assert {match.profile.name for match in one.matches} | {
            no.profile.name for no in one.refusals
        } == matched
        assert not {match.profile.name for match in one.matches} & {no.profile.name for no in one.refusals}


@settings(max_examples=40)
@given(hosts(), SOME_PROFILES, st.data())
def test_who_was_there_before_keeps_path_and_configuration_when_another_is_unplugged(
    host: Host, profiles: ProfileSet, data: st.DataObject
) -> None:
    shared = shared_serials(host.tree)
    devices = sorted({one.path for one in host.devices if one.is_usb_device and "-" in one.name})
    gone = data.draw(st.sampled_from([*devices, "/none"]))

    def look(one: Host, named: dict[str, Named]) -> dict[str, ProfileMatch]:
        all_found = match_devices(one.tree, profiles, shipped_tables(), shared=shared, named=named)
        return {match.key: match for each in all_found for match in each.matches}

    before = look(host, {})
    named = names_of(before)
    left = Host([one for one in host.devices if not f"{one.path}/".startswith(f"{gone}/")])
    after = look(left, named)
    assert after.keys() <= before.keys()
    assert {key: (match.path, match.config) for key, match in after.items()} == {
        key: (before[key].path, before[key].config) for key in after
    }
