"""Run an update step by step. Each step is recorded before it begins, so it can continue after a power cut.

It runs as a service of its own (jumpstarter-image-update), so it does not end with the SSH connection of the user.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.terminal import print_line

from jumpstarter_image import system_packages as system
from jumpstarter_image.host_system import HostSystem
from jumpstarter_image.system_packages import CommandError
from jumpstarter_image.update_plan import busy_boards
from jumpstarter_image.update_prepare import RECORD, boards_of, load_record, save_record, sync
from jumpstarter_image.update_record import Ending, Event, UpdateRecord, UpdateStep

__all__ = ["continue_update", "last_record", "running_record"]

SEAL = "jumpstarter-image-seal.service"
Tell = Callable[[UpdateRecord], None]


def running_record(host: HostSystem) -> UpdateRecord | None:
    """The record of the running update. Raises ObjectionError."""
    return load_record(host.update_folder / RECORD)


def last_record(host: HostSystem) -> UpdateRecord | None:
    """The record of the last finished update. Raises ObjectionError."""
    return load_record(host.last_update)


def continue_update(host: HostSystem, tell: Tell) -> UpdateRecord | None:
    """Do the remaining steps of an update. Returns its record, or None if there is none.

    On SIGTERM, which the unit gets at shutdown, it ends as soon as dpkg has ended.

    `tell` is called with the record after each change.

    Raises:
        ObjectionError: The record cannot be read.
        PrivateFileError, OSError: The data partition cannot be written: nothing more is done until the next start.
    """
    path = host.update_folder / RECORD
    record = load_record(path)
    if record is None:
        return None
    record = record.restarted(host.boot_id())
    while True:
        save_record(path, record)
        if record.is_over:
            break  # it is said when the root and the boards are as they were
        tell(record)
        with _until_dpkg_has_ended(record) as is_to_stop:
            try:
                why = _do(host, record)
            except CommandError as error:
                why = str(error)
            after = record.after(Event.FAILED if why else Event.DONE, why)
            if is_to_stop():
                # A failure during a shutdown, such as a restart of a service, is not a fault of the version.
                if not why:
                    save_record(path, after)
                print_line("it continues at the next start")
                return record if why else after
        record = after
    _tidy_up(host, record)
    tell(record)
    return record


@contextmanager
def _until_dpkg_has_ended(record: UpdateRecord) -> Iterator[Callable[[], bool]]:
    """Whether the host is shutting down. Shutdown waits for a running dpkg; everything else ends immediately."""
    told: list[int] = []
    if record.step not in (UpdateStep.INSTALLING, UpdateStep.TAKING_BACK):
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        yield lambda: bool(told)
    finally:
        signal.signal(signal.SIGTERM, before)


def _do(host: HostSystem, record: UpdateRecord) -> str:
    """Do one step. Returns why it failed, also for a CommandError."""
    match record.step:
        case UpdateStep.STAGED:
            return _begin(host, record)
        case UpdateStep.INSTALLING:
            system.make_writable(host)
            if record.restarts:
                system.configure_rest(host)
            _install(host, record)
        case UpdateStep.TAKING_BACK:
            return _take_back(host, record)
        case UpdateStep.CHECKING | UpdateStep.CHECKING_BACK:
            # After a rollback the services have new invocation IDs; those from before the update are gone.
            before = record.invocations if record.step is UpdateStep.CHECKING else {}
            return system.wait_ready(host, record.services, before)
        case UpdateStep.ENDED:
            pass
    return ""


def _begin(host: HostSystem, record: UpdateRecord) -> str:
    if not record.during_leases:
        for name in record.drained:
            done = host.run("jumpstarter-exporter", "drain", name, "--socket", str(host.exporter_socket))
            if done.code not in (
                ExitCode.OK,
                ExitCode.NOT_FOUND,
            ):  # NOT_FOUND: the board does not exist any more
                said = " ".join(done.errors.split())[-300:]
                return f"{name} cannot be kept from its next user: {said or f'exit code {done.code}'}"
        if busy := busy_boards(boards_of(host)):
            return "; ".join(busy)
    system.make_writable(host)
    return ""


def _install(host: HostSystem, record: UpdateRecord) -> None:
    folder = host.update_folder
    if record.is_upgrade:
        archives = f"Dir::Cache::archives={folder / 'archives'}/"
        _say(system.apt(host, "upgrade", "-o", archives, "--no-download").output)
    else:
        _say(system.install_files(host, [folder / safe_name(name) for name in record.files]))


def _take_back(host: HostSystem, record: UpdateRecord) -> str:
    files = [Path(change.back) for change in record.changes if change.back]
    system.make_writable(host)
    if not files:
        # As for Debian's own packages: this may succeed, if dpkg can complete it and the services become ready.
        done = system.configure_rest(host)
        said = " ".join(done.errors.split())[-300:]
        return "" if done.code == 0 else f"dpkg cannot finish what there is: {said}"
    _say(system.install_files(host, files, back=True))
    return ""


def _tidy_up(host: HostSystem, record: UpdateRecord) -> None:
    """Clean up after an update. Every action may be repeated."""
    if record.ending is Ending.INSTALLED and not record.is_upgrade:
        _keep_files(host, record)
    _seal(host)
    if record.ending is not Ending.STUCK:  # else nobody is there who could; the status says what to do
        for name in record.drained:
            done = host.run("jumpstarter-exporter", "resume", name, "--socket", str(host.exporter_socket))
            if done.code not in (
                ExitCode.OK,
                ExitCode.NOT_FOUND,
            ):  # NOT_FOUND: the board does not exist any more
                print_line(
                    f"a board stays drained; when the exporter runs: sudo jumpstarter-exporter resume {name}"
                )
    save_record(host.last_update, record)
    # Remove the record first: without it there is no update, and the next update removes its other files.
    (host.update_folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(host.update_folder, ignore_errors=True)


def _seal(host: HostSystem) -> None:
    """Let another unit make the root read-only; this program itself has replaced files open."""
    host.sealing_mark.parent.mkdir(parents=True, exist_ok=True)
    host.sealing_mark.touch()
    if host.run("systemctl", "--no-block", "start", SEAL).code != 0:
        host.sealing_mark.unlink(missing_ok=True)  # nobody is about to, and the status says what to do


def _say(output: str) -> None:
    for line in output.splitlines():
        print_line(line)


def _keep_files(host: HostSystem, record: UpdateRecord) -> None:
    """Keep the files of the installed versions for a rollback of the next update, and remove older ones."""
    kept, _ = host.package_folders
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in record.files:
        staged = host.update_folder / safe_name(name)
        if staged.exists():
            staged.replace(kept / safe_name(name))
    sync(kept)
    packages = {name.partition("_")[0] for name in record.files}
    for path in kept.glob("*.deb"):
        if path.name.partition("_")[0] in packages and path.name not in record.files:
            path.unlink()
