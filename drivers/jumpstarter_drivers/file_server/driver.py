"""Servers on the exporter's host from which boards load files, with the keys of Jumpstarter 0.9."""

from __future__ import annotations

import ipaddress
import socket
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import trio
from jumpstarter_exporter.devices import Spec
from jumpstarter_exporter.driver import DeviceBusy, DeviceFailed, Driver, export
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface

from jumpstarter_drivers.file_server.http_server import serve_http
from jumpstarter_drivers.file_server.reading import FileReading
from jumpstarter_drivers.file_server.storage import ServedFiles
from jumpstarter_drivers.file_server.tftp_server import serve_tftp

__all__ = ["Http", "Tftp"]

DEFAULT_SIZE_LIMIT = 8 * 1024**3
MAX_THREADS = 8
PRIVILEGED_PORTS = 1024
_ELSEWHERE = ("192.0.2.1", 9)
"""An address for documentation (RFC 5737). Nothing is sent to it."""


class _Running:
    """A server that runs."""

    def __init__(self, requests: trio.socket.SocketType) -> None:
        self.requests = requests
        self.scope = trio.CancelScope()
        self.ended = trio.Event()


@dataclass(kw_only=True, eq=False)
class _FileServer(Driver):
    """A server whose files are those of its child `storage`."""

    root_dir: str | None = None
    """The folder; None: a private one, which is removed when the exporter ends."""
    host: str | None = None
    """The address to listen on, which boards use; None: that of the default route."""
    port: int
    allowed: list[str] = field(default_factory=list)
    """Addresses or networks of the boards that may read; none: any."""
    size_limit: int = DEFAULT_SIZE_LIMIT
    """Bytes of all files."""
    remove_created_on_close: bool = True
    """Whether the end of a session removes the files that it has made."""

    scheme: ClassVar[str]
    default_port: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port < 65536:
            raise ValueError(f"port is {self.port}; it takes 1 to 65535, or 0 for any free one")
        if self.size_limit <= 0:
            raise ValueError(f"size_limit is {self.size_limit}; it takes bytes, more than 0")
        try:
            self._networks = [ipaddress.ip_network(one, strict=False) for one in self.allowed]
        except ValueError as error:
            raise ValueError(f"allowed is invalid: {error}; it takes addresses such as 192.168.1.5") from None
        self._running: _Running | None = None
        self._threads = trio.CapacityLimiter(MAX_THREADS)

    @classmethod
    def parts(cls, values: Mapping[str, Any]) -> Mapping[str, Spec]:
        """The files."""
        files = {
            "root_dir": values.get("root_dir"),
            "size_limit": values.get("size_limit", DEFAULT_SIZE_LIMIT),
            "remove_created_on_close": values.get("remove_created_on_close", True),
        }
        return {"storage": Spec(ServedFiles, files)}

    async def close(self) -> None:
        """Stop the server."""
        await self.stop()

    @export
    async def start(self) -> None:
        """Start the server, until `stop` or the end of the session."""
        with self.exclusive("being started or stopped"):
            if self._running is not None:
                return
            storage = self.children["storage"]
            await storage.ensure_open()
            host = await self.in_thread(self._address)
            try:
                running = _Running(await self.bind(host))
            except OSError as error:
                raise self._explain(error) from error
            self._running = running
            files = FileReading(storage.core.folder, self.is_allowed, self.logger, self._threads)
            self.nursery.start_soon(self._run, running, files)
        self.logger.info("serving %s", self._url())

    @export
    async def stop(self) -> None:
        """Stop the server, and end its transfers."""
        running, self._running = self._running, None
        if running is not None:
            running.scope.cancel()
            await running.ended.wait()

    @export
    def get_host(self) -> str:
        """The address that boards use."""
        return self._address()

    @export
    async def get_port(self) -> int:
        """The port that boards use."""
        return self._bound_port

    @export
    def get_url(self) -> str:
        """The URL of the folder, without a slash at its end."""
        return self._url()

    @abstractmethod
    async def bind(self, host: str) -> trio.socket.SocketType:
        """A socket for requests. OSError if the port cannot be used."""

    @abstractmethod
    async def serve(self, requests: trio.socket.SocketType, files: FileReading) -> None:
        """Serve until it is cancelled."""

    def is_allowed(self, address: str) -> bool:
        """Whether a board at this address may read."""
        peer = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(peer, "ipv4_mapped", None)
        return not self._networks or any((mapped or peer) in network for network in self._networks)

    async def _run(self, running: _Running, files: FileReading) -> None:
        try:
            with running.requests, running.scope:
                await self.serve(running.requests, files)
        finally:
            running.ended.set()

    @property
    def _bound_port(self) -> int:
        return self.port if self._running is None else int(self._running.requests.getsockname()[1])

    def _address(self) -> str:
        if self.host:
            return self.host
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(_ELSEWHERE)
            except OSError:
                return "127.0.0.1"
            return str(probe.getsockname()[0])

    def _url(self) -> str:
        host = self._address()
        port = self._bound_port
        where = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{where}" if port == self.default_port else f"{self.scheme}://{where}:{port}"

    def _explain(self, error: OSError) -> Exception:
        where = f"{self._address()} port {self.port}"
        if isinstance(error, PermissionError) and self.port < PRIVILEGED_PORTS:
            return DeviceFailed(
                f"the exporter may not use {where}; give its service AmbientCapabilities=CAP_NET_BIND_SERVICE, or set "
                f"a port of {PRIVILEGED_PORTS} or more"
            )
        reason = error.strerror or str(error)
        kind = DeviceBusy if "in use" in reason else DeviceFailed
        return kind(f"cannot listen on {where}: {reason}; check `host` and `port`, and who has that port")


@dataclass(kw_only=True, eq=False)
class Http(_FileServer):
    """An HTTP server.

        export:
          http:
            type: file_server.Http
            config:
              host: 192.168.1.1
              port: 8080
              allowed: [192.168.1.5]

    It runs from `start` to `stop` or to the end of the session, and does nothing to the board.
    """

    client: ClassVar[str] = "jumpstarter_driver_http.client.HttpServerClient"
    interface: ClassVar[str] = "files"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("file_server"),)
    scheme: ClassVar[str] = "http"
    default_port: ClassVar[int] = 80

    port: int = 8080
    timeout: float = 600
    """Seconds after which a board that takes no more data is dropped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout:g}; it takes seconds, more than 0")

    async def bind(self, host: str) -> trio.socket.SocketType:
        """Listen."""
        first, *others = await trio.open_tcp_listeners(self.port, host=host)
        for other in others:
            await other.aclose()
        return first.socket

    async def serve(self, requests: trio.socket.SocketType, files: FileReading) -> None:
        """Serve."""
        await serve_http(trio.SocketListener(requests), files, self.timeout)


@dataclass(kw_only=True, eq=False)
class Tftp(_FileServer):
    """A TFTP server from which files are read; it takes none.

        export:
          tftp:
            type: file_server.Tftp
            config:
              host: 192.168.1.1
              allowed: [192.168.1.5]

    It runs from `start` to `stop` or to the end of the session, and does nothing to the board.
    """

    client: ClassVar[str] = "jumpstarter_driver_tftp.client.TftpServerClient"
    interface: ClassVar[str] = "files"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("file_server"),)
    scheme: ClassVar[str] = "tftp"
    default_port: ClassVar[int] = 69

    port: int = 69

    async def bind(self, host: str) -> trio.socket.SocketType:
        """Bind a socket for datagrams."""
        found = await trio.socket.getaddrinfo(
            host, self.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        requests = trio.socket.socket(family, kind, protocol)
        try:
            await requests.bind(address)
        except BaseException:
            requests.close()
            raise
        return requests

    async def serve(self, requests: trio.socket.SocketType, files: FileReading) -> None:
        """Serve."""
        await serve_tftp(requests, files)
