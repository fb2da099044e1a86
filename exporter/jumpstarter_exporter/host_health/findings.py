"""What is found out about a host: one fact, how bad it is, and one sentence what to do about it."""

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
"""What is looked at, in the order in which it is shown: the first word of a finding's key, and its title."""


class Severity(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    UNKNOWN = "unknown"
    """It could not be found out; the sentence says why."""
    WARNING = "warning"
    """Boards are served, but something will fail, or may."""
    ERROR = "error"
    """Boards fail, or cannot be served."""


@dataclass(frozen=True)
class HealthFinding:
    """One fact about the host."""

    key: str
    """For scripts, and the same in later versions: an area, a dot and a name, such as `power.undervoltage`."""
    severity: Severity
    sentence: str
    """What is, without a full stop."""
    cure: str = ""
    """What to do; empty where nothing has to be done."""
    subject: str = ""
    """What it is about, where a key has several: a device, a folder, a unit of systemd."""

    @property
    def is_problem(self) -> bool:
        """Whether somebody has to do something."""
        return self.severity in (Severity.WARNING, Severity.ERROR)


def area_of(key: str) -> str:
    """The first word of a key."""
    return key.partition(".")[0]
