"""Which addresses a transfer may connect to: for remote users neither the host nor what only it can reach.

Each address that a name resolves to is checked, and the connection is made to a checked address, without resolving the
name again.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.local_networks import local_bridge_of

__all__ = ["EVERYWHERE", "AddressRefused", "Reach"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_AddressInfo = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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


class AddressRefused(JumpstarterError):  # noqa: N818 - what happened, as in the docs
    """The URL leads to a host to which this user's transfers do not go."""

    status = "PERMISSION_DENIED"
    exit_code = ExitCode.DENIED


@dataclass(frozen=True)
class Reach:
    """Everything, or with `is_limited` all but what only the host itself can reach or is told.

    That are its own addresses, loopback and link-local ones, the networks of its containers and virtual machines, and
    the services at which a cloud gives a machine its own credentials.
    """

    is_limited: bool = False
    networks: tuple[Network, ...] = ()
    """Allowed all the same."""
    names: frozenset[str] = frozenset()
    """Hosts that are allowed wherever their name leads."""

    @classmethod
    def limited(cls, allow: Iterable[str] = ()) -> Self:
        """Limited, but for these addresses (`10.0.0.7`), networks (`10.0.0.0/8`) and host names.

        Raises:
            ValueError: an entry is none of these.
        """
        networks, names = [], set()
        for entry in allow:
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                if not entry or set("/:@ ") & set(entry):
                    raise ValueError(
                        f"{entry!r} is not an address, network or host name; give one such as 10.0.0.0/8 or images.lab"
                    ) from None
                names.add(_plain_name(entry))
        return cls(True, tuple(networks), frozenset(names))

    def connect(self, host: str, port: int, seconds: float) -> socket.socket:
        """Blocking: a TCP connection to an address of `host` that was checked, within `seconds` for all of them.

        Raises:
            AddressRefused: one of its addresses is not allowed.
            OSError: not resolved, or not reached at any of them.
        """
        failure: OSError | None = None
        found = self.resolve(host, port)
        ends = time.monotonic() + seconds
        for family, kind, protocol, _, address in found:
            if (left := ends - time.monotonic()) <= 0:
                break  # whoever owns the name may have given it a hundred addresses
            try:
                connection = socket.socket(family, kind, protocol)
            except OSError as error:  # a kernel without IPv6
                failure = error
                continue
            try:
                connection.settimeout(left)
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
            else:
                connection.settimeout(seconds)
                return connection
        raise failure or OSError(f"{host} has no address")

    def resolve(self, host: str, port: int) -> Sequence[_AddressInfo]:
        """Blocking: what `getaddrinfo` gives, all of it checked. AddressRefused, OSError."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:  # a label that is empty or too long
            raise OSError("it is not a host name") from None
        if self.is_limited and _plain_name(host) not in self.names:
            for *_, address in found:
                self._check(host, str(address[0]))
        return found

    def check_behind_proxy(self, host: str, port: int) -> None:
        """Blocking: the same check where a proxy connects; a name that only the proxy can resolve is its business."""
        if self.is_limited:
            with suppress(OSError):
                self.resolve(host, port)

    def _check(self, host: str, text: str) -> None:
        address = ipaddress.ip_address(text.partition("%")[0])
        if any(address in network for network in self.networks if network.version == address.version):
            return
        reason = _refusal(address)
        if reason:
            raise AddressRefused(
                f"{host} leads to {reason}, which is not reached for users of a lease or the network; "
                "use a server on another host, or name it under `fetch: {allow: [...]}` in the exporter's configuration"
            )


EVERYWHERE = Reach()


def _plain_name(name: str) -> str:
    return name.lower().rstrip(".")


def _refusal(address: Address) -> str:
    """Why it is not for everybody; empty if it is."""
    inner = _embedded(address)
    if inner is not None:
        return _refusal(inner)
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
