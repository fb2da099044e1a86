"""Removes terminal escape sequences, such as colours, cursor moves and titles, from output.

It recognises the forms of ECMA-48 (CSI such as colours and "erase to the end of the line", OSC such as systemd's
3008, DCS, SOS, PM, APC, and those of two or three bytes) and the two palette sequences of Linux's own console. The
8-bit forms are not recognised, because in UTF-8 their bytes are parts of characters.

An incomplete sequence is text, without its ESC: boards print noise when they are switched on, which must not hide the
output after it. So strings (OSC, DCS) end at the end of a line, and their length is limited.
"""

from __future__ import annotations

import re

__all__ = ["SEQUENCE", "EscapeFilter", "raw_offset", "strip_escapes"]

_STRING_BYTES = 4096
"""The longest content of a string sequence."""
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
"""A whole sequence, for use in other expressions."""

_NO_TEXT = re.compile(SEQUENCE + rb"|\x1b")
_UNFINISHED = re.compile(
    rb"\x1b(?:\[" + _PARAMETERS + rb"|(?:\](?!R|P[0-9a-fA-F]{7})|[PX^_])" + _STRING + rb"\x1b?|[ -/]{0,8})?\Z"
)
_UNFINISHED_BYTES = _STRING_BYTES + 3


def strip_escapes(data: bytes | bytearray) -> bytes:
    """Remove sequences from complete output; an incomplete one at the end only loses its ESC."""
    return _NO_TEXT.sub(b"", data)


def raw_offset(data: bytes | bytearray, offset: int, *, after: bool = False) -> int:
    """Return where in `data` the byte at `offset` of the stripped text is; with `after`, the end of the one before."""
    removed = 0
    for found in _NO_TEXT.finditer(data):
        at = found.start() - removed
        if at > offset or (after and at == offset):
            break
        removed += found.end() - found.start()
    return offset + removed


class EscapeFilter:
    """Removes sequences from output in pieces, also split ones. It holds back at most 4 KiB."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes | bytearray) -> bytes:
        """Return the text of a piece. A possible start of a sequence waits for the next piece."""
        whole = self._held + data
        # An unfinished string may end with a second ESC.
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
