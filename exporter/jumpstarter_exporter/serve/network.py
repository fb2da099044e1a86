"""The exporter's network listener, and what its users must present."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import ConnectionLimits, Server, Servicer, connections_allowed, tcp_listeners

from jumpstarter_exporter.serve.passphrase import let_everybody_in, require_passphrase

if TYPE_CHECKING:
    from jumpstarter_proto.rpc import ServerTls

__all__ = ["Network", "NetworkListenError"]


class NetworkListenError(JumpstarterError):
    """The network address cannot be listened on."""

    exit_code = ExitCode.FAILED


@dataclass(frozen=True)
class Network:
    """Where to listen besides the socket."""

    host: str | None
    """None means every interface."""
    port: int
    certificate: Path | None = None
    key: Path | None = None
    """Without certificate and key, in plaintext."""
    passphrase: str | None = None

    def tls(self) -> ServerTls | None:
        """The server's side of TLS. NetworkListenError if the files are not a valid certificate and key."""
        if self.certificate is None or self.key is None:
            return None
        from jumpstarter_proto.rpc import ServerTls, cause_of  # noqa: PLC0415 - most exporters need no TLS

        try:
            return ServerTls(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise NetworkListenError(
                f"{self.certificate} and {self.key} cannot be used for TLS: {cause_of(error)}; "
                "give a PEM certificate chain and its key"
            ) from error

    async def listeners(self, tls: ServerTls | None) -> list[trio.abc.Listener[trio.abc.Stream]]:
        """Listen. NetworkListenError if the address is taken or invalid."""
        context = None if tls is None else lambda: tls.context
        try:
            return list(await tcp_listeners(self.host, self.port, ssl_context=context))
        except OSError as error:
            where = f"{self.host or '*'}:{self.port}"
            raise NetworkListenError(
                f"cannot listen on {where}: {error.strerror or error}; choose another address with --listen"
            ) from None

    def server(self, services: Sequence[Servicer]) -> Server:
        """A server that requires the passphrase, if there is one."""
        check = let_everybody_in if self.passphrase is None else require_passphrase(self.passphrase)
        limits = ConnectionLimits(connections=connections_allowed(ConnectionLimits().connections))
        return Server(services, interceptors=[check], limits=limits)

    def address(self, listeners: list[trio.abc.Listener[trio.abc.Stream]]) -> str:
        """The address, for people."""
        port = self.port
        for listener in listeners:
            inner = getattr(listener, "transport_listener", listener)
            if port == 0 and isinstance(inner, trio.SocketListener):
                port = inner.socket.getsockname()[1]
        kind = "TLS" if self.certificate else "plaintext"
        return f"{self.host or '*'}:{port} ({kind}{', passphrase' if self.passphrase else ''})"
