"""Relay boards on serial ports for tests: a thread at the other end of a pty that answers as such a board does."""

from __future__ import annotations

import os
import pty
import re
import select
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Devantech", "Lcus", "LineBoard", "Noyito", "Numato"]


class LineBoard:
    """A board with a serial port. `behaviour` is how it differs from an honest one."""

    def __init__(self, behaviour: str = "") -> None:
        self.behaviour = behaviour
        self.on: set[int] = set()
        self.port = ""
        self.received = b""

    @contextmanager
    def plugged_in(self) -> Iterator[str]:
        """Its port."""
        master, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        stop_reading, stop_writing = os.pipe()
        thread = threading.Thread(target=self._run, args=(master, stop_reading), name=f"board {self.port}")
        thread.start()
        try:
            yield self.port
        finally:
            os.close(stop_writing)
            thread.join()
            for descriptor in (master, slave, stop_reading):
                os.close(descriptor)

    def _run(self, master: int, stop: int) -> None:
        pause = 0.005 if self.behaviour == "talks" else None
        while master in (ready := select.select([master, stop], [], [], pause)[0]) or stop not in ready:
            data = os.read(master, 256) if master in ready else b""
            if data and self.behaviour not in ("silent", "talks"):
                self.received += data
                os.write(master, self.answer(data))
            if self.behaviour == "talks":
                os.write(master, b"?")

    def switch(self, relay: int, *, on: bool) -> None:
        """What the board does with a command."""
        if self.behaviour != "stuck":
            (self.on.add if on else self.on.discard)(relay)

    def answer(self, data: bytes) -> bytes:
        """What it says to some bytes, which may hold several commands or a part of one."""
        raise NotImplementedError


class Lcus(LineBoard):
    """An LCUS-1 or LCUS-2: four bytes, no answer."""

    def __init__(self, behaviour: str = "") -> None:
        super().__init__(behaviour)
        self._rest = b""

    def answer(self, data: bytes) -> bytes:
        self._rest += data
        said = b""
        while self._rest:
            if self._rest[0] == 0xFF:
                said += self.state()
                self._rest = self._rest[1:]
            elif len(self._rest) >= 4 and self._rest[0] == 0xA0:
                _, relay, on, checksum = self._rest[:4]
                if checksum == (0xA0 + relay + on) & 0xFF:
                    self.switch(relay, on=bool(on))
                self._rest = self._rest[4:]
            else:
                break
        return said

    def state(self) -> bytes:
        return b""


class Noyito(Lcus):
    """Noyito's board with two relays, which tells its state."""

    def state(self) -> bytes:
        return "".join(f"CH{n}: {'ON' if n in self.on else 'OFF'}\r\n" for n in (1, 2)).encode()


class Numato(LineBoard):
    """Numato's shell: it echoes, and ends each answer with a prompt."""

    def __init__(self, behaviour: str = "") -> None:
        super().__init__(behaviour)
        self.line = b"rela"  # what somebody has typed before

    def answer(self, data: bytes) -> bytes:
        said = b""
        for byte in data:
            said += bytes([byte])
            if byte != 0x0D:
                self.line += bytes([byte])
                continue
            line, self.line = self.line.decode(), b""
            said += b"\n"
            if found := re.fullmatch(r"relay (on|off|read) (\w+)", line):
                relay = int(found[2], 32)
                if found[1] == "read":
                    said += b"\ron\n" if relay in self.on else b"\roff\n"
                else:
                    self.switch(relay, on=found[1] == "on")
            said += b"\r>"
        return said


class Devantech(LineBoard):
    """One byte a command."""

    def answer(self, data: bytes) -> bytes:
        said = b""
        for byte in data:
            if byte == 0x5B:
                said += bytes([sum(1 << n - 1 for n in self.on)])
            elif 0x65 <= byte <= 0x6C:
                self.switch(byte - 0x64, on=True)
            elif 0x6F <= byte <= 0x76:
                self.switch(byte - 0x6E, on=False)
        return said
