"""The connections of the HTTP server: one request each."""

from __future__ import annotations

import os

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.file_server.http import (
    BoardRequest,
    RequestError,
    RequestReader,
    head_of,
    selected_range,
)
from jumpstarter_drivers.file_server.reading import FileReading
from jumpstarter_drivers.file_server.served_folder import PathError

__all__ = ["serve_http"]

MAX_CONNECTIONS = 64
HEAD_SECONDS = 20.0
LINGER_SECONDS = 1.0
PIECE_BYTES = 256 * 1024


async def serve_http(listener: trio.SocketListener, files: FileReading, idle_seconds: float) -> None:
    """Answer requests until it is cancelled. A board that takes nothing for `idle_seconds` is dropped."""
    readers: set[trio.SocketStream] = set()
    others: set[trio.SocketStream] = set()
    """Connections of addresses that may not read. They take no place from those that may."""

    async def serve(stream: trio.SocketStream) -> None:
        connections = others
        try:
            async with stream:
                peer = str(stream.socket.getpeername()[0])
                connections = readers if files.is_allowed(peer) else others
                if len(connections) >= 2 * MAX_CONNECTIONS:
                    return  # an answer takes time, and a descriptor of the exporter
                connections.add(stream)
                try:
                    _check(files, peer, len(connections))
                    with trio.fail_after(HEAD_SECONDS):
                        request = await _request(stream)
                    if request is not None:
                        await _Answer(stream, files, idle_seconds).send(request, peer)
                except RequestError as error:
                    await _refuse(stream, error)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError):
            return  # the board went away
        finally:
            connections.discard(stream)

    await trio.serve_listeners(serve, [listener])


def _check(files: FileReading, peer: str, connections: int) -> None:
    if not files.is_allowed(peer):
        files.log.warning("HTTP from %s: refused; `allowed` has other addresses", peer)
        raise RequestError(403, "this address may not read here")
    if connections > MAX_CONNECTIONS:
        raise RequestError(503, "too many connections")


class _Answer:
    """A file on its way to a board."""

    def __init__(self, stream: trio.SocketStream, files: FileReading, idle_seconds: float) -> None:
        self._stream = stream
        self._files = files
        self._idle_seconds = idle_seconds

    async def send(self, request: BoardRequest, peer: str) -> None:
        """Send the answer. RequestError if there is no such file."""
        try:
            descriptor, size = await self._files.open(request.path)
        except PathError as error:
            raise RequestError(400, str(error)) from None
        except JumpstarterError as error:
            raise RequestError(404, str(error)) from None
        try:
            part = selected_range(request.range, size)
            first, count = part or (0, size)
            more = [f"Content-Range: bytes {first}-{first + count - 1}/{size}"] if part else []
            await self._stream.send_all(head_of(206 if part else 200, count, *more))
            if not request.is_head:
                await self._body(descriptor, first, first + count)
                self._files.log.info("HTTP to %s: %s, %d bytes", peer, shown(request.path), count)
        finally:
            os.close(descriptor)

    async def _body(self, descriptor: int, first: int, end: int) -> None:
        while first < end:
            piece = await self._files.read(descriptor, min(PIECE_BYTES, end - first), first)
            if not piece:
                raise trio.BrokenResourceError("the file became shorter while it was sent")
            with trio.fail_after(self._idle_seconds):
                await self._stream.send_all(piece)
            first += len(piece)


async def _request(stream: trio.SocketStream) -> BoardRequest | None:
    reader = RequestReader()
    while data := await stream.receive_some(4096):
        if (request := reader.feed(bytes(data))) is not None:
            return request
    return None


async def _refuse(stream: trio.SocketStream, error: RequestError) -> None:
    message = f"{error}\n".encode()
    await stream.send_all(head_of(error.status, len(message)) + message)
    await stream.send_eof()
    # What the board has sent, and nobody has read, would reset the connection before it has read this.
    with trio.move_on_after(LINGER_SECONDS):
        while await stream.receive_some(4096):
            pass
