"""The user's side of an image: where it is read from and where a dump is put.

A path is a local file, `-` is standard input, an http(s) URL is left to the exporter. With an operator (an
object with `open(path, mode)`, as opendal and fsspec have) the path is the operator's. Files are read and
written in worker threads. An image is looked at here before the exporter hears of it; one layer of a compression that
every exporter knows stays on it, all others come off here.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import trio
from jumpstarter_proto.encoding import ENCODINGS_OF_ALL_EXPORTERS, Encoding
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.images import ImageReader, PeekReader, Read, open_image, open_image_file
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.storage.changes.block_map import (
    MAX_MAP_BYTES,
    BlockMap,
    find_block_map,
    parse_block_map,
)

__all__ = [
    "FileSink",
    "FileSource",
    "LocalFileError",
    "PathLike",
    "StorageOperator",
    "is_url",
    "open_block_map",
    "open_sink",
    "open_source",
    "request",
]

PathLike = str | os.PathLike[str]

_CLOSE_SECONDS = 1.0

CHUNK_BYTES = 1024 * 1024
"""Bytes read from or written to a local file at a time."""

_MAX_RECORDED_BYTES = 2 * CHUNK_BYTES
"""Of a stream, to begin it again: looking at it reads much less."""


class StorageOperator(Protocol):
    """A storage service's client, such as opendal.Operator or a file system of fsspec."""

    def open(self, path: str, mode: str, /) -> BinaryIO:
        """A file object; it may block."""


class LocalFileError(JumpstarterError):
    """A file on the user's side cannot be read or written."""

    status = "NOT_FOUND"
    exit_code = ExitCode.NOT_FOUND


def is_url(path: object) -> bool:
    """Whether the exporter fetches or uploads it by itself."""
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


def request(url: str, method: str) -> dict[str, JSON]:
    """The handle of a URL that the exporter reads (GET) or writes (PUT)."""
    return {"kind": "presigned_request", "headers": {}, "url": url, "method": method}


def _ignore(_done: int) -> None:
    """Ignore progress."""


@dataclass
class FileSource:
    """An open local file as a stream; `sent` counts what has been read of `total` bytes, if known."""

    file: BinaryIO
    name: str
    total: int | None
    read: Read
    """What is sent."""
    image: ImageReader
    """What it is; reading it is reading `file`."""
    encoding: Encoding | None = None
    """What the exporter takes off."""
    sent: int = 0
    progress: Callable[[int], object] = _ignore

    @property
    def plain_size(self) -> int | None:
        """Bytes of the image itself, when known."""
        return None if self.encoding else self.total

    async def unpacked(self, compression: str | None) -> ImageReader:
        """The image itself, from its begin on, in place of what is sent otherwise.

        `compression` is what it was opened with. Reading it raises LocalFileError, too.
        """
        return await trio.to_thread.run_sync(self._unpacked, compression, abandon_on_cancel=True)

    def _unpacked(self, compression: str | None) -> ImageReader:
        image = open_image(self._read, compression=compression or "auto") if self.encoding else self.image

        def read(count: int) -> bytes:
            try:
                return image.read(count)
            except OSError as error:
                raise _explain(self.name, error) from error

        return replace(image, read=read)

    def remarks(self) -> tuple[str, ...]:
        """At the end: what was left out here."""
        return () if self.encoding else self.image.remarks()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes; empty at the end. Raises LocalFileError."""
        data = await trio.to_thread.run_sync(
            self._read, min(max_bytes or CHUNK_BYTES, CHUNK_BYTES), abandon_on_cancel=True
        )
        self.sent += len(data)
        self.progress(self.sent)
        return data

    def _read(self, count: int) -> bytes:
        try:
            return self.read(count)
        except OSError as error:
            raise _explain(self.name, error) from error

    async def aclose(self) -> None:
        """Do nothing: the caller that opened the file closes it."""
        await trio.lowlevel.checkpoint()


@dataclass
class FileSink:
    """An open local file as a stream; `received` counts the bytes. They are written a chunk at a time."""

    file: BinaryIO
    name: str
    received: int = 0
    progress: Callable[[int], object] = _ignore
    _waiting: list[bytes] = field(default_factory=list)
    _length: int = 0

    async def send_all(self, data: bytes, /) -> None:
        """Append. Raises LocalFileError."""
        self._waiting.append(data)
        self._length += len(data)
        self.received += len(data)
        if self._length >= CHUNK_BYTES:
            await self.flush()
        self.progress(self.received)

    async def flush(self) -> None:
        """Write what waits. Raises LocalFileError."""
        waiting, self._waiting, self._length = self._waiting, [], 0
        await trio.to_thread.run_sync(self._write, b"".join(waiting))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self.file.write(view) :]
        except OSError as error:
            raise _explain(self.name, error) from error

    async def aclose(self) -> None:
        """Do nothing: the caller that opened the file closes it."""
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_source(
    path: PathLike, operator: StorageOperator | None = None, compression: str | None = None
) -> AsyncIterator[FileSource]:
    """Open a file to flash, and look what it is. `compression` is told by the content if left out.

    Raises:
        LocalFileError: it cannot be read.
        ContentError: it is damaged, or an archive without exactly one image.
    """
    name = os.fspath(path)

    def start() -> FileSource:
        try:
            if operator is not None:
                file, total = operator.open(name, "rb"), None
            elif name == "-":
                # Not sys.stdin's own buffer: a read that nobody waits for any more must not hold its lock.
                file = os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
                total = _size(file)
            else:
                path = user_path(name)
                file = path.open("rb", buffering=0)
                total = _size(file)
        except OSError as error:
            raise _explain(name, error) from error
        try:
            return _look(file, name, total, compression or "auto")
        except OSError as error:
            file.close()
            raise _explain(name, error) from error
        except BaseException:
            file.close()
            raise

    source = await trio.to_thread.run_sync(start, abandon_on_cancel=True)
    try:
        yield source
    finally:
        # A read of a terminal or pipe may still wait in its thread and hold the file; it is not worth waiting
        # for.
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await trio.to_thread.run_sync(source.file.close, abandon_on_cancel=True)


@asynccontextmanager
async def open_sink(
    path: PathLike, operator: StorageOperator | None = None, *, force: bool
) -> AsyncIterator[FileSink]:
    """Open a file for a dump; it has its final name, and replaces what had it, only once the block ends well.

    A device or a named pipe is written to as it is, and never replaced.

    Raises LocalFileError, also when the file is there already and `force` is false.
    """
    name = os.fspath(path)
    if operator is not None:
        there = await trio.to_thread.run_sync(operator.open, name, "wb")
        sink = FileSink(there, name)
        try:
            yield sink
            await sink.flush()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(there.close)
        return
    final = user_path(name)
    partial = final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
    if await trio.to_thread.run_sync(_is_special, final):
        partial = final
    sink = FileSink(await trio.to_thread.run_sync(_create, final, partial, force), name)
    try:
        yield sink
        await sink.flush()
        await trio.to_thread.run_sync(_finish, sink.file, partial, final, force)
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_discard, sink.file, partial)
        raise


async def open_block_map(image: PathLike, chosen: PathLike | None) -> BlockMap | None:
    """The map that the user chose, or the one beside the image; None for neither, and for the choice `none`.

    Raises:
        LocalFileError: it cannot be read.
        BlockMapError: it is damaged.
    """
    if chosen == "none":
        return None

    def read() -> BlockMap | None:
        path = find_block_map(user_path(image)) if chosen is None else user_path(chosen)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                return parse_block_map(file.read(MAX_MAP_BYTES + 1), str(path))
        except OSError as error:
            raise _explain(str(path), error) from error

    return await trio.to_thread.run_sync(read, abandon_on_cancel=True)


def _create(final: Path, partial: Path, force: bool) -> BinaryIO:
    if final.is_dir():
        raise LocalFileError(f"{final} is a directory; name a file in it")
    if not force and final.exists():
        raise _in_the_way(final)
    try:
        if partial == final:
            return final.open("wb", buffering=0)
        return partial.open("xb", buffering=0)
    except OSError as error:
        raise _explain(str(final), error) from error


def _finish(file: BinaryIO, partial: Path, final: Path, force: bool) -> None:
    try:
        if partial == final:
            with suppress(OSError):  # not every device can
                os.fsync(file.fileno())
            file.close()
            return
        os.fsync(file.fileno())
        file.close()
        if force:
            partial.replace(final)
        else:
            # A link fails where a rename would overwrite what somebody put there meanwhile.
            os.link(partial, final)
            partial.unlink()
    except FileExistsError:
        raise _in_the_way(final) from None
    except OSError as error:
        raise _explain(str(final), error) from error


def _discard(file: BinaryIO, partial: Path) -> None:
    file.close()
    if not _is_special(partial):
        partial.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    """Whether it is there and is neither a file nor a folder."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _in_the_way(final: Path) -> LocalFileError:
    return LocalFileError(f"{final} exists already; choose another name, or overwrite it with --force")


def _size(file: BinaryIO) -> int | None:
    facts = os.fstat(file.fileno())
    if stat.S_ISREG(facts.st_mode):
        return facts.st_size - os.lseek(file.fileno(), 0, os.SEEK_CUR)
    return None


class _Recorder:
    """Reads a stream, and can give what was read first once more, if that was not much."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._first: list[bytes] | None = []
        self._length = 0

    def read(self, count: int) -> bytes:
        data = self._read(count)
        if self._first is not None:
            self._first.append(data)
            self._length += len(data)
            if self._length > _MAX_RECORDED_BYTES:
                self._first = None
        return data

    def rewound(self) -> Read | None:
        """A reader from the begin on; None when that is too far back."""
        if self._first is None:
            return None
        again = PeekReader(self._read)
        again.push(b"".join(self._first))
        return again.read


def _look(file: BinaryIO, name: str, total: int | None, compression: str) -> FileSource:
    """Tell what an open file is and how it is sent; blocking. A file of known size can seek."""
    stream = _Recorder(file.read)
    start = file.tell() if total is not None else 0
    if total is not None and compression == "auto":
        image = open_image_file(file)
    else:
        image = open_image(stream.read, compression=compression)
    if not image.layers:
        return FileSource(file, name, total, image.read, image)
    if len(image.layers) == 1 and image.layers[0].kind in ENCODINGS_OF_ALL_EXPORTERS:
        encoding = Encoding(image.layers[0].kind)
        if total is not None:
            file.seek(start)
            return FileSource(file, name, total, file.read, image, encoding)
        if (again := stream.rewound()) is not None:
            return FileSource(file, name, total, again, image, encoding)
    return FileSource(file, name, image.size, image.read, image)


def _explain(name: str, error: OSError) -> LocalFileError:
    where = "standard input" if name == "-" else name
    reasons = {
        FileNotFoundError: "does not exist; check the path",
        IsADirectoryError: "is a directory; name a file in it",
        PermissionError: "may not be opened by you; check its permissions",
    }
    for kind, words in reasons.items():
        if isinstance(error, kind):
            return LocalFileError(f"{where} {words}")
    return LocalFileError(f"{where}: {cast('str', error.strerror) or error}; check the disk it is on")
