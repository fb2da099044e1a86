"""The messages between client and exporter in a flash of changes, in both directions of one resource stream; no I/O.

All numbers are big-endian. A message is a kind (1 byte), the length of its body (4 bytes) and the body:

| from | kind | body |
|---|---|---|
| exporter | 1 begin | bytes of a block (4), blocks of a window (4), windows that may be open (4), key (16) |
| client | 2 head | the image's first bytes, by which its kind is detected; at most `HEAD_BYTES` |
| client | 3 hashes | window (4), its bytes (4), 1 or 0 (1), with 1 the mask of mapped blocks; their hashes (16 each) |
| exporter | 4 wanted | window (4), the mask of the blocks to send; every window is answered, in any order |
| client | 5 blocks | window (4), 0 plain or 1 zstd (1), the blocks, one behind the other |
| client | 6 end | bytes of the image (8), its SHA-256 (32) |

Masks have a bit for each block, the first one in the lowest bit of the first byte. A window is answered before its
blocks are sent, and the client has at most so many windows open as `begin` says: announced, and not answered or with
blocks still to be sent.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jumpstarter_proto.encoding import ContentError, Decompressor, Encoding, compressor
from jumpstarter_proto.images import HEAD_BYTES

from jumpstarter_drivers.storage.changes.layout import (
    DIGEST_BYTES,
    KEY_BYTES,
    Layout,
    WindowHashes,
    block_count,
)

__all__ = [
    "VERSION",
    "BeginMessage",
    "Blocks",
    "EndMessage",
    "FlashMessageReader",
    "Head",
    "Message",
    "MessageError",
    "WantedMessage",
    "encode_hashes",
]

VERSION = 1
"""Of all this; the storage's status has it as `changes`."""

_HEADER = struct.Struct("!BI")
_BEGIN = struct.Struct(f"!III{KEY_BYTES}s")
_HASHES = struct.Struct("!IIB")
_WANTED = struct.Struct("!I")
_BLOCKS = struct.Struct("!IB")
_END = struct.Struct("!Q32s")

MIN_BLOCK_BYTES = 512
MAX_BLOCK_BYTES = 1024 * 1024
MAX_WINDOW_BYTES = 16 * 1024 * 1024
MAX_AHEAD = 64
MAX_AHEAD_BYTES = 128 * 1024 * 1024
"""Of an image, that a client has in memory."""
MAX_SIZE = 1 << 50
"""Bytes of an image; whatever a client says beyond is wrong."""
_MARGIN_BYTES = 64
"""Of a message, beside blocks, hashes or the head."""
_LEAST_GAIN_BYTES = 64


class MessageError(ContentError):
    """The peer sent an invalid message."""


class _Kind(enum.IntEnum):
    BEGIN = 1
    HEAD = 2
    HASHES = 3
    WANTED = 4
    BLOCKS = 5
    END = 6


@dataclass(frozen=True)
class BeginMessage:
    """How the exporter wants the image to be cut and hashed."""

    layout: Layout
    ahead: int
    key: bytes

    def encode(self) -> bytes:
        """Return the bytes to send."""
        body = _BEGIN.pack(self.layout.block_bytes, self.layout.window_blocks, self.ahead, self.key)
        return _message(_Kind.BEGIN, body)

    @classmethod
    def decode(cls, body: bytes) -> BeginMessage:
        """Raises MessageError, also for what would take too much memory."""
        block, blocks, ahead, key = _unpacked(_BEGIN, body)
        layout = Layout(block, blocks)
        if not (
            MIN_BLOCK_BYTES <= block <= MAX_BLOCK_BYTES
            and blocks >= 1
            and layout.window_bytes <= MAX_WINDOW_BYTES
            and 1 <= ahead <= MAX_AHEAD
            and layout.window_bytes * ahead <= MAX_AHEAD_BYTES
        ):
            raise MessageError(
                f"the exporter asks for {ahead} windows of {blocks} blocks of {block} bytes; update the exporter"
            )
        return cls(layout, ahead, key)


@dataclass(frozen=True)
class Head:
    """The image's first bytes."""

    data: bytes

    def encode(self) -> bytes:
        """Return the bytes to send."""
        return _message(_Kind.HEAD, self.data[:HEAD_BYTES])


def encode_hashes(window: WindowHashes, layout: Layout) -> bytes:
    """A window's hashes as they travel."""
    everything = layout.everything(window.length)
    mask = b"" if window.mapped == everything else _mask(window.mapped, window.length, layout)
    body = _HASHES.pack(window.index, window.length, bool(mask)) + mask + window.digests
    return _message(_Kind.HASHES, body)


@dataclass(frozen=True)
class WantedMessage:
    """Which blocks of a window the client has to send."""

    window: int
    mask: int

    def encode(self, length: int, layout: Layout) -> bytes:
        """Return the bytes to send; `length` is the length of the window."""
        return _message(_Kind.WANTED, _WANTED.pack(self.window) + _mask(self.mask, length, layout))


@dataclass(frozen=True)
class Blocks:
    """The blocks of a window that were asked for."""

    window: int
    is_packed: bool
    payload: bytes

    @classmethod
    def of(cls, window: int, data: bytes) -> Blocks:
        """Packed where that makes it smaller; work for a thread."""
        codec = compressor(Encoding.ZSTD)
        packed = b"".join(codec.feed(data)) + codec.finish()
        if len(packed) + _LEAST_GAIN_BYTES < len(data):
            return cls(window, True, packed)
        return cls(window, False, data)

    def encode(self) -> bytes:
        """Return the bytes to send."""
        return _message(_Kind.BLOCKS, _BLOCKS.pack(self.window, self.is_packed) + self.payload)

    def unpacked(self, length: int) -> bytes:
        """What they are, which has to be so many bytes; work for a thread. Raises ContentError."""
        data = self.payload
        if self.is_packed:
            codec, pieces, count = Decompressor(Encoding.ZSTD), [], 0
            for piece in codec.feed(self.payload):
                pieces.append(piece)
                count += len(piece)
                if count > length:
                    break
            else:
                codec.finish()
            data = b"".join(pieces)
        if len(data) != length:
            raise MessageError(f"the client sends other blocks than the {length} bytes that it was asked for")
        return data


@dataclass(frozen=True)
class EndMessage:
    """The whole image is announced, and all requested blocks are sent."""

    size: int
    sha256: str

    def encode(self) -> bytes:
        """Return the bytes to send."""
        return _message(_Kind.END, _END.pack(self.size, bytes.fromhex(self.sha256)))


Message = BeginMessage | Head | WindowHashes | WantedMessage | Blocks | EndMessage


class FlashMessageReader:
    """Cuts a stream into messages."""

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout
        """The client's end learns it from `BeginMessage`."""
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Return the messages that are complete now. Raises MessageError."""
        self._data += data
        while len(self._data) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._data)
            if kind not in _DECODERS or length > self._max_body_bytes:
                raise MessageError(
                    "the other end sends no message that is known here; update it, then try again"
                )
            end = _HEADER.size + length
            if len(self._data) < end:
                return
            with memoryview(self._data) as view:
                body = bytes(view[_HEADER.size : end])
            del self._data[:end]
            yield self._decode(_Kind(kind), body)

    @property
    def _max_body_bytes(self) -> int:
        if self.layout is None:
            return _BEGIN.size
        hashes = self.layout.window_blocks * (DIGEST_BYTES + 1)
        return max(self.layout.window_bytes, hashes, HEAD_BYTES) + _MARGIN_BYTES

    def _decode(self, kind: _Kind, body: bytes) -> Message:
        if kind is _Kind.BEGIN:
            begin = BeginMessage.decode(body)
            self.layout = begin.layout
            return begin
        if self.layout is None:
            raise MessageError("the other end does not begin with `begin`; update it, then try again")
        return _DECODERS[kind](body, self.layout)


def _message(kind: _Kind, body: bytes) -> bytes:
    return _HEADER.pack(kind, len(body)) + body


def _mask(mask: int, length: int, layout: Layout) -> bytes:
    return mask.to_bytes(layout.mask_bytes(length), "little")


def _unpacked(fields: struct.Struct, body: bytes) -> tuple[Any, ...]:
    if len(body) != fields.size:
        raise MessageError("the other end sends a message of a wrong length; update it, then try again")
    return fields.unpack(body)


def _front(fields: struct.Struct, body: bytes) -> tuple[tuple[Any, ...], bytes]:
    return _unpacked(fields, body[: fields.size]), body[fields.size :]


def _hashes(body: bytes, layout: Layout) -> WindowHashes:
    (index, length, has_mask), rest = _front(_HASHES, body)
    if not 0 < length <= layout.window_bytes:
        raise MessageError(f"the client announces a window of {length} bytes; update the client")
    mapped = layout.everything(length)
    if has_mask:
        count = layout.mask_bytes(length)
        mapped &= int.from_bytes(rest[:count], "little")
        rest = rest[count:]
    if len(rest) != block_count(mapped) * DIGEST_BYTES:
        raise MessageError("the client announces another number of blocks than of hashes; update the client")
    return WindowHashes(index, length, mapped, rest)


def _wanted(body: bytes, layout: Layout) -> WantedMessage:
    (window,), rest = _front(_WANTED, body)
    if len(rest) > layout.mask_bytes(layout.window_bytes):
        raise MessageError("the exporter asks for blocks behind a window's end; update the exporter")
    return WantedMessage(window, int.from_bytes(rest, "little"))


def _blocks(body: bytes, _layout: Layout) -> Blocks:
    (window, is_packed), payload = _front(_BLOCKS, body)
    return Blocks(window, bool(is_packed), payload)


def _head(body: bytes, _layout: Layout) -> Head:
    if len(body) > HEAD_BYTES:
        raise MessageError("the client sends too long a head of the image; update the client")
    return Head(body)


def _end(body: bytes, _layout: Layout) -> EndMessage:
    size, sha256 = _END.unpack(body) if len(body) == _END.size else (MAX_SIZE + 1, b"")
    if size > MAX_SIZE:
        raise MessageError("the client ends in no way that is known here; update the client")
    return EndMessage(size, sha256.hex())


_DECODERS: dict[_Kind, Callable[[bytes, Layout], Message]] = {
    _Kind.BEGIN: lambda body, _layout: BeginMessage.decode(body),
    _Kind.HEAD: _head,
    _Kind.HASHES: _hashes,
    _Kind.WANTED: _wanted,
    _Kind.BLOCKS: _blocks,
    _Kind.END: _end,
}
