"""A console: one port with several readers. It stays open when the cable is unplugged.

The port is always read, also without readers. Each reader gets every byte since it was attached, through a bounded
buffer of its own. A slow reader loses bytes, with a note in their place, and does not slow down the others. When the
port disappears, readers and writers wait; when it returns, they continue.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import trio
from jumpstarter_exporter.driver import DeviceMissing
from jumpstarter_exporter.recording import Recorder
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.tasks import first_of

from jumpstarter_drivers.serial.port import ControlLine, Port, PortLost

__all__ = ["BUFFER_BYTES", "Console", "ConsoleReader"]

BUFFER_BYTES = 4 << 20
"""Bytes that a reader may lag behind: six minutes at 115200 baud."""

_CHUNK_BYTES = 65536
_MIN_RETRY_SECONDS = 0.1
_MAX_RETRY_SECONDS = 2.0
"""Seconds between looks for a port that is gone; doubled each time up to the second."""


class ConsoleReader:
    """The position of one reader in the console's output."""

    def __init__(self, limit: int, position: int = 0) -> None:
        self.position = position
        """Bytes that the console had read up to the end of what was received last, those that were lost included."""
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._closed = False
        self._wake = trio.lowlevel.ParkingLot()

    def put(self, data: bytes) -> int:
        """Add bytes, or count them as lost; never waits. Returns how many bytes are lost in the current gap."""
        if self._lost or self._size + len(data) > self._limit:
            # Until the reader has caught up all is dropped, so that there is one hole and not a hundred.
            self._lost += len(data)
            return self._lost
        self._chunks.append(data)
        self._size += len(data)
        self._wake.unpark_all()
        return 0

    def close(self) -> None:
        """The console ends here, after what is buffered."""
        self._closed = True
        self._wake.unpark_all()

    async def receive(self) -> bytes:
        """What has come, at most 64 KiB; b"" when the console was closed. Cancelling loses nothing."""
        await trio.lowlevel.checkpoint()
        while not self._chunks:
            if self._lost:
                lost, self._lost = self._lost, 0
                self.position += lost
                return (
                    f"\r\n[jumpstarter: {lost} bytes are missing here, this reader was too slow]\r\n".encode()
                )
            if self._closed:
                return b""
            await self._wake.park()
        taken = [self._chunks.popleft()]
        size = len(taken[0])
        while self._chunks and size + len(self._chunks[0]) <= _CHUNK_BYTES:
            taken.append(self._chunks.popleft())
            size += len(taken[-1])
        self._size -= size
        self.position += size
        return b"".join(taken)


class Console:
    """The port and its readers.

    `open_port` opens it; `gone` and `back` are told when it goes away (with the reason) and returns. `came` is an event
    that is set when it is plugged in; None if nobody would set it, so that one has to look. `held` ends what is done in
    it with DeviceMissing when the port turns out to be another device's.
    Everything is for one trio loop.
    """

    def __init__(
        self,
        name: str,
        open_port: Callable[[], Awaitable[Port]],
        *,
        gone: Callable[[str], None],
        back: Callable[[], None],
        came: Callable[[], trio.Event | None] = lambda: None,
        held: Callable[[], AbstractContextManager[None]] = nullcontext,
        logger: logging.Logger,
        cps: float | None = None,
        buffer: int = BUFFER_BYTES,
        recorder: Recorder | None = None,
    ) -> None:
        self._name = name
        self._open_port = open_port
        self._gone = gone
        self._back = back
        self._came = came
        self._held = held
        self._logger = logger
        self._cps = cps
        self._buffer = buffer
        self._recorder = recorder
        self.position = 0
        """Bytes that were read from its ports."""
        self._port: Port | None = None
        self._has_port = trio.Event()
        self.why_missing: JumpstarterError | None = None
        """Why there is no port, when it was last looked for; None while there is one, or before that."""
        self.had_port = False
        """Whether there was one, so that this is a pause."""
        self._look_now = trio.Event()
        self._looked = trio.lowlevel.ParkingLot()
        self._readers: set[ConsoleReader] = set()
        self._writing = trio.Lock()

    async def run(self, port: Port | None) -> None:
        """Read the port, and every port that comes after it, until cancelled; then readers see the end."""
        try:
            while True:
                if port is None:
                    port = await self._wait_for_port()
                reason = await self._read(port)
                port = None
                self._logger.warning("%s went away (%s); waiting for it to return", self._name, reason)
                self._note(f"the port went away: {reason}")
                self._gone(f"{self._name} went away: {reason}; plug it in again")
        finally:
            for reader in self._readers:
                reader.close()
            self._looked.unpark_all()

    @contextmanager
    def attach(self) -> Iterator[ConsoleReader]:
        """A reader, from now on to the end of the block."""
        reader = ConsoleReader(self._buffer, self.position)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    async def send(self, data: bytes) -> None:
        """Write all of it, after what others are writing. While the port is away, wait for it.

        When cancelled, a part may have been written.
        """
        async with self._writing:
            rest = memoryview(data)
            while rest:
                port = self._port
                if port is None:
                    await self._has_port.wait()
                    continue
                try:
                    sent = await port.send(rest[:1] if self._cps else rest)
                except PortLost:
                    # Closing it is how the reading side learns of it, if it does not know yet.
                    await port.aclose()
                    await trio.lowlevel.checkpoint()
                    continue
                rest = rest[sent:]
                if self._cps and rest:
                    await trio.sleep(sent / self._cps)

    async def wait_for_port(self, seconds: float) -> bool:
        """Look for the port now, and wait so many seconds for it, if it is not there; whether it came."""
        if self._port is None:
            self._look_now.set()
            await self._looked.park()
        with trio.move_on_after(seconds):
            await self._has_port.wait()
        return self._port is not None

    async def drain(self) -> None:
        """Wait until what was sent has left the port."""
        async with self._writing:
            if self._port is not None:
                await self._port.drain()

    async def set_line(self, line: ControlLine, value: bool) -> None:
        """Set a control line of the port. While the port is missing, the line is set when it is opened again."""
        if self._port is not None:
            await self._port.set_line(line, value)

    def _note(self, text: str) -> None:
        if self._recorder is not None:
            self._recorder.note(text)

    def _tell_opened(self, port: Port) -> None:
        if not port.stayed_open:
            self._note("the port was opened")
            return
        self._note("the port stayed open while the exporter was started again; what came meanwhile follows")
        if port.is_full and self._recorder is not None:
            self._recorder.gap(
                "bytes may be missing in what follows: more came than the kernel keeps of a port"
            )

    async def _read(self, port: Port) -> str:
        self._port = port
        self.had_port = True
        self.why_missing = None
        self._has_port.set()
        self._looked.unpark_all()
        self._tell_opened(port)
        try:
            with self._held():
                while True:
                    data = await port.receive()
                    self.position += len(data)
                    if self._recorder is not None:
                        self._recorder.record(data)
                    for reader in self._readers:
                        if reader.put(data) == len(data):  # the first of a run of lost bytes
                            self._logger.warning("a reader of %s is too slow and loses output", self._name)
        except PortLost as lost:
            return str(lost)
        except DeviceMissing:
            return "it was unplugged"
        finally:
            self._port = None
            self._has_port = trio.Event()
            await port.aclose()

    async def _wait_for_port(self) -> Port:
        # For network ports there is no event, nor for those that another program has; so look, less and less often.
        pause = _MIN_RETRY_SECONDS
        since = trio.current_time()
        while True:
            came = self._came()
            try:
                port = await self._open_port()
            except JumpstarterError as error:
                self.why_missing = error
                self._logger.debug("still waiting: %s", error)
                self._looked.unpark_all()
                self._look_now = trio.Event()
                is_told = came is not None and isinstance(error, DeviceMissing)
                with trio.move_on_after(math.inf if is_told else pause):
                    await first_of(*(event.wait for event in (self._look_now, came) if event is not None))
                if came is not None and came.is_set():
                    pause = _MIN_RETRY_SECONDS
                pause = min(pause * 2, _MAX_RETRY_SECONDS)
                continue
            self._logger.warning("%s is back after %.1f s", self._name, trio.current_time() - since)
            self._back()
            return port
