"""What is typed in a console: text for the board, and keys for us. No input or output of its own."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["HELP", "Keys", "TerminalKey", "Typed"]

PREFIX = 0x1D  # Ctrl-]
_CTRL_B = 0x02
_ESCAPE_PRESSES = 3

HELP = """\
Ctrl-] p   power-cycle the board
Ctrl-] b   put a bookmark into the recording
Ctrl-] h   this help
Ctrl-] q   leave; Ctrl-B three times does, too
Ctrl-] Ctrl-]   send Ctrl-] to the board
"""


class TerminalKey(enum.Enum):
    """What the user wants from us."""

    EXIT = "q"
    POWER = "p"
    BOOKMARK = "b"
    HELP = "h"


@dataclass(frozen=True)
class Typed:
    """Bytes for the board, and then a key for us, if there is one."""

    data: bytes
    key: TerminalKey | None = None


_KEYS = {
    ord("q"): TerminalKey.EXIT,
    ord("p"): TerminalKey.POWER,
    ord("b"): TerminalKey.BOOKMARK,
    ord("h"): TerminalKey.HELP,
    ord("?"): TerminalKey.HELP,
}


class Keys:
    """Finds our keys in what is typed."""

    def __init__(self) -> None:
        self._after_prefix = False
        self._ctrl_b = 0

    def feed(self, typed: bytes) -> list[Typed]:
        """What goes to the board and what we are to do, in order. What follows an exit goes nowhere.

        The first two Ctrl-B go to the board, since boards use it too. An unknown key after the prefix is help.
        """
        found: list[Typed] = []
        data = bytearray()
        for byte in typed:
            if self._after_prefix:
                self._after_prefix = False
                if byte == PREFIX:
                    data.append(byte)
                    continue
                found.append(Typed(bytes(data), _KEYS.get(byte | 0x20, _KEYS.get(byte, TerminalKey.HELP))))
                data.clear()
            elif byte == PREFIX:
                self._after_prefix = True
                self._ctrl_b = 0
                continue
            else:
                self._ctrl_b = self._ctrl_b + 1 if byte == _CTRL_B else 0
                if self._ctrl_b < _ESCAPE_PRESSES:
                    data.append(byte)
                    continue
                found.append(Typed(bytes(data), TerminalKey.EXIT))
                data.clear()
            if found[-1].key is TerminalKey.EXIT:
                return found
        if data:
            found.append(Typed(bytes(data)))
        return found
