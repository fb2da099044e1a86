"""Tests of boards, in YAML and in pytest, on a leased board with no change but the selector."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.e2e.lab import LIMIT, Lab, Reader
from tests.support import lab as support


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        lab.exporter("one")
        yield lab


BOOT = """
name: boot
board: rpi4
steps:
  - power.on
  - wait: @WAIT@
  - power.off
"""


def test_a_yaml_test_on_a_leased_board_and_one_that_loses_it(lab: Lab) -> None:
    ann = lab.client("ann")
    (lab.home / "boot.yaml").write_text(BOOT.replace("@WAIT@", "100ms"))
    out = lab.ok("test", "boot.yaml", "-l", "board=rpi4", "--client", ann)
    assert "1 passed" in out
    assert lab.leases(ann) == {}
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    (lab.home / "boot.yaml").write_text(BOOT.replace("@WAIT@", "10m"))
    test = lab.start("test", "boot.yaml", "-n", "one", "--duration", "4m", "--client", ann)
    lab.until(lambda: lab.status("one") == "LEASE_READY")
    lab.expire(ann)
    out, err = test.communicate(timeout=LIMIT)  # and not ten minutes
    assert test.returncode == 8, out + err
    assert "the lease has ended: its time is over" in out
    assert "the lease ends in" in err


def test_pytest_on_a_leased_board_tells_of_its_end(lab: Lab) -> None:
    ann = lab.client("ann")
    (lab.home / "test_it.py").write_text(
        "import pathlib, time\n\n"
        "def test_on(jumpstarter):\n    jumpstarter.rpi4.power.on()\n\n"
        "def test_late(jumpstarter):\n    pathlib.Path('late').touch()\n"
        "    for _ in range(600):\n        time.sleep(0.1)\n        jumpstarter.rpi4.power.off()\n"
    )
    words = ["-p", "no:cacheprovider", "--jumpstarter-selector", "board=rpi4", "--jumpstarter-duration", "4m"]

    def run(*more: str) -> Reader:
        environment = {"PYTHONDONTWRITEBYTECODE": "1", "JMP_CLIENT_CONFIG": ann}
        return Reader(lab.start_program(sys.executable, "-m", "pytest", *words, *more, **environment))

    code, out, err = run("-k", "on").end()
    assert (code, "1 passed" in out) == (0, True), out + err
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    both = run()
    lab.until(lambda: (lab.home / "late").exists() or both.process.poll() is not None)
    lab.expire(ann)
    code, out, err = both.end()
    assert (code, "1 failed, 1 passed" in out) == (1, True), out + err
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    assert "- lease -" in out
    assert "= jumpstarter lease =" in out
    assert out.count("the lease has ended: its time is over") >= 2
    assert lab.leases(ann) == {}


def test_pytest_shows_what_it_waits_for(lab: Lab) -> None:
    ann, bob = lab.client("ann"), lab.client("bob")
    (lab.home / "test_it.py").write_text("def test_on(jumpstarter):\n    jumpstarter.rpi4.power.on()\n")
    name = lab.ok("lease", "create", "-l", "board=rpi4", "-o", "name", "--client", bob).strip()
    words = ["-p", "no:cacheprovider", "--jumpstarter-selector", "board=rpi4"]
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "JMP_CLIENT_CONFIG": ann}
    waiting = Reader(lab.start_program(sys.executable, "-m", "pytest", *words, **environment))
    lab.until(lambda: "next in the queue" in waiting.text["err"] or waiting.process.poll() is not None)
    assert (
        "Waiting for a board: all exporters that it may have are leased; next in the queue"
        in waiting.text["err"]
    )
    lab.ok("lease", "release", name, "--client", bob)
    code, out, err = waiting.end()
    assert (code, "1 passed" in out) == (0, True), out + err
