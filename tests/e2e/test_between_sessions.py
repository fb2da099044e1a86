"""The state of a board between two leases, as users see it: as the first lease left it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.lab import Lab
from tests.support import lab as support

EXPORT = "export:\n  rpi4: {type: virtual.VirtualBoard, config: {hostname: rpi4, boot_seconds: 0}}\n"


@pytest.fixture
def lab(warm_lab: support.Lab) -> Iterator[Lab]:
    with Lab.opened(host=warm_lab) as lab:
        yield lab


def test_board_that_one_lease_switched_on_is_at_its_prompt_in_the_next(lab: Lab) -> None:
    """`power on`, and minutes later the console: each command leases the board for itself."""
    lab.exporter("one", export=EXPORT)
    board = ("-l", "board=rpi4", "--client", lab.client("ann"))
    lab.ok("power", "on", "rpi4", *board)
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    assert "voltage=5.0 V" in lab.ok("power", "read", "rpi4", *board)
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    assert lab.ok("serial", "run", "rpi4", *board, "--", "uname -n").strip() == "rpi4"
    lab.until(lambda: lab.status("one") == "AVAILABLE")
    wrong = lab.run("serial", "run", "rpi4", "uname", "-n", *board)
    assert "goes after --: jumpstarter serial run rpi4 -- uname -n" in wrong.stderr
