"""Devices that vanish while they are opened, or cannot be opened, or are claimed twice: each is its own trouble.

A whole exporter on a bus of umockdev's, which serves what is plugged in, and its users.
"""

from __future__ import annotations

import grp
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import LIMIT, Lab
from tests.e2e.test_plugging import boards, console, exporter, running, said, until
from tests.support.lock_holder import holding
from tools.mocked_host.bench import FTDI, Bench

ROOT = Path(__file__).resolve().parents[2]
PATH = "ft232r-a50285bj.serial"
BY_ID = "dev/serial/by-id/usb-0403_FT232R_USB_UART_A50285BJ-if00-port0"
OTHER = "0403:6001", "A5NEIGHBOUR", "FT232R USB UART"
NEIGHBOUR = "ft232r-a5neighbour.serial"


def configure(bench: Bench, name: str, text: str) -> None:
    file = bench.home / ".config" / "jumpstarter" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def lead_to(bench: Bench, target: str | Path) -> Path:
    """The link of the adapter that is plugged in next leads there."""
    link = bench.home / BY_ID
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return link


@contextmanager
def terminal() -> Iterator[tuple[int, str]]:
    """One that nobody closes when an adapter is unplugged: its other end, and its name."""
    board, far = os.openpty()
    try:
        yield board, os.ttyname(far)
    finally:
        os.close(board)
        os.close(far)


def device(lab: Lab, path: str = PATH) -> dict[str, str]:
    (devices,) = boards(lab).values()
    return devices.get(path, {"state": "", "reason": ""})


def test_a_call_for_which_a_device_is_opened_that_vanishes_ends_at_once(bench: Bench) -> None:
    configure(
        bench,
        "profiles.d/greeting.yaml",
        "disable: [serial-adapter]\nprofiles: {greeting: {match: {subsystem: tty}, "
        "type: tests.support.greeting_device.GreetingDevice, interface: power, config: {path: '{link}'}}}\n",
    )
    with terminal() as (board, name), running(bench, f"PYTHONPATH={ROOT}") as lab:
        link = lead_to(bench, name)
        bench.plug(2, *FTDI)
        until(lambda: device(lab, "ft232r-a50285bj.power")["state"] != "")
        with lab.start("jumpstarter", "power", "on") as command:
            until(lambda: link.with_name(f"{link.name}.opening").exists())
            bench.unplug(2)
            _, err = command.communicate(timeout=LIMIT / 2)  # opening may take as long as LIMIT
        assert command.returncode
        assert "ft232r-a50285bj.power is not there: unplugged at " in err
        link.symlink_to(name)
        bench.plug(2, *FTDI)
        until(lambda: device(lab, "ft232r-a50285bj.power")["state"] != "missing")
        os.write(board, b"hello\n")
        lab.ok("power", "on")


def test_an_adapter_that_vanishes_while_it_is_opened_is_missing_and_works_when_it_is_back(
    bench: Bench,
) -> None:
    bench.plug(5, *OTHER)
    with running(bench) as lab:
        for number in range(12):
            bench.plug(2, *FTDI)
            if number % 3 == 1:
                bench.hang_up(2)  # its other end is gone, and udev says so later
            time.sleep(number * 0.01)  # another moment of its being opened each time
            bench.unplug(2)
        until(lambda: "unplugged at " in device(lab)["reason"])
        board = bench.plug(2, *FTDI)
        with console(lab, PATH) as reader:
            until(said(board, b"login:\n", reader))
        assert device(lab, NEIGHBOUR)["state"] == "ready"
        log = lab.daemon.log.read_text()
    assert "ERROR" not in log
    assert "Traceback" not in log


def test_an_adapter_that_another_program_has_open_says_which_and_is_used_when_that_ends(bench: Bench) -> None:
    with terminal() as (board, name), holding(name) as other:
        lead_to(bench, name)
        bench.plug(5, *OTHER)
        bench.plug(2, *FTDI)
        with running(bench) as lab:
            until(lambda: device(lab)["state"] == "failed")
            why = f"{bench.home / BY_ID} is open in python"
            assert device(lab)["reason"].startswith(why)
            # This process has the other end, and so the terminal; which of the two is named first is by number.
            assert f"(process {other.pid})" in device(lab)["reason"]
            assert device(lab)["reason"].endswith("; end that first")
            assert f"(process {other.pid})" in lab.daemon.log.read_text()
            assert device(lab, NEIGHBOUR)["state"] == "ready"
            code, err = lab.refused("serial", "pipe", PATH)
            assert code
            assert f"(process {other.pid})" in err
            other.communicate(b"\n", timeout=LIMIT)
            with console(lab, PATH) as reader:
                until(said(board, b"login:\n", reader))


def test_an_adapter_that_the_exporter_may_not_open_says_which_group_may(bench: Bench) -> None:
    if os.geteuid() != 0:
        pytest.skip("missing: root, who may give a node away")
    bench.plug(5, *OTHER)
    as_others_are = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    with terminal() as (_, name), running(bench, *as_others_are) as lab:
        os.chown(name, 65534, grp.getgrnam("dialout").gr_gid)
        os.chmod(name, 0o660)
        lead_to(bench, name)
        bench.plug(2, *FTDI)
        until(lambda: device(lab)["state"] == "failed")
        cure = "add its user root to the group dialout, and start it again"
        why = f"the exporter may not open {bench.home / BY_ID}; {cure}"
        assert device(lab)["reason"] == why
        assert why in lab.refused("serial", "pipe", PATH)[1]
        assert why in lab.daemon.log.read_text()
        assert device(lab, NEIGHBOUR)["state"] == "ready"


def test_an_adapter_of_which_two_profiles_claim_the_same_says_which(bench: Bench) -> None:
    profiles = "".join(
        f"  {name}: {{match: {{subsystem: tty, serial: A50285BJ}}, type: serial.PySerial, "
        "config: {url: '{link}'}}\n"
        for name in ("mine", "yours")
    )
    configure(bench, "profiles.d/twice.yaml", f"profiles:\n{profiles}")
    bench.plug(2, *FTDI)
    bench.plug(5, *OTHER)
    with running(bench) as lab:
        assert device(lab)["state"] == "failed"
        assert device(lab)["reason"].startswith("mine and yours match equally well for serial")
        assert "mine and yours match equally well for serial" in lab.refused("serial", "pipe", PATH)[1]
        until(lambda: device(lab, NEIGHBOUR)["state"] == "ready")
        configure(bench, "profiles.d/twice.yaml", f"profiles:\n{profiles.splitlines()[0]}\n")
        exporter(lab, "reload")
        until(lambda: device(lab)["state"] == "ready")


def test_a_board_that_is_named_twice_changes_no_board_and_is_said_with_its_place(bench: Bench) -> None:
    configure(bench, "boards.yaml", "boards:\n  rpi4: {ports: [1-1.2]}\n")
    bench.plug(2, *FTDI)
    with running(bench) as lab:
        (name,) = boards(lab)
        assert name.endswith("-rpi4")
        configure(bench, "boards.yaml", "boards:\n  rpi4: {ports: [1-1.2]}\n  rpi4: {ports: [1-1.5]}\n")
        process = lab.start("jumpstarter-exporter", "reload")
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode
        place = "boards.yaml:3:3: "
        assert place in out + err
        assert "rpi4" in (out + err).partition(place)[2]
        assert place in exporter(lab, "boards")
        assert place in lab.daemon.log.read_text()
        assert set(boards(lab)) == {name}
