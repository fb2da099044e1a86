"""A card's image from a folder, read again with the tools that read such file systems."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from jumpstarter_image.fat import STATUS_BYTES
from jumpstarter_image.host_system import STATUS_FILE

from jumpstarter_os import disk, recipe
from jumpstarter_os.__main__ import PROGRAMS

MEGABYTE = disk.MEGABYTE


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")
    needed = [name for name in PROGRAMS if name not in {"mmdebstrap", "newuidmap"}]
    if missing := disk.missing_programs(needed):
        pytest.skip(f"missing: {missing}; apt install {' '.join(PROGRAMS[name] for name in missing)}")


@pytest.fixture
def image(programs: None, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name, text in {
        "boot/firmware/config.txt": "arm_64bit=1\n",
        "boot/firmware/overlays/one.dtbo": "overlay",
        "etc/hostname": "jumpstarter\n",
        "usr/bin/tool": "x" * 5000,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "usr/bin/tool").chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    made = tmp_path / "card.img"
    disk.make(root, made, work)
    return made


def read(*command: str | os.PathLike[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def places(image: Path) -> list[dict[str, int]]:
    table = json.loads(read("sfdisk", "--json", image))["partitiontable"]
    assert table["label"] == "dos"  # a Pi 3 starts nothing else
    return [{"start": one["start"] * 512, "size": one["size"] * 512} for one in table["partitions"]]


def test_partitions_follow_each_other_and_end_with_the_image(image: Path) -> None:
    firmware, root, data = places(image)
    assert firmware == {"start": recipe.FIRST_MEGABYTE * MEGABYTE, "size": 256 * MEGABYTE}
    assert root["start"] == firmware["start"] + firmware["size"]
    assert data["start"] == root["start"] + root["size"]
    assert data["start"] + data["size"] == image.stat().st_size


def test_the_firmware_is_on_the_first_partition_alone(image: Path) -> None:
    at = f"{image}@@{places(image)[0]['start']}"
    assert read("mtype", "-i", at, "::config.txt") == "arm_64bit=1\n"
    assert "ONE" in read("mdir", "-i", at, "::overlays").upper()
    root = f"{image}?offset={places(image)[1]['start']}"
    assert "config.txt" not in read("debugfs", "-R", "ls /boot/firmware", root)


def test_the_status_is_there_before_the_first_start_so_that_the_host_never_makes_the_file(
    image: Path,
) -> None:
    status = read("mtype", "-i", f"{image}@@{places(image)[0]['start']}", f"::{STATUS_FILE}")
    assert status.startswith("This host has not started yet.")
    # mtype leaves out what DOS ends lines with.
    assert len(status) in {STATUS_BYTES, STATUS_BYTES - 1}


def test_the_root_has_files_of_root_with_their_modes(image: Path) -> None:
    root = f"{image}?offset={places(image)[1]['start']}"
    assert read("debugfs", "-R", "cat /etc/hostname", root) == "jumpstarter\n"
    assert "Mode:  0755" in read("debugfs", "-R", "stat /usr/bin/tool", root)


@pytest.mark.parametrize(("number", "label"), [(1, "root"), (2, "data")])
def test_file_systems_are_whole_and_have_their_labels(
    image: Path, tmp_path: Path, number: int, label: str
) -> None:
    place = places(image)[number]
    alone = tmp_path / "alone"
    with image.open("rb") as file:
        file.seek(place["start"])
        alone.write_bytes(file.read(place["size"]))
    read("e2fsck", "-fn", alone)
    said = read("dumpe2fs", "-h", alone)
    assert f"Filesystem volume name:   {label}\n" in said
    # It grows to a card's size with them.
    assert re.search(r"^Block size: +4096$", said, re.MULTILINE)


def test_a_data_partition_whose_superblock_was_half_written_is_mended(image: Path, tmp_path: Path) -> None:
    """As the initial file system does it: e2fsck -p, and where that was not enough, e2fsck -y."""
    place = places(image)[2]
    alone = tmp_path / "alone"
    with image.open("rb") as file:
        file.seek(place["start"])
        alone.write_bytes(file.read(place["size"]))
    with alone.open("r+b") as file:
        # It is in two sectors, of which the second has the checksum.
        file.seek(3 * 512)
        file.write(os.urandom(512))
    codes = [
        subprocess.run(["e2fsck", option, alone], capture_output=True, check=False).returncode
        for option in ("-p", "-y", "-fn")
    ]
    assert codes[0] >= 4
    assert codes[1] in {1, 2}
    assert codes[2] == 0


def test_what_is_packed_is_the_image_again(programs: None, tmp_path: Path) -> None:
    image = tmp_path / "card.img"
    with image.open("wb") as file:
        file.write(os.urandom(100_000))
        file.truncate(3 * MEGABYTE)
        file.seek(2 * MEGABYTE)
        file.write(b"end")
    packed, blocks, sums = disk.pack(image, 1)
    read("zstd", "-q", "-d", "--long=27", packed, "-o", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == image.read_bytes()
    assert f"{hashlib.sha256(image.read_bytes()).hexdigest()}  card.img\n" in sums.read_text()
    subprocess.run(["sha256sum", "--check", "--quiet", sums], cwd=tmp_path, check=True)
    copy = tmp_path / "copy"
    read("bmaptool", "copy", "--bmap", blocks, image, copy)
    # What the map leaves out is holes, which read as zeros.
    os.truncate(copy, 3 * MEGABYTE)
    assert copy.read_bytes() == image.read_bytes()
