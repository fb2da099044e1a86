"""Writes pictures with their times as a film: Matroska with Motion JPEG, as VLC, mpv and ffmpeg play it (RFC 9559).

A picture is shown from its own time on, whatever the rate. When the film began is in its header (DateUTC), to the
nanosecond, by the clock that the times were taken from. A file that is cut off anywhere is a film up to there.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

__all__ = ["MatroskaWriter"]

_EPOCH_SECONDS = 978_307_200
"""2001-01-01 in seconds since 1970: where Matroska's dates begin."""
_CLUSTER_MS = 5000
_UNKNOWN_SIZE = b"\x01\xff\xff\xff\xff\xff\xff\xff"
_APPLICATION = "jumpstarter"

_EBML, _DOC_TYPE, _DOC_VERSION, _DOC_READ_VERSION = 0x1A45DFA3, 0x4282, 0x4287, 0x4285
_SEGMENT, _INFO, _SCALE, _DURATION, _DATE = 0x18538067, 0x1549A966, 0x2AD7B1, 0x4489, 0x4461
_MUXING_APP, _WRITING_APP = 0x4D80, 0x5741
_TRACKS, _TRACK, _NUMBER, _UID, _TYPE, _LACING, _CODEC = 0x1654AE6B, 0xAE, 0xD7, 0x73C5, 0x83, 0x9C, 0x86
_VIDEO, _WIDTH, _HEIGHT = 0xE0, 0xB0, 0xBA
_CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK = 0x1F43B675, 0xE7, 0xA3
_KEYFRAME = 0x80


class MatroskaWriter:
    """One film. The file has to be seekable; it is not closed."""

    def __init__(self, file: BinaryIO, *, width: int, height: int, begin: float) -> None:
        """`begin` is the time of the first picture, in seconds since 1970."""
        self._file = file
        self._begin = begin
        self._cluster_begin = 0
        self._cluster = bytearray()
        self._last = 0
        self.pictures = 0
        head = _element(
            _EBML, _text(_DOC_TYPE, "matroska") + _number(_DOC_VERSION, 4) + _number(_DOC_READ_VERSION, 2)
        )
        info = (
            _number(_SCALE, 1_000_000)
            + _element(_DATE, struct.pack(">q", round((begin - _EPOCH_SECONDS) * 1e9)))
            + _text(_MUXING_APP, _APPLICATION)
            + _text(_WRITING_APP, _APPLICATION)
        )
        duration = _element(_DURATION, struct.pack(">d", 0.0))
        video = _element(_VIDEO, _number(_WIDTH, width) + _number(_HEIGHT, height))
        track = (
            _number(_NUMBER, 1)
            + _number(_UID, 1)
            + _number(_TYPE, 1)
            + _number(_LACING, 0)
            + _text(_CODEC, "V_MJPEG")
            + video
        )
        start = head + _identifier(_SEGMENT) + _UNKNOWN_SIZE
        info_head = _identifier(_INFO) + _size(len(info) + len(duration))
        self._duration_at = len(start) + len(info_head) + len(info) + len(duration) - 8
        file.write(start + info_head + info + duration + _element(_TRACKS, _element(_TRACK, track)))

    @property
    def seconds(self) -> float:
        """From the first picture to the last one."""
        return self._last / 1000

    def write(self, data: bytes, time: float) -> None:
        """Add a picture. One whose time is before the last one's, as a clock was set back, is shown right after it."""
        since = max(self._last + (1 if self.pictures else 0), round((time - self._begin) * 1000))
        if not self._cluster or since - self._cluster_begin >= _CLUSTER_MS:
            self._write_cluster()
            self._cluster_begin = since
            self._cluster += _number(_TIMESTAMP, since)
        head = b"\x81" + struct.pack(">hB", since - self._cluster_begin, _KEYFRAME)
        self._cluster += _element(_SIMPLE_BLOCK, head + data)
        self._last = since
        self.pictures += 1

    def finish(self) -> None:
        """Write the rest, and how long it is."""
        self._write_cluster()
        self._file.seek(self._duration_at)
        self._file.write(struct.pack(">d", float(self._last)))
        self._file.seek(0, 2)

    def _write_cluster(self) -> None:
        if self._cluster:
            self._file.write(_element(_CLUSTER, bytes(self._cluster)))
            self._file.flush()
            self._cluster.clear()


def _identifier(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _size(number: int) -> bytes:
    return (number | 1 << 56).to_bytes(8)


def _element(identifier: int, content: bytes) -> bytes:
    return _identifier(identifier) + _size(len(content)) + content


def _number(identifier: int, number: int) -> bytes:
    return _element(identifier, number.to_bytes(max(1, (number.bit_length() + 7) // 8)))


def _text(identifier: int, text: str) -> bytes:
    return _element(identifier, text.encode())
