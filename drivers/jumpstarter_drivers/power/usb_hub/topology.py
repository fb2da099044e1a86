"""Ports of USB hubs by the names that Linux gives them, and which two ports are one socket. No I/O is here.

A USB 3 hub is two hubs: one for USB 2 speeds and one for USB 3 speeds, each with ports of its own, and a socket loses
its power only when both of its ports are off. The kernel links the two ports where it can tell; where it has no link,
hubs are paired by their ContainerIDs and by where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jumpstarter_drivers.power.usb_hub.protocol import MAX_PORTS

__all__ = ["PortLocation", "UsbHub", "find_peer", "pair_hubs", "parse_port"]

_DEVICE = re.compile(r"(?a:([1-9]\d{0,4})-([1-9]\d{0,2}(?:\.[1-9]\d{0,2})*))")
_ROOT_HUB = re.compile(r"(?a:(?:usb)?([1-9]\d{0,4})(?:-0)?)")
_MAX_DEPTH = 7
_MIN_SIMILARITY = 3
"""The score of `_similarity` from which on two hubs may be paired without a ContainerID."""


@dataclass(frozen=True, order=True)
class PortLocation:
    """A port of a hub."""

    hub: str
    """The hub's name in sysfs: `1-1`, or `usb1` for a root hub."""
    number: int

    @property
    def name(self) -> str:
        """The name that sysfs gives to a device in this port: `1-1.3`."""
        if self.hub.startswith("usb"):
            return f"{self.hub.removeprefix('usb')}-{self.number}"
        return f"{self.hub}.{self.number}"

    @property
    def directory_name(self) -> str:
        """The name of the port's directory, which is in that of the hub's interface."""
        return f"{self.hub}-port{self.number}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class UsbHub:
    """One hub, or one of the two halves of a USB 3 hub."""

    name: str
    """As in sysfs: `1-1`, or `usb1` for a root hub."""
    is_superspeed: bool
    port_count: int
    vendor_id: str = ""
    product_id: str = ""
    product: str = ""
    serial: str = ""
    container_id: str | None = None
    """Hex digits; None if it is not known."""
    is_built_in: bool = False
    """Whether it is a part of the host itself, such as a root hub."""
    peers: Mapping[int, PortLocation] = field(default_factory=dict, hash=False)
    """By port number: the port of the other speed that the kernel takes for the same socket."""

    @property
    def bus(self) -> int:
        """The number of its bus."""
        return int(self.name.removeprefix("usb").partition("-")[0])

    @property
    def path(self) -> tuple[int, ...]:
        """The ports that lead to it from its root hub; none for a root hub."""
        _, _, ports = self.name.partition("-")
        return tuple(int(port) for port in ports.split(".")) if ports else ()

    @property
    def ports(self) -> tuple[PortLocation, ...]:
        """All of its ports."""
        return tuple(PortLocation(self.name, number) for number in range(1, self.port_count + 1))

    def __str__(self) -> str:
        ids = f"{self.vendor_id}:{self.product_id}".strip(":")
        what = " ".join(part for part in (ids, self.product) if part)
        return f"{self.name} ({what})" if what else self.name


def parse_port(port: str | int, hub: str | None = None) -> PortLocation:
    """A port as configurations name it: `1-1.3`, or `3` with the hub `1-1` (`usb1` is a root hub).

    Raises:
        ValueError: it is neither.
    """
    text = str(port)
    if hub is None:
        match = _DEVICE.fullmatch(text)
        if match is None:
            raise ValueError(
                f"port is {text!r}; it takes the place of a device as sysfs names it, such as 1-1.3, or a number "
                "beside `hub`"
            )
        above, _, number = text.rpartition("." if "." in text else "-")
        location = PortLocation(above if "-" in above else f"usb{above}", int(number))
    else:
        if not re.fullmatch(r"(?a:\d{1,3})", text):
            raise ValueError(f"port is {text!r}; beside `hub` it takes a number, such as 3")
        if (root := _ROOT_HUB.fullmatch(hub)) is not None:
            hub = f"usb{root[1]}"
        elif _DEVICE.fullmatch(hub) is None:
            raise ValueError(f"hub is {hub!r}; it takes a hub as sysfs names it, such as 1-1 or usb1")
        location = PortLocation(hub, int(text))
    if not 1 <= location.number <= MAX_PORTS:
        raise ValueError(f"port {location.number} cannot be; hubs have ports 1 to {MAX_PORTS}")
    if location.name.count(".") >= _MAX_DEPTH:
        raise ValueError(f"port {location.name} is below too many hubs; USB has {_MAX_DEPTH} levels")
    return location


def find_peer(location: PortLocation, hubs: Iterable[UsbHub]) -> PortLocation | None:
    """The port of the other speed that belongs to the same socket; None where there is no such port.

    It is symmetric: the peer of the peer is `location`.
    """
    known = {hub.name: hub for hub in hubs}
    if location.hub not in known or location not in known[location.hub].ports:
        return None
    linked = _linked(location, known)
    if linked is not None:
        return linked
    other = known.get(pair_hubs(known.values()).get(location.hub, ""))
    if other is None or location.number > other.port_count:
        return None
    peer = PortLocation(other.name, location.number)
    return None if _linked(peer, known) is not None else peer


def pair_hubs(hubs: Iterable[UsbHub]) -> dict[str, str]:
    """Which hubs are two halves of one, without asking the kernel: the name of each half to that of the other.

    The most similar ones are paired first, and each at most once. Two halves have the same ContainerID, as far as it is
    known; as some makers give all their hubs the same one, the places of the hubs decide between several.
    """
    known = sorted(hubs, key=lambda hub: hub.name)
    candidates = [
        (-score, slow.name, fast.name)
        for slow in known
        if not slow.is_superspeed
        for fast in known
        if fast.is_superspeed and (score := _similarity(slow, fast)) > 0
    ]
    pairs: dict[str, str] = {}
    for _, slow_name, fast_name in sorted(candidates):
        if slow_name not in pairs and fast_name not in pairs:
            pairs |= {slow_name: fast_name, fast_name: slow_name}
    return pairs


def _linked(location: PortLocation, known: Mapping[str, UsbHub]) -> PortLocation | None:
    """The peer that the kernel names, if it can be: it guesses, too, where a host's firmware does not tell.

    On a Raspberry Pi 4, for example, it takes a USB 3 hub in the first socket for a half of the hub on the board.
    """
    hub = known[location.hub]
    peer = hub.peers.get(location.number)
    other = known.get(peer.hub) if peer is not None else None
    if peer is None or other is None or peer not in other.ports:
        return None
    if other.peers.get(peer.number) != location or not _may_be_halves(hub, other):
        return None
    return peer


def _may_be_halves(one: UsbHub, other: UsbHub) -> bool:
    if one.is_superspeed == other.is_superspeed or one.is_built_in != other.is_built_in:
        return False
    return not (one.container_id and other.container_id) or one.container_id == other.container_id


def _similarity(slow: UsbHub, fast: UsbHub) -> int:
    """How much speaks for it that they are halves of one hub; 0 if they cannot be."""
    if not _may_be_halves(slow, fast) or not slow.path or not fast.path:
        return 0  # root hubs are linked by the kernel, or not at all
    if slow.port_count != fast.port_count and slow.port_count + fast.port_count > 3:
        return 0  # small docks have two ports of one speed and one of the other
    if slow.serial and fast.serial and slow.serial != fast.serial:
        return 0
    score = 1
    if slow.path[1:] == fast.path[1:]:
        score = 2
    if slow.path[1:] == fast.path:
        score = 3  # Raspberry Pi 4: its USB 2 ports are behind one hub more
    if slow.path == fast.path:
        score = 5 if slow.bus + 1 == fast.bus else 4
    if slow.container_id is None or fast.container_id is None:
        # A guess that cuts off another device is worse than none.
        return score if score >= _MIN_SIMILARITY and slow.vendor_id == fast.vendor_id else 0
    return score + 10
