"""What kinds of outlets there are behind a broker, as data: one row a firmware.

In topics and paths `$topic` is the device's own topic and `$outlet` its outlet; `$index` is one less. `$cmnd`, `$stat`
and `$tele` are the three beginnings that Tasmota makes of its FullTopic, each with a slash at its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from jumpstarter_drivers.power.answers import Measure, measures

__all__ = ["DEVICES", "MqttDevice"]


@dataclass(frozen=True)
class MqttDevice:
    """A kind of outlet."""

    label: str
    """What messages call it."""
    command: str
    """The topic that switches, to which one of `values` is published."""
    state: str
    """The topic on which it publishes its state."""
    state_at: str = ""
    """Where in the JSON; empty if the whole message is the state."""
    state_at_first: str = ""
    """`state_at` for the first outlet, for devices that do not number their only outlet."""
    values: tuple[str, str] = ("on", "off")
    query: tuple[str, str] | None = None
    """Topic and message that ask for the state; None if the broker keeps the last one (retained)."""
    availability: str = ""
    """The topic whose retained message says that the device has lost its connection."""
    offline_at: str = ""
    offline: str = "offline"
    """The message that says so, in lower case."""
    meter: str = ""
    """The topic with the measurements."""
    meter_query: tuple[str, str] | None = None
    measures: Mapping[str, Measure] = field(default_factory=dict)
    first: int = 1
    """The number of the first outlet."""


def _phases(key: str) -> str:
    """Return the path of one of several outlets, or of the only one."""
    return f"StatusSNS.ENERGY.{key}.$index|StatusSNS.ENERGY.{key}"


DEVICES: Final[Mapping[str, MqttDevice]] = {
    "tasmota": MqttDevice(
        "Tasmota",
        command="${cmnd}POWER$outlet",
        values=("ON", "OFF"),
        query=("${cmnd}POWER$outlet", ""),
        state="${stat}RESULT",
        state_at="POWER$outlet",
        state_at_first="POWER",
        availability="${tele}LWT",
        meter="${stat}STATUS10",
        meter_query=("${cmnd}STATUS", "10"),
        measures=measures(
            **{name.lower(): _phases(name) for name in ("Voltage", "Current", "Power")},
            energy=(_phases("Total"), 1000),
        ),
    ),
    "shelly": MqttDevice(
        "Shelly",
        command="$topic/command/switch:$outlet",
        query=("$topic/command/switch:$outlet", "status_update"),
        state="$topic/status/switch:$outlet",
        state_at="output",
        availability="$topic/online",
        offline="false",
        meter="$topic/status/switch:$outlet",
        meter_query=("$topic/command/switch:$outlet", "status_update"),
        measures=measures(voltage="voltage", current="current", power="apower", energy="aenergy.total"),
        first=0,
    ),
    "zigbee2mqtt": MqttDevice(
        "Zigbee outlet",
        command="zigbee2mqtt/$topic/set",
        values=('{"state":"ON"}', '{"state":"OFF"}'),
        query=("zigbee2mqtt/$topic/get", '{"state":""}'),
        state="zigbee2mqtt/$topic",
        state_at="state",
        availability="zigbee2mqtt/$topic/availability",
        offline_at="state",
        meter="zigbee2mqtt/$topic",
        meter_query=("zigbee2mqtt/$topic/get", '{"state":"","power":""}'),
        measures=measures(voltage="voltage", current="current", power="power", energy=("energy", 1000)),
    ),
}
