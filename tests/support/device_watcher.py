"""Watches the devices of a umockdev host, and prints each device tree as one line of JSON.

A program of its own, as umockdev's library has to be loaded before it starts. `Watcher` starts and reads it.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio
from jumpstarter_exporter.devices.changes import subscribed
from jumpstarter_exporter.devices.udev_device import DeviceTree
from jumpstarter_exporter.devices.udev_monitor import watch_devices

from tools.mocked_host.bus import MockedBus

__all__ = ["Seen", "Watcher", "watching"]

PATIENCE_SECONDS = 30.0


@dataclass
class Seen:
    """One tree."""

    devices: dict[str, dict[str, str]]
    """Properties by path."""
    at: float
    """By time.monotonic, when it was shown."""
    source: str
    enumerations: int
    longest_block: float
    """Seconds of the processor that the loop spent at most on one thing until now: no load of the machine counts."""

    @property
    def nodes(self) -> list[str]:
        found = (properties.get("DEVNAME", "") for properties in self.devices.values())
        return sorted(name for name in found if name and "/bus/usb/" not in name)


class Watcher:
    """The program, from its first tree on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.seen: list[Seen] = []

    def until(self, holds: Callable[[Seen], bool]) -> Seen:
        """The next tree of which that holds."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.seen.append(Seen(**json.loads(line)))
            if holds(self.seen[-1]):
                return self.seen[-1]
        raise AssertionError(f"the watcher ended; it had seen {[one.nodes for one in self.seen]}")


@contextmanager
def watching(bus: MockedBus, *, losing: int = 0) -> Iterator[Watcher]:
    """A watcher of the bus. Of its first events `losing` are lost as the kernel loses them (ENOBUFS)."""
    environment = {**os.environ, **bus.environment}
    command = [sys.executable, "-m", "tests.support.device_watcher", str(losing)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(PATIENCE_SECONDS, process.kill)
        timer.start()
        try:
            watcher = Watcher(process)
            watcher.until(lambda _: True)
            yield watcher
        finally:
            timer.cancel()
            timer.join()
            process.kill()


def _lose_events(count: int) -> None:
    """Below pyudev: libudev's function takes them, and fails as it does after an overflow."""
    import pyudev

    original = pyudev.Context.__init__
    lost = 0

    def patched(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        receive = self._libudev.udev_monitor_receive_device

        def failing(monitor: Any) -> Any:
            nonlocal lost
            if lost < count:
                lost += 1
                receive(monitor)
                raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
            return receive(monitor)

        self._libudev.udev_monitor_receive_device = failing

    pyudev.Context.__init__ = patched


async def _watch() -> None:
    longest = 0.0

    async def measure() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.thread_time() - before)
            await trio.sleep(0.001)

    async with watch_devices(trio.CapacityLimiter(4)) as watch, trio.open_nursery() as nursery:
        nursery.start_soon(measure)
        with subscribed(watch) as revisions:
            async for _ in revisions:
                seen = Seen({}, time.monotonic(), watch.source, watch.enumerations, longest)
                await trio.to_thread.run_sync(_print, seen, watch.tree)


def _print(seen: Seen, tree: DeviceTree) -> None:
    seen.devices = {one.path: dict(one.properties) for one in tree}
    print(json.dumps(vars(seen)), flush=True)


if __name__ == "__main__":
    _lose_events(int(sys.argv[1]))
    trio.run(_watch)
