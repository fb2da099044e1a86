"""boot.yaml in Python: `pytest --jumpstarter-exporter lab.yaml docs/examples/test_boot.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

IMAGE = Path("hello.img")


@pytest.fixture
def board(jumpstarter: Any) -> Iterator[Any]:
    """The board, switched off; left off and with its storage, whatever happens."""
    board = jumpstarter.rpi4
    board.power.off()
    yield board
    board.power.off()
    board.storage.dut()


@pytest.mark.jumpstarter(requires=["power", "serial", "storage"])
def test_the_board_boots_to_a_shell(board: Any) -> None:
    board.storage.flash(IMAGE)
    with board.serial.console() as console:
        board.power.on()
        console.login("root", timeout=60)
        assert "NAME=" in console.run("cat /etc/os-release").check()
        assert console.run("uname -r").output.strip()
