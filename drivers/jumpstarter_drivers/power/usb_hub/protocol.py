"""Requests to USB hubs and their answers, without I/O: USB 2.0 chapter 11.24, USB 3.2 chapter 10.16."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = [
    "MAX_PORTS",
    "ControlRequest",
    "HubDescriptor",
    "HubProtocolError",
    "PortStatus",
    "PowerSwitching",
    "bos_request",
    "decode_container_id",
    "decode_hub_descriptor",
    "decode_port_status",
    "hub_descriptor_request",
    "port_power_request",
    "port_status_request",
]

MAX_PORTS = 31
"""Ports of one hub that Linux knows (USB_MAXCHILDREN)."""

_HUB_DESCRIPTOR = 0x29
_SUPERSPEED_HUB_DESCRIPTOR = 0x2A
_BOS_DESCRIPTOR = 0x0F
_DEVICE_CAPABILITY = 0x10
_CONTAINER_ID = 0x04
_PORT_POWER = 8
_CONNECTION = 0x0001
_POWER = 0x0100
_SUPERSPEED_POWER = 0x0200
_MAX_DESCRIPTOR_BYTES = 71
_MAX_BOS_BYTES = 1024


class HubProtocolError(ValueError):
    """The answer of a hub is invalid; the message says why."""


class PowerSwitching(enum.Enum):
    """How a hub says that it switches the power of its ports (wHubCharacteristics, bits 0 and 1)."""

    PER_PORT = "per port"
    GANGED = "ganged"
    NONE = "none"


@dataclass(frozen=True)
class ControlRequest:
    """The setup packet of a control transfer."""

    request_type: int
    request: int
    value: int
    index: int
    length: int = 0
    """Bytes that are read at most."""


@dataclass(frozen=True)
class HubDescriptor:
    """The hub descriptor."""

    port_count: int
    power_switching: PowerSwitching


@dataclass(frozen=True)
class PortStatus:
    """The status of one port."""

    is_powered: bool
    is_connected: bool


def hub_descriptor_request(*, is_superspeed: bool) -> ControlRequest:
    """Ask for the hub descriptor."""
    kind = _SUPERSPEED_HUB_DESCRIPTOR if is_superspeed else _HUB_DESCRIPTOR
    return ControlRequest(0xA0, 0x06, kind << 8, 0, _MAX_DESCRIPTOR_BYTES)


def port_status_request(port: int) -> ControlRequest:
    """Ask for the status of a port."""
    return ControlRequest(0xA3, 0x00, 0, port, 4)


def port_power_request(port: int, *, on: bool) -> ControlRequest:
    """Switch a port's power: SET_FEATURE or CLEAR_FEATURE of PORT_POWER."""
    return ControlRequest(0x23, 0x03 if on else 0x01, _PORT_POWER, port)


def bos_request() -> ControlRequest:
    """Ask for the binary device object store, in which a ContainerID may be."""
    return ControlRequest(0x80, 0x06, _BOS_DESCRIPTOR << 8, 0, _MAX_BOS_BYTES)


def decode_hub_descriptor(data: bytes, *, is_superspeed: bool) -> HubDescriptor:
    """The answer to `hub_descriptor_request`.

    Raises:
        HubProtocolError: it is too short, of another type, or has an impossible number of ports.
    """
    kind = _SUPERSPEED_HUB_DESCRIPTOR if is_superspeed else _HUB_DESCRIPTOR
    if len(data) < 7 or data[0] < 7:
        raise HubProtocolError(f"its hub descriptor has only {len(data)} bytes")
    if data[1] != kind:
        raise HubProtocolError(f"its hub descriptor is of type {data[1]:#04x}, not {kind:#04x}")
    if not 1 <= data[2] <= MAX_PORTS:
        raise HubProtocolError(f"its hub descriptor names {data[2]} ports")
    characteristics = int.from_bytes(data[3:5], "little")
    switching = {0: PowerSwitching.GANGED, 1: PowerSwitching.PER_PORT}.get(
        characteristics & 0x03, PowerSwitching.NONE
    )
    if switching is PowerSwitching.GANGED and data[2] == 1:
        switching = PowerSwitching.PER_PORT  # a gang of one
    return HubDescriptor(data[2], switching)


def decode_port_status(data: bytes, *, is_superspeed: bool) -> PortStatus:
    """The answer to `port_status_request`. Hubs of USB 3 have the power bit elsewhere than those of USB 2.

    Raises:
        HubProtocolError: it is too short.
    """
    if len(data) < 4:
        raise HubProtocolError(f"its port status has only {len(data)} of 4 bytes")
    word = int.from_bytes(data[:2], "little")
    return PortStatus(
        is_powered=bool(word & (_SUPERSPEED_POWER if is_superspeed else _POWER)),
        is_connected=bool(word & _CONNECTION),
    )


def decode_container_id(bos: bytes) -> str | None:
    """The ContainerID in a device's BOS, as hex digits: both halves of a USB 3 hub have the same one.

    None where there is none, where it is only zeros, and where the BOS is broken.
    """
    if len(bos) < 5 or bos[0] < 5 or bos[1] != _BOS_DESCRIPTOR:
        return None
    end = min(len(bos), int.from_bytes(bos[2:4], "little"))
    place = bos[0]
    while place + 3 <= end:
        length, kind, capability = bos[place : place + 3]
        if length < 3 or place + length > end:
            return None
        if kind == _DEVICE_CAPABILITY and capability == _CONTAINER_ID and length >= 20:
            found = bos[place + 4 : place + 20]
            return found.hex() if any(found) else None
        place += length
    return None
