"""Run `jumpstarter-exporter` and write to FILE how long its event loop was blocked: FILE, and its arguments.

At its end it writes the file: a JSON list of what the loop did without looking for input or for what is due, each as
`Spell`, of those that took a millisecond or more.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import trio

__all__ = ["Spell", "read_spells"]

SHORTEST_SECONDS = 0.001


@dataclass(frozen=True)
class Spell:
    """What a loop did between two looks. Times are in seconds."""

    ended: float
    """By time.monotonic, which all processes share."""
    processor: float
    """Of the loop's thread: no load of the machine counts, nor does a disk that is waited for."""
    wall: float


def read_spells(file: Path) -> list[Spell]:
    """Of an exporter that has ended."""
    return [Spell(**one) for one in json.loads(file.read_text())]


class _Watch(trio.abc.Instrument):
    def __init__(self) -> None:
        self.spells: list[Spell] = []
        self._began: tuple[float, float] | None = None

    def after_io_wait(self, timeout: float) -> None:
        self._began = time.thread_time(), time.monotonic()

    def before_io_wait(self, timeout: float) -> None:
        if self._began is None:
            return
        now = time.monotonic()
        processor, wall = time.thread_time() - self._began[0], now - self._began[1]
        if wall >= SHORTEST_SECONDS:
            self.spells.append(Spell(now, processor, wall))


def main(file: Path, arguments: list[str]) -> None:
    from jumpstarter_exporter.cli import main as run

    watch = _Watch()
    trio.run = partial(trio.run, instruments=[watch])
    try:
        run(arguments)
    finally:
        file.write_text(json.dumps([asdict(one) for one in watch.spells]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
