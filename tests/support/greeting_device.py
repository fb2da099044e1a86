"""A driver that, when it is opened, waits for the first word of what is at the other end of its line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import trio
from jumpstarter_exporter.driver import Driver, export

__all__ = ["GreetingDevice"]


@dataclass(kw_only=True, eq=False)
class GreetingDevice(Driver):
    """It has the power of its board."""

    client: ClassVar[str] = "jumpstarter_driver_power.client.PowerClient"
    interface: ClassVar[str] = "power"

    path: str
    _line: int = -1

    async def open(self) -> None:
        self._line = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        Path(f"{self.path}.opening").touch()
        await trio.lowlevel.wait_readable(self._line)

    async def close(self) -> None:
        if self._line >= 0:
            line, self._line = self._line, -1
            trio.lowlevel.notify_closing(line)
            os.close(line)

    @export
    def on(self) -> None: ...

    @export
    def off(self) -> None: ...
