"""Content encodings of files that travel as resources: gzip, xz, bz2 and zstd, as streams of chunks.

A resource's encoding names the format of the user's file, not a transport compression: the exporter decompresses
what it reads and compresses what it writes. Codecs are plain objects without I/O; they are CPU-bound, so async
callers run `feed` in a worker thread. Each output chunk is bounded, whatever the input expands to.
"""

from __future__ import annotations

import enum
import importlib
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from jumpstarter_proto.errors import JumpstarterError

__all__ = ["Codec", "ContentError", "Encoding", "compressor", "decompressor", "detect"]

CHUNK = 1024 * 1024
"""Upper bound in bytes of one chunk that a decompressor yields."""


class Encoding(enum.StrEnum):
    """Names as they travel in `x_jmp_content_encoding`."""

    GZIP = "gzip"
    XZ = "xz"
    BZ2 = "bz2"
    ZSTD = "zstd"


_MAGIC = {
    b"\x1f\x8b": Encoding.GZIP,  # RFC 1952, 2.3.1
    b"\xfd7zXZ\x00": Encoding.XZ,  # The .xz file format, 2.1.1.1
    b"BZh": Encoding.BZ2,
    b"\x28\xb5\x2f\xfd": Encoding.ZSTD,  # RFC 8878, 3.1.1
}
MAGIC_LENGTH = max(len(magic) for magic in _MAGIC)


class ContentError(JumpstarterError, ValueError):
    """Compressed content is damaged, cut short or not of the encoding it claims."""

    status = "INVALID_ARGUMENT"


def detect(first_bytes: bytes) -> Encoding | None:
    """Tell a file's encoding from its first `MAGIC_LENGTH` bytes; None is a plain file."""
    return next((encoding for magic, encoding in _MAGIC.items() if first_bytes.startswith(magic)), None)


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
    def unused_data(self) -> bytes: ...
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


class _Decompressor:
    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._engine = _engine(encoding)
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        error_types = _errors(self._encoding)
        while data or not self._engine.needs_input:
            if self._engine.eof:
                data = data.lstrip(b"\0") if self._encoding in (Encoding.GZIP, Encoding.XZ) else data
                if not data:
                    return
                # Files are often several compressed members in a row; read them as one.
                self._engine = _engine(self._encoding)
            self._started = True
            try:
                chunk = self._engine.decompress(data, CHUNK)
            except error_types as error:
                raise ContentError(
                    f"the content is not valid {self._encoding}: {error}; "
                    f"check the file with `{_TOOLS[self._encoding]}`"
                ) from error
            data = self._engine.unused_data if self._engine.eof else b""
            if chunk:
                yield chunk
            if self._engine.eof and not data:
                return

    def finish(self) -> bytes:
        if self._started and not self._engine.eof:
            raise ContentError(
                f"the {self._encoding} content ends too early; "
                f"the file is cut short, check it with `{_TOOLS[self._encoding]}`"
            )
        return b""


class _CompressEngine(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


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
        else:
            self._engine = _zstd().ZstdCompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        chunk = self._engine.compress(data)
        if chunk:
            yield chunk

    def finish(self) -> bytes:
        return self._engine.flush()


def decompressor(encoding: Encoding) -> Codec:
    """A codec from that format to plain bytes; several members in a row are read as one."""
    return _Decompressor(encoding)


def compressor(encoding: Encoding) -> Codec:
    """A codec from plain bytes to that format, at the library's default level."""
    return _Compressor(encoding)


_TOOLS = {
    Encoding.GZIP: "gzip -t",
    Encoding.XZ: "xz -t",
    Encoding.BZ2: "bzip2 -t",
    Encoding.ZSTD: "zstd -t",
}
"""What tells a user whether their own file is sound."""


def _engine(encoding: Encoding) -> _Engine:
    if encoding is Encoding.GZIP:
        return _ZlibEngine()
    if encoding is Encoding.XZ:
        import lzma  # noqa: PLC0415

        return lzma.LZMADecompressor()
    if encoding is Encoding.BZ2:
        import bz2  # noqa: PLC0415

        return bz2.BZ2Decompressor()
    engine: _Engine = _zstd().ZstdDecompressor()
    return engine


def _errors(encoding: Encoding) -> tuple[type[Exception], ...]:
    if encoding is Encoding.GZIP:
        import zlib  # noqa: PLC0415

        return (zlib.error,)
    if encoding is Encoding.XZ:
        import lzma  # noqa: PLC0415

        return (lzma.LZMAError,)
    if encoding is Encoding.BZ2:
        return (OSError, ValueError)
    return (_zstd().ZstdError,)


def _zstd() -> Any:
    """The standard library's module from Python 3.14 on, its backport before."""
    return importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
