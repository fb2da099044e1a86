"""How a connection reads and writes its stream: at once as far as possible, the rest by a task that waits.

A wake-up of another task costs more than most writes, and most writes fit into the socket.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import trio

from jumpstarter_proto.forks import keep_from_children
from jumpstarter_proto.rpc._send_buffer import SendBuffer

__all__ = ["RECEIVE_BYTES", "ByteTransport", "SocketReader", "byte_transport_of", "descriptor_of"]

RECEIVE_BYTES = 256 * 1024
TURN_BYTES = 1024 * 1024
"""After reading this much, a task lets other tasks run."""
LARGE_READ_BYTES = 16 * 1024
"""A peer that sends this much at a time probably has more data."""


class ByteTransport(Protocol):
    """A stream as a connection uses it: one task receives, and one at a time writes.

    What is wrong with it is raised as OSError, trio.BrokenResourceError or trio.ClosedResourceError.
    """

    @property
    def pending(self) -> int:
        """Bytes that were taken from the send_buffer and are not on their way yet."""

    @property
    def is_whole(self) -> bool:
        """Whether a `write` that is cancelled leaves the stream at a place where it can go on."""

    def read_at_most(self, size: int) -> None:
        """Limit the bytes of each later receive."""

    def receive(self) -> Awaitable[bytes]:
        """What has come, at least one byte; b"" at the end."""

    def write_now(self, send_buffer: SendBuffer, /) -> None:
        """As much of it as goes without waiting, possibly nothing."""

    async def write(self, send_buffer: SendBuffer, /) -> None:
        """Wait until something can be written, and write it."""


def byte_transport_of(stream: trio.abc.Stream) -> ByteTransport:
    """The fastest transport for a stream."""
    if type(stream) is trio.SocketStream:
        return _SocketTransport(descriptor_of(stream))
    own: Callable[[], ByteTransport] | None = getattr(stream, "byte_transport", None)
    return _StreamTransport(stream) if own is None else own()


def descriptor_of(stream: trio.SocketStream) -> Callable[[], int]:
    """A function that returns the descriptor of a stream's socket.

    It raises trio.ClosedResourceError when the socket is closed; a wait for -1 would be a ValueError of trio's.
    """
    keep_from_children(stream.socket)
    fileno = stream.socket.fileno

    def descriptor() -> int:
        if (number := fileno()) < 0:
            raise trio.ClosedResourceError("the connection was closed")
        return number

    return descriptor


class SocketReader:
    """Reads a socket that the kernel fills: at once while more is likely there, else by waiting for it."""

    __slots__ = ("_fileno", "_turn", "most")

    def __init__(self, fileno: Callable[[], int], most: int) -> None:
        self._fileno = fileno
        self.most = most
        """Bytes at a time."""
        self._turn = 0
        """Bytes since the last wait; 0 when the last were few."""

    async def read(self) -> bytes:
        """At least one byte; b"" at the end. OSError when the connection is broken."""
        if 0 < self._turn < TURN_BYTES:
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                return self._counted(os.read(self._fileno(), self.most))
            except BlockingIOError:
                pass
        self._turn = 0
        while True:
            await trio.lowlevel.wait_readable(self._fileno())
            try:
                return self._counted(os.read(self._fileno(), self.most))
            except BlockingIOError:
                pass

    def _counted(self, data: bytes) -> bytes:
        self._turn = self._turn + len(data) if len(data) >= LARGE_READ_BYTES else 0
        return data


class _SocketTransport:
    """A kernel's socket."""

    pending = 0
    is_whole = True

    def __init__(self, fileno: Callable[[], int]) -> None:
        self._fileno = fileno
        self._reader = SocketReader(fileno, RECEIVE_BYTES)
        self.receive = self._reader.read

    def read_at_most(self, size: int) -> None:
        self._reader.most = size

    def write_now(self, send_buffer: SendBuffer) -> None:
        pieces, fd = send_buffer.pieces(), self._fileno()
        with suppress(BlockingIOError):
            send_buffer.written(os.write(fd, pieces[0]) if len(pieces) == 1 else os.writev(fd, pieces))

    async def write(self, send_buffer: SendBuffer) -> None:
        await trio.lowlevel.wait_writable(self._fileno())
        self.write_now(send_buffer)


class _StreamTransport:
    """Any other stream: in memory, or through something that only trio's interface is known of."""

    is_whole = False

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.pending = 0
        self._most = RECEIVE_BYTES

    def read_at_most(self, size: int) -> None:
        self._most = size

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(self._most))

    def write_now(self, send_buffer: SendBuffer) -> None:
        """Nothing goes without waiting."""

    async def write(self, send_buffer: SendBuffer) -> None:
        data = send_buffer.take()
        self.pending = len(
            data
        )  # until the stream has all of it, who waits for that must not close the stream
        try:
            await self._stream.send_all(data)
        finally:
            self.pending = 0
