"""QEMU's command line for a board, from its configuration; without I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "Hostfwd",
    "MachineSettings",
    "disk_fault",
    "memory_fault",
    "parse_disk_size",
    "parse_memory",
]

_SIZE = re.compile(r"([0-9]{1,13}(?:\.[0-9]{1,3})?)(?:([KMGT])(?:i?B)?)?", re.IGNORECASE)
_UNITS = {"k": 10, "m": 20, "g": 30, "t": 40}
_GIB = 1 << 30
_LEAST = 1 << 20
"""Of memory and disks. QEMU counts memory in this unit."""
_MACHINES = {"aarch64": ("virt", "cortex-a57"), "x86_64": ("q35", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt")}


def parse_disk_size(size: str | int) -> int:
    """Bytes of a disk; a number without a unit is bytes, as in Jumpstarter 0.9. ValueError if it is not a size."""
    return _parse(size, "disk", 0)


def parse_memory(size: str | int) -> int:
    """Bytes of memory; a number without a unit is MiB, as for QEMU and Jumpstarter 0.9.

    ValueError if it is not a size.
    """
    return _parse(size, "memory", 20) >> 20 << 20


def _parse(size: str | int, what: str, default_shift: int) -> int:
    found = _SIZE.fullmatch(str(size).strip())
    if found is None:
        raise ValueError(f"{size!r} is not a size; use e.g. 20G or 512M")
    shift = _UNITS[found[2].lower()] if found[2] else default_shift
    count = int(float(found[1]) * (1 << shift))
    if count < _LEAST:
        raise ValueError(f"{size!r} is too small for the {what} of a machine; use e.g. 20G or 512M")
    return count


def memory_fault(memory: int, host: int) -> str:
    """Why a machine cannot have that memory on a host with so many bytes; empty if it can."""
    if memory <= host:
        return ""
    return f"the machine would have {_text(memory)} of memory, but the host has {_text(host)}; use less"


def disk_fault(size: int, allocated: int, free: int) -> str:
    """Why a disk cannot have that size. It has `allocated` bytes, and its file system `free` ones; empty if it can."""
    if size - allocated <= free:
        return ""
    room = _text(allocated + free)
    return (
        f"the disk would have {_text(size)}, but the host has room for {room}; use less, or free some space"
    )


def _text(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"


@dataclass(frozen=True, kw_only=True)
class Hostfwd:
    """A port of the host that leads to one of the machine."""

    hostport: int
    guestport: int
    hostaddr: str = "127.0.0.1"
    protocol: str = "tcp"


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """What a machine consists of."""

    arch: str
    cpu: str | None
    smp: int
    memory: int
    uses_kvm: bool
    firmware: Path | None = None
    flash: tuple[Path, Path] | None = None
    """UEFI code and variables."""
    disk: Path | None = None
    disk_format: str = "raw"
    is_disk_kept: bool = True
    """Otherwise what the machine writes is thrown away."""
    cloud_init: Path | None = None
    """A folder with its files."""
    vnc: Path | None = None
    forwards: Mapping[str, Hostfwd] = field(default_factory=dict)
    restrict_network: bool = False

    def command(self) -> list[str]:
        """The words, without sockets for QMP and console."""
        machine, cpu = _MACHINES.get(self.arch, (None, None))
        words = [f"qemu-system-{self.arch}", "-nodefaults", "-no-user-config", "-vga", "none"]
        words += ["-machine", machine] if machine else []
        words += ["-accel", "kvm"] if self.uses_kvm else ["-accel", "tcg"]
        cpu = self.cpu or ("host" if self.uses_kvm else cpu)
        words += ["-cpu", cpu] if cpu else []
        words += ["-smp", str(self.smp), "-m", f"{self.memory >> 20}M"]
        words += ["-vnc", f"unix:{_escaped(self.vnc)}"] if self.vnc else ["-display", "none"]
        words += ["-device", "virtio-gpu-pci"] if self.vnc else []
        words += ["-bios", str(self.firmware)] if self.firmware else []
        if self.flash:
            words += _drive(self.flash[0], "raw", "if=pflash,unit=0,readonly=on")
            words += _drive(self.flash[1], "raw", "if=pflash,unit=1,snapshot=on")
        if self.disk:
            kept = "" if self.is_disk_kept else ",snapshot=on"
            words += _drive(self.disk, self.disk_format, f"if=none,id=root{kept}")
            words += ["-device", "virtio-blk-pci,drive=root,bootindex=1"]
        if self.cloud_init:
            node = "driver=vvfat,node-name=cidata,read-only=on,label=CIDATA"
            words += ["-blockdev", f"{node},dir={_escaped(self.cloud_init)}"]
            words += ["-device", "virtio-blk-pci,drive=cidata"]
        return words + self._network()

    def _network(self) -> list[str]:
        options = ["user", "id=network"] + (["restrict=on"] if self.restrict_network else [])
        options += [
            f"hostfwd={one.protocol}:{one.hostaddr}:{one.hostport}-:{one.guestport}"
            for one in self.forwards.values()
        ]
        # Without its boot ROM, which is a package of its own, and slow.
        return ["-netdev", ",".join(options), "-device", "virtio-net-pci,netdev=network,romfile="]


def _drive(path: Path, kind: str, options: str) -> list[str]:
    # The format is always named: QEMU must not take what a board has written for the description of another file.
    return ["-drive", f"file={_escaped(path)},format={kind},{options}"]


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")
