"""Connections from the exporter's host: each stream that a user opens is one connection to the service."""

from __future__ import annotations

import socket
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

import trio
from jumpstarter_exporter.driver import DeviceMissing, Driver, export, export_stream
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface

from jumpstarter_drivers.host_names import check_host

__all__ = ["EchoNetwork", "NetworkInterface", "TcpNetwork", "UdpNetwork", "UnixNetwork"]

_CONNECT_SECONDS = 10.0
_MAX_DATAGRAM_BYTES = 65536


@dataclass(kw_only=True, eq=False)
class NetworkInterface(Driver):
    """Base of all of them. Nothing is held between connections, so opening and closing do nothing."""

    client: ClassVar[str] = "jumpstarter_driver_network.client.NetworkClient"
    interface: ClassVar[str] = "network"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("network"),)

    @export_stream
    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[trio.abc.HalfCloseableStream]:
        """Open a connection. Raises DeviceMissing if the service cannot be reached."""


@dataclass(kw_only=True, eq=False)
class _Address(NetworkInterface):
    host: str
    port: int
    enable_address: bool = True
    """Whether users may be told the address, for those who can reach it without the exporter."""

    scheme: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.port < 65536:
            raise ValueError(f"port is {self.port}; it takes 1 to 65535")
        try:
            check_host(self.host)
        except ValueError as error:
            raise ValueError(f"host is invalid: {error}") from None

    @export(reads=True)
    async def address(self) -> str:
        """Where the service is, such as tcp://192.168.1.5:22; a name is resolved by the exporter."""
        if not self.enable_address:
            raise ValueError(
                "this exporter keeps the address to itself; use a forward, or set enable_address"
            )
        host = await self._resolved()
        return (
            f"{self.scheme}://[{host}]:{self.port}" if ":" in host else f"{self.scheme}://{host}:{self.port}"
        )

    async def _resolved(self) -> str:
        try:
            found = await trio.socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return self.host  # who asks may know the name
        return str(found[0][4][0])


@dataclass(kw_only=True, eq=False)
class TcpNetwork(_Address):
    """A TCP service, such as the board's SSH server.

    export:
      ssh:
        type: network.TcpNetwork
        config:
          host: 192.168.1.5
          port: 22
    """

    scheme: ClassVar[str] = "tcp"

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """A new TCP connection."""
        where = f"{self.host} port {self.port}"
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                stream = await trio.open_tcp_stream(self.host, self.port)
        except OSError as error:
            raise _unreachable(where, _attempt(error)) from error
        except trio.TooSlowError:
            raise DeviceMissing(
                f"{where} does not answer; check that the board runs and its cable is in"
            ) from None
        async with stream:
            yield stream


@dataclass(kw_only=True, eq=False)
class UnixNetwork(NetworkInterface):
    """A service on a unix socket of the exporter's host.

    export:
      qmp:
        type: network.UnixNetwork
        config:
          path: /run/lab/qmp.sock
    """

    path: str

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """A new connection to the socket."""
        try:
            stream = await trio.open_unix_socket(self.path)
        except OSError as error:
            raise _unreachable(self.path, error) from error
        async with stream:
            yield stream


@dataclass(kw_only=True, eq=False)
class UdpNetwork(_Address):
    """A UDP service. Each frame of a stream is one datagram, both ways.

    export:
      tftp:
        type: network.UdpNetwork
        config:
          host: 192.168.1.5
          port: 69
    """

    scheme: ClassVar[str] = "udp"

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """Open a local port that exchanges datagrams with the service only."""
        where = f"{self.host} port {self.port}"
        try:
            found = await trio.socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, peer = found[0]
            datagrams = trio.socket.socket(family, kind, protocol)
        except OSError as error:
            raise _unreachable(where, error) from error
        with datagrams:
            try:
                await datagrams.connect(peer)
            except OSError as error:
                raise _unreachable(where, error) from error
            yield _Datagrams(datagrams, where)


@dataclass(kw_only=True, eq=False)
class EchoNetwork(NetworkInterface):
    """Sends back all bytes: for tests and measurements.

    export:
      echo:
        type: network.EchoNetwork
    """

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """A new echo."""
        yield _Echo()


class _Datagrams(trio.abc.HalfCloseableStream):
    def __init__(self, datagrams: trio.socket.SocketType, where: str) -> None:
        self._socket = datagrams
        self._where = where

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            try:
                data = await self._socket.recv(_MAX_DATAGRAM_BYTES)
            except ConnectionRefusedError:
                # The answer to an earlier datagram, from a host where nothing listens yet. UDP promises
                # nothing.
                continue
            if data:  # an empty datagram would look like the end
                return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        while True:
            try:
                await self._socket.send(data)
            except ConnectionRefusedError:
                continue  # about an earlier datagram; this one was not sent yet
            except OSError as error:
                raise DeviceMissing(
                    f"{self._where} does not take a datagram of {len(data)} bytes: {error}"
                ) from error
            return

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """UDP has no end."""

    async def aclose(self) -> None:
        self._socket.close()
        await trio.lowlevel.checkpoint()


class _Echo(trio.abc.HalfCloseableStream):
    """A sender that is some chunks ahead waits for its reader."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes](32)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            await self._send.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await self._send.aclose()

    async def aclose(self) -> None:
        await self._send.aclose()
        await self._receive.aclose()


def _attempt(error: OSError) -> OSError:
    """Return the error of one address: it says more than trio's summary of all addresses."""
    cause = error.__cause__
    attempt = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
    return attempt if isinstance(attempt, OSError) else error


def _unreachable(where: str, error: OSError) -> DeviceMissing:
    if isinstance(error, ConnectionRefusedError):
        return DeviceMissing(f"nothing listens on {where}; check that the service runs")
    if isinstance(error, FileNotFoundError):
        return DeviceMissing(f"there is no socket {where}; check that the service runs")
    if isinstance(error, socket.gaierror):
        return DeviceMissing(f"the exporter does not know the host of {where}; check the name")
    return DeviceMissing(
        f"{where} cannot be reached: {error.strerror or error}; check the address and the network"
    )
