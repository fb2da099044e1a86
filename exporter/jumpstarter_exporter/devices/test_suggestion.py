"""A suggested profile is right, and matches its device before any other does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_exporter.config.builder import build_entry
from jumpstarter_exporter.config.model import DeviceEntry
from jumpstarter_exporter.devices.hwdb import shipped as shipped_tables
from jumpstarter_exporter.devices.match import match_devices
from jumpstarter_exporter.devices.profiles import combine, parse, shipped
from jumpstarter_exporter.devices.suggestion import suggested, unmatched
from tests.support.udev_hosts import HOSTS
from tools.mocked_host.udev import CDC, DISK, Host

SHIPPED_FILES = shipped()
SHIPPED = combine(SHIPPED_FILES, [])


def unknown(kinds: list[tuple[str, str]]) -> Host:
    host = Host()
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    for port, (kind, ids) in enumerate(kinds, 1):
        device = host.plug(root, port, ids, interfaces=DISK if kind == "disk" else CDC)
        if kind == "tty":
            host.tty(device, acm=True)
        elif kind == "disk":
            host.disk(device, "vfat")
        else:
            host.add(f"{host.interface(device)}/{kind}/{kind}{port}", kind, DEVNAME=f"/dev/{kind}{port}")
    return host


IDS = st.from_regex(r"[0-9a-e]{4}:[0-9a-f]{4}", fullmatch=True)
KINDS = st.lists(
    st.tuples(st.sampled_from(["tty", "hidraw", "usbmisc", "video4linux"]), IDS), min_size=1, max_size=4
)


@settings(max_examples=30)
@given(KINDS)
def test_every_device_without_a_profile_gets_one_that_matches_it(kinds: list[tuple[str, str]]) -> None:
    host = unknown(kinds)
    before = match_devices(host.tree, SHIPPED, shipped_tables())
    without = unmatched(host.tree, before)
    ours = parse(Path("suggested.yaml"), suggested(host.tree, without).encode())
    after = match_devices(host.tree, combine(SHIPPED_FILES, [ours]), shipped_tables())
    for one in without:
        (found,) = [each for each in after if each.device.path == one.device.path]
        assert any(not each.difference and each.profile.by_admin for each in found.attempts)
    assert {one.device.subsystem for one in without} <= {kind for kind, _ in kinds}


def test_an_unknown_console_is_offered_by_what_is_suggested() -> None:
    host = unknown([("tty", "0e8d:2000")])
    (one,) = unmatched(host.tree, match_devices(host.tree, SHIPPED, shipped_tables()))
    text = suggested(host.tree, [one])
    assert text.startswith("# tty-0e8d-2000: /dev/ttyACM0, port 1-1\napiVersion:")
    profiles = combine(shipped(), [parse(Path("suggested.yaml"), text.encode())])
    (match,) = [
        each for found in match_devices(host.tree, profiles, shipped_tables()) for each in found.matches
    ]
    assert (match.type, match.profile.name) == ("serial.PySerial", "tty-0e8d-2000")


@pytest.mark.parametrize(
    ("kind", "driver", "interface"),
    [
        ("tty", "serial.PySerial", "serial"),
        ("disk", "storage.BlockStorage", "storage"),
        ("video4linux", None, "video"),
        ("hidraw", None, "power"),
        ("usbmisc", None, "power"),
    ],
)
def test_what_is_suggested_is_taken_by_its_driver_or_says_what_to_write(
    kind: str, driver: str | None, interface: str
) -> None:
    host = unknown([(kind, "0e8d:2000")])
    # A disk is matched by a profile of ours, which an admin has to enable; one of theirs comes before it.
    found = match_devices(host.tree, SHIPPED, shipped_tables())
    wanted = "block" if kind == "disk" else kind
    one = next(each for each in found if each.device.subsystem == wanted and each.device.type != "partition")
    ours = parse(Path("suggested.yaml"), suggested(host.tree, [one]).encode())
    after = match_devices(host.tree, combine(SHIPPED_FILES, [ours]), shipped_tables())
    (match,) = [
        each
        for device in after
        for each in device.matches
        if each.profile.by_admin and device.device.path == one.device.path
    ]
    assert (match.type, match.interface) == (driver, interface)
    if driver is None:
        assert match.no_driver == "write `type` and `config` of its driver instead"
        return
    entry = DeviceEntry(("profiles", match.profile.name), type=match.type, config=dict(match.config))
    spec = build_entry(match.profile.document, entry)
    assert spec.fault == ""
    assert one.device.node in {*spec.values.values()} or set(one.device.links) & {*spec.values.values()}


@pytest.mark.parametrize("name", HOSTS)
def test_nothing_is_suggested_for_what_is_matched_or_used_by_the_host(name: str) -> None:
    host = HOSTS[name]()
    found = unmatched(host.tree, match_devices(host.tree, SHIPPED, shipped_tables(), host.use))
    assert [one.device.name for one in found] == (["video1"] if name == "pc" else [])
