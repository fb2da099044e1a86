"""What a power supply measures; the host side sends it, the user side receives it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PowerReading"]


@dataclass(frozen=True)
class PowerReading:
    """One measurement."""

    voltage: float
    """Volts."""
    current: float
    """Amperes."""

    @property
    def apparent_power(self) -> float:
        """Volt-amperes."""
        return self.voltage * self.current

    def __str__(self) -> str:
        return f"voltage={self.voltage} V  current={self.current} A  apparent_power={self.apparent_power} VA"
