"""What kinds of outlets there are, as data: one row a brand, of at most fifteen lines.

A row says with which requests an outlet is switched and asked, and where in the answers its state and measurements
are (see `values`). In requests and paths `$outlet` is the outlet's number as the configuration has it, `$index` one
less, and `$value` what the brand says for on and off; `$user` and `$password` are for devices that want them in an
address or a form. What is put in is escaped as its place needs it: an address, a form, or JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from jumpstarter_drivers.http_power.credentials import Scheme

__all__ = ["DEVICES", "HttpDevice", "Measure"]


@dataclass(frozen=True)
class Measure:
    """Where a measurement is, and what to multiply it by for volts, amperes, watts and watt-hours."""

    path: str
    factor: float = 1.0


@dataclass(frozen=True)
class HttpDevice:
    """A kind of outlet. Requests are `METHOD /target`; a form or JSON follows behind a blank."""

    label: str
    """What messages call it."""
    switch: str | tuple[str, str]
    """The request that switches; two if on and off are different ones."""
    state: str | None = None
    """The request whose answer has the state; None if it cannot be asked."""
    state_at: str = ""
    state_at_first: str = ""
    """The same for the first outlet of a device that gives no number to its only one."""
    values: tuple[str, str] = ("on", "off")
    """What `$value` is for on and off."""
    on: frozenset[str] = frozenset({"true", "on", "1"})
    """What a state is, in lower case, if the outlet is on."""
    off: frozenset[str] = frozenset({"false", "off", "0"})
    meter: str | None = None
    """The request whose answer has the measurements."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """By the names of `PowerReading`."""
    valid_at: str = ""
    """Where the answer says whether its measurements are valid."""
    first: int = 1
    """The number of the first outlet."""
    scheme: Scheme = "basic"
    user: str = ""
    """The user's name, where the device has only one."""
    login_query: str = ""
    """What is added to each address if there is a password."""
    refusal: str = ""
    """A pattern of answers that refuse, for devices that refuse with the status 200."""


DEVICES: Final[Mapping[str, HttpDevice]] = {
    "shelly-gen1": HttpDevice(
        "Shelly (first generation)",
        switch="GET /relay/$outlet?turn=$value",
        state="GET /relay/$outlet",
        state_at="ison",
        meter="GET /status",
        measures={
            "voltage": Measure("emeters.$outlet.voltage"),
            "current": Measure("emeters.$outlet.current"),
            "power": Measure("meters.$outlet.power|emeters.$outlet.power"),
            "energy": Measure("meters.$outlet.total", 1 / 60),  # watt-minutes
        },
        valid_at="meters.$outlet.is_valid|emeters.$outlet.is_valid",
        first=0,
    ),
    "shelly": HttpDevice(
        "Shelly",
        switch='POST /rpc {"id":1,"method":"Switch.Set","params":{"id":$outlet,"on":$value}}',
        values=("true", "false"),
        state="GET /rpc/Switch.GetStatus?id=$outlet",
        state_at="output",
        meter="GET /rpc/Switch.GetStatus?id=$outlet",
        measures={
            name: Measure(path)
            for name, path in (
                ("voltage", "voltage"),
                ("current", "current"),
                ("power", "apower"),
                ("energy", "aenergy.total"),
            )
        },
        first=0,
        scheme="digest",
        user="admin",
        refusal=r'"error"\s*:\s*{',
    ),
    "tasmota": HttpDevice(
        "Tasmota",
        switch="GET /cm?cmnd=Power$outlet%20$value",
        values=("On", "Off"),
        state="GET /cm?cmnd=Power$outlet",
        state_at="POWER$outlet",
        state_at_first="POWER1|POWER",
        meter="GET /cm?cmnd=Status%208",
        measures={
            name: Measure(f"StatusSNS.ENERGY.{key}.$index|StatusSNS.ENERGY.{key}", factor)
            for name, key, factor in (
                ("voltage", "Voltage", 1),
                ("current", "Current", 1),
                ("power", "Power", 1),
                ("energy", "Total", 1000),
            )
        },
        scheme="none",
        user="admin",
        login_query="&user=$user&password=$password",
        refusal=r'"WARNING"|"Command"\s*:\s*"(?:Unknown|Error)"',
    ),
}
