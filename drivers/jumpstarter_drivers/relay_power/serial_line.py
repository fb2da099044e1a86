"""One conversation with a relay board on a serial port. Everything here is blocking.

The port is opened for one command and closed again, so that several devices can each have a relay of one board.
"""

from __future__ import annotations

import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jumpstarter_exporter.driver import DeviceBusy, DeviceMissing
from jumpstarter_exporter.node_errors import explain_open_error

from jumpstarter_drivers.power.outlet import OutletUnreachable

__all__ = ["SerialLine", "open_line"]

ANSWER_SECONDS = 1.0
LOCK_SECONDS = 3.0
_REPEAT_SECONDS = 0.02


@contextmanager
def open_line(port: str, baudrate: int, label: str) -> Iterator[SerialLine]:
    """The port, which no other process that locks it has meanwhile.

    Raises:
        DeviceMissing: there is no such port, or it was unplugged in the block.
        DeviceBusy: another program has it open.
        DeviceFailed: the exporter may not open it, or it is no serial port.
    """
    # Loaded with the first board, never with the exporter.
    import serial  # noqa: PLC0415

    line: Any = None
    deadline = time.monotonic() + LOCK_SECONDS
    while line is None:
        try:
            line = serial.Serial(
                port, baudrate, timeout=ANSWER_SECONDS, write_timeout=ANSWER_SECONDS, exclusive=True
            )
        except (OSError, ValueError) as error:
            reason = explain_open_error(port, error, f"the port of a {label}")
            # Another relay of the same board is switched in this moment, perhaps by this exporter.
            if not isinstance(reason, DeviceBusy) or time.monotonic() > deadline:
                raise reason from error
            time.sleep(_REPEAT_SECONDS)
    try:
        yield SerialLine(line, port)
    except serial.SerialTimeoutException:
        raise OutletUnreachable(f"{port} takes no bytes for {ANSWER_SECONDS:g} s") from None
    except (OSError, termios.error) as error:
        raise DeviceMissing(f"{port} was unplugged; plug it in again") from error
    finally:
        line.close()


class SerialLine:
    """The open port."""

    def __init__(self, line: Any, port: str) -> None:
        self._line = line
        self._port = port

    def send(self, data: bytes) -> None:
        """Drop what came before, and send a command."""
        self._line.reset_input_buffer()
        self._line.write(data)
        self._line.flush()

    def receive(self, is_complete: Callable[[bytes], bool]) -> bytes:
        """What comes, until it is complete.

        Raises:
            OutletUnreachable: it is not complete in time.
        """
        received = b""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not is_complete(received):
            # A board that talks on and on is asked no longer than a silent one.
            self._line.timeout = max(0.0, deadline - time.monotonic())
            piece = self._line.read(max(1, self._line.in_waiting)) if self._line.timeout else b""
            received = (received + piece)[-4096:]
            if not piece:
                said = f"says only {received[-80:]!r}" if received else "does not answer"
                raise OutletUnreachable(f"the board at {self._port} {said} within {ANSWER_SECONDS:g} s")
        return received
