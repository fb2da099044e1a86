"""A device under writes, reads and faults; a file stands for the block device."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import random
import resource
import signal
import stat
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from jumpstarter_drivers.storage import blocks
from jumpstarter_drivers.storage.blocks import DeviceGone, NoSpace, StorageDevice, StorageError, VerifyFailed

IMAGE = random.Random(1).randbytes(9 * 1024 * 1024 + 17)


async def chunks(data: bytes = IMAGE, size: int = 65536) -> AsyncIterator[bytes]:
    for offset in range(0, len(data), size):
        await trio.lowlevel.checkpoint()
        yield data[offset : offset + size]


class Collector:
    def __init__(self) -> None:
        self.data = bytearray()

    async def send_all(self, data: bytes, /) -> None:
        await trio.lowlevel.checkpoint()
        self.data += data


def device(path: Path, *, writable: bool = True, io_timeout: float = 60) -> StorageDevice:
    return StorageDevice(path, writable=writable, limiter=trio.CapacityLimiter(2), io_timeout=io_timeout)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.img"
    path.write_bytes(b"old" * 5_000_000)
    return path


def ignore(_done: int) -> None:
    pass


async def test_write_verify_and_read_give_the_same_bytes(card: Path) -> None:
    seen: list[int] = []
    async with device(card) as opened:
        length, digest = await opened.write(chunks(), limit=None, hashed=True, progress=seen.append)
        await opened.flush()
        await opened.check_identity()
        await opened.verify(length, digest, progress=ignore)
    assert (length, digest) == (len(IMAGE), hashlib.sha256(IMAGE).hexdigest())
    assert card.read_bytes() == IMAGE
    assert seen == sorted(seen)
    assert seen[-1] == len(IMAGE)
    sink = Collector()
    async with device(card, writable=False) as opened:
        assert await opened.read(sink, progress=ignore) == len(IMAGE)
    assert sink.data == IMAGE


async def test_the_device_s_own_error_wins_over_the_channel_that_breaks_because_of_it() -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        while True:
            await trio.lowlevel.checkpoint()
            yield bytes(blocks.WRITE_BYTES)

    for _ in range(30):  # trio runs two tasks that can run in any order
        async with device(Path("/dev/full")) as opened, aclosing(endless()) as source:
            with pytest.raises(NoSpace, match="/dev/full is full"):
                await opened.write(source, limit=None, hashed=False, progress=ignore)


async def test_tiny_chunks_are_gathered(card: Path) -> None:
    data = IMAGE[:100_000]
    seen: list[int] = []
    async with device(card) as opened:
        await opened.write(chunks(data, 7), limit=None, hashed=False, progress=seen.append)
    assert card.read_bytes() == data
    assert 2 < len(seen) < 100


async def test_device_that_takes_a_write_in_parts_gets_all_of_it(
    card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, offset: real(fd, [views[0][:50_000]], offset))
    async with device(card) as opened:
        await opened.write(chunks(), limit=None, hashed=False, progress=ignore)
    assert card.read_bytes() == IMAGE


def test_only_a_writer_of_a_block_device_wants_it_alone() -> None:
    block = stat.S_IFBLK | 0o600
    assert blocks._flags(block, True) & os.O_EXCL
    assert not blocks._flags(block, False) & os.O_EXCL
    assert not blocks._flags(stat.S_IFREG | 0o600, True) & os.O_EXCL


async def test_image_beyond_the_limit_is_refused_before_it_is_written(card: Path) -> None:
    async with device(card) as opened:
        with pytest.raises(NoSpace, match="larger than the 1000000 bytes"):
            await opened.write(chunks(), limit=1_000_000, hashed=False, progress=ignore)
    assert card.stat().st_size == 15_000_000
    assert card.read_bytes()[1_000_000:1_000_003] == b"old"[1:] + b"o"


async def test_full_disk_is_an_error_that_says_so() -> None:
    async with device(Path("/dev/full")) as opened:
        with pytest.raises(NoSpace, match="/dev/full is full"):
            await opened.write(chunks(), limit=None, hashed=False, progress=ignore)


async def test_file_size_limit_stops_in_the_middle(card: Path) -> None:
    card.write_bytes(b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * 1024 * 1024, hard))
    try:
        async with device(card) as opened:
            with pytest.raises(NoSpace, match="full"):
                await opened.write(chunks(), limit=None, hashed=False, progress=ignore)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert card.read_bytes() == IMAGE[: 5 * 1024 * 1024]


async def test_replaced_device_is_noticed(card: Path) -> None:
    async with device(card) as opened:
        await opened.write(chunks(), limit=None, hashed=False, progress=ignore)
        card.rename(card.with_name("pulled"))
        with pytest.raises(DeviceGone, match="does not exist"):
            await opened.check_identity()
        card.write_bytes(b"another card")
        with pytest.raises(DeviceGone, match="unplugged or replaced"):
            await opened.check_identity()


async def test_verify_notices_one_changed_byte_and_a_short_device(card: Path) -> None:
    async with device(card) as opened:
        length, digest = await opened.write(chunks(), limit=None, hashed=True, progress=ignore)
        with card.open("r+b") as other:
            other.seek(length // 2)
            other.write(bytes([IMAGE[length // 2] ^ 1]))
        with pytest.raises(VerifyFailed, match="not what was written"):
            await opened.verify(length, digest, progress=ignore)
        os.truncate(card, 1000)
        with pytest.raises(VerifyFailed, match="ends after 1000"):
            await opened.verify(length, digest, progress=ignore)


async def test_cancel_between_blocks_writes_nothing_more(card: Path) -> None:
    card.write_bytes(b"")
    with trio.CancelScope() as scope:
        async with device(card) as opened:

            def stop(done: int) -> None:
                scope.cancel()

            await opened.write(chunks(), limit=None, hashed=False, progress=stop)
    assert scope.cancelled_caught
    assert card.stat().st_size == blocks.WRITE_BYTES


async def test_broken_source_is_an_error_not_a_short_image(card: Path) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield IMAGE[:65536]
        raise trio.BrokenResourceError("peer gone")

    async with device(card) as opened:
        with pytest.raises(trio.BrokenResourceError):
            await opened.write(breaks(), limit=None, hashed=False, progress=ignore)


async def test_device_that_stops_answering_costs_a_timeout_and_its_descriptor_is_closed_by_the_thread(
    card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    closed = threading.Event()
    real_write, real_close = os.pwritev, os.close
    numbers: list[int] = []

    def hang(fd: int, *rest: object) -> int:
        numbers.append(fd)
        answer.wait(30)
        return real_write(fd, *rest)  # type: ignore[arg-type]

    def close(fd: int) -> None:
        real_close(fd)
        if fd in numbers:
            closed.set()

    monkeypatch.setattr(os, "pwritev", hang)
    monkeypatch.setattr(os, "close", close)
    opened = device(card, io_timeout=1)  # to open it takes its time, too, on a machine with much to do
    with pytest.raises(DeviceGone, match="has not answered"):
        async with opened:
            await opened.write(chunks(), limit=None, hashed=False, progress=ignore)
    assert not closed.is_set()
    answer.set()
    assert await trio.to_thread.run_sync(closed.wait, 10)


def is_open(path: Path) -> bool:
    """Whether this process has it open."""
    links = Path("/proc/self/fd").iterdir()
    return any(os.path.realpath(link) == os.path.realpath(path) for link in links)


@contextmanager
def held(card: Path) -> Iterator[None]:
    """Nobody can open it for the block: somebody has a lease of it, in the kernel's sense."""
    with card.open("rb+") as holder:
        fcntl.fcntl(holder, fcntl.F_SETSIG, signal.SIGURG)  # ignored, unlike SIGIO
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield


async def until_left(opened: StorageDevice) -> None:
    """Until no thread does anything for it any more."""
    while opened._limiter.borrowed_tokens:
        await trio.sleep(0.01)


async def test_a_device_that_is_open_when_nobody_waits_for_it_any_more_is_closed(card: Path) -> None:
    opened = device(card, io_timeout=0.2)
    with held(card):
        with pytest.raises(DeviceGone, match="has not answered"):
            await opened.__aenter__()
        assert opened._limiter.borrowed_tokens == 1
    await until_left(opened)
    assert not is_open(card)


async def test_a_device_that_is_open_in_the_moment_when_its_time_is_over_is_closed(card: Path) -> None:
    opened = device(card, io_timeout=0.5)
    ends: list[DeviceGone] = []

    async def use() -> None:
        with pytest.raises(DeviceGone, match="has not answered") as gone:
            await opened.__aenter__()
        ends.append(gone.value)

    async with trio.open_nursery() as nursery:
        with held(card):
            nursery.start_soon(use)
            await trio.testing.wait_all_tasks_blocked()
            late = trio.current_time() + opened._io_timeout
        # The event loop has much to do, and hears of nothing while a thread opens it and is done.
        while not ends and (trio.current_time() <= late or not is_open(card)):
            time.sleep(0.01)
    assert ends
    await until_left(opened)
    assert not is_open(card)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.EIO, DeviceGone, "plugged in"),
        (errno.ENOENT, DeviceGone, "does not exist"),
        (errno.EBUSY, StorageError, "unmount"),
        (errno.EROFS, StorageError, "permissions"),
        (errno.EDQUOT, NoSpace, "full"),
    ],
)
async def test_errors_name_the_next_step(
    card: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[StorageError], words: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    async with device(card) as opened:
        monkeypatch.setattr(os, "pwritev", fail)
        with pytest.raises(kind, match=words):
            await opened.write(chunks(), limit=None, hashed=False, progress=ignore)


async def test_missing_device_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeviceGone, match="does not exist"):
        async with device(tmp_path / "none"):
            pass


async def test_event_loop_runs_on_while_the_device_writes(
    card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = trio.Event()
    go_on = threading.Event()
    token = trio.lowlevel.current_trio_token()
    real = os.fsync

    def slow(fd: int) -> None:
        token.run_sync_soon(writing.set)
        go_on.wait(30)
        real(fd)

    monkeypatch.setattr(os, "fsync", slow)
    async with device(card) as opened:
        await opened.write(chunks(), limit=None, hashed=False, progress=ignore)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened.flush)
            await writing.wait()
            go_on.set()


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1
