"""`jumpstarter-exporter init` on a mocked bus: the file that it writes, `check` on it, and files that exist."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from jumpstarter_proto.errors import ExitCode

from jumpstarter_exporter.devices.udev_device import DeviceTree
from tests.support.umockdev import require_umockdev
from tools.mocked_host.bus import MockedBus
from tools.mocked_host.udev import CAMERA, DISK, HID, Host

FOLDER = Path(sys.executable).parent


@pytest.fixture
def bus(tmp_path: Path) -> MockedBus:
    require_umockdev()
    made = MockedBus(tmp_path / "bus")
    (made.root / "proc/self").mkdir(parents=True)
    (made.root / "proc/self/mountinfo").write_text("36 1 8:17 / /media/ann/DATA rw - vfat /dev/sdb1 rw\n")
    return made


def run(
    folder: Path, environment: Mapping[str, str], *words: str, program: str = "jumpstarter-exporter"
) -> tuple[int, str, str]:
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": "", "JUMPSTARTER_STATE_DIRECTORY": str(folder / "state")}
    done = subprocess.run(
        [str(FOLDER / program), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **home, **environment},
    )
    return done.returncode, done.stdout, done.stderr


def comments(text: str) -> str:
    """All comments on one line."""
    return " ".join(line.strip(" #") for line in text.split("\n"))


def equipped() -> Host:
    """A host with an adapter, a relay board, an SD multiplexer, a camera, a free stick and a mounted one."""
    host = Host()
    (root,) = host.controller("/devices/platform/soc/3f980000.usb", 1, 2)
    host.tty(host.plug(root, 1, "0403:6001", "A50285BJ", "FT232R USB UART"))
    host.plug(root, 2, "16c0:05df", "", "USBRelay2", HID)
    host.plug(root, 3, "0424:4041", "000042", "usb-sd-mux_rev2", DISK)
    camera = host.plug(root, 4, "046d:0825", "ABCD", "HD Webcam C270", CAMERA)
    host.add(
        f"{host.interface(camera)}/video4linux/video0",
        "video4linux",
        DEVNAME="/dev/video0",
        ID_V4L_CAPABILITIES=":capture:",
    )
    for port, serial in (5, "4C530001"), (6, "4C530002"):
        host.disk(host.plug(root, port, "0781:5581", serial, f"Ultra{port}", DISK), "vfat")
    attributes = {"block": {"removable": "1", "size": "60088320"}}
    host.devices = [
        replace(one, attributes=attributes.get(one.subsystem, one.attributes)) for one in host.devices
    ]
    gpio = "/devices/platform/soc/fe200000.gpio"
    host.add(f"{gpio}/gpiochip0", "gpio", DEVNAME="/dev/gpiochip0")
    host.add(f"{gpio}/gpio/gpiochip512", "gpio", {"label": "pinctrl-bcm2711", "ngpio": "58"})
    return host


def test_what_is_on_the_host_is_written_and_check_finds_nothing_wrong(bus: MockedBus, tmp_path: Path) -> None:
    bus.plug(DeviceTree(equipped().devices))
    code, out, err = run(tmp_path, bus.environment, "init", "rpi4.yaml")
    assert (code, err) == (ExitCode.OK, "")
    assert out.splitlines()[0] == "rpi4.yaml: serial, relays, storage, video; in comments: disk, relay"
    text = (tmp_path / "rpi4.yaml").read_text()
    assert yaml.safe_load(text)["metadata"] == {"name": "rpi4"}
    assert "Ultra5 (0781:5581) at USB port 1-5, 30.8 GB, now /dev/sda" in text
    assert (
        "Ultra6 (0781:5581) at USB port 1-6, 30.8 GB, now /dev/sdb: it is mounted at /media/ann/DATA"
        in comments(text)
    )
    assert "GPIO chip /dev/gpiochip0 (pinctrl-bcm2711, 58 lines): the header of the Raspberry Pi" in text
    code, out, err = run(tmp_path, bus.environment, "check", "rpi4.yaml")
    assert (code, err) == (ExitCode.OK, "")
    assert "rpi4.yaml is right." in out


def test_what_a_configuration_of_the_host_has_is_left_to_it(bus: MockedBus, tmp_path: Path) -> None:
    bus.plug(DeviceTree(equipped().devices))
    folder = tmp_path / ".config/jumpstarter/exporters"
    folder.mkdir(parents=True)
    code, _, err = run(tmp_path, bus.environment, "init", str(folder / "rpi4.yaml"))
    assert (code, err) == (ExitCode.OK, "")
    code, out, err = run(tmp_path, bus.environment, "init", "rock.yaml")
    assert (code, err) == (ExitCode.OK, "")
    assert out.splitlines()[0] == "rock.yaml: relays, storage; in comments: disk, relay"
    assert f"{folder / 'rpi4.yaml'} has it already." in comments((tmp_path / "rock.yaml").read_text())


def test_a_file_that_the_daemon_reads_is_reloaded_and_not_run_a_second_time(
    bus: MockedBus, tmp_path: Path
) -> None:
    (tmp_path / ".config/jumpstarter/exporters").mkdir(parents=True)
    code, out, _ = run(tmp_path, bus.environment, "init", ".config/jumpstarter/exporters/rpi4.yaml")
    assert code == 0
    assert out.endswith("  jumpstarter-exporter run; or, where that runs: jumpstarter-exporter reload\n")
    code, out, _ = run(tmp_path, bus.environment, "init", "rock.yaml")
    assert code == 0
    assert out.endswith("  jumpstarter-exporter run --config rock.yaml\n")


def test_an_existing_file_is_not_overwritten(bus: MockedBus, tmp_path: Path) -> None:
    (tmp_path / "rpi4.yaml").write_text("mine")
    code, out, err = run(tmp_path, bus.environment, "init", "--output", "rpi4.yaml")
    assert (code, out) == (ExitCode.USAGE, "")
    assert err == (
        "jumpstarter-exporter: rpi4.yaml exists and is not overwritten; name another file: "
        "jumpstarter-exporter init rpi4-2.yaml (or - to print it)\n"
    )
    assert (tmp_path / "rpi4.yaml").read_text() == "mine"
    assert run(tmp_path, bus.environment, "init", "rpi4-2.yaml")[0] == ExitCode.OK
    (tmp_path / "link.yaml").symlink_to("new.yaml")
    assert run(tmp_path, bus.environment, "init", "link.yaml")[0] == ExitCode.USAGE
    assert not (tmp_path / "new.yaml").exists()
    code, _, err = run(tmp_path, bus.environment, "init", ".")
    assert code == ExitCode.USAGE
    assert "is a folder; name a file in it: board.yaml" in err
    code, _, err = run(tmp_path, bus.environment, "init", "missing/rpi4.yaml")
    assert code == ExitCode.USAGE
    assert f"there is no folder {tmp_path}/missing; make it: mkdir -p {tmp_path}/missing\n" in err
    code, _, err = run(tmp_path, bus.environment, "init", "folder/")
    assert (code, (tmp_path / "folder").exists()) == (ExitCode.USAGE, False)
    assert "folder/ names a folder; name a file: folder/board.yaml" in err
    code, _, err = run(tmp_path, bus.environment, "init", "-x")
    assert (code, (tmp_path / "-x").exists()) == (ExitCode.USAGE, False)
    assert "`init` has no option -x; a file of that name is ./-x" in err
    code, _, err = run(tmp_path, bus.environment, "init", "~nobody-has-this-name/x.yaml")
    assert (code, err.count("\n")) == (ExitCode.USAGE, 1)
    assert "there is no folder " in err


def test_a_file_is_complete_or_not_there(bus: MockedBus, tmp_path: Path) -> None:
    program = shutil.which("prlimit")
    if program is None:
        pytest.skip("missing: prlimit; apt install util-linux")
    words = ("--fsize=100", str(FOLDER / "jumpstarter-exporter"), "init", "rpi4.yaml")
    code, out, err = run(tmp_path, bus.environment, *words, program=program)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "rpi4.yaml cannot be written: File too large; name another file, or - to print it" in err
    assert not (tmp_path / "rpi4.yaml").exists()


def test_a_profile_whose_driver_is_wrong_does_not_make_the_file_wrong(bus: MockedBus, tmp_path: Path) -> None:
    bus.plug(DeviceTree(equipped().devices))
    profiles = tmp_path / ".config/jumpstarter/profiles.d"
    profiles.mkdir(parents=True)
    match = "match: {subsystem: tty, vendor: '0403'}"
    (profiles / "mine.yaml").write_text(f"profiles: {{mine: {{{match}, type: serial.PySeral}}}}\n")
    code, out, err = run(tmp_path, bus.environment, "init", "rpi4.yaml")
    assert (code, err) == (ExitCode.OK, "")
    assert out.startswith("rpi4.yaml: relays, storage, video; ")
    said = comments((tmp_path / "rpi4.yaml").read_text())
    assert "now /dev/ttyUSB0: its profile mine is wrong: " in said
    assert "unknown type 'serial.PySeral'" in said
    assert run(tmp_path, bus.environment, "check", "rpi4.yaml")[0] == ExitCode.OK


def test_a_host_without_devices_gets_a_virtual_board_that_works(bus: MockedBus, tmp_path: Path) -> None:
    code, out, err = run(tmp_path, bus.environment, "init")
    assert (code, err) == (ExitCode.OK, "")
    assert "nothing was found that can be offered at once, so it has a virtual board: virtual" in out
    (written,) = tmp_path.glob("*.yaml")
    assert run(tmp_path, bus.environment, "check", written.name)[0] == ExitCode.OK
    words = ("power", "on", "--exporter-config", written.name)
    assert run(tmp_path, {}, *words, program="jumpstarter")[0] == ExitCode.OK


def test_a_dash_prints_the_file_and_nothing_else(bus: MockedBus, tmp_path: Path) -> None:
    host = Host()
    (root,) = host.controller("/devices/platform/soc/3f980000.usb", 1, 2)
    host.tty(host.plug(root, 1, "0403:6001", "A5\x1b[2J", "x: {}\x1b]0;\x07"))
    bus.plug(DeviceTree(host.devices))
    code, out, err = run(tmp_path, bus.environment, "init", "-")
    assert (code, err) == (ExitCode.OK, "")
    assert "\x1b" not in out
    assert set(yaml.safe_load(out)["export"]) == {"serial"}
    assert not list(tmp_path.glob("*.yaml"))
