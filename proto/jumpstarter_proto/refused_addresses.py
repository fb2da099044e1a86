"""Which addresses are not for everybody, and why: the host, what only it can reach, and what clouds keep there."""

from __future__ import annotations

import ipaddress
import socket

from jumpstarter_proto.local_networks import Address, local_bridge_of

__all__ = ["refusal_of"]

_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
"""The prefix of RFC 6052, and the one of RFC 8215, of which the last 32 bits are the address in its usual form."""
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "fd00:ec2::254",  # Amazon EC2
        "fd20:ce::254",  # Google Compute Engine
        "fd00:c1::a9fe:a9fe",  # Oracle Cloud
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure: WireServer
    )
)
"""Where a cloud's machine asks for its own credentials; most are link-local, these are not."""
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_PROTOCOL_ASSIGNMENTS = ipaddress.IPv4Network("192.0.0.0/24")
"""RFC 6890; Oracle Cloud's metadata were there."""
_DISCARD_PORT = 9


def refusal_of(address: Address) -> str:
    """Why it is not for everybody; empty if it is."""
    inner = _embedded(address)
    if inner is not None:
        return refusal_of(inner)
    if address.is_loopback or address.is_unspecified or address in _THIS_NETWORK:
        return "the exporter's host itself (loopback)"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast or address.is_reserved or address in _PROTOCOL_ASSIGNMENTS:
        return "an address that no host can have"
    if address in _METADATA:
        return "a cloud's metadata service"
    if _is_own(address):
        return "the exporter's host itself"
    if bridge := local_bridge_of(address):
        return f"a container or virtual machine of the exporter's host (on {bridge})"
    return ""


def _embedded(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if any(address in prefix for prefix in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_own(address: Address) -> bool:
    """Whether it is an address of this host: only then does the way to it begin at itself. Nothing is sent."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        probe = socket.socket(family, socket.SOCK_DGRAM)
    except OSError:
        return False  # a kernel without IPv6 has no such address
    with probe:
        try:
            probe.connect((str(address), _DISCARD_PORT))
        except OSError:
            return False  # no way to it
        return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == address
