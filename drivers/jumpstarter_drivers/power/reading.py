"""What a power supply measures; the host side sends it, the user side receives it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PowerReading"]


@dataclass(frozen=True)
class PowerReading:
    """One measurement. Jumpstarter 0.9's clients need numbers for the first two, so what is not measured is 0 there."""

    voltage: float = 0.0
    """Volts; 0 if it is not `measured`."""
    current: float = 0.0
    """Amperes; 0 if it is not `measured`."""
    power: float | None = None
    """Real power in watts; None if it is not measured."""
    energy: float | None = None
    """Watt-hours since the meter was reset; None if they are not counted."""
    measured: tuple[str, ...] = ("voltage", "current")
    """Which of voltage and current the device measures."""

    @property
    def apparent_power(self) -> float:
        """Volt-amperes; 0 if voltage or current is not measured."""
        return self.voltage * self.current

    def __str__(self) -> str:
        shown = [
            (name, value, unit)
            for name, value, unit in (("voltage", self.voltage, "V"), ("current", self.current, "A"))
            if name in self.measured
        ]
        if len(shown) == 2:
            shown.append(("apparent_power", round(self.apparent_power, 6), "VA"))
        shown += [
            (name, value, unit)
            for name, value, unit in (("power", self.power, "W"), ("energy", self.energy, "Wh"))
            if value is not None
        ]
        return "  ".join(f"{name}={value} {unit}" for name, value, unit in shown) or "nothing measured"
