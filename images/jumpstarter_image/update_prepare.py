"""Prepare an update: determine its changes, check for objections, and store its files on the data partition.

Nothing else on the host changes. The record is written last; without it, there is no update.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.json_texts import decode_json, parse_json
from jumpstarter_proto.private_files import PrivateFileError, read_private, write_private

from jumpstarter_image import system_packages as system
from jumpstarter_image.host_system import HostSystem
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
from jumpstarter_image.update_record import PackageChange, UpdateRecord

__all__ = [
    "RECORD",
    "ObjectionError",
    "UpdateOptions",
    "boards_of",
    "kept_file",
    "load_record",
    "prepare",
    "save_record",
    "sync",
]

RECORD = "record.json"
_LOCK = "update.lock"


class ObjectionError(Exception):
    """The update is refused; nothing was changed."""

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


MAX_RECORD_BYTES = 4 * 1024 * 1024
"""The size limit for the output of dpkg about all packages."""


@dataclass(frozen=True)
class UpdateOptions:
    """The options of the command."""

    files: tuple[Path, ...] = ()
    """None: everything that apt would upgrade."""
    during_leases: bool = False
    no_way_back: bool = False
    is_trial: bool = False
    """Only print what would be done."""


def load_record(path: Path) -> UpdateRecord | None:
    """Read a stored record; None if there is none. Raises ObjectionError if it is invalid."""
    if not path.exists():
        return None
    try:
        return decode_json(read_private(path, at_most=MAX_RECORD_BYTES), UpdateRecord)
    except (ValueError, PrivateFileError) as error:
        raise ObjectionError(
            ExitCode.FAILED,
            f"what was written down of an update cannot be read ({error}); look at `dpkg --audit`, then remove {path}",
        ) from None


def save_record(path: Path, record: UpdateRecord) -> None:
    """Write the record to the disk. Raises PrivateFileError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def boards_of(host: HostSystem) -> list[tuple[str, str]]:
    """The boards that a controller leases, with the exporter's report of their use; none if the exporter does not run.

    Raises CommandError if a running exporter does not answer.
    """
    if not host.exporter_socket.exists():
        return []
    done = host.run(
        *("jumpstarter-exporter", "boards", "-o", "json", "--socket", str(host.exporter_socket)), timeout=30.0
    )
    why = " ".join(done.errors.split())[:200] or f"exit code {done.code}"
    if done.code == 0:
        try:
            listed = parse_json(done.output)["boards"]
            return [(str(one["name"]), str(one.get("use") or "")) for one in listed if one.get("exporter")]
        except (ValueError, LookupError, TypeError, AttributeError):
            why = "its answer is invalid"
    if not system.invocation(host, system.EXPORTER):
        return []
    raise system.CommandError(
        f"the exporter runs and does not report the users of its boards ({why}); "
        "wait until it does, or add --during-leases"
    )


def kept_file(host: HostSystem, name: str, version: str) -> Path | None:
    """The stored file of this version of a package, if there is one."""
    for folder in host.package_folders:
        for path in sorted(folder.glob(f"{name}_*.deb")):
            deb = system.read_deb(host, path)
            if deb is not None and (deb.name, deb.version) == (name, version):
                return path
    return None


def prepare(host: HostSystem, options: UpdateOptions, tell: Callable[[str], None]) -> UpdateRecord | None:
    """Check the update, print what will be done, and stage it. Returns None if it is a dry run or has nothing to do.

    Raises:
        ObjectionError: the update is refused.
        CommandError: apt or dpkg failed.
        OSError: the data partition cannot be written.
    """
    folder = host.update_folder
    with _alone(host), ExitStack() as unless_recorded:
        if load_record(folder / RECORD) is not None:
            raise ObjectionError(
                ExitCode.DENIED, "an update is going on: see `sudo journalctl -fu jumpstarter-image-update`"
            )
        shutil.rmtree(folder, ignore_errors=True)
        unless_recorded.callback(shutil.rmtree, folder, ignore_errors=True)
        record = _staged(host, options, tell)
        if record is not None:
            save_record(folder / RECORD, record)
            unless_recorded.pop_all()
        return record


@contextmanager
def _alone(host: HostSystem) -> Iterator[None]:
    """Lock against other preparations, which would remove these files. Raises ObjectionError if there is one."""
    host.run_folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(host.run_folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ObjectionError(
                ExitCode.DENIED, "another update is being prepared; wait for its end"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _staged(host: HostSystem, options: UpdateOptions, tell: Callable[[str], None]) -> UpdateRecord | None:
    """Stage everything except the record."""
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
    boards = [] if options.during_leases else boards_of(host)
    _check_boards(boards)
    services = [system.EXPORTER]
    if system.invocation(host, system.CONTROLLER):
        services.append(system.CONTROLLER)
    tell(_what_happens(services, changes, options))
    if options.is_trial:
        return None
    if options.files:
        _stage(host.update_folder, debs)
    return UpdateRecord(
        boot=host.boot_id(),
        changes=changes,
        files=tuple(deb.file_name for deb in debs) if options.files else (),
        is_upgrade=not options.files,
        during_leases=options.during_leases,
        drained=drainable_boards(boards),
        services=tuple(services),
        invocations={unit: system.invocation(host, unit) for unit in services},
    )


def _check(objection: Objection | None) -> None:
    if objection is not None:
        raise ObjectionError(objection.code, objection.sentence)


def _files(host: HostSystem, options: UpdateOptions) -> tuple[tuple[PackageChange, ...], list[Deb]]:
    debs: list[Deb] = []
    newer: list[tuple[Deb, str]] = []
    for path in options.files:
        if not path.is_file():
            raise ObjectionError(ExitCode.NOT_FOUND, f"{path}: no such file; check the path")
        deb = system.read_deb(host, path.absolute())
        if deb is None:
            raise ObjectionError(
                ExitCode.USAGE, f"{path} is not a Debian package, or is damaged; copy it again"
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
    given = [deb.path for deb in debs]
    simulation = parse_simulation(
        system.apt(host, "install", "--simulate", "--no-download", given=given).output
    )
    _check(objection_to_simulation(simulation))
    names = {deb.name for deb in debs}
    if missing := [change.name for change in simulation.installed if change.name not in names]:
        raise ObjectionError(
            ExitCode.FAILED, f"{', '.join(missing)} is needed as well; give the files of all packages at once"
        )
    return simulation.installed, debs


def _upgrade(host: HostSystem, options: UpdateOptions) -> tuple[tuple[PackageChange, ...], list[Deb]]:
    """Download everything first, so the installation needs no network and can be completed after a power cut."""
    system.apt(host, "update")
    simulation = parse_simulation(system.apt(host, "upgrade", "--simulate").output)
    _check(objection_to_simulation(simulation))
    if not simulation.installed or options.is_trial:
        return simulation.installed, []
    archives = host.update_folder / "archives"
    (archives / "partial").mkdir(mode=0o700, parents=True)
    system.apt(host, "upgrade", "-o", f"Dir::Cache::archives={archives}/", "--download-only")
    files = sorted(archives.glob("*.deb"))
    for path in (*files, archives):
        sync(path)
    found = [system.read_deb(host, path) for path in files]
    return simulation.installed, [deb for deb in found if deb is not None]


def _with_way_back(host: HostSystem, change: PackageChange) -> PackageChange:
    kept = kept_file(host, change.name, change.before) if change.before else None
    return change if kept is None else msgspec.structs.replace(change, back=str(kept))


def _check_room(host: HostSystem, debs: Sequence[Deb]) -> None:
    # During an installation, dpkg needs space for the old and the new files.
    needed = sum(deb.installed_bytes for deb in debs)
    _check(objection_to_room("the root", needed, _free(host.root)))
    copied = sum(Path(deb.path).stat().st_size for deb in debs)
    _check(objection_to_room("the partition with this host's state", copied, _free(host.state_folder.parent)))


def _free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _check_boards(boards: Sequence[tuple[str, str]]) -> None:
    if busy := busy_boards(boards):
        raise ObjectionError(
            ExitCode.DENIED,
            f"{'; '.join(busy)}; to let no lease follow: sudo jumpstarter-exporter drain --all; "
            "wait for their end, or say --during-leases: leases go on over the restart of the exporter",
        )


def _what_happens(services: Sequence[str], changes: Sequence[PackageChange], options: UpdateOptions) -> str:
    names = " and ".join(unit.removesuffix(".service") for unit in services)
    leases = "leases that run go on" if options.during_leases else "boards are not leased meanwhile"
    if lost := [change.name for change in changes if change.before and not change.back]:
        back = f"{', '.join(lost[:4])}{' and others' if len(lost) > 4 else ''} cannot be taken back"
    else:
        back = "what was there is taken back if not"
    return f"the root is made writable, {leases}, and {names} has to be ready afterwards; {back}"


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, before the record names it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stage(folder: Path, debs: Sequence[Deb]) -> None:
    """Copy the files."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for deb in debs:
        copy = folder / safe_name(deb.file_name)
        shutil.copyfile(deb.path, copy)
        sync(copy)
