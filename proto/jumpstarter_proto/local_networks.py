"""Networks that exist on this host only: bridges that connect nothing but its containers and virtual machines."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["local_bridge_of"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

INTERFACES = Path("/sys/class/net")
IPV4_ROUTES = Path("/proc/net/route")
IPV6_ROUTES = Path("/proc/net/ipv6_route")
MAX_DEPTH = 8
"""Of interfaces that are made of others: a bridge of a VLAN of a bond."""


def local_bridge_of(address: Address) -> str:
    """Blocking: the name of the bridge behind which an address is directly, if no network card belongs to it.

    Empty for all other addresses. It is the main routing table that counts.
    """
    routes = [(network, interface) for network, interface in _routes(address.version) if address in network]
    if not routes:
        return ""
    _, interface = max(routes, key=lambda route: route[0].prefixlen)
    is_local = interface and (INTERFACES / interface / "bridge").is_dir() and not _leads_out(interface)
    return interface if is_local else ""


def _leads_out(interface: str, depth: int = MAX_DEPTH) -> bool:
    folder = INTERFACES / interface
    if (folder / "device").exists():
        return True
    below = [link.name.removeprefix("lower_") for link in folder.glob("lower_*")]
    return depth > 0 and any(_leads_out(one, depth - 1) for one in below)


def _routes(version: int) -> Iterator[tuple[Network, str]]:
    """Each network with the interface on which its addresses are neighbours; an empty one if a gateway is between."""
    try:
        lines = (IPV4_ROUTES if version == 4 else IPV6_ROUTES).read_text().splitlines()
    except OSError:  # not Linux, or a kernel without IPv6
        return
    for line in lines:
        fields = line.split()
        if version == 6:
            target, length, gateway, interface = fields[0], int(fields[1], 16), fields[4], fields[9]
            network: Network = ipaddress.IPv6Network((bytes.fromhex(target), length))
        elif fields[0] == "Iface":
            continue
        else:
            interface, target, gateway, mask = fields[0], fields[1], fields[2], fields[7]
            network = ipaddress.IPv4Network((_native(target), _native(mask).bit_count()))
        yield network, "" if int(gateway, 16) else interface


def _native(number: str) -> int:
    """A 32-bit number in network order that the kernel has printed in the processor's."""
    return int.from_bytes(int(number, 16).to_bytes(4, sys.byteorder), "big")
