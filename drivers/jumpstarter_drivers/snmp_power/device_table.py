"""What kinds of outlets SNMP switches, as data: one row a family of devices.

In the object identifiers `$outlet` is the outlet's number and `$unit` that of the unit in a chain, or the group of
ports. What is written for on and off, and what is read for them, differ from family to family, and within one: each row
has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["DEVICES", "Meter", "SnmpDevice"]


@dataclass(frozen=True)
class Meter:
    """An object with a measurement, and what to multiply it by for volts, amperes, watts and watt-hours."""

    oid: str
    factor: float = 1.0
    digits: str = ""
    """The object with the number of decimal digits."""


@dataclass(frozen=True)
class SnmpDevice:
    """A family of devices, whose objects are INTEGER."""

    label: str
    """What messages call it."""
    control: str | tuple[str, str]
    """The object that is written; two if on and off are different ones."""
    values: tuple[int, int]
    """What is written for on and off."""
    state: str
    on: frozenset[int]
    """What is read if the outlet is on."""
    off: frozenset[int]
    """Anything else is an outlet between the two."""
    meters: Mapping[str, Meter] = field(default_factory=dict)
    """The object of each field of `PowerReading`."""
    unit: int = 1


_APC = "1.3.6.1.4.1.318.1.1"
_PDU2 = "1.3.6.1.4.1.13742.6"
_EATON = "1.3.6.1.4.1.534.6.6.7.6"
_SENTRY = "1.3.6.1.4.1.1718.3.2.3.1"
_POE = "1.3.6.1.2.1.105.1.1.1"


def _one(value: int) -> frozenset[int]:
    return frozenset({value})


def _pdu2(sensor: int) -> Meter:
    return Meter(
        f"{_PDU2}.5.4.3.1.4.$unit.$outlet.{sensor}", digits=f"{_PDU2}.3.5.4.1.7.$unit.$outlet.{sensor}"
    )


def _gude(model: int) -> SnmpDevice:
    base = f"1.3.6.1.4.1.28507.{model}.1"
    port = f"{base}.3.1.2.1.3.$outlet"
    meters = {
        "voltage": Meter(f"{base}.5.1.2.1.6.$outlet"),
        "current": Meter(f"{base}.5.1.2.1.5.$outlet", 0.001),
    }
    return SnmpDevice("Gude", port, (1, 0), port, on=_one(1), off=_one(0), meters=meters)


DEVICES: Final[Mapping[str, SnmpDevice]] = {
    "apc": SnmpDevice(
        "APC MasterSwitch",
        control=f"{_APC}.4.4.2.1.3.$outlet",
        values=(1, 2),
        state=f"{_APC}.4.4.2.1.3.$outlet",
        on=_one(1),
        off=_one(2),
    ),
    "apc-rpdu": SnmpDevice(
        "APC AP79xx",
        control=f"{_APC}.12.3.3.1.1.4.$outlet",
        values=(1, 2),
        state=f"{_APC}.12.3.5.1.1.4.$outlet",
        on=_one(1),
        off=_one(2),
    ),
    "apc-rpdu2": SnmpDevice(
        "APC AP8xxx",
        control=f"{_APC}.26.9.2.4.1.5.$outlet",
        values=(1, 2),
        state=f"{_APC}.26.9.2.3.1.5.$outlet",
        on=_one(2),  # the opposite of what is written
        off=_one(1),
        meters={
            "current": Meter(f"{_APC}.26.9.4.3.1.6.$outlet", 0.1),
            "power": Meter(f"{_APC}.26.9.4.3.1.7.$outlet"),
        },
    ),
    "raritan": SnmpDevice(
        "Raritan PX or Server Technology PRO4",
        control=f"{_PDU2}.4.1.2.1.2.$unit.$outlet",
        values=(1, 0),
        state=f"{_PDU2}.4.1.2.1.3.$unit.$outlet",
        on=_one(7),
        off=_one(8),
        meters={"current": _pdu2(1), "voltage": _pdu2(4), "power": _pdu2(5), "energy": _pdu2(8)},
    ),
    "eaton": SnmpDevice(
        "Eaton ePDU",
        control=(f"{_EATON}.6.1.4.$unit.$outlet", f"{_EATON}.6.1.3.$unit.$outlet"),
        values=(0, 0),  # seconds to wait
        state=f"{_EATON}.6.1.2.$unit.$outlet",
        on=_one(1),
        off=_one(0),
        meters={
            "voltage": Meter(f"{_EATON}.3.1.2.$unit.$outlet", 0.001),
            "current": Meter(f"{_EATON}.4.1.3.$unit.$outlet", 0.001),
            "power": Meter(f"{_EATON}.5.1.3.$unit.$outlet"),
        },
        unit=0,
    ),
    "cyberpower": SnmpDevice(
        "CyberPower",
        control="1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.$outlet",
        values=(1, 2),
        state="1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.$outlet",
        on=_one(1),
        off=_one(2),
    ),
    "sentry3": SnmpDevice(
        "Server Technology Sentry3",
        control=f"{_SENTRY}.11.$unit.1.$outlet",
        values=(1, 2),
        state=f"{_SENTRY}.10.$unit.1.$outlet",
        on=frozenset({3, 5}),
        off=_one(4),
    ),
    "gude-8210": _gude(29),
    "gude-8220": _gude(38),
    "gude-8226": _gude(58),
    "poe": SnmpDevice(
        "PoE switch",
        control=f"{_POE}.3.$unit.$outlet",
        values=(1, 2),
        state=f"{_POE}.3.$unit.$outlet",
        on=_one(1),
        off=_one(2),
    ),
}
