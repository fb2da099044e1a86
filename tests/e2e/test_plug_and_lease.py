"""From a plug to a lease: a host that was paired once, on a bus of umockdev's, its controller, and a waiting client.

Nothing is written by hand, and no command on the host follows its enrolment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import LIMIT, Lab, Reader
from tests.e2e.test_host_registration import Host, found
from tests.support import lab as support
from tests.support.umockdev import require_umockdev
from tools.mocked_host.bench import FTDI, Bench

PATH = "ft232r-a50285bj.serial"


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    require_umockdev()
    with Lab.opened(host=warm_lab) as lab:
        yield lab


def devices(lab: Lab, exporter: str, client: Path) -> dict[str, dict[str, Any]]:
    """What the controller knows of an exporter's devices, by path."""
    said = json.loads(lab.ok("exporters", "show", exporter, "-o", "json", "--client", client))
    return {one["path"]: one for one in said["devices"]}


def console(lab: Lab, board: int, *words: str | Path) -> None:
    """Whoever pipes the console of a lease reads what the board says."""
    with lab.start("serial", "pipe", "--input", *words) as process:
        reader = Reader(process)

        def said() -> bool:
            os.write(board, b"login:\n")  # again and again, as nobody knows when the console is open
            return "login:" in reader.text["out"]

        lab.until(said)
        process.terminate()
        reader.end()


def test_an_adapter_is_leased_by_who_waited_for_it_and_is_the_same_at_another_port(
    lab: Lab, bench: Bench
) -> None:
    ann = lab.client("ann")
    waiting = lab.start(
        "lease", "create", "-l", "host=pi4", "--wait-for-board", "-o", "name", "--client", ann
    )
    host = Host(lab, other="")
    host.enrol()
    # The other board of the host is leased, and somebody switches it, whatever is plugged in.
    daemon = host.start(**bench.environment)
    lab.until(lambda: found(lab).get("pi4-other", {}).get("status") in ("AVAILABLE", "LEASE_READY"))
    assert waiting.wait(LIMIT) == 0
    other = waiting.stdout.read().strip() if waiting.stdout else ""
    lab.ok("power", "on", "--lease", other, "--client", ann)

    bob = lab.client("bob")
    wanted = lab.start(
        *("lease", "create", "-l", "host=pi4,board=pi4", "--wait-for-board", "-o", "name", "--client", bob)
    )
    assert wanted.stderr is not None
    assert "no such board yet" in wanted.stderr.readline()
    board = bench.plug(2, *FTDI)
    assert wanted.wait(LIMIT) == 0
    lease = wanted.stdout.read().strip() if wanted.stdout else ""
    before = devices(lab, "pi4", bob)[PATH]
    console(lab, board, "--lease", lease, "--client", bob)

    bench.unplug(2)
    # The port says first that it is gone, and udev then when.
    lab.until(lambda: devices(lab, "pi4", bob)[PATH]["reason"].startswith("unplugged at "))
    assert devices(lab, "pi4", bob)[PATH]["state"] == "missing"
    assert "unplugged at" in lab.ok("devices", "--lease", lease, "--client", bob)
    lab.ok("power", "off", "--lease", other, "--client", ann)

    board = bench.plug(4, *FTDI)
    lab.until(lambda: devices(lab, "pi4", bob)[PATH]["state"] != "missing")
    assert devices(lab, "pi4", bob)[PATH]["interface"] == before["interface"] == "serial"
    console(lab, board, "--lease", lease, "--client", bob)
    lab.ok("lease", "release", lease, "--client", bob)

    bench.unplug(4)
    why = f"hardware: the device {PATH} is missing: unplugged at "
    lab.until(lambda: why in lab.ok("exporters", "show", "pi4", "--client", bob))
    assert found(lab)["pi4"]["status"] != "AVAILABLE"
    lab.ok("power", "on", "--lease", other, "--client", ann)
    assert "Traceback" not in daemon.log.read_text()
