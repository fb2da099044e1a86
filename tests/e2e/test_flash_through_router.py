"""A leased board's card is flashed again: of an image of which the board has changed little, little travels."""

from __future__ import annotations

import random
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import Lab
from tests.interop.exporters import free_port
from tests.support.images import mbr

BLOCK = 4096
SIZE = 16 << 20
CHANGED = SIZE // BLOCK // 100
EXPORT = """export:
  storage:
    type: storage.FileStorage
    config: {path: @CARD@}
"""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def lab(port: int) -> Iterator[Lab]:
    with Lab.opened("--metrics-listen", f"127.0.0.1:{port}") as lab:
        yield lab


def carried(port: int) -> float:
    """Bytes that came into the router."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    (found,) = re.findall(r'^jumpstarter_router_bytes_total{direction="in"} (\S+)$', text, re.MULTILINE)
    return float(found)


def test_a_changed_card_is_flashed_by_one_percent_of_the_image_and_says_so(lab: Lab, port: int) -> None:
    card, image = lab.home / "card.img", lab.home / "image.img"
    data = mbr()[:512] + random.Random(11).randbytes(SIZE - 512)
    image.write_bytes(data)
    card.write_bytes(data)
    _boot(card)
    lab.exporter("one", export=EXPORT.replace("@CARD@", str(card)))
    client = ("-l", "board=rpi4", "--client", str(lab.client("ann")))
    before = carried(port)
    said = lab.ok("storage", "flash", *client, str(image))
    assert f"flashed {SIZE} bytes" in said
    assert f"{CHANGED * BLOCK} of them written, verified" in said
    assert card.read_bytes() == data
    assert CHANGED * BLOCK < carried(port) - before <= 0.03 * SIZE


def _boot(card: Path) -> None:
    """What a board does: it writes to one percent of the blocks."""
    chance = random.Random(12)
    with card.open("r+b") as file:
        for block in chance.sample(range(SIZE // BLOCK), CHANGED):
            file.seek(block * BLOCK)
            file.write(chance.randbytes(BLOCK))
