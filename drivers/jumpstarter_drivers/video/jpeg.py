"""What is read of a JPEG picture without decoding it: whether it is whole, and its size in pixels (ITU-T T.81, B.1)."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MAX_PICTURE_BYTES", "Jpeg", "JpegError", "read_jpeg"]

MAX_PICTURE_BYTES = 16 * 1024 * 1024
"""Larger pictures are rejected."""

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15; the three others are tables and an extension."""
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class JpegError(ValueError):
    """The bytes are not a whole JPEG picture; the message says why."""


class Jpeg(NamedTuple):
    """A whole picture."""

    data: bytes
    """From its first marker to its last, without what a camera has put behind it."""
    width: int
    """Pixels."""
    height: int


def read_jpeg(data: bytes) -> Jpeg:
    """Check that `data` begins and ends as a JPEG picture, and read its size.

    Raises:
        JpegError: It is not a JPEG picture, or a part of it is missing.
    """
    if not data.startswith(_START):
        raise JpegError("it is not a JPEG picture")
    end = data.rfind(_END)
    if end < 0:
        raise JpegError("its end is missing")
    width, height = _read_size(data, end)
    return Jpeg(data if end + 2 == len(data) else data[: end + 2], width, height)


MAX_MARKERS = 1000
"""Before a picture's size is told; cameras need some ten."""


def _read_size(data: bytes, end: int) -> tuple[int, int]:
    position = 2
    for _ in range(MAX_MARKERS):
        if position + 4 > end:
            break
        if data[position] != 0xFF:
            raise JpegError("its header is damaged")
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        if marker in (_START_OF_SCAN, _END_OF_IMAGE, 0x00):
            break
        length = int.from_bytes(data[position + 2 : position + 4])
        if length < 2:
            raise JpegError("its header is damaged")
        if marker in _FRAME_HEADERS:
            height = int.from_bytes(data[position + 5 : position + 7])
            width = int.from_bytes(data[position + 7 : position + 9])
            if position + 9 > end or not width or not height:
                raise JpegError("it has no size")
            return width, height
        position += 2 + length
    raise JpegError("it has no size")
