"""Make the image of a card from a folder: partitions, file systems, checksums. Without mounts and without root."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from jumpstarter_image.fat import STATUS_BYTES
from jumpstarter_image.host_system import STATUS_FILE

from jumpstarter_os import recipe

MEGABYTE = 1 << 20
_TYPES = {"vfat": "c", "ext4": "83"}
NOT_STARTED = (
    "This host has not started yet. It says here how it is, within a few minutes of its first start.\r\n"
)
"""The status file that the host overwrites."""


def _run(*command: str | os.PathLike[str]) -> None:
    subprocess.run([os.fspath(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def megabytes_for(folder: Path) -> int:
    """The size of a file system for this folder: its files, one fifth for ext4, and space for one update."""
    blocks = sum(math.ceil(path.lstat().st_size / 4096) for path in folder.rglob("*") if not path.is_dir())
    return blocks * 4096 * 120 // 100 // MEGABYTE + 160


def make(root: Path, image: Path, work: Path) -> None:
    """Write the image of a card from the folder of its root; what is in /boot/firmware becomes the first partition.

    Args:
        root: The root's folder; /boot/firmware is emptied.
        image: The file to write; sparse.
        work: A folder for what is needed meanwhile.
    """
    firmware = work / "firmware"
    shutil.rmtree(firmware, ignore_errors=True)
    shutil.copytree(root / "boot/firmware", firmware)
    for path in (root / "boot/firmware").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # A power cut while a file is created on FAT leaves it without clusters, so the host never creates this file.
    (firmware / STATUS_FILE).write_bytes(NOT_STARTED.encode().ljust(STATUS_BYTES))
    empty = work / "data"
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir(mode=0o755)

    begin = recipe.FIRST_MEGABYTE
    places: list[tuple[recipe.Partition, int, int]] = []
    for partition in recipe.PARTITIONS:
        size = partition.megabytes or megabytes_for(root)
        places.append((partition, begin, size))
        begin += size
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(begin * MEGABYTE)

    # mke2fs writes into the image before it has a partition table; the tools for FAT write a separate file.
    contents = {recipe.ROOT_PARTITION.label: root, recipe.DATA_PARTITION.label: empty}
    for partition, first, size in places:
        if partition.kind == "ext4":
            _ext4(image, partition.label, contents[partition.label], first, size)
    table = "label: dos\n" + "".join(
        f"start={first}MiB,size={size}MiB,type={_TYPES[partition.kind]}"
        f"{',bootable' if partition.kind == 'vfat' else ''}\n"
        for partition, first, size in places
    )
    subprocess.run(["sfdisk", "--quiet", str(image)], input=table, text=True, check=True)
    for partition, first, _ in places:
        if partition.kind == "vfat":
            _vfat(image, partition, firmware, first, work / "firmware.img")


def _ext4(image: Path, label: str, folder: Path, first: int, size: int) -> None:
    offset = f"offset={first * MEGABYTE}"
    # As for a large file system, also where it will only grow to be one: by itself mke2fs chooses blocks of 1 KiB for a
    # small one, and 4 of 100 bytes of the card would be zeros for inodes, written on the first day.
    large = ("-b", "4096", "-i", "16384")
    _run(
        *("mke2fs", "-q", "-t", "ext4", "-L", label, "-m", "1", *large, "-d", folder),
        *("-E", offset, image, f"{size}M"),
    )


def _vfat(image: Path, partition: recipe.Partition, folder: Path, first: int, alone: Path) -> None:
    alone.unlink(missing_ok=True)
    with alone.open("wb") as file:
        file.truncate(partition.megabytes * MEGABYTE)
    _run("mkfs.vfat", "-F", "32", "-n", partition.label, alone)
    names = sorted(path.name for path in folder.iterdir())
    if names:
        _run("mcopy", "-s", "-m", "-i", alone, *(folder / name for name in names), "::")
    _run("dd", f"if={alone}", f"of={image}", "bs=1M", f"seek={first}", "conv=notrunc,sparse", "status=none")
    alone.unlink()


def pack(image: Path, level: int) -> list[Path]:
    """Pack an image for its users: IMAGE.zst, its map of blocks (IMAGE.bmap) and SHA256SUMS of both.

    Returns:
        What was written.
    """
    packed = image.with_name(f"{image.name}.zst")
    _run("zstd", "--quiet", "--force", f"-{level}", "--long=27", "-T0", "-o", packed, image)
    blocks = image.with_name(f"{image.name.removesuffix('.img')}.bmap")
    _run("bmaptool", "create", "-o", blocks, image)
    sums = image.with_name(f"{image.name}.sha256")
    sums.write_text("".join(f"{_digest(path)}  {path.name}\n" for path in (image, packed, blocks)))
    return [packed, blocks, sums]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def missing_programs(programs: Sequence[str]) -> list[str]:
    """The required programs that are not installed."""
    return [
        name for name in programs if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
    ]
