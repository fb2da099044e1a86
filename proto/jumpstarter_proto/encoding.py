"""Content encodings of files that travel as resources, as streams of chunks: gzip, xz, bz2, zstd, lzma and lz4.

A resource's encoding names the format of the user's file, not a transport compression: the exporter decompresses
what it reads and compresses what it writes. Codecs are plain objects without I/O; they are CPU-bound, so async
callers run `feed` in a worker thread. Each output chunk is bounded, whatever the input expands to, and so is the
memory that a decompressor takes.
"""

from __future__ import annotations

import enum
import importlib
import struct
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from jumpstarter_proto.errors import JumpstarterError

__all__ = [
    "ENCODINGS_OF_ALL_EXPORTERS",
    "MAX_TRAILING_BYTES",
    "Codec",
    "ContentError",
    "Decompressor",
    "Encoding",
    "compressor",
    "decompressor",
    "detect",
]

CHUNK_BYTES = 1024 * 1024
"""Upper bound in bytes of one chunk that a decompressor yields."""

_FED_BYTES = 32 * 1024
"""What an engine gets at once. At the end of a member it copies what is left: of a megabyte of empty members, that
would be a megabyte for each."""

MAX_MEMORY_BYTES = 256 * 1024 * 1024
"""What an xz or lzma file may make us take; `xz -9` needs 65 MiB. zstd's own limit is 128 MiB."""

MAX_TRAILING_BYTES = 1024 * 1024
"""Other data behind compressed content: a signature or metadata has less; more is a damaged or joined file."""

TRAILING_END_BYTES = 16
"""Of such data, to tell what it is: OpenWrt's metadata ends with a record of so many bytes."""


class Encoding(enum.StrEnum):
    """Names as they travel in `x_jmp_content_encoding`; Jumpstarter 0.9 knows the first four."""

    GZIP = "gzip"
    XZ = "xz"
    BZ2 = "bz2"
    ZSTD = "zstd"
    LZMA = "lzma"
    """The format before xz: no magic number, no checksum."""
    LZ4 = "lz4"
    """Frames, not the legacy format; needs the lz4 package."""


ENCODINGS_OF_ALL_EXPORTERS = (Encoding.GZIP, Encoding.XZ, Encoding.BZ2, Encoding.ZSTD)

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1
_LZ4_MAGIC = b"\x04\x22\x4d\x18"  # LZ4 Frame Format, 1.6
_MAGIC = {
    b"\x1f\x8b": Encoding.GZIP,  # RFC 1952, 2.3.1
    b"\xfd7zXZ\x00": Encoding.XZ,  # The .xz file format, 2.1.1.1
    _ZSTD_MAGIC: Encoding.ZSTD,
    _LZ4_MAGIC: Encoding.LZ4,
}
_BZ2_BLOCKS = (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")
"""What follows `BZh` and a digit: the first block's magic, or that of an empty file's end."""
_LZMA_PROPERTIES = (0x5D, 0x6D, 0x5E)
"""lc, lp and pb of the encoders in use: the default, U-Boot's and OpenWrt's."""
_LZMA_HEADER = struct.Struct("<BIQ")
_MAX_LZMA_SIZE = 1 << 38
MAGIC_LENGTH = 16
"""Bytes by which `detect` tells an encoding; skippable frames at the begin may need more."""


class ContentError(JumpstarterError, ValueError):
    """Content is damaged, cut short, not of the encoding it claims, or nothing that a board can use."""

    status = "INVALID_ARGUMENT"


def detect(first_bytes: bytes) -> Encoding | None:
    """Tell a file's encoding from its first `MAGIC_LENGTH` bytes or more; None is a plain file."""
    for magic, encoding in _MAGIC.items():
        if first_bytes.startswith(magic):
            return encoding
    if first_bytes[:3] == b"BZh" and first_bytes[3:4] in b"123456789" and first_bytes[4:10] in _BZ2_BLOCKS:
        return Encoding.BZ2
    if _is_skippable(first_bytes):
        return _behind_skippable(first_bytes)
    return Encoding.LZMA if _is_lzma(first_bytes) else None


def _is_skippable(data: bytes) -> bool:
    """Whether a skippable frame begins here, which zstd and lz4 share: RFC 8878, 3.1.2."""
    return len(data) >= 8 and data[1:4] == b"\x2a\x4d\x18" and data[0] & 0xF0 == 0x50


def _behind_skippable(data: bytes) -> Encoding:
    offset = 0
    while _is_skippable(data[offset : offset + 8]):
        offset += 8 + int.from_bytes(data[offset + 4 : offset + 8], "little")
    # pzstd begins each of its files so, and nobody else is known to: zstd unless it is seen not to be.
    return Encoding.LZ4 if data.startswith(_LZ4_MAGIC, offset) else Encoding.ZSTD


def _is_lzma(data: bytes) -> bool:
    """Whether this is a header of an .lzma file, with the same doubts as xz has."""
    if len(data) < _LZMA_HEADER.size:
        return False
    properties, dictionary, size = _LZMA_HEADER.unpack_from(data)
    if properties not in _LZMA_PROPERTIES or dictionary < 1 << 12:
        return False
    lowest = dictionary & -dictionary
    is_round = dictionary in (lowest, lowest * 3, 0xFFFFFFFF)
    return is_round and (size == 0xFFFFFFFFFFFFFFFF or size < _MAX_LZMA_SIZE)


class Codec(Protocol):
    """One direction of one stream; not safe for use from two threads at a time."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` becomes, in chunks; may yield nothing. Exhaust it before the next call."""

    def finish(self) -> bytes:
        """The last bytes, possibly none. Raises ContentError when the input ended too early."""


class _Engine(Protocol):
    """What the four libraries' incremental decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _ZlibEngine:
    """zlib's decompressor, with the interface that bz2, lzma and zstd share."""

    def __init__(self) -> None:
        import zlib  # noqa: PLC0415 - loaded when first needed, like its three siblings

        self._inner = zlib.decompressobj(wbits=47)  # 32 + 15: detects gzip and zlib headers

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))


class Decompressor:
    """Decompresses an encoding to plain bytes. Consecutive members are one file; other data ends it.

    Data after the last member (a signature, metadata) is skipped and counted in `trailing`. Zeros are padding.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.trailing = 0
        """Bytes of other data behind the compressed content, so far; up to `MAX_TRAILING_BYTES`."""
        self.trailing_end = b""
        """The last `TRAILING_END_BYTES` of them."""
        self._engine = _engine(encoding)
        self._started = False
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See Codec. Raises ContentError for damaged content."""
        for start in range(0, len(data), _FED_BYTES):
            yield from self._feed(data[start : start + _FED_BYTES])

    def _feed(self, data: bytes) -> Iterator[bytes]:
        error_types = _errors(self.encoding)
        data, self._rest = self._rest + data, b""
        while True:
            if self._engine.eof:
                data = data if self.trailing else data.lstrip(b"\0")
                if not self._next_member(data):
                    return
            self._started = True
            try:
                chunk = self._engine.decompress(data, CHUNK_BYTES)
            except error_types as error:
                raise ContentError(
                    f"the content is not valid {self.encoding}: {error}; "
                    f"check the file with `{_TOOLS[self.encoding]}`"
                ) from error
            data = (self._engine.unused_data or b"") if self._engine.eof else b""
            if chunk:
                yield chunk
            if not data and (self._engine.eof or self._engine.needs_input):
                return

    def _next_member(self, data: bytes) -> bool:
        """Whether another member begins here; what is none, or may be none yet, is kept or counted."""
        if self.trailing or not _may_begin(self.encoding, data, whole=False):
            self._leave_out(data)
            return False
        if not _may_begin(self.encoding, data, whole=True):
            self._rest = data
            return False
        self._engine = _engine(self.encoding)
        return True

    def _leave_out(self, data: bytes) -> None:
        self.trailing += len(data)
        self.trailing_end = (self.trailing_end + data)[-TRAILING_END_BYTES:]
        if self.trailing > MAX_TRAILING_BYTES:
            raise ContentError(
                f"more than {MAX_TRAILING_BYTES} bytes of other data follow the {self.encoding} content; "
                f"the file is damaged or joined of several, check it with `{_TOOLS[self.encoding]}`"
            )

    def finish(self) -> bytes:
        """See Codec."""
        if self._started and not self._engine.eof:
            raise ContentError(
                f"the {self.encoding} content ends too early; "
                f"the file is cut short, check it with `{_TOOLS[self.encoding]}`"
            )
        self._leave_out(self._rest)
        self._rest = b""
        return b""


def _may_begin(encoding: Encoding, data: bytes, *, whole: bool) -> bool:
    """Whether `data` begins a member; without `whole`, also whether it may with more data."""
    if encoding is Encoding.LZMA:
        return False  # one member is all that the format has
    length = 10 if encoding is Encoding.BZ2 else 8
    if len(data) >= length:
        # A skippable frame is a member of zstd's and of lz4's, whatever follows it.
        skippable = _is_skippable(data) and encoding in (Encoding.ZSTD, Encoding.LZ4)
        return skippable or detect(data[:length]) is encoding
    return not whole and any(
        all(have in want for have, want in zip(data, pattern, strict=False))
        for pattern in _patterns(encoding)
    )


def _patterns(encoding: Encoding) -> list[list[bytes]]:
    """For each byte of a member's begin, those that it may be."""
    if encoding is Encoding.BZ2:
        return [[b"B", b"Z", b"h", b"123456789", *(bytes([one]) for one in block)] for block in _BZ2_BLOCKS]
    patterns = [[bytes([one]) for one in magic] for magic, of in _MAGIC.items() if of is encoding]
    if encoding in (Encoding.ZSTD, Encoding.LZ4):
        patterns.append([bytes(range(0x50, 0x60)), b"\x2a", b"\x4d", b"\x18"])
    return patterns


class _CompressEngine(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Lz4Compressor:
    """lz4's compressor, which wants to be told of its begin."""

    def __init__(self) -> None:
        self._inner = _lz4().LZ4FrameCompressor()
        self._begin: bytes = self._inner.begin()

    def compress(self, data: bytes) -> bytes:
        begin, self._begin = self._begin, b""
        packed: bytes = self._inner.compress(data)
        return begin + packed

    def flush(self) -> bytes:
        end: bytes = self._inner.flush()
        return self._begin + end


class _Compressor:
    def __init__(self, encoding: Encoding) -> None:
        self._engine: _CompressEngine
        if encoding is Encoding.GZIP:
            import zlib  # noqa: PLC0415

            self._engine = zlib.compressobj(wbits=31)
        elif encoding is Encoding.XZ:
            import lzma  # noqa: PLC0415

            self._engine = lzma.LZMACompressor()
        elif encoding is Encoding.BZ2:
            import bz2  # noqa: PLC0415

            self._engine = bz2.BZ2Compressor()
        elif encoding is Encoding.LZMA:
            import lzma  # noqa: PLC0415

            self._engine = lzma.LZMACompressor(format=lzma.FORMAT_ALONE)
        elif encoding is Encoding.LZ4:
            self._engine = _Lz4Compressor()
        else:
            self._engine = _zstd().ZstdCompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        chunk = self._engine.compress(data)
        if chunk:
            yield chunk

    def finish(self) -> bytes:
        return self._engine.flush()


def decompressor(encoding: Encoding) -> Decompressor:
    """A codec from that format to plain bytes. ContentError when its library is not installed."""
    return Decompressor(encoding)


def compressor(encoding: Encoding) -> Codec:
    """A codec from plain bytes to that format, at the library's default level."""
    return _Compressor(encoding)


_TOOLS = {
    Encoding.GZIP: "gzip -t",
    Encoding.XZ: "xz -t",
    Encoding.BZ2: "bzip2 -t",
    Encoding.ZSTD: "zstd -t",
    Encoding.LZMA: "xz --format=lzma -t",
    Encoding.LZ4: "lz4 -t",
}
"""What tells a user whether their own file is sound."""


def _engine(encoding: Encoding) -> _Engine:
    if encoding is Encoding.GZIP:
        return _ZlibEngine()
    if encoding in (Encoding.XZ, Encoding.LZMA):
        import lzma  # noqa: PLC0415

        kind = lzma.FORMAT_XZ if encoding is Encoding.XZ else lzma.FORMAT_ALONE
        return lzma.LZMADecompressor(kind, MAX_MEMORY_BYTES)
    if encoding is Encoding.BZ2:
        import bz2  # noqa: PLC0415

        return bz2.BZ2Decompressor()
    engine: _Engine = (
        _lz4().LZ4FrameDecompressor() if encoding is Encoding.LZ4 else _zstd().ZstdDecompressor()
    )
    return engine


def _errors(encoding: Encoding) -> tuple[type[Exception], ...]:
    if encoding is Encoding.GZIP:
        import zlib  # noqa: PLC0415

        return (zlib.error,)
    if encoding in (Encoding.XZ, Encoding.LZMA):
        import lzma  # noqa: PLC0415

        return (lzma.LZMAError,)
    if encoding is Encoding.BZ2:
        return (OSError, ValueError)
    if encoding is Encoding.LZ4:
        return (RuntimeError,)
    return (_zstd().ZstdError,)


def _zstd() -> Any:
    """The standard library's module from Python 3.14 on, its backport before."""
    return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def _lz4() -> Any:
    try:
        return importlib.import_module("lz4.frame")
    except ImportError:
        raise ContentError(
            "the content is lz4, which this host cannot unpack; unpack it with `lz4 -d`, or install "
            "jumpstarter-sbc[lz4] there"
        ) from None
