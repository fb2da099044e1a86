"""Serial consoles on the host, through pyserial."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import trio
from jumpstarter_exporter.driver import DeviceMissing, Driver, export, export_stream

from jumpstarter_drivers.serial.console import Console, Reader
from jumpstarter_drivers.serial.port import Line, Port, Settings, open_port

__all__ = ["PySerial"]


class _Stream:
    """A user's end of the console."""

    def __init__(self, console: Console, reader: Reader) -> None:
        self._console = console
        self._reader = reader

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._reader.receive()

    async def send_all(self, data: bytes) -> None:
        await self._console.send(data)

    async def send_eof(self) -> None:
        """A console has no end of input; output goes on."""

    async def aclose(self) -> None:
        self._reader.close()


class Input(_Stream):
    """Input only. Its output is nothing but an end, once all input has left the port."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, Reader(0))
        self._done = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self._done.wait()
        return b""

    async def send_eof(self) -> None:
        await self._console.drain()
        self._done.set()


@dataclass(kw_only=True, eq=False)
class PySerial(Driver):
    """A serial port that any number of users read and write.

        export:
          console:
            type: serial.PySerial
            config:
              url: /dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0
              baudrate: 115200

    It is opened with its first use and read from then on to the end of the session, so nothing that a board
    prints in between is lost to a user who is attached. A port that goes away is `missing` until it returns;
    attached users notice a pause. Opening raises DTR and RTS, as pyserial does; closing drops them, which
    resets some boards, unless `disable_hupcl`.
    """

    client: ClassVar[str] = "jumpstarter_driver_pyserial.client.PySerialClient"
    interface: ClassVar[str] = "serial"

    url: str
    """A device node, or a URL of pyserial: socket://host:port, rfc2217://host:port, loop://."""
    baudrate: int = 115200
    check_present: bool = True
    """Opening fails when the port is not there; if false, it waits for the port to come."""
    cps: float | None = None
    """Characters per second at most, for boards that lose input that comes faster."""
    disable_hupcl: bool = False
    """Leave DTR and RTS as they are when the port is closed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.url:
            raise ValueError("url is empty; it takes a device such as /dev/serial/by-id/..., or a URL")
        if self.baudrate <= 0:
            raise ValueError(f"baudrate is {self.baudrate}; it takes a number above 0, such as 115200")
        self._settings = Settings(self.url, self.baudrate, self.disable_hupcl)
        self._console: Console | None = None
        self._running = trio.CancelScope()
        self._ended = trio.Event()
        self._changing = trio.Lock()

    async def open(self) -> None:
        """Open the port and start reading it.

        Raises DeviceMissing (unless `check_present` is false), DeviceBusy or DeviceFailed.
        """
        await self._start()

    async def close(self) -> None:
        """Close the port; users see the end of their streams. DTR and RTS drop, unless `disable_hupcl`."""
        await self._stop()

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[_Stream]:
        """The console, both ways, from now on."""
        console = await self._start()
        with console.attach() as reader:
            yield _Stream(console, reader)

    @export_stream
    @asynccontextmanager
    async def input(self) -> AsyncIterator[_Stream]:
        """The console's input alone; ends when the sender has ended and everything has left the port."""
        console = await self._start()
        yield Input(console)

    @export
    async def set_dtr(self, value: bool) -> None:
        """Set Data Terminal Ready; it stays so when the port returns after it was gone."""
        await self._set_line("dtr", value)

    @export
    async def set_rts(self, value: bool) -> None:
        """Set Request To Send; it stays so when the port returns after it was gone."""
        await self._set_line("rts", value)

    @export(name="close")
    async def force_close(self) -> None:
        """End all users' streams and close the port. The next use opens it again."""
        await self._stop()

    async def _set_line(self, line: Line, value: bool) -> None:
        console = await self._start()
        await console.set_line(line, value)
        self._settings.lines[line] = value

    async def _start(self) -> Console:
        async with self._changing:
            if self._console is None:
                port = await self._open_port()
                self._console = Console(
                    self.url,
                    partial(open_port, self._settings),
                    gone=self.missing,
                    back=self.ready,
                    logger=self.logger,
                    cps=self.cps,
                )
                self._running, self._ended = trio.CancelScope(), trio.Event()
                self.nursery.start_soon(self._run, self._console, port)
            return self._console

    async def _open_port(self) -> Port | None:
        try:
            return await open_port(self._settings)
        except DeviceMissing as missing:
            if self.check_present:
                raise
            self.missing(str(missing))
            return None

    async def _run(self, console: Console, port: Port | None) -> None:
        try:
            with self._running:
                await console.run(port)
        finally:
            self._console = None
            self._ended.set()

    async def _stop(self) -> None:
        async with self._changing:
            if self._console is not None:
                self._running.cancel()
                await self._ended.wait()
