"""Copies an image between a stream of chunks and a storage device, without blocking the event loop.

All access to the device runs in worker threads of the caller's limiter, in blocks of a few MiB. If a device stops
answering, the call fails after a time limit: its thread is abandoned, and the last user of the descriptor closes it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

import trio
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.storage.tasks import together

__all__ = [
    "WRITE_BYTES",
    "DeviceGone",
    "NoSpace",
    "Progress",
    "StorageDevice",
    "StorageError",
    "VerifyFailed",
]

MIB = 1024 * 1024
WRITE_BYTES = 4 * MIB
"""Bytes of one write or read of the device: large enough for an erase block of an SD card."""

READ_BYTES = MIB
"""Bytes that a dump hands on at a time: under the 4 MiB that a peer accepts in one message."""

_QUEUED_BLOCKS = 2
"""Blocks between the network and the disk; both sides work, and memory stays under 16 MiB."""

_IOV_MAX = 512
"""Chunks of one gathered write; Linux takes up to 1024."""

_SECTOR_BYTES = 512
_BLKBSZGET = 0x80081270
"""linux/fs.h: the size of a block in the kernel's cache, of which a dirty one is written as a whole."""

T = TypeVar("T")
Progress = Callable[[int], None]
"""Called with all bytes so far, from a worker thread's point of view never: always on the event loop."""


class StorageError(JumpstarterError):
    """The storage could not be written or read."""

    status = "INTERNAL"


class NoSpace(StorageError):  # noqa: N818 - a state of the disk, as in the errno
    """The image is larger than where it shall go."""

    status = "OUT_OF_RANGE"


class DeviceGone(StorageError):  # noqa: N818
    """The storage device went away, or another one took its place."""

    status = "UNAVAILABLE"


class VerifyFailed(StorageError):  # noqa: N818
    """The data that was read back differs from the data that was written."""

    status = "DATA_LOSS"


class ImageSource(Protocol):
    """Chunks of plain bytes; how the stream ended badly is an exception, never a silent end."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class DumpSink(Protocol):
    """Where a dump goes."""

    async def send_all(self, data: bytes, /) -> None: ...


@dataclass(frozen=True)
class _Identity:
    """What tells one open device or file from another that has taken its path."""

    device: int
    inode: int
    block_device: int

    @classmethod
    def of(cls, facts: os.stat_result) -> _Identity:
        return cls(facts.st_dev, facts.st_ino, facts.st_rdev)


class _Descriptor:
    """A file descriptor with several users, some of them threads that were abandoned.

    It is closed when the last user lets go, so that a thread left behind never writes through a number that
    stands for another file by then.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._users = 1
        self._lock = threading.Lock()

    @contextmanager
    def use(self) -> Iterator[int]:
        """Hold it for the length of the block. Raises OSError (EBADF) once it is closed."""
        with self._lock:
            if not self._users:
                raise OSError(errno.EBADF, "the device was closed")
            self._users += 1
        try:
            yield self._number
        finally:
            self.release()

    def release(self) -> None:
        """Release it; closes the descriptor, which blocks, when it was the last user."""
        with self._lock:
            self._users -= 1
            last = not self._users
        if last:
            os.close(self._number)


class StorageDevice:
    """One opened storage: a block device, or a file that stands for one. Use it in `async with`.

    `io_timeout` bounds one read or write of a block and the opening, `flush_timeout` a whole flush. Every
    method raises StorageError (or one of its kinds) with the device's path and what to do.
    """

    def __init__(
        self,
        path: Path,
        *,
        writable: bool,
        limiter: trio.CapacityLimiter,
        io_timeout: float = 60.0,
        flush_timeout: float = 900.0,
    ) -> None:
        self.path = path
        self._writable = writable
        self._limiter = limiter
        self._io_timeout = io_timeout
        self._flush_timeout = flush_timeout
        self._descriptor = _Descriptor(-1)
        self._identity = _Identity(0, 0, 0)
        self._given_up = False
        self._opened: list[int] = []
        """The open descriptor until a `_Descriptor` owns it."""
        self.is_block_device = False
        self.size = 0
        """Bytes that it holds now: a block device's capacity, a file's length."""
        self.sectors_written = 0
        """Sectors of 512 bytes that `write_pieces` wrote, as the kernel counts them: in whole blocks of its cache."""
        self._cache_block_bytes = _SECTOR_BYTES

    async def __aenter__(self) -> Self:
        try:
            facts, self.size = await self._bounded(self._open)
        except DeviceGone:
            if self._opened:  # in this moment
                await self._close(self._close_unwanted)
            raise
        self._descriptor = _Descriptor(self._opened.pop())
        self._identity = _Identity.of(facts)
        self.is_block_device = stat.S_ISBLK(facts.st_mode)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close(self._descriptor.release)

    async def _close(self, close: Callable[[], None]) -> None:
        # Closing a device that does not answer may take for ever, and nothing depends on its end.
        with trio.move_on_after(self._io_timeout, shield=True):
            await trio.to_thread.run_sync(close, abandon_on_cancel=True, limiter=self._limiter)

    def _open(self) -> tuple[os.stat_result, int]:
        fd = os.open(self.path, _flags(self.path.stat().st_mode, self._writable))
        try:
            facts = os.fstat(fd)
            size = 0 if stat.S_ISCHR(facts.st_mode) else os.lseek(fd, 0, os.SEEK_END)
            if stat.S_ISBLK(facts.st_mode):
                (self._cache_block_bytes,) = struct.unpack_from("=i", fcntl.ioctl(fd, _BLKBSZGET, bytes(8)))
        except OSError:
            os.close(fd)
            raise
        self._opened.append(fd)
        if self._given_up:
            self._close_unwanted()
        return facts, size

    def _close_unwanted(self) -> None:
        """Close, once, a descriptor that was opened after the time limit, so that the device is not busy."""
        with suppress(IndexError):
            os.close(self._opened.pop())

    async def room(self) -> int | None:
        """Bytes that an image may take: the capacity, or the file plus what its file system has free.

        The last of a file system (5 %, at most 1 GiB) is left to the host's other work.
        """
        if self.is_block_device:
            return self.size

        def free() -> int | None:
            with self._descriptor.use() as fd:
                facts = os.fstat(fd)
                if stat.S_ISCHR(facts.st_mode):
                    return None
                system = os.fstatvfs(fd)
            kept = min(system.f_blocks * system.f_frsize // 20, 1024 * MIB)
            return max(system.f_bavail * system.f_frsize - kept, 0) + facts.st_blocks * 512

        return await self._bounded(free)

    async def write(
        self, source: ImageSource, *, limit: int | None, hashed: bool, progress: Progress
    ) -> tuple[int, str]:
        """Write all of `source` from the start; the bytes and their SHA-256 (empty unless `hashed`).

        Network and disk work at the same time. A file is cut to the image's length, a block device keeps its
        tail. What is written is on the device only after `flush`. Raises NoSpace before anything beyond
        `limit` is written. After a cancel or an error nothing is written any more.
        """
        digest = hashlib.sha256() if hashed else None
        send, receive = trio.open_memory_channel[list[bytes]](_QUEUED_BLOCKS)
        written = 0

        async def fill() -> None:
            total = size = 0
            block: list[bytes] = []
            with send:
                async for chunk in source:
                    total += len(chunk)
                    if limit is not None and total > limit:
                        raise NoSpace(
                            f"the image is larger than the {limit} bytes that {self.path} takes; "
                            "use a smaller image or a larger card"
                        )
                    block.append(chunk)
                    size += len(chunk)
                    if size >= WRITE_BYTES or len(block) >= _IOV_MAX:
                        await send.send(block)
                        block, size = [], 0
                if block:
                    await send.send(block)

        def put(block: list[bytes], offset: int) -> int:
            length = sum(map(len, block))
            if digest is not None:
                for chunk in block:
                    digest.update(chunk)
            with self._descriptor.use() as fd:
                _write_fully(fd, block, offset)
                # Start the write-back now and drop what is on the device already: a small host keeps its
                # memory, and the flush at the end is short.
                _forget(fd, max(offset - 2 * WRITE_BYTES, 0), length + 2 * WRITE_BYTES)
            return length

        def cut(length: int) -> None:
            with self._descriptor.use() as fd:
                os.ftruncate(fd, length)

        async with together() as nursery:
            nursery.start_soon(fill)
            with receive:  # no checkpoint: a cancel there would take the place of what is raised
                async for block in receive:
                    written += await self._bounded(put, block, written)
                    progress(written)
        if not self.is_block_device and written < self.size:
            await self._bounded(cut, written)
        return written, digest.hexdigest() if digest else ""

    async def flush(self) -> None:
        """Wait until all is on the device. A cancel leaves the flush to the kernel at once."""

        def sync() -> None:
            with self._descriptor.use() as fd:
                try:
                    os.fsync(fd)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # what cannot be synced has nothing to sync
                        raise

        try:
            with trio.fail_after(self._flush_timeout):
                await trio.to_thread.run_sync(sync, abandon_on_cancel=True, limiter=self._limiter)
        except trio.TooSlowError:
            raise DeviceGone(
                f"{self.path} did not take what was written in {self._flush_timeout:g} s; "
                "check the card and its reader, or raise `fsync_timeout`"
            ) from None
        except OSError as error:
            raise self._explain(error) from error

    async def check_identity(self) -> None:
        """Raise DeviceGone unless the path still leads to the device that was opened."""
        facts = await self._bounded(os.stat, self.path)
        if _Identity.of(facts) != self._identity:
            raise DeviceGone(
                f"{self.path} was unplugged or replaced meanwhile; plug the card in again and flash it"
            )

    async def verify(self, length: int, digest: str, *, progress: Progress) -> None:
        """Read `length` bytes back from the device, not from memory, and compare. Raises VerifyFailed."""
        found = hashlib.sha256()

        def take(offset: int) -> int:
            with self._descriptor.use() as fd:
                if offset == 0:
                    _forget(fd, 0, 0)
                piece = os.pread(fd, min(WRITE_BYTES, length - offset), offset)
                found.update(piece)
                _forget(fd, offset, len(piece))
            return len(piece)

        done = 0
        while done < length:
            count = await self._bounded(take, done)
            if not count:
                raise VerifyFailed(
                    f"{self.path} ends after {done} of {length} bytes; the card may be a fake or worn out"
                )
            done += count
            progress(done)
        if found.hexdigest() != digest:
            raise VerifyFailed(
                f"what {self.path} gives back is not what was written; "
                "flash again, and replace the card if it repeats"
            )

    async def read(self, sink: DumpSink, *, progress: Progress) -> int:
        """Send the whole storage to `sink`, reading ahead of it; the number of bytes."""
        send, receive = trio.open_memory_channel[bytes](_QUEUED_BLOCKS)

        def take(offset: int) -> bytes:
            with self._descriptor.use() as fd:
                piece = os.pread(fd, READ_BYTES, offset)
                _forget(fd, offset, len(piece))
            return piece

        async def read_ahead() -> None:
            offset = 0
            with send:
                while piece := await self._bounded(take, offset):
                    offset += len(piece)
                    await send.send(piece)

        done = 0
        async with together() as nursery:
            nursery.start_soon(read_ahead)
            with receive:  # no checkpoint: a cancel there would take the place of what is raised
                async for piece in receive:
                    await sink.send_all(piece)
                    done += len(piece)
                    progress(done)
        return done

    async def read_pieces(
        self, places: Sequence[tuple[int, int]], *, damaged_is_nothing: bool = False
    ) -> bytes:
        """What is at these places (offset and length), one behind the other, from the device and not from memory.

        It is shorter where the device ends, and with `damaged_is_nothing` empty where some of it cannot be read: what
        is written over need not be readable before.
        """

        def take() -> bytes:
            with self._descriptor.use() as fd:
                try:
                    pieces = [_read_fully(fd, offset, length) for offset, length in places]
                except OSError as error:
                    if damaged_is_nothing and error.errno in (errno.EIO, errno.EREMOTEIO):
                        return b""
                    raise
                if places:
                    begin, (last, length) = places[0][0], places[-1]
                    _forget(fd, begin, last + length - begin)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

        return await self._bounded(take)

    async def write_pieces(self, pieces: Sequence[tuple[int, bytes | memoryview]]) -> None:
        """Write each at its offset; on the device only after `flush`. Not torn by a cancel."""

        def put() -> None:
            with self._descriptor.use() as fd:
                for offset, data in pieces:
                    _write_fully(fd, [data], offset)
                    block = self._cache_block_bytes
                    blocks = -(-(offset + len(data)) // block) - offset // block
                    self.sectors_written += blocks * (block // _SECTOR_BYTES)
                if pieces:
                    begin, (last, data) = pieces[0][0], pieces[-1]
                    _forget(fd, begin, last + len(data) - begin)

        await self._bounded(put)

    async def use(self, function: Callable[[int], T]) -> T:
        """Run what blocks for a moment with the descriptor's number, in a thread."""

        def run() -> T:
            with self._descriptor.use() as fd:
                return function(fd)

        return await self._bounded(run)

    async def measure(self) -> None:
        """Read the size again."""
        self.size = await self.use(lambda fd: os.lseek(fd, 0, os.SEEK_END))

    async def forget(self) -> None:
        """Drop from memory what is on the device, so that reading it asks the device."""

        def drop() -> None:
            with self._descriptor.use() as fd:
                _forget(fd, 0, 0)

        await self._bounded(drop)

    async def has_other_length(self, length: int) -> bool:
        """Whether it is a file of another length; a block device is as it is."""
        if self.is_block_device:
            return False
        await self.measure()
        return self.size != length

    async def set_length(self, length: int) -> None:
        """Make a file that long."""

        def cut() -> None:
            with self._descriptor.use() as fd:
                os.ftruncate(fd, length)

        await self._bounded(cut)
        self.size = length

    async def _bounded(self, function: Callable[..., T], *arguments: object) -> T:
        """Run blocking I/O in a thread: not torn by a cancel, but left behind when it does not answer."""
        await trio.lowlevel.checkpoint()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._io_timeout):
            try:
                return await trio.to_thread.run_sync(
                    function, *arguments, abandon_on_cancel=True, limiter=self._limiter
                )
            except OSError as error:
                raise self._explain(error) from error
        self._given_up = True
        raise DeviceGone(
            f"{self.path} has not answered for {self._io_timeout:g} s; "
            "check the card and its reader, then try again"
        )

    def _explain(self, error: OSError) -> Exception:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return NoSpace(
                f"{self.path} is full ({reason}); use a smaller image, a larger card or free the disk"
            )
        if error.errno in (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM, errno.EREMOTEIO):
            return DeviceGone(
                f"{self.path} failed ({reason}); check that the card is plugged in, then flash it again"
            )
        if error.errno == errno.ENOENT:
            return DeviceGone(f"{self.path} does not exist; plug the card in or correct `path`")
        if error.errno == errno.EBUSY:
            return StorageError(
                f"{self.path} is in use on the exporter host; unmount it there, then try again"
            )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return StorageError(
                f"the exporter may not write {self.path} ({reason}); correct its permissions there"
            )
        return StorageError(f"{self.path}: {reason}")


def _flags(mode: int, writable: bool) -> int:
    """How to open a file of this mode; a block device exclusively, which is refused while it is mounted."""
    if not writable:
        return os.O_CLOEXEC | os.O_RDONLY
    return os.O_CLOEXEC | os.O_RDWR | (os.O_EXCL if stat.S_ISBLK(mode) else 0)


def _read_fully(fd: int, offset: int, length: int) -> bytes:
    """What is there; less only where the device ends. Blocking. Raises OSError."""
    pieces: list[bytes] = []
    while length:
        piece = os.pread(fd, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _write_fully(fd: int, block: Sequence[bytes | memoryview], offset: int) -> None:
    """Write gathered chunks at `offset`; blocking. Raises OSError."""
    views = [memoryview(chunk) for chunk in block if chunk]
    while views:
        count = os.pwritev(fd, views[:_IOV_MAX], offset)
        if count == 0:
            raise OSError(errno.EIO, "the device takes no more bytes")
        offset += count
        while views and count >= len(views[0]):
            count -= len(views.pop(0))
        if count:
            views[0] = views[0][count:]


def _forget(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to write a range back and drop it from memory. It is a hint: errors are ignored."""
    try:
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)
    except OSError:
        return
