"""A TCP proxy on the loopback whose connections can be cut, stalled, delayed and half-closed while they are in use.

It stands for a network. Cutting resets connections, as a firewall or a process that dies does; stalling keeps them
open and lets nothing through, new ones included, as a cable that is pulled out does.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import trio
from jumpstarter_client.blocking import PortalThread

PIECE = 65536
T = TypeVar("T")


@dataclass(eq=False)
class Connection:
    """One that goes through the proxy."""

    near: trio.SocketStream
    """Of who connected."""
    far: trio.SocketStream | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def is_of(self, process: int) -> bool:
        """Whether that process, or a child of it, connected."""
        try:
            inode = _inode(self.near.socket.getpeername(), self.near.socket.getsockname())
        except OSError:
            return False
        return inode is not None and any(inode in _sockets(one) for one in (process, *_children(process)))

    def reset(self) -> None:
        """Both ends learn at once that it is gone."""
        for end in (self.near, self.far):
            if end is not None:
                # SO_LINGER with no time makes a reset of the close (socket(7)).
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.scope.cancel()

    def half_close(self) -> None:
        """Who connected sees the end of what comes to them, and may still send."""
        with suppress(OSError):
            self.near.socket.shutdown(socket.SHUT_WR)


Which = Callable[[Connection], bool]


def every(_connection: Connection) -> bool:
    return True


class Proxy:
    """Forwards connections to a port of the loopback. `delay` is in seconds, for each piece each way."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        self.connections: set[Connection] = set()
        self.accepted = 0
        self._stalled: Which | None = None
        self._healed = trio.Event()

    def cut(self, which: Which = every) -> int:
        """Reset connections; how many. New ones go through."""
        found = [one for one in self.connections if which(one)]
        for one in found:
            one.reset()
        return len(found)

    def half_close(self, which: Which = every) -> int:
        """End one direction of connections; how many."""
        found = [one for one in self.connections if which(one)]
        for one in found:
            one.half_close()
        return len(found)

    def stall(self, which: Which = every) -> None:
        """Let nothing through any more, of old and of new connections, until `heal`."""
        self._stalled = which

    def heal(self) -> None:
        """Let everything through again; what waited arrives."""
        self._stalled = None
        self._healed.set()
        self._healed = trio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            yield self
            nursery.cancel_scope.cancel()

    async def _serve(self, near: trio.SocketStream) -> None:
        self.accepted += 1
        connection = Connection(near)
        self.connections.add(connection)
        try:
            with connection.scope:
                await self._pass(connection)
                try:
                    connection.far = await trio.open_tcp_stream("127.0.0.1", self.target)
                except OSError:
                    connection.reset()
                    await trio.lowlevel.checkpoint()
                    return
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._copy, connection, near, connection.far)
                    nursery.start_soon(self._copy, connection, connection.far, near)
        finally:
            self.connections.discard(connection)
            for end in (near, connection.far):
                if end is not None:
                    end.socket.close()  # without a checkpoint, since this may be cancelled

    async def _pass(self, connection: Connection) -> None:
        while self._stalled is not None and self._stalled(connection):
            await self._healed.wait()

    async def _copy(self, connection: Connection, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while True:
                data = await source.receive_some(PIECE)
                if self.delay:
                    await trio.sleep(self.delay)
                await self._pass(connection)
                if not data:
                    break
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            connection.reset()


class Handle:
    """A proxy in a loop of its own, for tests without one."""

    def __init__(self, proxy: Proxy, portal: PortalThread) -> None:
        self._proxy = proxy
        self._portal = portal

    @property
    def port(self) -> int:
        return self._proxy.port

    @property
    def accepted(self) -> int:
        return self._proxy.accepted

    def count(self, which: Which = every) -> int:
        return self._do(lambda: sum(1 for one in self._proxy.connections if which(one)))

    def cut(self, which: Which = every) -> int:
        return self._do(lambda: self._proxy.cut(which))

    def half_close(self, which: Which = every) -> int:
        return self._do(lambda: self._proxy.half_close(which))

    def stall(self, which: Which = every) -> None:
        self._do(lambda: self._proxy.stall(which))

    def heal(self) -> None:
        self._do(self._proxy.heal)

    def _do(self, what: Callable[[], T]) -> T:
        async def run() -> T:
            await trio.lowlevel.checkpoint()
            return what()

        return self._portal.call(run)


@contextmanager
def proxied(target: int) -> Iterator[Handle]:
    """A proxy to that port while the block lasts."""
    proxy = Proxy(target)
    with PortalThread() as portal, portal.context(proxy.running()):
        yield Handle(proxy, portal)


def _inode(local: tuple[str, int], remote: tuple[str, int]) -> str | None:
    """Of the socket of this machine between these two addresses (proc(5), /proc/net/tcp).

    Both count: one port of this machine may be in use for several peers at once, and by a connection that is over.
    """
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (_address(fields[1]), _address(fields[2])) == (local, remote) and fields[9] != "0":
            return fields[9]
    return None


def _address(text: str) -> tuple[str, int]:
    """One of the kernel's, which has the host in its own byte order."""
    host, _, port = text.partition(":")
    return socket.inet_ntoa(int(host, 16).to_bytes(4, sys.byteorder)), int(port, 16)


def _sockets(process: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for file in os.scandir(f"/proc/{process}/fd"):
            with suppress(OSError):
                link = os.readlink(file.path)
                if link.startswith("socket:["):
                    found.add(link[8:-1])
    return found


def _children(process: int) -> list[int]:
    below: list[int] = []
    with suppress(OSError):
        for task in os.scandir(f"/proc/{process}/task"):
            with suppress(OSError):
                below += map(int, Path(task.path, "children").read_text().split())
    return [one for child in below for one in (child, *_children(child))]
