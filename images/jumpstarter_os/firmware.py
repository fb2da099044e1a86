"""Check that the first partition has all files that the boot loader of a Raspberry Pi reads.

No emulator runs that boot loader, so a missing file would be noticed only on a real board. The rules are those of
Raspberry Pi's documentation of config.txt and of the boot sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from jumpstarter_os import recipe

__all__ = ["BOARDS", "Config", "faults", "read_config"]

OLD_LOADER = ("bootcode.bin", "start.elf", "fixup.dat")
"""Second and third stage, for boards that have only the first stage in their own memory."""
NEW_LOADER = ("start4.elf", "fixup4.dat")
"""Third stage of the Pi 4 family, which has the second in its own memory. A Pi 5 has all stages."""
BOARDS: Mapping[str, tuple[str, ...]] = {
    "Raspberry Pi 3B": (*OLD_LOADER, "bcm2837-rpi-3-b.dtb"),
    "Raspberry Pi 3B+": (*OLD_LOADER, "bcm2837-rpi-3-b-plus.dtb"),
    "Raspberry Pi 3A+": (*OLD_LOADER, "bcm2837-rpi-3-a-plus.dtb"),
    "Raspberry Pi Zero 2 W": (*OLD_LOADER, "bcm2837-rpi-zero-2-w.dtb"),
    "Raspberry Pi 4B": (*NEW_LOADER, "bcm2711-rpi-4-b.dtb"),
    "Raspberry Pi 400": (*NEW_LOADER, "bcm2711-rpi-400.dtb"),
    "Compute Module 4": (*NEW_LOADER, "bcm2711-rpi-cm4-io.dtb"),
    "Raspberry Pi 5": ("bcm2712-rpi-5-b.dtb",),
}
"""The supported boards, and the files that each needs besides those in config.txt."""
FORBIDDEN_WORDS = ("systemd.debug_shell", "systemd.debug-shell", "init=", "single", "rescue", "emergency")
"""Words on the kernel's command line that give a root shell without a password."""
REQUIRED_WORDS = (f"root=LABEL={recipe.ROOT_PARTITION.label}", "ro", "rootwait")

Config = dict[str, str]
"""The settings of config.txt that count for all boards: ``kernel`` and ``initramfs`` name files."""


def read_config(text: str) -> Config:
    """Read the settings before any filter, or below ``[all]``. If a name occurs twice, the last value is used."""
    found: Config = {}
    is_for_all = True
    for line in text.splitlines():
        plain = line.partition("#")[0].strip()
        if plain.startswith("["):
            is_for_all = plain == "[all]"
        elif plain and is_for_all:
            # `initramfs FILE ADDRESS` is the one setting that is written without an equals sign.
            name, _, value = plain.partition(" " if plain.startswith("initramfs ") else "=")
            found[name.strip()] = value.strip()
    return found


def faults(folder: Path) -> list[str]:
    """Faults in a folder with the files of the first partition, each as a sentence; empty if it boots."""
    return [*_files(folder), *_config(folder), *_command_line(folder)]


def _files(folder: Path) -> Iterator[str]:
    for board, names in BOARDS.items():
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            yield f"{board} does not start without {', '.join(missing)}"


def _config(folder: Path) -> Iterator[str]:
    file = folder / "config.txt"
    if not file.is_file():
        yield "config.txt is missing"
        return
    config = read_config(file.read_text())
    if config.get("arm_64bit") != "1":
        yield "config.txt does not say arm_64bit=1, so a Pi 3 would start a kernel of 32 bits"
    if config.get("upstream_kernel") != "1":
        yield "config.txt does not say upstream_kernel=1, so device trees are looked for by other names than Debian's"
    for name in ("kernel", "initramfs"):
        value = config.get(name, "").partition(" ")[0]
        if not value:
            yield f"config.txt names no {name}"
        elif not (folder / value).is_file():
            yield f"config.txt names the {name} {value}, which is not there"


def _command_line(folder: Path) -> Iterator[str]:
    file = folder / "cmdline.txt"
    if not file.is_file():
        yield "cmdline.txt is missing"
        return
    lines = file.read_text().strip().splitlines()
    if len(lines) != 1:
        yield f"cmdline.txt has {len(lines)} lines; the boot loader takes the first one only"
    words = " ".join(lines).split()
    for word in REQUIRED_WORDS:
        if word not in words:
            yield f"cmdline.txt does not say {word}"
    for word in words:
        if word.startswith(FORBIDDEN_WORDS):
            yield f"cmdline.txt says {word}, which gives a root shell to everybody at the keyboard"
