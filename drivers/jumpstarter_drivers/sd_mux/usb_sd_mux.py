"""The registers of a USB-SD-Mux, without I/O: which bytes switch it, and what they say.

Its USB2642 is a card reader with an I2C bus, which vendor commands of SCSI reach. On the bus is an expander with the
switches: a PCA9536 in the first model, a TCA6408 in the FAST.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jumpstarter_drivers.storage.state import Position

__all__ = [
    "CLASSIC",
    "DATA_BYTES",
    "FAST",
    "SETTLE_SECONDS",
    "Expander",
    "position",
    "read_command",
    "steps",
    "write_command",
]

DATA_BYTES = 512
"""Of each transfer, however few of them count."""
SETTLE_SECONDS = 1.0
"""How long a card without supply takes until it is off."""

INPUT, OUTPUT, CONFIGURATION = 0, 1, 3
"""Registers of both expanders."""


@dataclass(frozen=True)
class Expander:
    """The chip, and which of its pins do what. A pin that is high disconnects, or selects the board."""

    address: int
    dut: int
    power_off: int
    data_off: int
    removed: int
    """High tells the reader that there is no card."""
    pins: int
    """All pins that are outputs."""

    @property
    def own(self) -> int:
        """The pins of the switches."""
        return self.dut | self.power_off | self.data_off | self.removed


CLASSIC = Expander(0x41, dut=0x04, power_off=0x02, data_off=0x01, removed=0x08, pins=0x0F)
FAST = Expander(0x20, dut=0x01, power_off=0x02, data_off=0x04, removed=0x08, pins=0x3F)


def write_command(chip: Expander, register: int, value: int) -> tuple[bytes, bytes]:
    """The SCSI command that writes a register, and its data."""
    command = bytes([0xCF, 0x23, chip.address << 1, 0, 0, 2, 0]).ljust(16, b"\0")
    return command, bytes([register, value]).ljust(DATA_BYTES, b"\0")


def read_command(chip: Expander, register: int) -> bytes:
    """The SCSI command that reads a register, which is the first byte of the data."""
    address = chip.address << 1
    return bytes([0xCF, 0x22, address, address + 1, 0, 1, 1, register]).ljust(16, b"\0")


def position(chip: Expander, pins: int) -> Position:
    """What the input register says."""
    if pins & chip.power_off:
        return Position.OFF
    return Position.DUT if pins & chip.dut else Position.HOST


def steps(
    chip: Expander, wanted: Position, output: int, configuration: int
) -> Iterator[tuple[int, int] | None]:
    """The registers to write, in this order; None is a pause of `SETTLE_SECONDS`.

    `output` and `configuration` are what those registers have now: pins that are no switches keep their level.
    """
    outputs = 0xFF & ~chip.pins
    was_off = configuration == 0xFF
    others = 0 if was_off else output & ~chip.own
    off = others | chip.power_off | chip.data_off | chip.removed
    if was_off:  # after power-on all pins are inputs, and the card is at the board: it stays there for now
        yield OUTPUT, chip.dut | chip.removed
        yield CONFIGURATION, outputs
    yield OUTPUT, off
    if configuration not in (0xFF, outputs):
        yield CONFIGURATION, outputs
    yield None
    if wanted is Position.DUT:
        # Selected while it is disconnected, so that neither side sees a glitch.
        yield OUTPUT, off | chip.dut
        yield OUTPUT, others | chip.dut | chip.removed
    elif wanted is Position.HOST:
        yield OUTPUT, others
