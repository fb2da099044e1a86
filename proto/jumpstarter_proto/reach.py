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
from typing import TYPE_CHECKING, Self

from jumpstarter_proto.errors import ExitCode, JumpstarterError

if TYPE_CHECKING:
    from jumpstarter_proto.local_networks import Network

__all__ = ["EVERYWHERE", "AddressRefused", "Reach"]

_AddressInfo = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]


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
        from jumpstarter_proto.refused_addresses import refusal_of  # noqa: PLC0415 - it uses ipaddress at its import

        reason = refusal_of(address)
        if reason:
            raise AddressRefused(
                f"{host} leads to {reason}, which is not reached for users of a lease or the network; "
                "use a server on another host, or name it under `fetch: {allow: [...]}` in the exporter's configuration"
            )


EVERYWHERE = Reach()


def _plain_name(name: str) -> str:
    return name.lower().rstrip(".")
