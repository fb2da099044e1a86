"""The consoles of a test: read from its begin to its end, so that nothing is lost between two steps."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.file_names import safe_name

from jumpstarter_client.base import DriverClient
from jumpstarter_client.console.attach import attach
from jumpstarter_client.console.expect import Expect

__all__ = ["Consoles"]

KEPT = 4 * 1024 * 1024
"""Bytes that wait for a step to look at them; older ones are only in the log."""


class Consoles:
    """Opens a console for each device that asks, and keeps it until `nursery` ends."""

    def __init__(self, nursery: trio.Nursery, folder: Path | None) -> None:
        self.logs: dict[str, Path] = {}
        self._nursery = nursery
        self._folder = folder
        self._open: dict[str, Expect] = {}
        self._reading: list[trio.CancelScope] = []
        self._held = trio.Semaphore(0)
        """One for each console that was left."""
        self._lost: JumpstarterError | None = None

    async def open(self, client: DriverClient) -> None:
        """Begin to read a device's console. Raises DriverError when it cannot be opened."""
        if client.uuid not in self._open:
            self._open[client.uuid] = await self._nursery.start(self._hold, client)

    def of(self, client: DriverClient) -> Expect:
        """The device's console."""
        return self._open[client.uuid]

    async def leave(self) -> None:
        """Read no more, and wait until the devices have taken what the test has sent, as `stream_async` does.

        Raises:
            DriverError: one of them has not.
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
            async with attach(
                client
            ) as stream:  # its port may come with a later step that switches the board on
                tap = _Tap(stream)
                self._reading.append(reading)
                task_status.started(Expect(tap))
                with reading:
                    await self._read(stream, tap, self._log(client))
                    await trio.sleep_forever()  # what has arrived can still be looked at
        except JumpstarterError as error:
            if not reading.cancel_called:
                raise
            self._lost = error
        finally:
            self._held.release()

    async def _read(self, stream: trio.abc.HalfCloseableStream, tap: _Tap, log: IO[bytes] | None) -> None:
        try:
            while data := await stream.receive_some():
                if log is not None:
                    # As it came, at once: a log that is read while the test runs has all of it.
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


class _Tap(trio.abc.HalfCloseableStream):
    """What a console has said since somebody looked last; sending goes through."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self._waiting = bytearray()
        self._end: Exception | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def arrived(self, data: bytes | bytearray) -> None:
        self._waiting += data
        del self._waiting[:-KEPT]
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

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
