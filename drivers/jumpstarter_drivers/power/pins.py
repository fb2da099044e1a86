"""GPIO lines: outputs that keep their level after use, and inputs that are watched.

gpiozero's devices turn their pin into an input when they are closed or collected, and its default pin factory
does so for all pins when the process exits. A board's power must survive both. So this module uses gpiozero's
layer below, the pin factories and their pins, keeps one factory a kind for the life of the process, and never
closes a pin. Everything here is blocking.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jumpstarter_exporter.driver import DeviceBusy, DeviceFailed, DeviceMissing

from jumpstarter_drivers.power.gpio_chip import close_chip, is_raspberry_pi, number_of, open_chip

__all__ = ["InputLine", "OutputLine", "acquire", "acquire_input", "factory", "loses_outputs"]

_REVERTING = frozenset({"lgpio"})
"""Factories that ask the kernel for lines, which are its own again when the process has ended."""
_MODULES = Path("/sys/module")
_lock = threading.Lock()
_factories: dict[str, Any] = {}
_chips: dict[str, tuple[int, Any]] = {}
"""Factories of chips by their nodes, each with the node's inode: one that is plugged in again has another."""
_taken: set[tuple[int, str]] = set()


class OutputLine:
    """One output line, held by one device until `release`."""

    def __init__(self, owner: Any, info: Any, *, is_lost: bool) -> None:
        """`is_lost` says whether it becomes an input when the process has ended."""
        self._is_lost = is_lost
        self._is_driven = False
        self._factory = owner
        self._info = info
        self.name: str = info.name

    def drive(self, *, high: bool) -> None:
        """Make the pin an output with this level, or only change the level if it is one.

        A pin that this process has not used before may pass through input, and with lgpio through low, for
        less than a millisecond: gpiozero knows no other way to claim it.
        """
        with _faults(self.name):
            self._is_driven = True
            pin = self._factory.pin(self.name)
            if pin.function == "output":
                pin.state = high
            else:
                pin.output_with_state(high)

    def is_high(self) -> bool:
        """The level to which it is driven. DeviceFailed if it was not driven yet."""
        if not self._is_driven:
            raise DeviceFailed(f"{self.name} is not driven yet; switch it on or off first")
        with _faults(self.name):
            return bool(self._factory.pin(self.name).state)

    @property
    def end_warning(self) -> str:
        """A sentence about its level after the process has ended; empty if it stays as it is, or was not driven."""
        if not (self._is_lost and self._is_driven):
            return ""
        return (
            f"{self.name} becomes an input when the exporter has ended, and a relay falls; to keep it, add "
            "pinctrl_bcm2835.persist_gpio_outputs=1 to the kernel's command line (Debian 13 or later) and reboot"
        )

    def release(self) -> None:
        """Release the line for another device. Its level stays as it is."""
        with _lock:
            _taken.discard((id(self._factory), self.name))


class InputLine:
    """One line that is read, held by one device until `release`. It is never driven."""

    def __init__(self, owner: Any, info: Any) -> None:
        self._factory = owner
        self._changed: Callable[[float, object], None] | None = None
        self.name: str = info.name

    def watch(self, pull: str | None, report: Callable[[bool], object]) -> bool:
        """Make the pin an input and return its level; `report` gets that of each change, in any thread.

        Args:
            pull: up, down or floating; None: as the factory has it.
            report: Must not block or raise.
        """
        with _faults(self.name):
            pin = self._factory.pin(self.name)
            pin.when_changed = None
            pin.function = "input"
            if pull is not None:
                pin.pull = pull
            pin.edges = "both"

            def changed(_ticks: float, level: object) -> None:
                report(bool(level))

            # gpiozero itself keeps no reference to it.
            self._changed = pin.when_changed = changed
            return bool(pin.state)

    def release(self) -> None:
        """Stop watching, and release the line for another device. It stays an input."""
        with suppress(*_library_errors()):  # a chip that was unplugged
            self._factory.pin(self.name).when_changed = None
        with _lock:
            _taken.discard((id(self._factory), self.name))


def acquire_input(pin: int | str, *, factory: str | None = None, chip: str | None = None) -> InputLine:
    """As `acquire`, for a line that is read."""
    _, owner, info = _claim(pin, factory, chip)
    return InputLine(owner, info)


def acquire(pin: int | str, *, factory: str | None = None, chip: str | None = None) -> OutputLine:
    """Hold a line without touching it.

    Args:
        pin: What the factory calls it; with `chip`, a number or name of its lines.
        factory: Which one; without, $GPIOZERO_PIN_FACTORY or lgpio.
        chip: A node such as /dev/gpiochip0, or a link to one, that is used by lgpio.

    Raises:
        DeviceMissing: there is no such pin, no such factory, or no GPIO hardware.
        DeviceBusy: another device of this process holds the line.
    """
    kind, owner, info = _claim(pin, factory, chip)
    return OutputLine(owner, info, is_lost=loses_outputs(kind) and (chip is None or is_raspberry_pi(owner)))


def _claim(pin: int | str, factory: str | None, chip: str | None) -> tuple[str, Any, Any]:
    """The kind of the factory, the factory, and what it knows about the pin, which is then in use."""
    kind = "lgpio" if chip is not None else factory or os.environ.get("GPIOZERO_PIN_FACTORY") or "lgpio"
    owner = _factory(kind) if chip is None else _chip(chip)
    with _faults(str(pin)):
        info = next((info for _header, info in owner.board_info.find_pin(pin)), None)
    if info is None or "gpio" not in info.interfaces:
        raise DeviceMissing(
            f"this host has no GPIO pin {pin!r}; use a BCM number such as 17, or a name such as BOARD11"
            if chip is None
            else f"{chip} has no line {pin!r}; `gpioinfo` shows its lines"
        )
    with _lock:
        if (id(owner), info.name) in _taken:
            raise DeviceBusy(f"{info.name} is in use by another device; give each its own pin")
        _taken.add((id(owner), info.name))
    return kind, owner, info


def loses_outputs(kind: str) -> bool:
    """Whether outputs of that factory become inputs when the process has ended, by what the kernel's drivers say."""
    if kind.lower() not in _REVERTING:
        return False
    for said in _MODULES.glob("pinctrl_*/parameters/persist_gpio_outputs"):
        with suppress(OSError):
            if said.read_text().strip() in ("Y", "1"):
                return False
    return True


def factory(name: str) -> Any:
    """The process's pin factory of this name: what a test looks at pins with."""
    return _factory(name)


def _factory(name: str) -> Any:
    with _lock:
        found = _factories.get(name)
        if found is None:
            found = _factories[name] = _make(name)
        return found


def _make(name: str) -> Any:
    from importlib.metadata import entry_points  # noqa: PLC0415 - one megabyte that a host without GPIO never needs

    known = {entry.name: entry for entry in entry_points(group="gpiozero_pin_factories")}
    entry = known.get(name) or known.get(name.lower())
    if entry is None:
        installed = ", ".join(sorted(known)) or "none: install jumpstarter-sbc[exporter]"
        raise DeviceMissing(f"there is no pin factory {name!r}; installed: {installed}")
    with _faults(f"pin factory {name}"):
        return entry.load()()


def _chip(path: str) -> Any:
    """The factory of a chip: one for the life of the process, or for as long as the chip is plugged in."""
    number_of(path)
    node = os.path.realpath(path)
    with _lock, _faults(f"pin factory for {path}"):
        inode = os.stat(node).st_ino
        known = _chips.get(node)
        if known is None or known[0] != inode:
            if known is not None:
                # Also if the new one cannot be opened, as before udev has given it to us: no chip is closed twice.
                del _chips[node]
                close_chip(known[1])
            known = _chips[node] = inode, open_chip(node)
        return known[1]


@contextmanager
def _faults(what: str) -> Iterator[None]:
    """Return one sentence for an error of a GPIO library."""
    try:
        yield
    except ImportError as error:
        package = error.name or str(error)
        source = "jumpstarter-sbc[pi]" if package == "lgpio" else "it"
        raise DeviceMissing(
            f"{what} needs the Python package {package}; install {source}, or set another pin_factory"
        ) from error
    except _library_errors() as error:
        kind = DeviceMissing if what.startswith("pin factory") else DeviceFailed
        raise kind(f"{what}: {error}; check that this host has GPIO and the exporter may use it") from error


def _library_errors() -> tuple[type[Exception], ...]:
    # Loaded with the first pin, never with the exporter; lgpio and pigpio have roots of their own.
    from gpiozero.exc import GPIOZeroError  # noqa: PLC0415

    libraries = (sys.modules.get(name) for name in ("lgpio", "pigpio"))
    own = [library.error for library in libraries if library is not None]
    return (GPIOZeroError, OSError, RuntimeError, ValueError, *own)
