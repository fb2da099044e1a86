"""What kinds of relay boards are HID devices, as data: one row a kind. No I/O.

A row says by which ids a board is recognised, and what it is sent. `n` is the number of a relay as printed on the
board, from 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["HID_BOARDS", "ControlTransfer", "HidBoard", "Report"]


@dataclass(frozen=True)
class ControlTransfer:
    """A control transfer: `data` goes to the board, or `length` bytes come from it."""

    request_type: int
    request: int
    value: int
    data: bytes = b""
    length: int = 0


@dataclass(frozen=True)
class Report:
    """An output report, which the board answers with an input report if `answers`."""

    data: bytes
    answers: bool = False


@dataclass(frozen=True)
class HidBoard:
    """A kind of board."""

    label: str
    """What messages call it."""
    ids: tuple[str, ...]
    switch: Callable[[int, bool], ControlTransfer | Report]
    """Makes the command that switches relay n on or off."""
    count: int
    """Relays at most; the product string may say that there are fewer."""
    product: str = "*"
    """A glob for the product string."""
    read: Callable[[int], ControlTransfer | Report] | None = None
    """Makes the question for the state of relay n; None if the board cannot tell."""
    state: Callable[[bytes, int], bool | None] = lambda _answer, _n: None
    """Reads the state of relay n from the answer; None if it does not say."""
    reports: int = 1
    """Input reports that an answer may be spread over."""
    board_id: Callable[[bytes], str] | None = None
    """Reads the board's own id, which `serial` means, from the answer to `read`; None: the id is in its descriptor."""
    claims: bool = False
    """Whether the kernel's driver has to leave the device meanwhile."""

    def count_of(self, product: str) -> int:
        """The number of relays of a board with that product string."""
        digits = re.search(r"[0-9]+$", product) if self.product != "*" else None
        return min(int(digits[0]), self.count) if digits else self.count


def _lcus(n: int, command: int) -> bytes:
    return bytes([0xA0, n, command, 0xA0 + n + command & 0xFF])


def _lcus_state(answer: bytes, n: int) -> bool | None:
    found = re.search(rb"CH%d: ?(ON|OFF)\b" % n, answer)
    return None if found is None else found[1] == b"ON"


def _dcttech_state(answer: bytes, n: int) -> bool | None:
    return bool(answer[7] >> n - 1 & 1) if len(answer) >= 8 else None


def _ykush(label: str, ids: str, length: int = 64) -> HidBoard:
    return HidBoard(
        label,
        (ids,),
        lambda n, on: Report(bytes([0x10 * on + n]).ljust(length, b"\0"), answers=True),
        count=3,
        read=lambda n: Report(bytes([0x20 + n]).ljust(length, b"\0"), answers=True),
        state=lambda answer, n: (
            bool(answer[1] >> 4) if len(answer) > 1 and answer[0] == 1 and answer[1] & 0x0F == n else None
        ),
        claims=True,
    )


HID_BOARDS: Final[Mapping[str, HidBoard]] = {
    "dcttech": HidBoard(
        "USBRelay",
        ("16c0:05df",),
        lambda n, on: ControlTransfer(0x20, 9, 0x0300, bytes([0xFF if on else 0xFD, n]).ljust(8, b"\0")),
        count=8,
        product="USBRelay*",
        read=lambda _: ControlTransfer(0xA0, 1, 0x0300, length=8),
        state=_dcttech_state,
        board_id=lambda answer: answer[:5].decode("ascii", "replace"),
    ),
    "energenie": HidBoard(
        "EnerGenie strip",
        tuple(f"04b4:fd1{last}" for last in "01235"),
        lambda n, on: ControlTransfer(0x21, 9, 0x0300 + 3 * n, bytes([3 * n, 3 * on, 0, 0, 0])),
        count=4,
        read=lambda n: ControlTransfer(0xA1, 1, 0x0300 + 3 * n, length=5),
        state=lambda answer, _: bool(answer[1] & 1) if len(answer) > 1 else None,
        claims=True,
    ),
    "lcus": HidBoard(
        "LCUS relay",
        ("5131:2007",),
        lambda n, on: Report(_lcus(n, on)),
        count=8,
        read=lambda _: Report(_lcus(0x0F, 2), answers=True),
        state=_lcus_state,
        reports=2,
        claims=True,
    ),
    "ucreatefun": HidBoard(
        "HIDRelay",
        ("0519:2018",),
        lambda n, on: Report(bytes([0xF0 * on + n])),
        count=8,
        product="HIDRelay*",
        claims=True,
    ),
    "ykush": _ykush("YKUSH", "04d8:f2f7"),
    "ykush-legacy": _ykush("YKUSH", "04d8:0042", length=6),
    "ykush3": _ykush("YKUSH3", "04d8:f11b"),
    "ykush-xs": HidBoard(
        "YKUSH XS",
        ("04d8:f0cd",),
        lambda _, on: Report(bytes([0x10 * on + 1]).ljust(64, b"\0"), answers=True),
        count=1,
        read=lambda _: Report(b"\x21".ljust(64, b"\0"), answers=True),
        state=lambda answer, _: answer[1] == 0x11 if len(answer) > 1 and answer[0] == 1 else None,
        claims=True,
    ),
}
