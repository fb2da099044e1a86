"""A hub with all that hangs on it, plugged into a host of a controller's and unplugged, on a bus of umockdev's."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import LIMIT, Lab, Reader
from tests.e2e.test_host_registration import Host, available, found
from tests.support import lab as support
from tests.support.umockdev import require_umockdev
from tools.mocked_host.bench import FTDI, Bench
from tools.mocked_host.bus import answering_ioctls

SAME = "0403:6015", "DN01TWIN", "FT231X USB UART"
CP2102 = "10c4:ea60", "0001", "CP2102 USB to UART Bridge Controller"
CH340 = "1a86:7523", "", "USB Serial"
EIGHT = {
    1: FTDI,
    2: ("0403:6001", "A50285BK", "FT232R USB UART"),
    3: CP2102,
    4: CP2102,
    5: CH340,
    6: CH340,
    7: SAME,
    8: SAME,
}
IDENTITIES = {
    "ft232r-a50285bj.serial": "serial number A50285BJ",
    "ft232r-a50285bk.serial": "serial number A50285BK",
    "cp2102-1-1-4-3.serial": "port 1-1.4.3",
    "cp2102-1-1-4-4.serial": "port 1-1.4.4",
    "ch340-1-1-4-5.serial": "port 1-1.4.5",
    "ch340-1-1-4-6.serial": "port 1-1.4.6",
    "one of two": "port 1-1.4.7",
    "two of two": "port 1-1.4.8",
}
"""By name. None waits for another, so of two with the same serial number the first may be named by it, and stays so."""


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    require_umockdev()
    with Lab.opened(host=warm_lab) as lab:
        yield lab


def by_name(devices: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Devices as `IDENTITIES` calls them; those with the same serial number in the order of their ports, if known."""
    of_two = [one for one in devices if one["path"].startswith("ft230x-")]
    of_two.sort(key=lambda one: (one.get("identity", ""), one["path"]))
    named = dict(zip(("one of two", "two of two"), of_two, strict=False))
    return {one["path"]: one for one in devices if one not in of_two} | named


class Known:
    """What the controller knows of an exporter's devices, and all that it knew while somebody waited."""

    def __init__(self, lab: Lab, exporter: str, client: Path) -> None:
        self.lab = lab
        self._words = ("exporters", "show", exporter, "-o", "json", "--client", client)
        self.history: list[dict[str, str]] = []

    def look(self) -> dict[str, dict[str, Any]]:
        devices = json.loads(self.lab.ok(*self._words))["devices"]
        return by_name([one for one in devices if "." in one["path"]])

    def until(self, states: dict[str, str]) -> dict[str, dict[str, Any]]:
        """It knows these devices, missing or not."""
        now: dict[str, dict[str, Any]] = {}

        def holds() -> bool:
            nonlocal now
            now = self.look()
            said = {path: "missing" if one["state"] == "missing" else "there" for path, one in now.items()}
            if said not in self.history[-1:]:
                self.history.append(said)
            return said == states

        try:
            self.lab.until(holds)
        except AssertionError:
            raise AssertionError(f"what it knew one after the other: {self.history}") from None
        return now


def test_each_of_eight_adapters_of_a_hub_comes_once_and_goes_once(lab: Lab, bench: Bench) -> None:
    host = Host(lab)
    host.enrol()
    daemon = host.start(**bench.environment)
    lab.until(lambda: "pi4" in found(lab))
    known = Known(lab, "pi4", lab.client("ann"))
    there, missing = dict.fromkeys(IDENTITIES, "there"), dict.fromkeys(IDENTITIES, "missing")

    known.until({})
    lines = bench.plug_hub(4, EIGHT)
    known.until(there)
    before = devices(host)
    assert {path: one["identity"] for path, one in before.items()} == IDENTITIES
    bench.unplug(4)
    known.until(missing)
    # A console notices by itself that its port is gone, perhaps before udev has said that it was unplugged.
    lab.until(lambda: all("unplugged at " in one["reason"] for one in known.look().values()))
    lab.until(lambda: found(lab)["pi4"]["status"] != "AVAILABLE")
    assert lines.keys() == EIGHT.keys()
    bench.plug_hub(4, EIGHT)
    known.until(there)
    # No adapter flickered. A busy machine may bring them in two parts, since none waits for another.
    for path in IDENTITIES:
        states = [state for state, _ in itertools.groupby(one.get(path) for one in known.history)]
        assert states == [None, "there", "missing", "there"], path
    available(lab, "pi4")
    assert {path: one["uuid"] for path, one in devices(host).items()} == {
        path: one["uuid"] for path, one in before.items()
    }
    assert "Traceback" not in daemon.log.read_text()


def devices(host: Host) -> dict[str, dict[str, Any]]:
    """What the exporter says."""
    (board,) = json.loads(host.run("boards", "-o", "json").stdout)["boards"]
    return by_name(board["devices"])


def test_a_hub_of_which_each_board_has_a_part_is_both_boards_and_what_is_plugged_beside_it_is_none(
    lab: Lab, bench: Bench
) -> None:
    host = Host(lab)
    host.enrol()
    config = host.home / ".config" / "jumpstarter"
    config.joinpath("boards.yaml").write_text(
        "boards: {rpi4: {ports: ['1-1.4.[1-4]']}, rock: {ports: ['1-1.4.[5-8]']}}\n"
    )
    host.start(**bench.environment)
    bench.plug(2, "0403:6001", "A5NOBODY", "FT232R USB UART")
    bench.plug_hub(4, EIGHT)
    available(lab, "pi4-rpi4", "pi4-rock")
    ann = lab.client("ann")
    paths = list(IDENTITIES)
    for name, part in (("pi4-rpi4", paths[:4]), ("pi4-rock", paths[4:])):
        Known(lab, name, ann).until(dict.fromkeys(part, "there"))
    assert "ft232r-a5nobody.serial: " in host.run("boards").stdout.partition("Unassigned")[2]


def test_a_hub_that_is_unplugged_ends_the_flash_on_it_at_once_and_nothing_else(
    lab: Lab, bench: Bench, tmp_path: Path
) -> None:
    host = Host(lab)
    host.enrol()
    profiles = host.home / ".config" / "jumpstarter" / "profiles.d"
    profiles.mkdir()
    profiles.joinpath("disks.yaml").write_text("enable: [usb-storage]\n")
    board = bench.plug(2, *FTDI)
    bench.plug_disk(4)
    lab.stack.enter_context(answering_ioctls(bench.bus))
    daemon = host.start(**bench.environment)
    available(lab, "pi4")
    ann = lab.client("ann")
    lease = lab.ok("lease", "create", "-l", "host=pi4", "-o", "name", "--client", ann).strip()
    of_lease = ("--lease", lease, "--client", ann)
    image = tmp_path / "image"
    os.mkfifo(image)
    with lab.start("serial", "pipe", "--input", *of_lease) as process:
        reader = Reader(process)

        def said(text: str) -> bool:
            os.write(board, f"{text}\n".encode())  # again and again, as nobody knows when the console is open
            return text in reader.text["out"]

        lab.until(lambda: said("before"))
        command = 'exec jumpstarter storage flash - --force --whole --lease "$2" --client "$3" <"$1"'
        flash = lab.start_program("sh", "-c", command, "sh", image, lease, ann)
        with image.open("wb", buffering=0) as stream:
            stream.write(b"x" * 100_000)
            status = ("storage", "status", "-o", "json", *of_lease)
            lab.until(lambda: '"writing"' in lab.ok(*status))
            bench.unplug(4)
            # Nobody ends the image: it is the hub that ends the flash.
            _, why = flash.communicate(timeout=LIMIT)
        assert flash.returncode not in (None, 0)
        assert "unplugged at " in why
        assert len(why.strip().splitlines()) == 1, why
        lab.until(lambda: said("after"))
        process.terminate()
        reader.end()
    assert not lab.leases(ann)[lease].get("effective_end_time")
    assert "unplugged at " in lab.ok("devices", *of_lease)

    bench.plug_disk(4)
    lab.until(lambda: "unplugged at " not in lab.ok("devices", *of_lease))
    card = json.loads(lab.ok("storage", "status", "-o", "json", *of_lease))
    assert card["content"] == "incomplete"
    assert "Traceback" not in daemon.log.read_text()
