"""What apt and dpkg say of an update, read, and what speaks against it before anything is touched. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.file_names import SafeName, safe_name

from jumpstarter_image.update_record import Change

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
"""Of each file system, for what packages do beside their files."""
_INSTALL = re.compile(r"^Inst (\S+?)(?::\S+)? (?:\[(\S+)\] )?\((\S+) ")
_REMOVE = re.compile(r"^(?:Remv|Purg) (\S+)")
_STARTS = re.compile(r"^(?:linux-image-.*|raspi-firmware)$")
"""What writes to the FAT, from which the boot loader starts: a host with half a file there would not start."""


@dataclass(frozen=True)
class Deb:
    """A package's file."""

    path: str
    name: str
    version: str
    architecture: str
    installed_bytes: int

    @property
    def file_name(self) -> SafeName:
        """Its usual one; a version's epoch has no place in it."""
        return safe_name(f"{self.name}_{self.version.rpartition(':')[2]}_{self.architecture}", ".deb")


@dataclass(frozen=True)
class Simulation:
    """What apt would do."""

    installed: tuple[Change, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Objection:
    """Why nothing is done, with the exit code."""

    code: ExitCode
    sentence: str


def parse_deb(path: str, said: str) -> Deb | None:
    """Read `dpkg-deb --show`'s name, version, architecture and size in KiB; None if it makes no sense."""
    words = said.strip().split("\t")
    if len(words) != 4 or not all(words) or not words[3].isdigit():
        return None
    name, version, architecture, size = words
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) or not re.fullmatch(r"[A-Za-z0-9.+~:-]+", version):
        return None
    return Deb(path, name, version, architecture, int(size) * 1024)


def parse_simulation(said: str) -> Simulation:
    """Read the output of `apt-get --simulate`."""
    installed: list[Change] = []
    removed: list[str] = []
    for line in said.splitlines():
        if found := _INSTALL.match(line):
            installed.append(Change(found[1], after=found[3], before=found[2] or ""))
        elif found := _REMOVE.match(line):
            removed.append(found[1])
    return Simulation(tuple(installed), tuple(removed))


def objection_to_files(debs: Sequence[Deb], newer: Iterable[tuple[Deb, str]]) -> Objection | None:
    """Why these files are not for this command; `newer` are those with an installed version that is newer."""
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
    """Why what apt would do is not done."""
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


def objection_to_way_back(changes: Iterable[Change]) -> Objection | None:
    """Why the update could not be taken back."""
    lost = [f"{change.name} {change.before}" for change in changes if change.before and not change.back]
    if not lost:
        return None
    return Objection(
        ExitCode.FAILED,
        f"no file of {', '.join(lost)} is kept, so that the update could not be taken back; put the file into "
        "/var/lib/jumpstarter-image/packages, or say --no-way-back",
    )


def objection_to_room(what: str, needed: int, free: int) -> Objection | None:
    """Why there is no place for it; in bytes."""
    needed += SPARE_BYTES
    if needed <= free:
        return None
    return Objection(
        ExitCode.FAILED,
        f"{what} has {free // 2**20} MB free, and the update needs {-(-needed // 2**20)} MB; nothing was touched",
    )


def busy_boards(boards: Iterable[tuple[str, str]]) -> list[str]:
    """Of boards with what the exporter says of their use: a sentence on each that somebody has."""
    return [f"{name} is {use}" for name, use in boards if use.startswith(("leased by ", "in local use by "))]


def drainable_boards(boards: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Those that are not drained already: who has drained a board resumes it."""
    return tuple(name for name, use in boards if not re.search(r"(^|; )drained\b", use))
