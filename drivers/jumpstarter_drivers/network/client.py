"""Connections for the user: `jumpstarter network forward-tcp rpi4 2222`, or a stream from Python."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar
from urllib.parse import urlsplit

from jumpstarter_client.adapters import TcpPortforwardAdapter, UnixPortforwardAdapter
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError
from jumpstarter_client.twin import twin
from jumpstarter_client.verb import verb
from jumpstarter_proto.rpc import StatusCode
from jumpstarter_proto.terminal import print_line

if TYPE_CHECKING:
    from cyclopts import Parameter

__all__ = ["NetworkClient"]


class NetworkClient(DriverClient):
    """Opens connections from the exporter's host; each stream is one."""

    interface: ClassVar[str] = "network"

    @twin
    async def address(self) -> str:
        """Where the service is, with its scheme, such as tcp://192.168.1.5:22."""
        return str(await self.call_async("address"))

    @verb
    def forward_tcp(self, port: int, *, address: str = "localhost") -> None:
        """Listen on a local TCP port, and connect every connection to the service, until Ctrl-C.

        Parameters
        ----------
        port
            Port to listen on; 0 uses any free port, which is printed.
        address
            Where to listen.
        """
        with TcpPortforwardAdapter(client=self, local_host=address, local_port=port) as (host, bound):
            self._until_interrupted(f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}")

    @verb
    def forward_unix(self, path: Path | None = None, /) -> None:
        """Listen on a local unix socket, and connect every connection to the service, until Ctrl-C.

        Parameters
        ----------
        path
            Path of the socket; default: in a private directory. The path is printed.
        """
        with UnixPortforwardAdapter(client=self, path=path) as bound:
            self._until_interrupted(str(bound))

    @verb(name="address")
    @twin
    async def show_address(
        self,
        *,
        host: Annotated[bool, Parameter(negative="")] = False,
        port: Annotated[bool, Parameter(negative="")] = False,
    ) -> str:
        """Print the address of the service, for users who can reach it without the exporter.

        Parameters
        ----------
        host
            Only the host.
        port
            Only the port.
        """
        parts = urlsplit(await self.address.aio())
        if host == port:
            return parts.netloc
        return str(parts.hostname if host else parts.port)

    def _until_interrupted(self, where: str) -> None:
        try:
            # Who reads the address may end us before the next line runs.
            print_line(where)
            sys.stdout.flush()
            self.portal.call(self.wait_closed_async)
        except KeyboardInterrupt:
            return  # the documented way to end
        raise DriverError(
            "the connection to the exporter is gone, and the forward with it; connect again",
            code=StatusCode.UNAVAILABLE,
        )
