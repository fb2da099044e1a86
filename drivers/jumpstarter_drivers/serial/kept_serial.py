"""A device node that stays open while the exporter is started again, for pyserial.

pyserial opens ports by their names, resets what it finds, and drops what had come. A port that was open before the
exporter was started is taken up instead as it is: only settings that differ from the configuration are written, as
each write may move a line.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

import serial
from jumpstarter_proto.process import DescriptorStore

__all__ = ["KeptSerial"]

FULL_BUFFER_BYTES = 4095
"""Bytes that the kernel has for a reader at most (N_TTY_BUF_SIZE - 1); the board is not heard when more come."""
_WORD = struct.Struct("I")
_LINES = {termios.TIOCM_DTR: "_update_dtr_state", termios.TIOCM_RTS: "_update_rts_state"}


class KeptSerial(serial.Serial):  # type: ignore[misc] # pyserial has no types
    """A port of a device node. Blocking; for worker threads."""

    def __init__(self, path: str, baudrate: int, descriptors: DescriptorStore) -> None:
        """`descriptors` is where it is kept while it is open."""
        self._descriptors = descriptors
        self.stayed_open = False
        """Whether it was open before the exporter was started."""
        self.is_full = False
        """Whether so much has come meanwhile that some may be lost."""
        # Exclusive: two programs on one terminal would each get part of the console. The time between two bytes is of
        # no use to anybody; with it pyserial sets VMIN as `port` wants it, and does not set another value before.
        super().__init__(None, baudrate=baudrate, exclusive=True, inter_byte_timeout=0.01)
        self.port = path

    def open(self) -> None:
        """Take it up, or open it. Raises what pyserial's own raises."""
        descriptor = None if self.is_open else self._descriptors.take(self.port)
        if descriptor is not None:
            self._take_up(descriptor)
            return
        super().open()
        self._descriptors.keep(self.fd)

    def close(self) -> None:
        """Close it, for good unless the exporter is about to end."""
        if self.is_open:
            self._descriptors.release(self.fd)
        super().close()

    def _take_up(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.fd = descriptor
        self.pipe_abort_read_r, self.pipe_abort_read_w = os.pipe()
        self.pipe_abort_write_r, self.pipe_abort_write_w = os.pipe()
        self.is_open = True
        try:
            self._reconfigure_port()
            self._set_lines_that_differ()
            self.is_full = self.in_waiting >= FULL_BUFFER_BYTES
        except BaseException:
            self.close()
            raise
        self.stayed_open = True

    def _set_lines_that_differ(self) -> None:
        try:
            found = _WORD.unpack(fcntl.ioctl(self.fd, termios.TIOCMGET, _WORD.pack(0)))[0]
        except OSError:
            return  # it has none, as a pty
        for line, wanted in ((termios.TIOCM_DTR, self._dtr_state), (termios.TIOCM_RTS, self._rts_state)):
            if bool(found & line) is not wanted:
                getattr(self, _LINES[line])()

    def _set_special_baudrate(self, baudrate: int) -> None:
        """One that has no name, as 250000."""
        if _speeds(self.fd) != (baudrate, baudrate):
            super()._set_special_baudrate(baudrate)


def _speeds(descriptor: int) -> tuple[int, int]:
    """In bits a second, both ways: c_ispeed and c_ospeed of the kernel's struct termios2."""
    found = fcntl.ioctl(descriptor, serial.serialposix.TCGETS2, bytes(64 * 4))
    return struct.unpack_from("2I", found, 9 * 4)
