"""Escape sequences of terminals: colours, moves of the cursor, titles. They are no text, for whoever waits for text.

Recognised are the forms of ECMA-48 (CSI such as colours and "erase to the end of the line", OSC such as systemd's
3008, DCS, SOS, PM, APC, and those of two or three bytes) and the two palette sequences of Linux's own console. The
8-bit forms are not: in UTF-8 their bytes are parts of characters.

What only begins as a sequence is text but for its ESC: boards switch on with noise on the line, and noise must not
hide what follows. So strings (OSC, DCS) end where a line ends, and are bounded.
"""

from __future__ import annotations

import re

__all__ = ["SEQUENCE", "EscapeFilter", "bare_text", "wire_offset"]

_STRING_BYTES = 4096
"""Length of what a string may hold."""
_PARAMETER_BYTES = 64
_STRING = rb"[^\x07\x18\x1a\x1b\r\n]{0,%d}" % _STRING_BYTES
_PARAMETERS = rb"[0-?]{0,%d}[ -/]{0,8}" % _PARAMETER_BYTES

SEQUENCE = (
    rb"\x1b(?:\[" + _PARAMETERS + rb"[@-~]"
    rb"|\]R|\]P[0-9a-fA-F]{7}"
    rb"|[\]PX^_]" + _STRING + rb"(?:\x07|\x1b\\)"
    rb"|[ -/]{1,8}[0-~]"
    rb"|[0-OQ-WYZ\\`-~])"
)
"""One whole sequence, for use in other expressions."""

_NO_TEXT = re.compile(SEQUENCE + rb"|\x1b")
_UNFINISHED = re.compile(
    rb"\x1b(?:\[" + _PARAMETERS + rb"|(?:\](?!R|P[0-9a-fA-F]{7})|[PX^_])" + _STRING + rb"\x1b?|[ -/]{0,8})?\Z"
)
_UNFINISHED_BYTES = _STRING_BYTES + 3


def bare_text(data: bytes | bytearray) -> bytes:
    """Without sequences, when no more comes: one that is cut off at the end loses its ESC alone."""
    return _NO_TEXT.sub(b"", data)


def wire_offset(data: bytes | bytearray, offset: int, *, after: bool = False) -> int:
    """Where in `data` the byte is that is at `offset` of its bare text; with `after`, the end of the one before it."""
    removed = 0
    for found in _NO_TEXT.finditer(data):
        at = found.start() - removed
        if at > offset or (after and at == offset):
            break
        removed += found.end() - found.start()
    return offset + removed


class EscapeFilter:
    """Takes sequences out of what comes in pieces, also where one is cut in two. It holds back 4 KiB at most."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes | bytearray) -> bytes:
        """The text of this piece; what may still become a sequence waits for the next one."""
        whole = self._held + data
        # The first ESC of an unfinished string may have another one behind it, its last.
        end = len(whole)
        for start in _escapes(whole[-_UNFINISHED_BYTES:]):
            at = max(0, len(whole) - _UNFINISHED_BYTES) + start
            if _UNFINISHED.match(whole, at):
                end = at
                break
        self._held = whole[end:]
        return _NO_TEXT.sub(b"", whole[:end])


def _escapes(data: bytes) -> list[int]:
    return [found.start() for found in re.finditer(rb"\x1b", data)]
