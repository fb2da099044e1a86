"""Findings about a host: a fact, its severity, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["AREAS", "HealthFinding", "Severity", "area_of"]

AREAS = {
    "power": "Power supply",
    "temperature": "Temperature",
    "disk": "Disks",
    "memory": "Memory",
    "clock": "Clock",
    "device": "Permissions for devices",
    "usb": "USB",
    "gpio": "GPIO outputs",
    "service": "Services",
    "udev": "udev rules",
    "program": "Other programs",
    "config": "Configuration",
    "controller": "Controller",
    "exporter": "Exporter",
}
"""The areas in the order of the output: the first word of a finding's key, and its title."""


class Severity(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    UNKNOWN = "unknown"
    """It could not be determined; the sentence says why."""
    WARNING = "warning"
    """Boards are served, but something fails or may fail."""
    ERROR = "error"
    """Boards fail, or cannot be served."""


@dataclass(frozen=True)
class HealthFinding:
    """One fact about the host."""

    key: str
    """For scripts, and stable in later versions: an area, a dot and a name, such as `power.undervoltage`."""
    severity: Severity
    sentence: str
    """The fact, without a full stop."""
    cure: str = ""
    """What to do; empty if nothing has to be done."""
    subject: str = ""
    """The subject, if a key has several: a device, a folder, a unit of systemd."""

    @property
    def is_problem(self) -> bool:
        """Whether a person has to act."""
        return self.severity in (Severity.WARNING, Severity.ERROR)


def area_of(key: str) -> str:
    """The first word of a key."""
    return key.partition(".")[0]
