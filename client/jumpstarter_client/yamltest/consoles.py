"""The consoles of a test, read from its start to its end, so that no output between two steps is lost."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.file_names import safe_name

from jumpstarter_client.base import DriverClient
from jumpstarter_client.borrowed_stream import BorrowedStream
from jumpstarter_client.console.attach import attach
from jumpstarter_client.console.expect import Expect

__all__ = ["RunConsoles"]

MAX_BUFFERED_BYTES = 4 * 1024 * 1024
"""How much output is kept for a later step; older output is only in the log."""


class RunConsoles:
    """Opens consoles of devices and reads them until `nursery` ends."""

    def __init__(self, nursery: trio.Nursery, folder: Path | None) -> None:
        self.logs: dict[str, Path] = {}
        self._nursery = nursery
        self._folder = folder
        self._open: dict[str, Expect] = {}
        self._reading: list[trio.CancelScope] = []
        self._held = trio.Semaphore(0)
        """Released once for each closed console."""
        self._lost: JumpstarterError | None = None

    async def open(self, client: DriverClient) -> None:
        """Open the console of a device. Raises DriverError if it cannot be opened."""
        if client.uuid not in self._open:
            self._open[client.uuid] = await self._nursery.start(self._hold, client)

    def of(self, client: DriverClient) -> Expect:
        """Return the console of a device."""
        return self._open[client.uuid]

    async def leave(self) -> None:
        """Stop reading, and wait until the devices have received all sent data, as `stream_async` does.

        Raises:
            DriverError: a device may not have received all data.
        """
        for reading in self._reading:
            reading.cancel()
        for _ in self._reading:
            await self._held.acquire()
        if self._lost is not None:
            raise self._lost

    async def _hold(self, client: DriverClient, *, task_status: trio.TaskStatus[Expect]) -> None:
        reading = trio.CancelScope()
        try:
            async with attach(client) as stream:  # a later step may switch on the board, and so its port
                tap = _BufferedStream(stream)
                self._reading.append(reading)
                task_status.started(Expect(tap))
                with reading:
                    await self._read(stream, tap, self._log(client))
                    await trio.sleep_forever()  # received output can still be read
        except JumpstarterError as error:
            if not reading.cancel_called:
                raise
            self._lost = error
        finally:
            self._held.release()

    async def _read(
        self, stream: trio.abc.HalfCloseableStream, tap: _BufferedStream, log: IO[bytes] | None
    ) -> None:
        try:
            while data := await stream.receive_some():
                if log is not None:
                    # Unbuffered, so that the log is complete while the test runs.
                    log.write(data)
                tap.arrived(data)
            tap.ended(trio.EndOfChannel())
        except trio.BrokenResourceError as error:
            tap.ended(error)
        finally:
            if log is not None:
                log.close()

    def _log(self, client: DriverClient) -> IO[bytes] | None:
        if self._folder is None:
            return None
        path = self._folder / safe_name(client.path or "console", ".log")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.logs[client.path] = path
        return path.open("ab", buffering=0)


class _BufferedStream(BorrowedStream):
    """Buffers the output of a console until a step reads it; sending goes straight to the device."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        super().__init__(stream)
        self._waiting = bytearray()
        self._end: Exception | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def arrived(self, data: bytes | bytearray) -> None:
        self._waiting += data
        del self._waiting[:-MAX_BUFFERED_BYTES]
        self._changed.unpark_all()

    def ended(self, why: Exception) -> None:
        self._end = why
        self._changed.unpark_all()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._waiting and self._end is None:
            await self._changed.park()
        await trio.lowlevel.checkpoint()
        if not self._waiting:
            if isinstance(self._end, trio.BrokenResourceError):
                raise self._end
            return b""
        count = max_bytes or len(self._waiting)
        data = bytes(self._waiting[:count])
        del self._waiting[:count]
        return data
