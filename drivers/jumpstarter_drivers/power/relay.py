"""A GPIO line that is driven: the core of relays and of other outputs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from jumpstarter_exporter.core import Core
from jumpstarter_exporter.driver import DeviceFailed

from jumpstarter_drivers.power import pins
from jumpstarter_drivers.power.interface import State

__all__ = ["RelayCore", "Wiring"]


@dataclass(frozen=True)
class Wiring:
    """How an output is wired, and what its first use does."""

    pin: int | str
    active_high: bool
    at_open: State
    factory: str | None = None
    chip: str | None = None


class RelayCore(Core[Any]):
    """The GPIO line of a relay: held from its first use to the end of the exporter, driven only by users.

    Its driver class has a `Wiring` as the attribute `switching`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._line: pins.OutputLine | None = None
        # on() and off() run in worker threads.
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Find the pin, and switch to `at_open`.

        Raises DeviceMissing when there is no such GPIO hardware, DeviceBusy when another device has the pin.
        """
        await self.in_thread(self._acquire)

    async def close(self) -> None:
        """Release the pin for other devices when the current user is done. Its level stays as it is.

        The log says so if the kernel takes it back when the process ends.
        """
        await self.in_thread(self._let_go)

    def _let_go(self) -> None:
        with self._lock:
            line, self._line = self._line, None
            if line is not None:
                if warning := line.end_warning:
                    self.logger.warning("%s", warning)
                line.release()

    def switch(self, state: State) -> None:
        """Drive the pin. Blocking."""
        if state == "leave":
            return
        with self._lock:
            self._held().drive(high=(state == "on") == self._wiring.active_high)
            self.logger.info("%s: %s", self._held().name, state)

    def is_on(self) -> bool:
        """Whether the pin is driven to its active level. Blocking. DeviceFailed if it was not driven yet."""
        with self._lock:
            return self._held().is_high() == self._wiring.active_high

    def _held(self) -> pins.OutputLine:
        if self._line is None:
            raise DeviceFailed("the relay is closed; connect again")
        return self._line

    def _acquire(self) -> None:
        wiring = self._wiring
        with self._lock:
            if self._line is None:
                self._line = pins.acquire(wiring.pin, factory=wiring.factory, chip=wiring.chip)
        self.switch(wiring.at_open)

    @property
    def _wiring(self) -> Wiring:
        wiring = self.config.switching
        assert isinstance(wiring, Wiring)
        return wiring
