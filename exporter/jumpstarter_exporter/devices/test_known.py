"""Devices that come, go and come back: by hand, and by properties of whatever hypothesis plugs in where."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_exporter.devices import known, known_file
from jumpstarter_exporter.devices.hwdb import shipped as shipped_tables
from jumpstarter_exporter.devices.known import Inspection, KnownDevices, KnownRecords, PresentDevice
from jumpstarter_exporter.devices.known_file import KnownFile
from jumpstarter_exporter.devices.profiles import ProfileSet, combine, parse, shipped
from tools.mocked_host.udev import HUB, UART, Host

FT232R, CP2102, CH340, FT4232H = "0403:6001", "10c4:ea60", "1a86:7523", "0403:6011"
SHIPPED = combine(shipped(), [])
Plugged = dict[int, tuple[str, str]]
"""What is in which port of a hub: its ids and its serial number."""


def host_with(plugged: Plugged) -> Host:
    host = Host()
    (root,) = host.controller("/devices/platform/soc/3f980000.usb", 1, 2)
    hub = host.plug(root, 1, "0424:9514", model="USB2.0 Hub", interfaces=HUB)
    for port, (ids, serial) in plugged.items():
        device = host.plug(hub, port, ids, serial, interfaces=UART)
        for interface in range(4 if ids == FT4232H else 1):
            host.tty(device, interface)
    return host


def look(
    devices: KnownDevices, plugged: Plugged, *, now: str = "12:00:00", profiles: ProfileSet = SHIPPED
) -> dict[str, PresentDevice]:
    return by_path(devices.inspect(host_with(plugged).tree, profiles, shipped_tables(), now=now))


def by_path(inspection: Inspection) -> dict[str, PresentDevice]:
    return {one.device.path: one for one in inspection.devices}


def test_a_serial_number_comes_back_at_another_port_with_its_name_and_uuid() -> None:
    devices = KnownDevices()
    (before,) = look(devices, {2: (FT232R, "A50285BJ")}).values()
    (gone,) = look(devices, {}, now="14:03:22").values()
    assert (gone.device, gone.missing) == (before.device, "unplugged at 14:03:22")
    (still,) = look(devices, {}, now="15:00:00").values()
    assert still.missing == "unplugged at 14:03:22"
    (back,) = look(devices, {4: (FT232R, "A50285BJ")}).values()
    assert (back.device.uuid, back.device.path, back.missing) == (before.device.uuid, before.device.path, "")
    assert (before.device.port, back.device.port) == ("1-1.2", "1-1.4")


def test_what_is_known_by_its_port_is_another_device_at_another_port() -> None:
    devices = KnownDevices()
    (before,) = look(devices, {2: (CH340, "")}).values()
    after = look(devices, {4: (CH340, "")}, now="14:03:22")
    assert after[before.device.path].missing == "unplugged at 14:03:22"
    (other,) = (one for path, one in after.items() if path != before.device.path)
    assert other.device.uuid != before.device.uuid
    back = look(devices, {2: (CH340, "")})
    assert back[before.device.path].device.uuid == before.device.uuid


def test_another_kind_of_adapter_in_a_port_is_not_taken_for_the_one_that_was_there() -> None:
    devices = KnownDevices()
    look(devices, {2: (CH340, "")})
    after = look(devices, {2: (CP2102, "0001")})
    assert {path: bool(one.missing) for path, one in after.items()} == {
        "ch340-1-1-2.serial": True,
        "cp2102-1-1-2.serial": False,
    }


def test_of_two_with_one_serial_number_the_first_stays_what_it_is_and_ports_count_from_then_on() -> None:
    devices = KnownDevices()
    (first,) = look(devices, {2: (FT232R, "X7")}).values()
    both = look(devices, {2: (FT232R, "X7"), 3: (FT232R, "X7")})
    assert {one.device.port: one.device.uuid == first.device.uuid for one in both.values()} == {
        "1-1.2": True,
        "1-1.3": False,
    }
    assert both[first.device.path].device.port == "1-1.2"
    alone = look(devices, {3: (FT232R, "X7")})
    assert alone[first.device.path].missing
    later = KnownDevices(devices.known)
    assert {one.device.uuid for one in look(later, {2: (FT232R, "X7")}).values() if not one.missing} == {
        first.device.uuid
    }


def test_after_a_restart_what_is_not_there_has_its_place_and_says_so() -> None:
    devices = KnownDevices()
    (before,) = look(devices, {2: (FT232R, "A50285BJ")}).values()
    later = KnownDevices(devices.known)
    (missing,) = look(later, {}).values()
    assert (missing.device, missing.missing) == (before.device, "not seen since the start of the exporter")
    (back,) = look(later, {1: (FT232R, "A50285BJ")}).values()
    assert (back.device.uuid, back.missing) == (before.device.uuid, "")


def test_what_no_profile_offers_any_more_is_not_missing_and_has_its_name_when_it_is_offered_again() -> None:
    devices = KnownDevices()
    (before,) = look(devices, {2: (FT232R, "A")}).values()
    off = combine(shipped(), [parse(Path("mine.yaml"), b"disable: [serial-adapter]")])
    assert look(devices, {2: (FT232R, "A")}, profiles=off) == {}
    (back,) = look(devices, {2: (FT232R, "A")}).values()
    assert back.device == before.device


def test_a_device_of_which_two_profiles_claim_the_same_is_there_with_both_names_as_the_reason() -> None:
    two = "".join(
        f"  {name}: {{match: {{subsystem: tty, vendor: '0403'}}, type: serial.PySerial}}\n"
        for name in ("mine", "yours")
    )
    profiles = combine(shipped(), [parse(Path("mine.yaml"), f"profiles:\n{two}".encode())])
    (found,) = look(KnownDevices(), {2: (FT232R, "A")}, profiles=profiles).values()
    assert found.device.path == "ft232r-a.serial"
    assert found.device.no_driver.startswith("mine and yours match equally well for serial")


def test_a_device_that_is_gone_can_be_forgotten_and_one_that_is_there_cannot() -> None:
    devices = KnownDevices()
    look(devices, {2: (FT232R, "A"), 3: (CH340, "")})
    look(devices, {3: (CH340, "")})
    assert devices.forget("ft232r-a.serial")
    assert not devices.forget("ch340-1-1-3.serial")
    assert set(look(devices, {3: (CH340, "")})) == {"ch340-1-1-3.serial"}
    assert set(devices.known.groups) == {"ch340-1-1-3"}


ADAPTERS = st.dictionaries(
    st.integers(1, 4),
    st.tuples(st.sampled_from([FT232R, CP2102, CH340, FT4232H]), st.sampled_from(["", "0001", "A", "B"])),
)
BENCH = combine(
    shipped(),
    [
        parse(
            Path("bench.yaml"),
            b"profiles: {bench: {match: {subsystem: tty, kind: serial}, group: bench, name: console, "
            b"type: serial.PySerial, config: {url: '{link}'}}}",
        )
    ],
)


@settings(max_examples=60)
@given(st.lists(ADAPTERS, max_size=5), st.sampled_from([SHIPPED, BENCH]), st.booleans())
def test_whatever_is_plugged_a_name_is_one_devices_for_ever(
    steps: list[Plugged], profiles: ProfileSet, restarts: bool
) -> None:
    devices = KnownDevices()
    names: dict[object, str] = {}
    for plugged in steps:
        if restarts:
            devices = KnownDevices(msgspec.json.decode(msgspec.json.encode(devices.known), type=KnownRecords))
        inspection = devices.inspect(host_with(plugged).tree, profiles, shipped_tables(), now="12:00:00")
        offered = [match for one in inspection.findings for match in one.matches]
        assert {one.device.key for one in inspection.devices if not one.missing} == {
            match.key for match in offered
        }
        assert len({one.device.path for one in inspection.devices}) == len(inspection.devices)
        for one in inspection.known.devices:
            assert names.setdefault(one.uuid, one.path) == one.path
        # Nobody is lost: whoever was there once has a place.
        assert {one.uuid for one in inspection.known.devices} == names.keys()
        assert len(set(names.values())) == len(names)


PLUGS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 9), st.sampled_from([FT232R, FT4232H])), max_size=12
)


@settings(max_examples=60)
@given(PLUGS, st.integers(3, 5))
def test_a_port_remembers_the_newest_of_its_devices_and_takes_no_place_from_other_ports(
    plugs: list[tuple[int, int, str]], limit: int
) -> None:
    """As a device does that has another serial number at each plug."""
    devices = KnownDevices()
    last: dict[str, tuple[int, int]] = {}
    """At which port each that is remembered was seen last, and when."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known, "MAX_KNOWN_PER_PORT", limit)
        for now, (port, serial, ids) in enumerate(plugs):
            shown = look(devices, {port: (ids, f"S{serial}")}).values()
            there = {one.device.key for one in shown if not one.missing}
            last |= dict.fromkeys(there, (port, now))
            left = {one.key for one in devices.known.devices}
            assert there <= left == {one.device.key for one in shown}
            for each in 1, 2, 3:
                # When those of the port were seen last: the oldest are forgotten, and those that are there never.
                every = sorted(seen for at, seen in last.values() if at == each)
                kept = sorted(last[key][1] for key in left if last[key][0] == each)
                count = max(limit, len(there) if each == port else 0)
                assert kept == every[max(0, len(every) - count) :]
            last = {key: last[key] for key in left}


@settings(max_examples=30)
@given(ADAPTERS, ADAPTERS)
def test_a_serial_number_that_is_nobody_elses_keeps_its_uuid_wherever_it_is(
    before: Plugged, after: Plugged
) -> None:
    devices = KnownDevices()
    first = {one.device.key: one.device.uuid for one in look(devices, before).values()}
    then = {one.device.key: one.device.uuid for one in look(devices, after).values() if not one.missing}
    for key in first.keys() & then.keys():
        assert first[key] == then[key]


def test_the_file_is_for_its_owner_only_and_reads_as_it_was_written(tmp_path: Path) -> None:
    devices = KnownDevices()
    look(devices, {2: (FT232R, "A"), 3: (FT4232H, "")})
    KnownFile(tmp_path / "state").write(devices.known)
    path = tmp_path / "state" / "discovered.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KnownFile(tmp_path / "state").read() == devices.known


@pytest.mark.parametrize("text", ["{", "[]", '{"devices": [{"key": 1}]}', "[" * 100_000])
def test_a_file_that_is_broken_is_set_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / "discovered.json").write_text(text)
    file = KnownFile(tmp_path)
    assert file.read() == KnownRecords()
    assert (tmp_path / "discovered.broken").read_text() == text
    assert "what it was is in discovered.broken" in caplog.text
    devices = KnownDevices()
    look(devices, {2: (FT232R, "A")})
    file.write(devices.known)
    assert KnownFile(tmp_path).read() == devices.known


def test_of_more_than_can_be_read_again_the_newest_devices_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = KnownDevices()
    for number in range(16):
        look(devices, {2: (FT232R, f"A{number}")})
    monkeypatch.setattr(known_file, "MAX_BYTES", len(msgspec.json.encode(devices.known)) // 2)
    KnownFile(tmp_path).write(devices.known)
    kept = KnownFile(tmp_path).read().devices
    assert kept
    assert kept == devices.known.devices[-len(kept) :]


def test_two_devices_of_a_file_with_one_name_make_it_broken(tmp_path: Path) -> None:
    devices = KnownDevices()
    look(devices, {2: (FT232R, "A")})
    (one,) = devices.known.devices
    twice = {"devices": [msgspec.to_builtins(one)] * 2}
    (tmp_path / "discovered.json").write_bytes(msgspec.json.encode(twice))
    assert KnownFile(tmp_path).read() == KnownRecords()


def test_what_cannot_be_read_is_never_written_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(known_file, "set_aside", refuse)
    place = tmp_path / "discovered.json"
    place.write_text("{")
    file = KnownFile(tmp_path)
    assert file.read() == KnownRecords()
    devices = KnownDevices()
    look(devices, {2: (FT232R, "A")})
    file.write(devices.known)
    assert place.read_text() == "{"
    assert "cannot be set aside (Permission denied)" in caplog.text


def test_a_disk_that_takes_no_names_is_said_once_each_time_and_they_are_kept_when_it_takes_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    devices, folder = KnownDevices(), tmp_path / "state"
    file = KnownFile(folder)

    def written(serial: str) -> int:
        """How often it was said until then that they are not kept."""
        look(devices, {2: (FT232R, serial)})
        file.write(devices.known)
        return caplog.text.count(f"cannot be kept in {folder}: ")

    folder.touch()  # in its place
    assert [written("A"), written("B")] == [1, 1]
    folder.unlink()
    assert written("B") == 1
    assert KnownFile(folder).read() == devices.known
    before = (folder / "discovered.json").stat().st_mtime_ns
    assert written("B") == 1
    assert (folder / "discovered.json").stat().st_mtime_ns == before, "nothing is new"
    (folder / "discovered.json").rename(tmp_path / "aside")
    folder.rmdir()
    folder.touch()
    assert [written("C"), written("D")] == [2, 2]
