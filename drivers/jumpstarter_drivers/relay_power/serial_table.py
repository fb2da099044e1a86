"""What kinds of relay boards are serial ports, as data: one row a kind. No I/O.

`n` is the number of a relay as printed on the board.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["SERIAL_BOARDS", "SerialBoard"]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


@dataclass(frozen=True)
class SerialBoard:
    """A kind of board. Commands get the relay's number, and the count of relays of the board."""

    label: str
    switch: Callable[[int, bool, int], bytes]
    """Makes the command that switches relay n on or off."""
    read: Callable[[int, int], bytes] | None = None
    """Makes the question for the state of relay n; None if the board cannot tell."""
    state: Callable[[bytes, int], bool | None] = lambda _answer, _n: None
    """Reads the state of relay n from what has come so far; None if it is not in it yet."""
    done: Callable[[bytes], bool] | None = None
    """Whether the board has said that the command is done; None if it says nothing."""
    first: int = 1
    """The number of the first relay."""
    count: int = 2
    """The usual number of relays."""
    counts: tuple[int, ...] = ()
    """The numbers of relays that there are boards with; empty for any up to `max_count`."""
    max_count: int = 8
    wake: bytes = b""
    """What is sent first, so that the board forgets half a command."""
    baudrate: int = 9600


def _lcus(n: int, on: bool, _count: int) -> bytes:
    return bytes([0xA0, n, on, 0xA0 + n + on & 0xFF])


def _lcus_state(answer: bytes, n: int) -> bool | None:
    found = re.search(rb"CH%d: ?(ON|OFF)\r?\n" % n, answer)
    return None if found is None else found[1] == b"ON"


def _numato_number(n: int, count: int) -> str:
    return f"{n:02}" if count > 32 else _DIGITS[n]


def _numato_state(answer: bytes, _n: int) -> bool | None:
    found = re.search(rb"[\r\n](on|off)\s*>", answer)
    return None if found is None else found[1] == b"on"


SERIAL_BOARDS: Final[Mapping[str, SerialBoard]] = {
    "lcus": SerialBoard("LCUS relay", _lcus, count=1),
    "noyito": SerialBoard("Noyito relay", _lcus, read=lambda *_: b"\xff", state=_lcus_state),
    "numato": SerialBoard(
        "Numato relay",
        lambda n, on, count: f"relay {'on' if on else 'off'} {_numato_number(n, count)}\r".encode(),
        read=lambda n, count: f"relay read {_numato_number(n, count)}\r".encode(),
        state=_numato_state,
        done=lambda answer: b">" in answer,
        first=0,
        count=4,
        counts=(1, 2, 4, 8, 16, 32, 64),
        max_count=64,
        wake=b"\r",
    ),
    "devantech": SerialBoard(
        "USB-RLY",
        lambda n, on, _: bytes([(0x64 if on else 0x6E) + n]),
        read=lambda *_: b"\x5b",
        state=lambda answer, n: bool(answer[-1] >> n - 1 & 1) if answer else None,
        count=8,
    ),
}
