"""Parse the output of apt and dpkg about an update, and find objections before anything is changed. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.file_names import SafeName, safe_name

from jumpstarter_image.update_record import PackageChange

__all__ = [
    "SPARE_BYTES",
    "Deb",
    "Objection",
    "Simulation",
    "busy_boards",
    "drainable_boards",
    "objection_to_files",
    "objection_to_room",
    "objection_to_simulation",
    "objection_to_way_back",
    "parse_deb",
    "parse_simulation",
]

SPARE_BYTES = 16 * 1024 * 1024
"""Free space on each file system for what packages create besides their files."""
_INSTALL = re.compile(r"^Inst (\S+?)(?::\S+)? (?:\[(\S+)\] )?\((\S+) ")
_REMOVE = re.compile(r"^(?:Remv|Purg) (\S+)")
_STARTS = re.compile(r"^(?:linux-image-.*|raspi-firmware)$")
"""Packages that write to the FAT partition of the boot loader. A host with half a file there would not boot."""


@dataclass(frozen=True)
class Deb:
    """A package file."""

    path: str
    name: str
    version: str
    architecture: str
    installed_bytes: int

    @property
    def file_name(self) -> SafeName:
        """Its usual file name, which does not contain the epoch of the version."""
        return safe_name(f"{self.name}_{self.version.rpartition(':')[2]}_{self.architecture}", ".deb")


@dataclass(frozen=True)
class Simulation:
    """The changes that apt would make."""

    installed: tuple[PackageChange, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Objection:
    """The reason why an update is refused, with the exit code."""

    code: ExitCode
    sentence: str


def parse_deb(path: str, said: str) -> Deb | None:
    """Parse name, version, architecture and size in KiB from `dpkg-deb --show`; None if the output is invalid."""
    words = said.strip().split("\t")
    if len(words) != 4 or not all(words) or not words[3].isdigit():
        return None
    name, version, architecture, size = words
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) or not re.fullmatch(r"[A-Za-z0-9.+~:-]+", version):
        return None
    return Deb(path, name, version, architecture, int(size) * 1024)


def parse_simulation(said: str) -> Simulation:
    """Parse the output of `apt-get --simulate`."""
    installed: list[PackageChange] = []
    removed: list[str] = []
    for line in said.splitlines():
        if found := _INSTALL.match(line):
            installed.append(PackageChange(found[1], after=found[3], before=found[2] or ""))
        elif found := _REMOVE.match(line):
            removed.append(found[1])
    return Simulation(tuple(installed), tuple(removed))


def objection_to_files(debs: Sequence[Deb], newer: Iterable[tuple[Deb, str]]) -> Objection | None:
    """The objection to these files. `newer` are packages whose installed version is newer."""
    for deb in debs:
        if _STARTS.match(deb.name):
            return Objection(
                ExitCode.USAGE,
                f"{deb.path}: {deb.name} is what this host starts from, which only a new image replaces",
            )
    names = [deb.name for deb in debs]
    for name in names:
        if names.count(name) > 1:
            return Objection(ExitCode.USAGE, f"there are {names.count(name)} files of {name}; give one")
    for deb, installed in newer:
        return Objection(
            ExitCode.USAGE,
            f"{deb.path}: {deb.name} {installed} is installed, which is newer than {deb.version}; an older version "
            "may not understand what a newer one has written",
        )
    return None


def objection_to_simulation(simulation: Simulation) -> Objection | None:
    """The objection to the changes of apt."""
    if simulation.removed:
        return Objection(
            ExitCode.FAILED,
            f"it would remove {', '.join(simulation.removed)}; nothing that is removed could be taken back",
        )
    starts = [change.name for change in simulation.installed if _STARTS.match(change.name)]
    if starts:
        return Objection(
            ExitCode.USAGE,
            f"it would replace {', '.join(starts)}, what this host starts from, which only a new image replaces; "
            f"hold it: sudo apt-mark hold {' '.join(starts)}",
        )
    return None


def objection_to_way_back(changes: Iterable[PackageChange]) -> Objection | None:
    """The objection that the update could not be rolled back."""
    lost = [f"{change.name} {change.before}" for change in changes if change.before and not change.back]
    if not lost:
        return None
    return Objection(
        ExitCode.FAILED,
        f"no file of {', '.join(lost)} is kept, so that the update could not be taken back; put the file into "
        "/var/lib/jumpstarter-image/packages, or say --no-way-back",
    )


def objection_to_room(what: str, needed: int, free: int) -> Objection | None:
    """The objection that there is not enough space; sizes in bytes."""
    needed += SPARE_BYTES
    if needed <= free:
        return None
    return Objection(
        ExitCode.FAILED,
        f"{what} has {free // 2**20} MB free, and the update needs {-(-needed // 2**20)} MB; nothing was touched",
    )


def busy_boards(boards: Iterable[tuple[str, str]]) -> list[str]:
    """A sentence for each board that is in use, from boards with the exporter's report of their use."""
    return [f"{name} is {use}" for name, use in boards if use.startswith(("leased by ", "in local use by "))]


def drainable_boards(boards: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The boards that are not drained yet. A board that somebody else has drained is resumed by them."""
    return tuple(name for name, use in boards if not re.search(r"(^|; )drained\b", use))
