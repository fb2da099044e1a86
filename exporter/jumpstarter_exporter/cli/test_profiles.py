"""`jumpstarter-exporter profiles test` and `suggest`, on a mocked bus and on the database of another host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.cli.main import main
from jumpstarter_exporter.devices.udev_device import DeviceTree
from tests.support.udev_hosts import exported, pc, pi4
from tools.mocked_host.udev import Host

PROGRAM = str(Path(sys.executable).with_name("jumpstarter-exporter"))


@pytest.fixture
def umockdev() -> str:
    program = shutil.which("umockdev-run")
    if program is None:
        pytest.skip("missing: umockdev-run; apt install umockdev")
    return program


def on_a_mocked_bus(umockdev: str, tree: DeviceTree, tmp_path: Path, *arguments: str) -> Any:
    bus = tmp_path / "bus.umockdev"
    bus.write_text(exported(tree))
    command = [umockdev, "--device", str(bus), "--", PROGRAM, *arguments, "--folder", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def consoles() -> Host:
    host = Host()
    (root,) = host.controller("/devices/platform/soc/3f980000.usb", 1, 2)
    host.tty(host.plug(root, 1, "0403:6001", "A50285BJ", "FT232R USB UART"))
    host.tty(host.plug(root, 2, "1a86:7523", model="USB Serial"))
    host.tty(host.plug(root, 3, "0e8d:2000", model="MT65xx Preloader"), acm=True)
    return host


def test_the_devices_of_a_bus_are_found_and_matched(umockdev: str, tmp_path: Path) -> None:
    said = on_a_mocked_bus(
        umockdev, consoles().tree, tmp_path, "profiles", "test", "/dev/ttyUSB0", "-o", "json"
    )
    (device,) = json.loads(said)["devices"]
    assert device["identity"]["by"] == "serial number"
    (offered,) = device["offered"]
    assert offered["path"] == "ft232r-a50285bj.serial"
    assert "/dev/serial/by-id/" in offered["config"]["url"]


def test_they_are_found_where_no_udevd_has_seen_them(umockdev: str, tmp_path: Path) -> None:
    """In a container, or on a host without it: only what the kernel says."""
    kernel = {"SUBSYSTEM", "DEVTYPE", "DEVNAME", "PRODUCT", "MAJOR", "MINOR", "INTERFACE"}
    tree = DeviceTree(
        replace(one, properties={key: value for key, value in one.properties.items() if key in kernel})
        for one in consoles().devices
    )
    said = on_a_mocked_bus(umockdev, tree, tmp_path, "profiles", "test", "/dev/ttyUSB0", "-o", "json")
    (device,) = json.loads(said)["devices"]
    assert (device["model"], device["identity"]["value"]) == ("FT232R", "A50285BJ")
    assert device["offered"][0]["config"] == {"url": "/dev/ttyUSB0"}


def test_a_profile_is_suggested_for_the_one_that_none_matches(umockdev: str, tmp_path: Path) -> None:
    said = on_a_mocked_bus(umockdev, consoles().tree, tmp_path, "suggest")
    (tmp_path / "mine.yaml").write_text(said)
    said = on_a_mocked_bus(umockdev, consoles().tree, tmp_path, "profiles", "test", "/dev/ttyACM0")
    assert "Offered as mt65xx_preloader-1-3.serial by tty-0e8d-2000: serial.PySerial" in said


def run(
    capsys: pytest.CaptureFixture[str], host: Host, tmp_path: Path, *arguments: str
) -> tuple[int, str, str]:
    database = tmp_path / "host.txt"
    database.write_text(exported(host.tree))
    folder = tmp_path / "profiles"
    folder.mkdir(exist_ok=True)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--database", str(database), "--folder", str(folder)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_a_port_is_all_that_is_plugged_in_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, pi4(), tmp_path, "profiles", "test", "1-1.4")
    assert code == ExitCode.OK
    assert "1-1.4: CP2102 (serial)\n" in out
    assert "/dev/ttyUSB0: CP2102 (serial)\n" in out
    assert (
        "Known by its port 1-1.4: many CP2102 have the serial number 0001, so its port identifies it" in out
    )
    assert (
        "serial-adapter-ports does not match: it has no property ID_JUMPSTARTER_PORTS, and ?* is wanted"
        in out
    )


def test_what_is_never_offered_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, pi4(), tmp_path, "profiles", "test", "1-1.2.1")
    assert code == ExitCode.OK
    assert "Never offered: input0 hangs on it, and the host has its keyboard there" in out
    code, _, err = run(capsys, pi4(), tmp_path, "suggest", "1-1.2.1")
    assert code == ExitCode.NOT_FOUND
    assert "1-1.2.1 is never offered: " in err


def test_a_disk_and_a_hub_say_what_the_admin_has_to_write(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, out, _ = run(capsys, pc(), tmp_path, "profiles", "test", "/dev/sdb")
    assert "write `enable: [usb-storage]` into a file in /etc/jumpstarter/profiles.d" in out
    (tmp_path / "profiles" / "mine.yaml").write_text("enable: [usb-hub]\n")
    _, out, _ = run(capsys, pc(), tmp_path, "profiles", "test", "1-7")
    assert "port 2 is never switched: input0 hangs on it" in out


def test_a_profile_with_a_mistake_is_exit_code_2_and_the_others_count(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "mine.yaml").write_text("profiles: {mine: {mtch: {}}}\n")
    code, out, err = run(capsys, pi4(), tmp_path, "profiles", "test", "/dev/ttyUSB0")
    assert code == ExitCode.USAGE
    assert "by serial-adapter" in out
    assert "mine.yaml:1:19: profiles.mine.mtch: unknown key 'mtch'; did you mean 'match'?" in err


def test_a_device_that_is_not_there_is_exit_code_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, pi4(), tmp_path, "profiles", "test", "/dev/ttyUSB7")
    assert code == ExitCode.NOT_FOUND
    assert "there is no device '/dev/ttyUSB7'; name a node" in err


def test_a_file_that_is_not_a_database_says_how_to_write_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(capsys, Host(), tmp_path, "suggest")
    assert code == ExitCode.UNAVAILABLE
    assert "udevadm info --export-db >" in err


@pytest.mark.parametrize(
    ("driver", "wrong"),
    [
        ("type: serial.PySeral", "unknown type 'serial.PySeral'"),
        ("type: serial.PySerial, config: {ulr: x}", "serial.PySerial has no key 'ulr'"),
    ],
)
def test_what_the_driver_does_not_take_of_a_profile_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str, wrong: str
) -> None:
    (tmp_path / "mine.yaml").write_text(f"profiles: {{mine: {{match: {{subsystem: tty}}, {driver}}}}}\n")
    database = tmp_path / "host.txt"
    database.write_text(exported(consoles().tree))
    words = ["profiles", "test", "/dev/ttyUSB0", "--database", str(database), "--folder", str(tmp_path)]
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr().out
    assert "    It will be failed: " in said
    assert wrong in said
