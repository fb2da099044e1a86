"""Power that is switched by commands of the host: for what has a program of its own and no driver here."""

from __future__ import annotations

import math
import os
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import trio
from jumpstarter_exporter.driver import DeviceFailed, export
from jumpstarter_proto.json_texts import parse_json
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.power.outlet import OutletRefused, RemoteOutlet
from jumpstarter_drivers.power.reading import PowerReading

__all__ = ["CommandPower"]

MAX_OUTPUT_BYTES = 64 * 1024
_ON = frozenset({"on", "1", "true"})
_OFF = frozenset({"off", "0", "false"})


@dataclass(kw_only=True, eq=False)
class CommandPower(RemoteOutlet):
    """Switches by commands on the exporter's host, which run as its user, without a shell.

        export:
          power:
            type: power.CommandPower
            config:
              power_on: [uhubctl, -l, "1-1", -p, "3", -a, "on"]
              power_off: uhubctl -l 1-1 -p 3 -a off
              power_state: /usr/local/bin/port-state 3   # prints on or off; read after each switch

    Opening and closing it run nothing.
    """

    power_on: str | list[str] = field(repr=False)
    power_off: str | list[str] = field(repr=False)
    power_state: str | list[str] | None = field(default=None, repr=False)
    power_read: str | list[str] | None = field(default=None, repr=False)
    """It prints the watts, or a JSON object with `voltage`, `current`, `power` or `energy`."""

    def __post_init__(self) -> None:
        """Check that each is a command."""
        super().__post_init__()
        self._commands = {
            key: _split(key, given)
            for key in ("power_on", "power_off", "power_state", "power_read")
            if (given := getattr(self, key)) is not None
        }

    @property
    def label(self) -> str:
        """The program's name; arguments may be secret."""
        return f"the power switch of {self._program('power_on')}"

    def describe_hardware(self) -> str:
        """The programs' names."""
        return f"{self._program('power_on')} switches on, {self._program('power_off')} switches off"

    @property
    def tells_state(self) -> bool:
        """If there is a command for it."""
        return "power_state" in self._commands

    async def send(self, *, on: bool) -> None:
        """Run the command."""
        await self._output("power_on" if on else "power_off")

    async def is_on(self) -> bool | None:
        """Run the command."""
        said = (await self._output("power_state")).strip().lower()
        return True if said in _ON else False if said in _OFF else None

    @export(reads=True)
    async def read(self) -> AsyncIterator[PowerReading]:  # type: ignore[override]
        """Run the command."""
        if "power_read" not in self._commands:
            raise NotImplementedError("there is no `power_read`; add it if there is a command that measures")
        yield _reading(await self._output("power_read"), self._program("power_read"))

    def _program(self, key: str) -> str:
        return self._commands[key][0]

    async def _output(self, key: str) -> str:
        """Run the command and return its output. A cancellation kills it."""
        program = self._program(key)
        try:
            process = await trio.lowlevel.open_process(
                self._commands[key],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise OutletRefused(f"{program} cannot be run: {error.strerror}; check its path") from None
        printed, complained = bytearray(), bytearray()
        is_over = False
        try:
            with trio.fail_after(self.attempt_seconds):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_collect, process.stdout, printed)
                    nursery.start_soon(_collect, process.stderr, complained)
                await process.wait()
            is_over = True
        except trio.TooSlowError:
            raise OutletRefused(
                f"{program} does not end within {self.attempt_seconds:g} s, or what it has started; "
                "see what it waits for"
            ) from None
        finally:
            await _end(process, is_over=is_over)
        if process.returncode != 0:
            lines = complained.decode("utf-8", "replace").strip().splitlines()
            said = f" ({shown(lines[-1])})" if lines else ""
            raise OutletRefused(
                f"{program} ends with the exit code {process.returncode}{said}; run it by hand"
            )
        return printed.decode("utf-8", "replace")


async def _collect(stream: trio.abc.ReceiveStream | None, into: bytearray) -> None:
    assert stream is not None
    async with stream:
        async for piece in stream:
            into += piece[: MAX_OUTPUT_BYTES - len(into)]


async def _end(process: trio.Process, *, is_over: bool) -> None:
    """Kill its process group: programs that it started may still run when it has ended."""
    if not is_over:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):  # nothing survives this signal
            await process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            await trio.aclose_forcefully(stream)


def _split(key: str, given: str | list[str]) -> list[str]:
    try:
        command = shlex.split(given) if isinstance(given, str) else given
    except ValueError:
        raise ValueError(f"{key} has a quote that is not closed; close it, or write a list") from None
    if not command or not command[0] or any("\0" in word for word in command):
        raise ValueError(f"{key} is not a command; write a program and its arguments")
    return command


def _reading(printed: str, program: str) -> PowerReading:
    try:
        data = parse_json(printed)
    except ValueError:
        data = None
    if isinstance(data, bool) or not isinstance(data, float | int | dict):
        raise DeviceFailed(f"{program} prints neither a number of watts nor a JSON object; correct it")
    given = data if isinstance(data, dict) else {"power": data}
    try:
        values = {
            name: float(given[name])
            for name in ("voltage", "current", "power", "energy")
            if isinstance(given.get(name), int | float) and not isinstance(given[name], bool)
        }
    except OverflowError:
        values = {}
    if not values or not all(map(math.isfinite, values.values())):
        raise DeviceFailed(
            f"{program} prints no `voltage`, `current`, `power` or `energy` as a number; correct it"
        )
    return PowerReading(**values, measured=tuple(name for name in ("voltage", "current") if name in values))
