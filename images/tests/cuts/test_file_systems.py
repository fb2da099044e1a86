"""The check finds faults: on file systems that are made and changed with their own tools, whose writes are lost."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from jumpstarter_os.disk import missing_programs

from cuts.file_systems import check_ext4, check_fat, fat_file, files_of, may_mount, run
from cuts.power_cut import cut_at, pieces
from cuts.write_log import WriteLog, packed

PROGRAMS = ("mke2fs", "e2fsck", "debugfs", "fsck.vfat", "mkfs.vfat", "mtype")
BLOCK = 1024
EXT4_BYTES, FAT_BYTES = 8 << 20, 40 << 20


@pytest.fixture(autouse=True)
def _programs() -> None:
    if missing := missing_programs(PROGRAMS):
        pytest.skip(f"missing: {missing}; apt install e2fsprogs dosfstools mtools")


def made(*command: str | os.PathLike[str]) -> None:
    done = run(*command)
    assert done.returncode == 0, f"{command}: {done.stdout}"


def differences(before: bytes, after: bytes) -> WriteLog:
    """A log of the blocks that differ, without a flush."""
    changed = [
        (at // 512, 0, after[at : at + BLOCK])
        for at in range(0, len(after), BLOCK)
        if before[at : at + BLOCK] != after[at : at + BLOCK]
    ]
    assert len(changed) > 5
    return WriteLog(memoryview(packed(changed)))


def cut_disk(before: bytes, log: WriteLog, file: Path, *, seed: int, point: int | None = None) -> None:
    disk = bytearray(before)
    cut = cut_at(log, len(log.entries) if point is None else point, random.Random(seed))
    for piece in pieces(log, cut):
        disk[piece.offset : piece.offset + len(piece.data)] = piece.data
    file.write_bytes(disk)


def ext4(file: Path, folder: Path) -> tuple[bytes, bytes]:
    """Without a journal: before and after some changes."""
    with file.open("wb") as stream:
        stream.truncate(EXT4_BYTES)
    made("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-b", str(BLOCK), file)
    before = file.read_bytes()
    content = folder / "content"
    content.write_bytes(b"text" * 3000)
    commands = ["mkdir one", "mkdir one/two"]
    commands += [f"write {content} {place}file-{number}" for place in ("", "one/two/") for number in range(9)]
    commands += ["rm file-1", "rm one/two/file-3"]
    script = folder / "script"
    script.write_text("".join(f"{command}\n" for command in commands))
    made("debugfs", "-w", "-f", script, file)
    made("e2fsck", "-fn", file)
    return before, file.read_bytes()


def test_a_file_system_whose_journal_is_off_is_found(tmp_path: Path) -> None:
    file = tmp_path / "ext4.img"
    before, after = ext4(file, tmp_path)
    log = differences(before, after)
    assert check_ext4(file).faults == []
    faults = 0
    for seed in range(40):
        cut_disk(before, log, file, seed=seed)
        checked = check_ext4(file)
        faults += bool(checked.faults)
    assert faults > 3
    cut_disk(before, log, file, seed=0, point=0)
    assert check_ext4(file).faults == []


def test_files_on_ext4_are_read_without_a_mount_and_with_one(tmp_path: Path) -> None:
    folder = tmp_path / "content"
    for name in ("etc", "var", "home", "root"):
        (folder / "overlay" / name / "upper").mkdir(parents=True)
    (folder / "overlay/var/upper/state").write_text("kept")
    file = tmp_path / "ext4.img"
    with file.open("wb") as stream:
        stream.truncate(EXT4_BYTES)
    made("mke2fs", "-q", "-t", "ext4", "-d", folder, file)
    ways = [False, True] if os.geteuid() == 0 and not may_mount(tmp_path) else [False]
    for mount in ways:
        with files_of(file, tmp_path, mount=mount) as files:
            assert (files / "overlay/var/upper/state").read_text() == "kept"
        file_systems = Path("/proc/mounts").read_text()
        assert str(tmp_path) not in file_systems
    if True in ways:
        file.write_bytes(bytes(EXT4_BYTES))
        with pytest.raises(OSError, match="cannot be mounted"), files_of(file, tmp_path, mount=True):
            pass


def test_a_disk_that_somebody_reads_for_a_moment_is_unmounted_when_they_have_done(tmp_path: Path) -> None:
    if os.geteuid() or may_mount(tmp_path):
        pytest.skip("no file can be mounted here")
    file = tmp_path / "ext4.img"
    with file.open("wb") as stream:
        stream.truncate(EXT4_BYTES)
    made("mke2fs", "-q", "-t", "ext4", file)
    with files_of(file, tmp_path, mount=True) as files:
        reader = os.open(files, os.O_RDONLY)
        closing = threading.Timer(0.5, os.close, [reader])
        closing.start()
    closing.join()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


@pytest.fixture
def fat(tmp_path: Path) -> Callable[[], Path]:
    def make() -> Path:
        file = tmp_path / "fat.img"
        with file.open("wb") as stream:
            stream.truncate(FAT_BYTES)
        made("mkfs.vfat", "-F", "32", file)
        text = tmp_path / "jumpstarter.yaml"
        text.write_text("hostname: lab-one\n")
        made("mcopy", "-i", file, text, "::")
        return file

    return make


def test_files_that_were_made_on_fat_while_the_power_failed_are_found(
    fat: Callable[[], Path], tmp_path: Path
) -> None:
    file = fat()
    assert check_fat(file).faults == []
    assert check_fat(file).mended == []
    assert fat_file(file, "jumpstarter.yaml") == b"hostname: lab-one\n"
    before = file.read_bytes()
    content = tmp_path / "content"
    content.write_bytes(b"text" * 3000)
    for number in range(8):
        made("mcopy", "-i", file, content, f"::a rather long name {number}.txt")
    log = differences(before, file.read_bytes())
    mended: set[str] = set()
    for seed in range(12):
        cut_disk(before, log, file, seed=seed)
        checked = check_fat(file)
        mended.update(checked.mended)
        assert fat_file(file, "jumpstarter.yaml") == b"hostname: lab-one\n"
    assert mended


def test_a_file_that_is_missing_or_unreadable_on_fat_is_a_sentence(fat: Callable[[], Path]) -> None:
    file = fat()
    missing = fat_file(file, "other.txt")
    assert isinstance(missing, str)
    assert "not found" in missing
    file.write_bytes(bytes(FAT_BYTES))
    assert isinstance(fat_file(file, "jumpstarter.yaml"), str)
    assert check_fat(file).faults


def test_a_file_system_that_is_not_ext4_is_found(tmp_path: Path) -> None:
    file = tmp_path / "ext4.img"
    file.write_bytes(bytes(EXT4_BYTES))
    assert len(check_ext4(file).faults) == 2
