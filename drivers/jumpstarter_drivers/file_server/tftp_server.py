"""The sockets of the TFTP server: one for requests, and one for each transfer."""

from __future__ import annotations

import os

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.file_server.reading import FileReading
from jumpstarter_drivers.file_server.tftp import Phase, ReadTransfer, TftpError, error_packet, parse_request

__all__ = ["serve_tftp"]

MAX_TRANSFERS = 32
MAX_TRANSFERS_PER_ADDRESS = 8
"""A transfer that its board has left, for example by a reset, ends up to 25 minutes later, as the board wanted."""
MAX_DATAGRAM_BYTES = 65536
READ_AHEAD_BYTES = 512 * 1024


async def serve_tftp(requests: trio.socket.SocketType, files: FileReading) -> None:
    """Answer requests until it is cancelled. It closes the socket."""
    running: set[tuple[str, int]] = set()
    host = requests.getsockname()[0]

    async def transfer(packet: bytes, peer: tuple[str, int]) -> None:
        try:
            with trio.socket.socket(requests.family, requests.type) as own:
                await own.bind((host, 0))
                await own.connect(peer)
                await _transfer(own, packet, files, f"{peer[0]} port {peer[1]}")
        except OSError as error:
            files.log.warning("TFTP to %s: %s", peer[0], error.strerror or error)
        finally:
            running.discard(peer)

    with requests:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    packet, peer = await requests.recvfrom(MAX_DATAGRAM_BYTES)
                except ConnectionError:  # about an earlier answer
                    continue
                # A request that is repeated, before our answer has arrived, is one.
                if not files.is_allowed(peer[0]) or peer in running or len(running) >= MAX_TRANSFERS:
                    continue
                if sum(address == peer[0] for address, *_ in running) >= MAX_TRANSFERS_PER_ADDRESS:
                    continue
                running.add(peer)
                nursery.start_soon(transfer, packet, peer)


async def _transfer(own: trio.socket.SocketType, request: bytes, files: FileReading, peer: str) -> None:
    try:
        asked = parse_request(request)
        try:
            descriptor, size = await files.open(asked.name)
        except JumpstarterError as error:
            raise TftpError(1, str(error)) from None
    except TftpError as error:
        files.log.info("TFTP to %s: %s", peer, shown(str(error)))
        await own.send(error_packet(error.code, str(error)))
        return
    try:
        file = _ReadAhead(descriptor, files)
        state = ReadTransfer(size, asked.options)
        while not state.is_over:
            await own.send(state.packet(await file.read(*state.wanted)))
            await _reply(own, state)
        if state.phase is Phase.DONE:
            files.log.info("TFTP to %s: %s, %d bytes", peer, shown(asked.name), size)
        else:
            files.log.warning("TFTP to %s: %s: %s", peer, shown(asked.name), shown(state.reason))
    except EOFError:
        await own.send(error_packet(0, "the file became shorter while it was sent"))
        files.log.warning("TFTP to %s: %s became shorter while it was sent", peer, shown(asked.name))
    finally:
        os.close(descriptor)


async def _reply(own: trio.socket.SocketType, state: ReadTransfer) -> None:
    """Wait until there is something to send, or the transfer is over."""
    with trio.move_on_after(state.timeout_seconds):
        while not state.is_over:
            try:
                if state.received(await own.recv(MAX_DATAGRAM_BYTES)):
                    return
            except ConnectionRefusedError:  # the board has closed its port
                await trio.sleep_forever()
        return
    state.timed_out()


class _ReadAhead:
    """Reads a file in large pieces."""

    def __init__(self, descriptor: int, files: FileReading) -> None:
        self._descriptor = descriptor
        self._files = files
        self._offset = 0
        self._piece = b""

    async def read(self, offset: int, length: int) -> bytes:
        start = offset - self._offset
        if start < 0 or start + length > len(self._piece):
            self._piece = await self._files.read(self._descriptor, READ_AHEAD_BYTES, offset)
            self._offset, start = offset, 0
            if len(self._piece) < length:
                raise EOFError
        return self._piece[start : start + length]
