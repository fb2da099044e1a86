"""The rows about flashing again, on a medium as slow as a card, below both sides by the same means.

`throttle.c` is preloaded into either exporter, so that reads and writes of the medium take as long as a card's. Both
sides have 0.9's mock of a multiplexer, whose medium is a file; the peer sends and writes the whole image each time, and
does not read it back.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jumpstarter_proto.remote import Kind

from tests.bench.lab import lab
from tests.bench.process import Worker
from tests.bench.result import Result, filled, interleaved
from tests.bench.upstream import PEER, Bench
from tests.interop import exporters
from tests.interop.hardware import MIB, write_image
from tests.support.block_maps import block_map
from tests.support.images import mbr

READ_RATE = 80e6
WRITE_RATE = 25e6
"""Bytes a second, of a card in a USB reader."""
SIZE = 256 * MIB
MAPPED_SIZE = 1024 * MIB
MAPPED_SHARE = 0.3
BLOCK = 4096
PATIENCE_SECONDS = 900.0
SOURCE = Path(__file__).with_name("throttle.c")
WORKER = Path(__file__).with_name("flashing_worker.py")
CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: bench}
endpoint: ""
token: ""
export:
  storage:
    type: jumpstarter_driver_opendal.driver.MockStorageMuxFlasher
"""
HOLD = "    config: {hold: true}\n"
"""Of ours: nobody else has the medium."""


@dataclass(frozen=True)
class Side:
    """A client with an open session, and the folder that has the medium."""

    worker: Worker
    folder: Path

    def flash(self, image: Path, **options: Any) -> float:
        """Seconds of one flash."""
        return self.worker.do("flash", [str(image), options], PATIENCE_SECONDS)[0]

    @property
    def medium(self) -> Path:
        """The largest file of the exporter's."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return max(files, key=lambda path: path.stat().st_size)


@contextmanager
def slow_sides(bench: Bench, *, with_peer: bool = True) -> Iterator[list[Side]]:
    """Ours, and the peer before it, each with a slow medium of its own."""
    with ExitStack() as stack:
        found = []
        for name in ("theirs", "ours") if with_peer else ("ours",):
            folder = bench.folder(f"slow-{name}")
            config = folder / "exporter.yaml"
            config.write_text(CONFIG if name == "theirs" else CONFIG + HOLD)
            installed = bench.theirs if name == "theirs" else bench.ours
            with _throttled(bench, folder):
                exporter = stack.enter_context(
                    exporters.their_unix(installed, config, folder)
                    if name == "theirs"
                    else exporters.our_unix(config, folder, installed)
                )
            worker = Worker([installed.python, "-P", WORKER, name], bench.environment(exporter))
            found.append(Side(stack.enter_context(worker), folder))
        yield found


@contextmanager
def _throttled(bench: Bench, folder: Path) -> Iterator[None]:
    """Processes that are started in the block have a slow medium in `folder`."""
    library = bench.home / "throttle.so"
    if not library.exists():
        compiler = shutil.which("cc") or "gcc"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True)
    slow = {
        "LD_PRELOAD": str(library),
        "THROTTLE_DIR": str(folder),
        "THROTTLE_READ": str(READ_RATE),
        "THROTTLE_WRITE": str(WRITE_RATE),
    }
    os.environ.update(slow)
    try:
        yield
    finally:
        for name in slow:
            del os.environ[name]


def changed(bench: Bench, repeats: int) -> Result:
    """The board has booted since: it wrote to 1 % of the blocks."""
    chance = random.Random(1)
    row = Result("flash-changed", PEER, "256 MiB again, 1 % changed", "MB/s", 0, 0, 2.5, False, 0)
    return _against_whole(bench, repeats, row, lambda side: _boot(side.medium, chance))


def untouched(bench: Bench, repeats: int) -> Result:
    """Nobody wrote since."""
    row = Result("flash-untouched", PEER, "256 MiB again, untouched", "MB/s", 0, 0, 10, False, 0)
    return _against_whole(bench, repeats, row, lambda _: None)


def first(bench: Bench, repeats: int) -> Result:
    """Another system is on the medium, so that nothing is the same; ours reads back what it wrote."""
    row = Result("flash-first", PEER, "256 MiB where another image was", "MB/s", 0, 0, None, False, 0)

    def overwrite(side: Side) -> None:
        with side.medium.open("r+b") as medium:
            for _ in range(SIZE // MIB):
                medium.write(random.randbytes(BLOCK) * (MIB // BLOCK))

    return _against_whole(bench, repeats, row, overwrite)


def _against_whole(bench: Bench, repeats: int, row: Result, before: Callable[[Side], None]) -> Result:
    image = _image(bench)
    with slow_sides(bench) as (theirs, ours):

        def flash(side: Side) -> float:
            before(side)
            return side.flash(image)

        for side in (theirs, ours):
            side.flash(image)
        seconds = interleaved(max(2, repeats // 5), lambda: flash(theirs), lambda: flash(ours))
    return filled(row, *[[SIZE / 1e6 / value for value in side] for side in seconds])


def mapped(bench: Bench, _repeats: int) -> Result:
    """An image of which 30 % is mapped, onto a medium with something else: by its block map, and without."""
    image = bench.home / "mapped.img"
    _write_mapped(image)
    row = Result("flash-mapped", "no block map", "1 GiB, 30 % mapped", "MB/s", 0, 0, 2.5, False, 0)
    with slow_sides(bench, with_peer=False) as (ours,):
        ours.flash(_image(bench))  # makes the medium

        def flash(**options: Any) -> float:
            noise = random.randbytes(MIB)
            with ours.medium.open("r+b") as medium:
                for _ in range(MAPPED_SIZE // MIB):
                    medium.write(noise)
            return ours.flash(image, **options)

        without, by_map = [flash(bmap="none")], [flash()]
    image.unlink()
    rates = [[MAPPED_SIZE / 1e6 / value for value in side] for side in (without, by_map)]
    return replace(filled(row, *rates), repeats=1)


def travelled(bench: Bench, repeats: int) -> Result:
    """What comes into the router while an image is flashed again of which the board has changed 1 %."""
    image, card = _image(bench), bench.home / "travelled.card"
    shutil.copyfile(image, card)
    chance, port, megabytes = random.Random(2), exporters.free_port(), []
    with lab(bench.home / "flashing", "--metrics-listen", f"127.0.0.1:{port}") as here:
        export = {"storage": {"type": "storage.FileStorage", "config": {"path": str(card)}}}
        config = here.configuration(Kind.EXPORTER, export)
        command: exporters.Command = [exporters.scripts() / "jumpstarter-exporter", "run", "--config", config]
        here.daemon(*command, "--log-level", "warning").first_line()
        client = here.configuration(Kind.CLIENT)
        home = client.with_suffix("")
        (home / "clients").mkdir(parents=True)
        (home / "clients" / "me.yaml").write_text(client.read_text())
        (home / "config.yaml").write_text("config: {current-client: me}\n")
        lease = here.lease(client)
        worker = here.worker(WORKER, "ours", JMP_LEASE=lease, JMP_CLIENT_CONFIG_HOME=str(home))
        for _ in range(max(2, repeats // 5)):
            _boot(card, chance)
            before = _router_bytes(port)
            worker.do("flash", [str(image), {}], PATIENCE_SECONDS)
            megabytes.append((_router_bytes(port) - before) / 1e6)
    card.unlink()
    row = Result("flash-travels", "image size", "through the router, 1 % changed", "MB", 0, 0, 0.03, True, 0)
    return filled(row, [SIZE / 1e6] * len(megabytes), megabytes)


def _router_bytes(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.search(r'^jumpstarter_router_bytes_total{direction="in"} (\S+)$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("the router says nothing of its bytes")
    return float(found[1])


def _image(bench: Bench) -> Path:
    path = bench.home / "image"
    if not path.exists():
        write_image(path, SIZE)
        with path.open("r+b") as file:
            file.write(mbr()[:512])
    return path


def _boot(medium: Path, chance: random.Random) -> None:
    """Write to 1 % of the blocks: half of them alone, half in runs of 64 KiB."""
    blocks = SIZE // BLOCK
    count = blocks // 100
    places = chance.sample(range(blocks), count // 2)
    for _ in range(count // 2 // 16):
        start = chance.randrange(blocks - 16)
        places += range(start, start + 16)
    with medium.open("r+b") as file:
        for place in places:
            file.seek(place * BLOCK)
            file.write(chance.randbytes(BLOCK))


def _write_mapped(path: Path) -> None:
    """Runs of blocks that are there, and the map that says which."""
    step = 4 * MIB
    count = int(step * MAPPED_SHARE) // BLOCK
    ranges = []
    with path.open("wb") as file:
        file.truncate(MAPPED_SIZE)
        for offset in range(0, MAPPED_SIZE, step):
            file.seek(offset)
            file.write(random.randbytes(count * BLOCK))
            ranges.append((offset // BLOCK, offset // BLOCK + count - 1))
        file.seek(0)
        file.write(mbr()[:512])
    path.with_name(path.name + ".bmap").write_bytes(block_map(path.read_bytes(), ranges))
