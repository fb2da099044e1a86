"""One serial port, opened by pyserial and then read and written as trio likes it.

pyserial knows how to open and configure ports of many kinds; its own reads block or poll. Ports with a file
descriptor (terminals, `socket://`) are read and written here when the descriptor is ready. The others
(`rfc2217://`, `loop://`) keep their reads and writes in threads of their own.
"""

from __future__ import annotations

import copy
import errno
import os
import termios
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import trio
from jumpstarter_exporter.driver import DeviceFailed, DeviceMissing
from jumpstarter_exporter.node_errors import explain_open_error
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.process import DescriptorStore

__all__ = ["Port", "PortLost", "PortSettings", "open_port"]

_CHUNK_BYTES = 65536
_THREAD_CHUNK_BYTES = 256
_DRAIN_SECONDS = 1.0
_NOTHING_KEPT = DescriptorStore()

ControlLine = Literal["dtr", "rts"]


class PortLost(Exception):  # noqa: N818 - what happens to a port, not a fault of the program
    """The port was removed while it was open; the message says how that was detected."""


@dataclass
class PortSettings:
    """The settings of a port. `lines` has the control lines that users set; they are set again when it returns."""

    url: str
    baudrate: int
    disable_hupcl: bool = False
    lines: dict[ControlLine, bool] = field(default_factory=dict)

    @property
    def is_path(self) -> bool:
        """Whether this is a device node, not a URL."""
        return "://" not in self.url


class Port(ABC):
    """An open port.

    One task may receive and one may send at a time. Both raise PortLost when the port has gone, also when it
    is closed under them.
    """

    def __init__(self, serial: Any) -> None:
        self._serial = serial
        # Drains that were abandoned go on; they take threads from this port only, and none from its closing.
        self._controlling = trio.CapacityLimiter(2)
        self._closing = trio.CapacityLimiter(2)

    @property
    def stayed_open(self) -> bool:
        """Whether it was open before the exporter was started: what came meanwhile is received first."""
        return bool(getattr(self._serial, "stayed_open", False))

    @property
    def is_full(self) -> bool:
        """Whether so much came meanwhile that the kernel may have dropped what came last."""
        return bool(getattr(self._serial, "is_full", False))

    @abstractmethod
    async def receive(self) -> bytes:
        """At least one byte, as many as there are. A checkpoint, so that busy ports leave time for others."""

    @abstractmethod
    async def send(self, data: bytes | memoryview) -> int:
        """Give the port some bytes and say how many it took. When cancelled, it may have taken up to 256."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until what was sent has left the port, as far as the port can tell."""

    async def set_line(self, line: ControlLine, value: bool) -> None:
        """Set a modem control line. DeviceFailed where the port has none."""
        await trio.to_thread.run_sync(_set_line, self._serial, line, value, limiter=self._controlling)

    async def aclose(self) -> None:
        """Close; what the other end does not take within a second is dropped.

        Shielded, and bounded: 8 s in the worst case, which is pyserial's rfc2217.
        """
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._serial.close, limiter=self._closing)


class _FdPort(Port):
    def __init__(self, serial: Any) -> None:
        super().__init__(serial)
        self._fd: int = serial.fileno()

    async def receive(self) -> bytes:
        while True:
            try:
                data = os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:
                await _ready(trio.lowlevel.wait_readable, self._fd)
                continue
            except OSError as error:
                raise PortLost(_reason(error)) from error
            if not data:
                raise PortLost("the other end hung up")
            await trio.lowlevel.checkpoint()
            return data

    async def send(self, data: bytes | memoryview) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:
                await _ready(trio.lowlevel.wait_writable, self._fd)
            except OSError as error:
                raise PortLost(_reason(error)) from error

    async def drain(self) -> None:
        # Abandoned: a terminal under flow control drains when its other end allows it, or never. Closing
        # flushes.
        await trio.to_thread.run_sync(_drain, self._fd, abandon_on_cancel=True, limiter=self._controlling)

    async def aclose(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        trio.lowlevel.notify_closing(fd)
        with trio.CancelScope(shield=True):
            with trio.move_on_after(_DRAIN_SECONDS) as limit:
                await trio.to_thread.run_sync(_drain, fd, abandon_on_cancel=True, limiter=self._closing)
            if limit.cancelled_caught:
                # Else closing would wait 30 s more for an end that does not take it. Ends the abandoned thread.
                with suppress(termios.error):  # gone in this moment
                    termios.tcflush(fd, termios.TCOFLUSH)
        await super().aclose()


class _ThreadPort(Port):
    def __init__(self, serial: Any) -> None:
        super().__init__(serial)
        # Each of the two may block for long; neither may take a thread from the rest of the exporter.
        self._reading = trio.CapacityLimiter(1)
        self._writing = trio.CapacityLimiter(1)

    async def receive(self) -> bytes:
        # Abandoned: closing the port wakes the thread.
        return await trio.to_thread.run_sync(
            _read, self._serial, abandon_on_cancel=True, limiter=self._reading
        )

    async def send(self, data: bytes | memoryview) -> int:
        # Abandoned: what was begun is sent, or fails when the port is closed.
        return await trio.to_thread.run_sync(
            _write,
            self._serial,
            bytes(data[:_THREAD_CHUNK_BYTES]),
            abandon_on_cancel=True,
            limiter=self._writing,
        )

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()


async def open_port(settings: PortSettings, descriptors: DescriptorStore = _NOTHING_KEPT) -> Port:
    """Open and configure; a device node that was kept in `descriptors` is taken up as it is, and kept there again.

    Raises:
        DeviceMissing: there is no such port, or no answer at its address.
        DeviceBusy: another program has it.
        DeviceFailed: it is there, and cannot be used.
    """
    # Connecting to a network port takes up to 5 s (rfc2217: 8 s). A session that ends does not wait for it;
    # what nobody wants any more is then closed by the thread, or here, if it was just open.
    opened: list[Any] = []
    abandoned = False

    def work() -> None:
        opened.append(_open(settings, descriptors))
        if abandoned:
            close_unwanted()

    def close_unwanted() -> None:
        with suppress(IndexError):  # the other one has closed it
            opened.pop().close()

    try:
        await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
    except trio.Cancelled:
        abandoned = True
        if opened:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(close_unwanted, limiter=trio.CapacityLimiter(1))
        raise
    serial = opened.pop()
    return (
        _FdPort(serial)
        if _is_terminal(serial) or settings.url.startswith("socket://")
        else _ThreadPort(serial)
    )


def _open(settings: PortSettings, descriptors: DescriptorStore) -> Any:
    # Loaded with the first port, never with the exporter.
    import serial as pyserial  # noqa: PLC0415

    from jumpstarter_drivers.serial.kept_serial import KeptSerial  # noqa: PLC0415

    port: Any
    try:
        if settings.is_path:
            port = KeptSerial(settings.url, settings.baudrate, descriptors)
        else:
            port = pyserial.serial_for_url(settings.url, baudrate=settings.baudrate, do_not_open=True)
        for line, value in settings.lines.items():
            setattr(port, line, value)
        port.open()
    except (OSError, ValueError, termios.error) as error:
        raise _fault(settings, error) from error
    if _is_terminal(port):
        try:
            _configure(port.fileno(), settings)
        except (OSError, termios.error) as error:
            port.close()
            raise _fault(settings, error) from error
    return port


def _is_terminal(serial: Any) -> bool:
    # Of pyserial's classes, those that stand for a device node keep its descriptor under this name.
    return getattr(serial, "fd", None) is not None


def _configure(fd: int, settings: PortSettings) -> None:
    attributes = termios.tcgetattr(fd)
    before = copy.deepcopy(attributes)
    # So that "nothing there yet" (EAGAIN) and "hung up" (no bytes) are different answers to a read.
    attributes[6][termios.VMIN] = 1
    if settings.disable_hupcl:
        attributes[2] &= ~termios.HUPCL
    if attributes != before:
        termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _fault(settings: PortSettings, error: Exception) -> JumpstarterError:
    url = settings.url
    if not settings.is_path:
        return DeviceMissing(f"{url} cannot be opened: {error}; check its address and that its server runs")
    if getattr(error, "errno", None) == errno.ENOENT:
        return DeviceMissing(
            f"there is no {url}; check the cable, `ls /dev/serial/by-id` shows what is plugged in"
        )
    return explain_open_error(url, _system_error(error), "a serial port")


def _system_error(error: Exception) -> Exception:
    """Termios has its errors of its own, with the number first."""
    if isinstance(error, termios.error) and len(error.args) == 2:
        return OSError(*error.args)
    return error


def _reason(error: OSError) -> str:
    # The kernel's answers when a USB adapter is pulled out, or a pty's other end is closed.
    if error.errno in (errno.EIO, errno.ENXIO, errno.ENODEV):
        return "the device is gone"
    return error.strerror or str(error)


async def _ready(wait: Callable[[int], Any], fd: int) -> None:
    try:
        await wait(fd)
    except trio.ClosedResourceError:
        raise PortLost("it was closed") from None


def _read(serial: Any) -> bytes:
    import serial as pyserial  # noqa: PLC0415

    try:
        first: bytes = serial.read(1)
        if not first:
            raise PortLost("the other end hung up")
        more: bytes = serial.read(min(serial.in_waiting, _CHUNK_BYTES))
        return first + more
    except pyserial.SerialException as error:
        raise PortLost(str(error)) from error


def _write(serial: Any, data: bytes) -> int:
    import serial as pyserial  # noqa: PLC0415

    try:
        return int(serial.write(data))
    except pyserial.SerialException as error:
        raise PortLost(str(error)) from error


def _drain(fd: int) -> None:
    try:
        termios.tcdrain(fd)
    except termios.error:
        return  # a socket, or gone: there is nothing to wait for


def _set_line(serial: Any, line: ControlLine, value: bool) -> None:
    try:
        setattr(serial, line, value)
    except (OSError, ValueError) as error:
        raise DeviceFailed(f"{serial.port} has no {line.upper()} line that can be set: {error}") from error
