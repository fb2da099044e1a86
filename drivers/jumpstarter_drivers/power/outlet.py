"""Outlets that are switched by messages: `on` and `off` succeed when the outlet itself reports the new state.

`RemoteOutlet` is the base of the drivers for HTTP, SNMP and the like. They say how to send one command and how to ask
for the state; this module decides when to send again, how long to ask, and what is known about the board when it fails.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio
from jumpstarter_exporter.driver import DeviceError, DeviceFailed, DeviceMissing, export

from jumpstarter_drivers.power.interface import PowerInterface
from jumpstarter_drivers.power.reading import PowerReading

__all__ = ["OutletRefused", "OutletUnreachable", "RemoteOutlet"]

_RESEND_SECONDS = 1.5
"""A device that says the opposite for so long has forgotten the command: it was restarted meanwhile, for example."""
_POLL_SECONDS = 0.2


class OutletUnreachable(DeviceMissing):
    """There is no answer, or a part of it: another attempt may succeed."""


class OutletRefused(DeviceFailed):
    """The device rejects the request: a wrong password, no such outlet. Another attempt fails as well."""


@dataclass(kw_only=True, eq=False)
class RemoteOutlet(PowerInterface):
    """Base of outlets that are switched by messages. `on` and `off` return when the outlet reports the new state.

    A connection that fails is tried again until `timeout`; an answer that refuses is not. Opening and closing the
    device switch nothing.
    """

    timeout: float = 8.0
    """Seconds within which the outlet has to be switched and to say so."""

    def __post_init__(self) -> None:
        """Check the time limit."""
        super().__post_init__()
        if not 0 < self.timeout <= 600:
            raise ValueError(f"timeout is {self.timeout:g}; it takes seconds, more than 0 and at most 600")
        self._switching = trio.Lock()

    @property
    @abstractmethod
    def label(self) -> str:
        """The device and the outlet for messages: "outlet 1 of the Tasmota at 10.0.0.7"."""

    @abstractmethod
    async def send(self, *, on: bool) -> None:
        """Send the command once. Sending it twice must do the same as sending it once.

        Raises:
            OutletUnreachable: it may not have arrived.
            OutletRefused: the device does not do it.
        """

    @abstractmethod
    async def is_on(self) -> bool | None:
        """Return whether the outlet is on; None between states, or if this kind of device cannot report it.

        Raises:
            OutletUnreachable: no usable answer.
            OutletRefused: the device does not say.
        """

    @property
    def tells_state(self) -> bool:
        """Whether this kind of device can report its state."""
        return True

    @property
    def switch_seconds(self) -> float:
        """Seconds that an interrupted power cycle waits for the outlet."""
        return self.timeout + 1.0

    @property
    def attempt_seconds(self) -> float:
        """Seconds for one message and its answer, so that there is time for another attempt."""
        return self.timeout / 2

    @export
    async def on(self) -> None:
        """Switch on, and wait until the outlet reports that it is on."""
        await self._switch(on=True)

    @export
    async def off(self) -> None:
        """Switch off, and wait until the outlet reports that it is off."""
        await self._switch(on=False)

    @export(reads=True)
    async def read(self) -> AsyncIterator[PowerReading]:  # type: ignore[override]
        """Measure once."""
        with self._asked("read"):
            reading = await self.reading()
        yield reading

    async def reading(self) -> PowerReading:
        """Measure.

        Raises:
            NotImplementedError: this device measures nothing.
            OutletUnreachable: no usable answer.
            OutletRefused: the device rejects the request.
        """
        raise NotImplementedError(f"{self.label} measures nothing; use a device with a meter")

    @export(reads=True)
    async def status(self) -> str:
        """Ask the outlet for its state: on, off, or unknown while it is between them."""
        if not self.tells_state:
            raise NotImplementedError(f"{self.label} cannot report its state")
        with self._asked("asked for its state"):
            return await self.state_text()

    async def state_text(self) -> str:
        """The word for `status`. Raises as `is_on` does."""
        state = await self.is_on()
        return "unknown" if state is None else _word(on=state)

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Name the outlet in errors of the block, and note whether it is there."""
        try:
            yield
        except OutletRefused as error:
            raise OutletRefused(f"{self.label}: {error}") from None
        except DeviceMissing as error:
            reason = f"{self.label} was not {what}: {error}"
            self.missing(reason)
            raise DeviceMissing(reason) from None
        self.ready()

    async def _switch(self, *, on: bool) -> None:
        async with self._switching:
            attempt = _Attempt(self, on=on)
            try:
                await attempt.run()
            except DeviceMissing as error:
                self.missing(str(error))
                raise
            self.ready()
            self.logger.info("%s: %s", self.label, _word(on=on))


class _Attempt:
    """One `on` or `off`, and the last known state of the outlet."""

    def __init__(self, outlet: RemoteOutlet, *, on: bool) -> None:
        self._outlet = outlet
        self._on = on
        self._is_sent = False
        self._said: bool | None = None
        """The last state that the outlet reported since the command was sent."""
        self._error: DeviceError | None = None

    async def run(self) -> None:
        """Send the command and ask for the state until it is the wanted one, or the time is over."""
        with trio.move_on_after(self._outlet.timeout):
            while True:
                try:
                    await self._outlet.send(on=self._on)
                    self._is_sent = True
                    if not self._outlet.tells_state or await self._confirm():
                        return
                except OutletUnreachable as error:
                    self._error = error
                    await trio.sleep(_POLL_SECONDS)
                except OutletRefused as error:
                    raise OutletRefused(f"{self._outlet.label}: {error}") from None
        raise self._failure()

    async def _confirm(self) -> bool:
        """Wait for the new state. False if the command has to be sent again."""
        until = trio.current_time() + _RESEND_SECONDS
        wait = _POLL_SECONDS / 4
        while True:
            self._said = await self._outlet.is_on()
            self._error = None
            if self._said is self._on:
                return True
            if trio.current_time() >= until:
                return False
            await trio.sleep(wait)
            wait = min(wait * 2, _POLL_SECONDS)

    def _failure(self) -> DeviceError:
        label, limit = self._outlet.label, f"{self._outlet.timeout:g} s"
        if self._error is not None:
            known = "whether the board has power is not known" if self._said is None else self._last_word()
            return DeviceMissing(
                f"{label} was not switched {_word(on=self._on)} within {limit}: {self._error}; {known}"
            )
        if not self._is_sent:
            return DeviceMissing(
                f"{label} was not switched {_word(on=self._on)} within {limit}: the device does not take the command "
                "in time, or is busy with other outlets of it; try again, and if that does not help, restart it; "
                "whether the board has power is not known"
            )
        if self._said is None:
            return DeviceFailed(
                f"{label} was told to switch {_word(on=self._on)} and does not say within {limit} that it has; "
                "look at its web page or display, then try again"
            )
        return DeviceFailed(
            f"{label} says that it is {_word(on=self._said)}, {limit} after the command to switch "
            f"{_word(on=self._on)}; see whether it is locked, overloaded, or switched by another program"
        )

    def _last_word(self) -> str:
        return f"the last that it said was {_word(on=bool(self._said))}"


def _word(*, on: bool) -> str:
    return "on" if on else "off"
