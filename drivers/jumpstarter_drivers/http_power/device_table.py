"""What kinds of outlets there are, as data: one row a brand, of at most fifteen lines.

A row says with which requests an outlet is switched and asked, and where in the answers its state and measurements
are (see `power.answers`). In requests and paths `$outlet` is the outlet's number as the configuration has it, `$index`
one less, `$mask` 24 digits of which that of the outlet is 1, and `$value` what the brand says for on and off; `$user`,
`$password` and `$session` (32 digits, drawn for each driver) are for devices that want them in an address, a form or a
cookie. What is put in is escaped as its place needs it: an address, a form, or JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from jumpstarter_drivers.http_power.http_credentials import Scheme
from jumpstarter_drivers.power.answers import Measure, measures

__all__ = ["DEVICES", "MASK_DIGITS", "HttpDevice"]

MASK_DIGITS = 24
"""Of `$mask`."""


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
    """`state_at` for the first outlet, for devices that do not number their only outlet."""
    values: tuple[str, str] = ("on", "off")
    """What `$value` is for on and off."""
    on: frozenset[str] = frozenset({"true", "on", "1"})
    """What a state is, in lower case, if the outlet is on."""
    off: frozenset[str] = frozenset({"false", "off", "0"})
    meter: str | None = None
    """The request whose answer has the measurements."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """Where each field of `PowerReading` is."""
    valid_at: str = ""
    """Where the answer says whether its measurements are valid."""
    state_is_mask: bool = False
    """Whether that is a hexadecimal number, of which outlet 1 is the lowest bit."""
    first: int | None = 1
    """The number of the first outlet; None if they have names."""
    scheme: Scheme = "basic"
    user: str = ""
    """The user's name, where the device has only one."""
    login_query: str = ""
    """What is added to each address if there is a password."""
    login: str = ""
    """The request that logs in, where that is one of its own; `logout` is made behind each other one."""
    logout: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""
    """A pattern of answers that refuse, for devices that refuse with the status 200."""


_UBUS = '{"jsonrpc":"2.0","id":1,"method":"call","params":["00000000000000000000000000000000",'


def _phases(key: str) -> str:
    """Return the path in a Tasmota answer: of one of several outlets, or of the only one."""
    return f"StatusSNS.ENERGY.{key}.$index|StatusSNS.ENERGY.{key}"


_TASMOTA = measures(
    voltage=_phases("Voltage"),
    current=_phases("Current"),
    power=_phases("Power"),
    energy=(_phases("Total"), 1000),
)


_MFI = measures(**{name: f"sensors[port=$outlet].{name}" for name in ("voltage", "current", "power")})

DEVICES: Final[Mapping[str, HttpDevice]] = {
    "shelly-gen1": HttpDevice(
        "Shelly (first generation)",
        switch="GET /relay/$outlet?turn=$value",
        state="GET /relay/$outlet",
        state_at="ison",
        meter="GET /status",
        measures=measures(
            voltage="emeters.$outlet.voltage",
            current="emeters.$outlet.current",
            power="meters.$outlet.power|emeters.$outlet.power",
            energy=("meters.$outlet.total", 1 / 60),  # watt-minutes
        ),
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
        measures=measures(voltage="voltage", current="current", power="apower", energy="aenergy.total"),
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
        measures=_TASMOTA,
        scheme="none",
        user="admin",
        login_query="&user=$user&password=$password",
        refusal=r'"WARNING"|"Command"\s*:\s*"(?:Unknown|Error)"',
    ),
    "esphome": HttpDevice(
        "ESPHome",
        switch=("POST /switch/$outlet/turn_on", "POST /switch/$outlet/turn_off"),
        state="GET /switch/$outlet",
        state_at="value|state",
        first=None,
        scheme="digest",
        user="admin",
    ),
    "home-assistant": HttpDevice(
        "Home Assistant",
        switch='POST /api/services/switch/turn_$value {"entity_id":"$outlet"}',
        state="GET /api/states/$outlet",
        state_at="state",
        first=None,
        scheme="bearer",
    ),
    "netio": HttpDevice(
        "NETIO",
        switch='POST /netio.json {"Outputs":[{"ID":$outlet,"Action":$value}]}',
        values=("1", "0"),
        state="GET /netio.json",
        state_at="Outputs[ID=$outlet].State",
        meter="GET /netio.json",
        measures=measures(
            voltage="GlobalMeasure.Voltage",
            current=("Outputs[ID=$outlet].Current", 0.001),
            power="Outputs[ID=$outlet].Load",
            energy="Outputs[ID=$outlet].Energy",
        ),
    ),
    "energenie": HttpDevice(
        "EnerGenie",
        switch="POST / cte$outlet=$value",
        values=("1", "0"),
        state="GET /energenie.html",
        state_at=r"~sockstates\s*=\s*\[(?:[01]\s*,\s*){$index}([01])",
        scheme="none",
        login="POST /login.html pw=$password",
        logout="GET /login.html",
    ),
    "gude": HttpDevice(
        "Gude",
        switch="GET /ov.html?cmd=1&p=$outlet&s=$value",
        values=("1", "0"),
        state="GET /status.json?components=1",
        state_at="outputs.$index.state",
    ),
    "gude-old": HttpDevice(
        "Gude (older firmware)",
        switch="GET /switch.html?cmd=1&p=$outlet&s=$value",
        values=("1", "0"),
        state="GET /statusjsn.js?components=1",
        state_at="outputs.$index.state",
    ),
    "digital-loggers": HttpDevice(
        "Digital Loggers (older firmware)",
        switch="GET /outlet?$outlet=$value",
        values=("ON", "OFF"),
        state="GET /status",
        state_at=r'~id="?state"?>([0-9a-fA-F]+)<',
        state_is_mask=True,
        user="admin",
    ),
    "digital-loggers-rest": HttpDevice(
        "Digital Loggers",
        switch="PUT /restapi/relay/outlets/$index/state/ value=$value",
        values=("true", "false"),
        state="GET /restapi/relay/outlets/$index/physical_state/",
        scheme="digest",
        user="admin",
        headers={"X-CSRF": "x", "Accept": "application/json"},
    ),
    "openwrt-poe": HttpDevice(
        "OpenWrt switch",
        switch=f'POST /ubus {_UBUS}"poe","manage",{{"port":"$outlet","enable":$value}}]}}',
        values=("true", "false"),
        state=f'POST /ubus {_UBUS}"poe","info",{{}}]}}',
        state_at="result.1.ports.$outlet.status",
        on=frozenset({"delivering power", "searching", "requesting power"}),
        off=frozenset({"disabled"}),
        meter=f'POST /ubus {_UBUS}"poe","info",{{}}]}}',
        measures=measures(power="result.1.ports.$outlet.consumption"),
        first=None,
        scheme="none",
        refusal=r'"error"\s*:\s*{|"result"\s*:\s*\[\s*[1-9]',
    ),
    "aten": HttpDevice(
        "Aten PE",
        switch="POST /api/outlet/relay usr=$user&pwd=$password&index=$outlet&method=$value",
        state="GET /api/outlet/relay?usr=$user&pwd=$password&index=$outlet",
        state_at=r"~<\s*0*$outlet\s*>\s*(ON|OFF|PENDING)\s*<",
        scheme="none",
        user="administrator",
    ),
    "tinycontrol": HttpDevice(
        "Tinycontrol",
        switch="GET /outs.cgi?out$outlet=$value",
        values=("1", "0"),
        state="GET /st0.xml",
        state_at="~<out$outlet>([01])</out$outlet>",
    ),
    "tinycontrol-tcpdu": HttpDevice(
        "Tinycontrol tcPDU",
        switch="GET /api/v1/save/?out$outlet=$value",
        values=("1", "0"),
        state="GET /api/v1/read/status/?outValues",
        state_at="out$outlet",
    ),
    "eth008": HttpDevice(
        "ETH008",
        switch="GET /io.cgi?DO$value$outlet",
        values=("A", "I"),
        state="GET /io.cgi?relay",
        state_at=r"~^\s*\S+\s+[01]{$index}([01])",
    ),
    "mfi": HttpDevice(
        "mFi mPower",
        switch="PUT /sensors/$outlet/ output=$value",
        values=("1", "0"),
        state="GET /mfi/sensors.cgi",
        state_at="sensors[port=$outlet].output",
        meter="GET /mfi/sensors.cgi",
        measures=_MFI,
        scheme="none",
        user="ubnt",
        login="POST /login.cgi username=$user&password=$password",
        logout="GET /logout.cgi",
        headers={"Cookie": "AIROS_SESSIONID=$session"},
    ),
    "digipower": HttpDevice(
        "Digipower",
        switch=("GET /ons.cgi?led=$mask", "GET /offs.cgi?led=$mask"),
        state="GET /status.xml",
        state_at="~^(?:[^,]*,){9}(?:[^,]*,){$outlet}([01])",
        user="snmp",
    ),
}
