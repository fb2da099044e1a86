"""What is known of a medium holds as long as nobody else wrote to it: files, and loop devices if root may."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import trio

from jumpstarter_drivers.storage.blocks import StorageDevice
from jumpstarter_drivers.storage.changes.hold import MediumHold, counts_of
from jumpstarter_drivers.storage.changes.medium import Medium
from jumpstarter_drivers.storage.client import FlashResult, StorageMuxFlasherClient
from jumpstarter_drivers.storage.driver import BlockStorage, FileStorage
from jumpstarter_drivers.storage.mux import StorageMux
from jumpstarter_drivers.testing import serve
from tests.support.images import mbr

IMAGE = mbr()[:512] + random.Random(5).randbytes((1 << 20) - 512)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.img"
    path.write_bytes(bytes(len(IMAGE)))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.img"
    path.write_bytes(IMAGE)
    return path


@contextmanager
def held(card: Path) -> Iterator[tuple[MediumHold, int]]:
    fd = os.open(card, os.O_RDWR)
    hold = MediumHold(fd, card)
    try:
        yield hold, fd
    finally:
        hold.release()
        os.close(fd)


def test_while_nobody_else_writes_the_evidence_is_the_same(card: Path) -> None:
    with held(card) as (hold, fd):
        os.pwrite(fd, b"ours", 0)
        first = hold.evidence(after_own_writes=True)
        assert first is not None
        assert hold.evidence(after_own_writes=False) == first


def test_each_hold_is_another(card: Path) -> None:
    with held(card) as (hold, _):
        first = hold.evidence(after_own_writes=False)
    with held(card) as (hold, _):
        assert hold.evidence(after_own_writes=False) not in (first, None)


@pytest.mark.parametrize("how", ["write", "only open", "truncate", "replace by a copy"])
@pytest.mark.parametrize("after_own_writes", [False, True])
def test_whoever_opens_a_file_ends_the_evidence(card: Path, how: str, after_own_writes: bool) -> None:
    if how == "truncate" and after_own_writes:
        pytest.skip("nobody can tell it from our own writes; it is seen at the file's length")
    with held(card) as (hold, _):
        assert hold.evidence(after_own_writes=True) is not None
        match how:
            case "write":
                card.write_bytes(b"theirs")
            case "only open":
                card.read_bytes()
            case "truncate":
                os.truncate(card, 5)
            case _:
                shutil.copyfile(card.with_name("card.img"), card.with_name("other"))
        assert hold.evidence(after_own_writes=after_own_writes) is None
        assert hold.evidence(after_own_writes=True) is None  # for good


def test_a_file_that_somebody_has_open_to_write_gives_no_evidence(card: Path) -> None:
    with card.open("r+b") as file, mmap.mmap(file.fileno(), 0), held(card) as (hold, _):
        assert hold.evidence(after_own_writes=False) is None


@contextmanager
def storage(driver: StorageMux) -> Iterator[StorageMuxFlasherClient]:
    with serve(driver) as client:
        yield cast("StorageMuxFlasherClient", client)


@dataclass(frozen=True)
class Flashed:
    read: int
    written: int


def flash(client: StorageMuxFlasherClient, image: Path, verify: bool | None = None) -> Flashed:
    result = client.flash(image, verify=verify)
    assert isinstance(result, FlashResult)
    assert result.changes is not None
    return Flashed(result.changes["read"], result.changes["written"])


UNTOUCHED = Flashed(0, 0)
READ = Flashed(len(IMAGE), 0)


def test_the_same_image_again_is_neither_read_nor_written(card: Path, image: Path) -> None:
    with storage(FileStorage(path=str(card), hold=True)) as client:
        assert flash(client, image) == Flashed(len(IMAGE), len(IMAGE))
        for _ in range(3):
            assert flash(client, image) == UNTOUCHED
        changed = bytearray(IMAGE)
        changed[5000] ^= 1
        image.write_bytes(changed)
        assert flash(client, image) == Flashed(len(IMAGE), 4096)
    assert card.read_bytes() == changed


@pytest.mark.parametrize(
    "what", ["host", "off", "dut", "dump", "the board writes", "it is cut", "it is replaced", "verify"]
)
def test_in_doubt_a_file_is_read_again(card: Path, image: Path, tmp_path: Path, what: str) -> None:
    with storage(FileStorage(path=str(card), hold=True)) as client:
        flash(client, image)
        expected = READ
        match what:
            case "host":
                client.host()
            case "off":
                client.off()
            case "dut":
                client.dut()
            case "dump":
                client.dump(tmp_path / "dump.img")
            case "the board writes":
                with card.open("r+b") as file:
                    file.seek(5000)
                    file.write(b"theirs")
                expected = Flashed(len(IMAGE), 4096)
            case "it is cut":
                os.truncate(card, len(IMAGE) - 4096)
                expected = Flashed(len(IMAGE), 4096)
            case "it is replaced":
                new = tmp_path / "new"
                new.write_bytes(bytes(4096) + IMAGE[4096:])
                new.replace(card)
                expected = Flashed(len(IMAGE), 4096)
            case _:
                card.write_bytes(bytes(4096) + IMAGE[4096:])
                flash(client, image, verify=False)
        assert flash(client, image) == expected
    assert card.read_bytes() == IMAGE


def test_a_storage_that_is_not_to_be_held_is_read_each_time(card: Path, image: Path) -> None:
    with storage(FileStorage(path=str(card))) as client:
        flash(client, image)
        assert flash(client, image) == READ


def test_after_the_session_nothing_is_held(card: Path, image: Path) -> None:
    with storage(FileStorage(path=str(card), hold=True)) as client:
        flash(client, image)
    opened = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)}
    assert str(card) not in opened


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


@dataclass
class Loop:
    """A block device over a file."""

    file: Path
    path: str

    def unplug(self) -> None:
        subprocess.run(["losetup", "--detach", self.path], check=True)

    def plug(self) -> None:
        subprocess.run(["losetup", self.path, self.file], check=True)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    file = tmp_path / "medium"
    file.write_bytes(bytes(2 * len(IMAGE)))
    program = shutil.which("losetup")
    if program is None:
        pytest.skip("there is no losetup")
    made = subprocess.run([program, "--show", "--find", file], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device can be made: {made.stderr.strip()}")
    found = Loop(file, made.stdout.strip())
    try:
        yield found
    finally:
        found.unplug()


def content(loop: Loop) -> bytes:
    os.sync()
    return loop.file.read_bytes()[: len(IMAGE)]


@pytest.fixture
def disk(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """The same, which is a whole SCSI disk as far as sysfs says; its counters are the kernel's own."""
    number = Path(loop.path).stat().st_rdev
    place = tmp_path / "sys" / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
    folder = tmp_path / "sys" / "block" / "sdz"
    (folder / "queue").mkdir(parents=True)
    (folder / "queue" / "iostats").write_text("1\n")
    (folder / "stat").symlink_to(f"/sys/block/{Path(loop.path).name}/stat")
    place.parent.mkdir(parents=True)
    place.symlink_to(folder)
    monkeypatch.setattr("jumpstarter_drivers.storage.changes.hold.SYSFS", tmp_path / "sys")
    return loop


async def _flash_a_block(medium: Medium, device: StorageDevice, beside: Callable[[], None]) -> bool:
    """Whether what was learnt in a flash is still known in the next one; `beside` comes in its middle."""
    limiter = trio.CapacityLimiter(1)
    path = device.path
    async with medium.opened(StorageDevice(path, writable=True, limiter=limiter), holds=True) as held_device:
        await medium.confirm()
        await held_device.write_pieces([(0, b"o" * 4096), (8192, b"o" * 8192)])
        medium.knowledge.learn(0, b"digest")
        await trio.to_thread.run_sync(beside)
        await held_device.flush()
        await medium.settle()
    async with medium.opened(StorageDevice(path, writable=True, limiter=limiter), holds=True):
        await medium.confirm()
        return medium.knowledge.has(0, b"digest")


@pytest.mark.parametrize("foreign", [False, True], ids=["alone", "somebody else writes"])
async def test_a_write_of_somebody_else_during_a_flash_is_noticed(disk: Loop, *, foreign: bool) -> None:
    def beside() -> None:
        if foreign:
            with Path(disk.path).open("r+b") as device:
                device.seek(65536)
                device.write(b"t" * 4096)

    medium = Medium()
    device = StorageDevice(Path(disk.path), writable=True, limiter=trio.CapacityLimiter(1))
    assert await _flash_a_block(medium, device, beside) is not foreign
    await medium.release()


def sysfs_disk(folder: Path, name: str, iostats: str | None, *, is_partition: bool = False) -> Path:
    disk = folder / "block" / name
    (disk / "queue").mkdir(parents=True)
    if iostats is not None:
        (disk / "queue" / "iostats").write_text(iostats)
    if is_partition:
        (disk / "partition").write_text("1\n")
    place = folder / "dev" / "block" / "8:16"
    place.parent.mkdir(parents=True)
    place.symlink_to(disk)
    return place / "stat"


@pytest.mark.parametrize(
    ("name", "iostats", "is_partition", "counts"),
    [
        ("sdb", "1\n", False, True),
        ("mmcblk0", "1\n", False, True),
        ("vda", "1\n", False, True),
        ("sdb", "0\n", False, False),
        ("sdb", None, False, False),
        ("sdb1", "1\n", True, False),
        ("mmcblk0boot0", "1\n", False, False),
        ("loop0", "1\n", False, False),
        ("nbd0", "1\n", False, False),
        ("dm-0", "1\n", False, False),
    ],
)
def test_only_whole_disks_that_are_counted_give_evidence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    iostats: str | None,
    *,
    is_partition: bool,
    counts: bool,
) -> None:
    stat = sysfs_disk(tmp_path, name, iostats, is_partition=is_partition)
    monkeypatch.setattr("jumpstarter_drivers.storage.changes.hold.SYSFS", tmp_path)
    assert counts_of(os.makedev(8, 16)) == (stat if counts else None)


def test_what_is_behind_a_loop_device_is_read_each_time(loop: Loop, image: Path, tmp_path: Path) -> None:
    with storage(BlockStorage(path=loop.path, state_dir=str(tmp_path), hold=True)) as client:
        flash(client, image)
        assert flash(client, image) == READ


def test_a_card_in_a_reader_is_known_while_it_is_held(disk: Loop, image: Path, tmp_path: Path) -> None:
    with storage(BlockStorage(path=disk.path, state_dir=str(tmp_path), hold=True)) as client:
        assert flash(client, image) == Flashed(len(IMAGE), len(IMAGE))
        assert flash(client, image) == UNTOUCHED
        with pytest.raises(OSError, match="busy"):  # as mount does it
            os.close(os.open(disk.path, os.O_RDWR | os.O_EXCL))
        with Path(disk.path).open("r+b") as device:
            device.seek(8192)
            device.write(b"theirs")
        assert flash(client, image) == Flashed(len(IMAGE), 4096)
        assert flash(client, image) == UNTOUCHED
        client.host()
        os.close(os.open(disk.path, os.O_RDWR | os.O_EXCL))
        assert flash(client, image) == READ
    assert content(disk) == IMAGE


def test_a_card_that_was_out_of_its_reader_is_read_again(disk: Loop, image: Path, tmp_path: Path) -> None:
    with storage(BlockStorage(path=disk.path, state_dir=str(tmp_path), hold=True)) as client:
        flash(client, image)
        client.host()
        disk.unplug()
        with disk.file.open("r+b") as medium:
            medium.seek(8192)
            medium.write(b"the board's")
        disk.plug()
        assert flash(client, image) == Flashed(len(IMAGE), 4096)
    assert content(disk) == IMAGE


def test_a_card_that_was_at_the_board_is_read_again(disk: Loop, image: Path, tmp_path: Path) -> None:
    commands = {"host": ["true"], "dut": ["true"], "off": ["true"]}
    driver = BlockStorage(path=disk.path, commands=commands, state_dir=str(tmp_path), hold=True)
    with storage(driver) as client:
        flash(client, image)
        assert flash(client, image) == READ
        client.host()
        write = client.write_local_file
        assert cast("dict[str, dict[str, float]]", write(image))["changes"]["read"] == len(IMAGE)
        assert cast("dict[str, dict[str, float]]", write(image))["changes"]["read"] == 0
