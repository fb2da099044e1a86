"""What comes before an update: what it would do, what speaks against it, and its files on the data partition.

Nothing else of the host is changed here. The last thing that is written is the record: without it there is no update.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.json_texts import decode_json, parse_json
from jumpstarter_proto.private_files import PrivateFileError, read_private, write_private

from jumpstarter_image import system_packages as system
from jumpstarter_image.host import Host
from jumpstarter_image.update_plan import (
    Deb,
    Objection,
    busy_boards,
    drainable_boards,
    objection_to_files,
    objection_to_room,
    objection_to_simulation,
    objection_to_way_back,
    parse_simulation,
)
from jumpstarter_image.update_record import Change, Record

__all__ = [
    "RECORD",
    "ObjectionError",
    "Options",
    "boards_of",
    "kept_file",
    "load_record",
    "prepare",
    "save_record",
]

RECORD = "record.json"


class ObjectionError(Exception):
    """Nothing is done, and nothing was touched."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Options:
    """What the person wants."""

    files: tuple[Path, ...] = ()
    """None: what apt would upgrade."""
    during_leases: bool = False
    no_way_back: bool = False
    is_trial: bool = False
    """Only say what would be done."""


def load_record(path: Path) -> Record | None:
    """One that was kept; None if there is none. ObjectionError: it makes no sense."""
    if not path.exists():
        return None
    try:
        return decode_json(read_private(path), Record)
    except (ValueError, PrivateFileError) as error:
        raise ObjectionError(
            ExitCode.FAILED,
            f"what was written down of an update cannot be read ({error}); look at `dpkg --audit`, then remove {path}",
        ) from None


def save_record(path: Path, record: Record) -> None:
    """Keep it, on the disk. PrivateFileError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def boards_of(host: Host) -> list[tuple[str, str]]:
    """Boards that a controller leases, with what the exporter says of their use; none if it does not run."""
    if not host.exporter_socket.exists():
        return []
    done = host.run(
        *("jumpstarter-exporter", "boards", "-o", "json", "--socket", str(host.exporter_socket)), timeout=30.0
    )
    try:
        listed = parse_json(done.output)["boards"] if done.code == 0 else []
    except (ValueError, LookupError, TypeError):
        return []
    return [(str(one["name"]), str(one.get("use") or "")) for one in listed if one.get("exporter")]


def kept_file(host: Host, name: str, version: str) -> Path | None:
    """The file of this version of a package, if it is kept."""
    for folder in host.package_folders:
        for path in sorted(folder.glob(f"{name}_*.deb")):
            deb = system.read_deb(host, path)
            if deb is not None and (deb.name, deb.version) == (name, version):
                return path
    return None


def prepare(host: Host, options: Options, tell: Callable[[str], None]) -> Record | None:
    """Look, say what will be done, and stage it. None if there is nothing to do, or it is a trial.

    ObjectionError: see there. CommandError: apt or dpkg says no. OSError: the data partition cannot be written.
    """
    folder = host.update_folder
    if load_record(folder / RECORD) is not None:
        raise ObjectionError(
            ExitCode.DENIED, "an update is going on: see `sudo journalctl -fu jumpstarter-image-update`"
        )
    shutil.rmtree(folder, ignore_errors=True)
    changes, debs = _files(host, options) if options.files else _upgrade(host, options)
    if not changes:
        tell("there is nothing to update")
        return None
    changes = tuple(_with_way_back(host, change) for change in changes)
    for change in changes:
        tell(f"{change.name}: {change.before or 'not installed'} -> {change.after}")
    if options.files and not options.no_way_back:
        _check(objection_to_way_back(changes))
    _check_room(host, debs)
    boards = boards_of(host)
    _check_boards(boards, options)
    services = [system.EXPORTER]
    if system.invocation(host, system.CONTROLLER):
        services.append(system.CONTROLLER)
    tell(_what_happens(services, changes, options))
    if options.is_trial:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    if options.files:
        _stage(folder, debs)
    record = Record(
        boot=host.boot_id(),
        changes=changes,
        files=tuple(deb.file_name for deb in debs) if options.files else (),
        is_upgrade=not options.files,
        during_leases=options.during_leases,
        drained=() if options.during_leases else drainable_boards(boards),
        services=tuple(services),
        invocations={unit: system.invocation(host, unit) for unit in services},
    )
    save_record(folder / RECORD, record)
    return record


def _check(objection: Objection | None) -> None:
    if objection is not None:
        raise ObjectionError(objection.code, objection.sentence)


def _files(host: Host, options: Options) -> tuple[tuple[Change, ...], list[Deb]]:
    debs: list[Deb] = []
    newer: list[tuple[Deb, str]] = []
    for path in options.files:
        if not path.is_file():
            raise ObjectionError(ExitCode.NOT_FOUND, f"{path}: no such file; check the path")
        deb = system.read_deb(host, path.absolute())
        if deb is None:
            raise ObjectionError(
                ExitCode.USAGE, f"{path} is no Debian package, or a damaged one; copy it again"
            )
        installed = system.installed_version(host, deb.name)
        if installed == deb.version:
            continue
        if installed and system.is_newer(host, installed, deb.version):
            newer.append((deb, installed))
        debs.append(deb)
    _check(objection_to_files(debs, newer))
    if not debs:
        return (), []
    said = system.apt(host, "--simulate", "--no-download", "install", *(deb.path for deb in debs)).output
    simulation = parse_simulation(said)
    _check(objection_to_simulation(simulation))
    given = {deb.name for deb in debs}
    if missing := [change.name for change in simulation.installed if change.name not in given]:
        raise ObjectionError(
            ExitCode.FAILED, f"{', '.join(missing)} is needed as well; give the files of all packages at once"
        )
    return simulation.installed, debs


def _upgrade(host: Host, options: Options) -> tuple[tuple[Change, ...], list[Deb]]:
    """Everything is downloaded first: the installation needs no network, and can be finished after a power cut."""
    system.apt(host, "update")
    simulation = parse_simulation(system.apt(host, "--simulate", "upgrade").output)
    _check(objection_to_simulation(simulation))
    if not simulation.installed or options.is_trial:
        return simulation.installed, []
    archives = host.update_folder / "archives"
    (archives / "partial").mkdir(mode=0o700, parents=True)
    system.apt(host, "-o", f"Dir::Cache::archives={archives}/", "--download-only", "upgrade")
    found = [system.read_deb(host, path) for path in sorted(archives.glob("*.deb"))]
    return simulation.installed, [deb for deb in found if deb is not None]


def _with_way_back(host: Host, change: Change) -> Change:
    kept = kept_file(host, change.name, change.before) if change.before else None
    return change if kept is None else msgspec.structs.replace(change, back=str(kept))


def _check_room(host: Host, debs: Sequence[Deb]) -> None:
    # dpkg has the old and the new files at one time.
    needed = sum(deb.installed_bytes for deb in debs)
    _check(objection_to_room("the root", needed, _free(host.root)))
    copied = sum(Path(deb.path).stat().st_size for deb in debs)
    _check(objection_to_room("the partition with this host's state", copied, _free(host.state_folder.parent)))


def _free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _check_boards(boards: Sequence[tuple[str, str]], options: Options) -> None:
    busy = busy_boards(boards)
    if busy and not options.during_leases:
        raise ObjectionError(
            ExitCode.DENIED,
            f"{'; '.join(busy)}; to let no lease follow: sudo jumpstarter-exporter drain --all; "
            "wait for their end, or say --during-leases: leases go on over the restart of the exporter",
        )


def _what_happens(services: Sequence[str], changes: Sequence[Change], options: Options) -> str:
    names = " and ".join(unit.removesuffix(".service") for unit in services)
    leases = "leases that run go on" if options.during_leases else "boards are not leased meanwhile"
    if lost := [change.name for change in changes if change.before and not change.back]:
        back = f"{', '.join(lost[:4])}{' and others' if len(lost) > 4 else ''} cannot be taken back"
    else:
        back = "what was there is taken back if not"
    return f"the root is made writable, {leases}, and {names} has to be ready afterwards; {back}"


def _stage(folder: Path, debs: Sequence[Deb]) -> None:
    """Copy the files, on the disk before the record says that they are there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for deb in debs:
        with Path(deb.path).open("rb") as source, (folder / safe_name(deb.file_name)).open("wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
