"""Asks a camera's device node whether the camera sends JPEG, which needs no encoding.

The numbers are those of linux/videodev2.h.
"""

from __future__ import annotations

import fcntl
import os
import struct

__all__ = ["sends_jpeg"]

_ENUM_FMT = 0xC0405602
"""VIDIOC_ENUM_FMT: read and write, 64 bytes, type V, number 2."""
_FORMAT = struct.Struct("=III32sI16x")
"""Index, type, flags, description, pixel format."""
_CAPTURE = 1
_MAX_FORMATS = 64
_JPEG = frozenset(int.from_bytes(code, "little") for code in (b"MJPG", b"JPEG"))


def sends_jpeg(path: str) -> bool:
    """Whether the camera offers MJPEG or JPEG. Blocking; does not disturb who has the camera.

    Raises:
        OSError: Its node cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        for index in range(_MAX_FORMATS):
            wanted = _FORMAT.pack(index, _CAPTURE, 0, b"", 0)
            try:
                found = fcntl.ioctl(descriptor, _ENUM_FMT, wanted)
            except OSError:  # there are no more; or it is no camera, which ustreamer says
                return False
            if _FORMAT.unpack(found)[4] in _JPEG:
                return True
        return False
    finally:
        os.close(descriptor)
