"""The user's side of an image: where it is read from and where a dump is put.

A path is a local file, `-` is standard input, an http(s) URL is left to the exporter. With an operator (an
object with `open(path, mode)`, as opendal and fsspec have) the path is the operator's. Files are read and
written in worker threads.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import trio
from jumpstarter_proto.encoding import MAGIC_LENGTH, Encoding, detect
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.value import JSON

__all__ = [
    "FileSink",
    "FileSource",
    "LocalFileError",
    "Operator",
    "PathLike",
    "is_url",
    "open_sink",
    "open_source",
    "request",
]

PathLike = str | os.PathLike[str]

_CLOSE_SECONDS = 1.0

CHUNK = 1024 * 1024
"""Bytes read from or written to a local file at a time."""


class Operator(Protocol):
    """A storage service's client, such as opendal.Operator or a file system of fsspec."""

    def open(self, path: str, mode: str, /) -> BinaryIO:
        """A file object; it may block."""


class LocalFileError(JumpstarterError):
    """A file on the user's side cannot be read or written."""

    status = "NOT_FOUND"
    exit_code = ExitCode.NOT_FOUND


def is_url(path: object) -> bool:
    """Whether the exporter fetches or uploads it by itself."""
    return isinstance(path, str) and path.startswith(("http://", "https://"))


def request(url: str, method: str) -> dict[str, JSON]:
    """The handle of a URL that the exporter reads (GET) or writes (PUT)."""
    return {"kind": "presigned_request", "headers": {}, "url": url, "method": method}


def _ignore(_done: int) -> None:
    """Nobody watches."""


@dataclass
class FileSource:
    """An open local file as a stream; `sent` counts what has been read of `total` bytes, if known."""

    file: BinaryIO
    name: str
    total: int | None
    head: bytes
    sent: int = 0
    progress: Callable[[int], object] = _ignore

    @property
    def encoding(self) -> Encoding | None:
        """What its first bytes say."""
        return detect(self.head)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes; empty at the end. Raises LocalFileError."""
        data = await trio.to_thread.run_sync(
            self._read, min(max_bytes or CHUNK, CHUNK), abandon_on_cancel=True
        )
        self.sent += len(data)
        self.progress(self.sent)
        return data

    def _read(self, count: int) -> bytes:
        head, self.head = self.head[:count], self.head[count:]
        if len(head) == count:
            return head
        try:
            return head + self.file.read(count - len(head))
        except OSError as error:
            raise _explain(self.name, error) from error

    async def aclose(self) -> None:
        """The file is closed by whoever opened it."""
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
        if self._length >= CHUNK:
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
        """The file is closed by whoever opened it."""
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_source(path: PathLike, operator: Operator | None = None) -> AsyncIterator[FileSource]:
    """Open a file to flash. Raises LocalFileError."""
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
                file = Path(name).expanduser().open("rb", buffering=0)
                total = _size(file)
            return FileSource(file, name, total, _peek(file))
        except OSError as error:
            raise _explain(name, error) from error

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
    path: PathLike, operator: Operator | None = None, *, force: bool
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
    final = Path(os.path.expanduser(name))  # noqa: ASYNC240 - reads one variable
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


def _peek(file: BinaryIO) -> bytes:
    """The first bytes, fewer only if there are no more."""
    head = b""
    while len(head) < MAGIC_LENGTH:
        data = file.read(MAGIC_LENGTH - len(head))
        if not data:
            break
        head += data
    return head


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
