"""What the boot loader of a Raspberry Pi needs is missed when it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from jumpstarter_os.firmware import BOARDS, faults, read_config

CONFIG = "# a comment\narm_64bit=1\nupstream_kernel=1\nkernel=vmlinuz-7\ninitramfs initrd.img-7\n[pi4]\nkernel=other\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in {name for names in BOARDS.values() for name in names} | {"vmlinuz-7", "initrd.img-7"}:
        (tmp_path / name).touch()
    (tmp_path / "config.txt").write_text(CONFIG)
    (tmp_path / "cmdline.txt").write_text("console=tty0 root=LABEL=root ro fsck.repair=yes rootwait\n")
    return tmp_path


def test_a_whole_one_has_no_faults(folder: Path) -> None:
    assert faults(folder) == []


@pytest.mark.parametrize(
    "name",
    [
        "start.elf",
        "start4.elf",
        "bcm2837-rpi-zero-2-w.dtb",
        "bcm2711-rpi-cm4-io.dtb",
        "vmlinuz-7",
        "initrd.img-7",
    ],
)
def test_a_file_that_is_missing_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert any(name in fault for fault in faults(folder))


@pytest.mark.parametrize("name", ["config.txt", "cmdline.txt"])
def test_each_of_the_two_texts_is_needed(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert faults(folder) == [f"{name} is missing"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("root=LABEL=root rootwait", "does not say ro"),
        ("root=/dev/mmcblk0p2 ro rootwait", "does not say root=LABEL=root"),
        ("root=LABEL=root ro rootwait\nconsole=tty0", "has 2 lines"),
        ("root=LABEL=root ro rootwait systemd.debug_shell=tty9", "says systemd.debug_shell=tty9"),
        ("root=LABEL=root ro rootwait init=/bin/sh", "says init=/bin/sh"),
    ],
)
def test_the_kernels_command_line_finds_the_root_and_opens_no_shell(
    folder: Path, line: str, fault: str
) -> None:
    (folder / "cmdline.txt").write_text(f"{line}\n")
    [said] = faults(folder)
    assert fault in said


def test_settings_for_some_boards_count_for_none() -> None:
    assert read_config(CONFIG) == {
        "arm_64bit": "1",
        "upstream_kernel": "1",
        "kernel": "vmlinuz-7",
        "initramfs": "initrd.img-7",
    }
    assert read_config("[pi5]\nkernel=a\n[all]\nkernel=b\n") == {"kernel": "b"}
