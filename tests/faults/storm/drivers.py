"""The devices of the boards in a storm: one records its users, one is hostile."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jumpstarter_exporter.driver import Driver, export


class _Own(BaseException):
    """Not an Exception, so `except Exception` does not catch it."""


@dataclass(kw_only=True, eq=False)
class Witness(Driver):
    """Appends each use to a file of the host, which nobody else can change."""

    client: ClassVar[str] = "jumpstarter_drivers.composite.client.CompositeClient"
    interface: ClassVar[str] = "witness"

    path: str

    @export
    def mark(self, token: str) -> str:
        """Write down that the holder of this lease was here."""
        with Path(self.path).open("a") as file:
            file.write(token + "\n")
        return token


@dataclass(kw_only=True, eq=False)
class Hostile(Driver):
    """A driver of somebody who does not like exporters."""

    client: ClassVar[str] = "jumpstarter_drivers.composite.client.CompositeClient"
    interface: ClassVar[str] = "hostile"

    @export
    def harm(self) -> Any:
        """Raise, return or take what nobody expects."""
        deep: list[Any] = []
        for _ in range(20_000):
            deep = [deep]
        cycle: list[Any] = []
        cycle.append(cycle)
        deed = random.choice(["exit", "interrupt", "own", "slow", deep, cycle, "x" * 8_000_000, object()])
        match deed:
            case "exit":
                raise SystemExit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case "own":
                raise _Own("no Exception")
            case "slow":
                time.sleep(5)
                return None
            case _:
                return deed

    @export
    async def harm_slowly(self) -> AsyncIterator[Any]:
        """The same after a first good answer."""
        yield 1
        yield self.harm()
