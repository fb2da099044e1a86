"""The command `jumpstarter-image`, which its units run. A person can use it to check a file or show the status."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.standard_streams import run_guarded
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_image.host_system import HostSystem

__all__ = ["NEITHER_IS_READY", "TAKEN_BACK", "TRY_AGAIN", "UPDATE_UNIT", "main"]

TRY_AGAIN = 75
"""Exit code of `enrol` when it was not possible now: EX_TEMPFAIL of sysexits.h, after which systemd starts it again."""

TAKEN_BACK = 10
"""Exit code of `update`: the new version did not become ready, and the previous version runs again."""
NEITHER_IS_READY = 11
"""Exit code of `update`: neither version became ready."""
UPDATE_UNIT = "jumpstarter-image-update.service"
UPDATE_SECONDS = 2 * 3600.0
"""The time limit of the unit."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(run_guarded(lambda: _run(words), "jumpstarter-image"))


def _run(words: list[str]) -> int:
    options = _parser().parse_args(words)
    if options.command == "check":
        return _check(options.file)
    host = HostSystem(options.root)
    if options.command == "apply":
        return _apply(host)
    if options.command == "enrol":
        return _enrol(host)
    if options.command == "update":
        if options.root == Path("/") and os.geteuid() != 0:
            print_error_line(
                "jumpstarter-image: only root updates this host; sudo jumpstarter-image update ..."
            )
            return ExitCode.DENIED
        if options.seal:
            return _seal(host)
        return _continue_update(host) if options.go_on else _update(host, options)
    return _status(host, write=options.write)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jumpstarter-image",
        description="Configure this host from the file jumpstarter.yaml of its card.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="say what is wrong in a file, without using it")
    check.add_argument("file", type=Path)
    for name, what in (
        ("apply", "read the file, and do what it says"),
        ("enrol", "become a host of the controller, once; run again until it succeeds"),
        ("status", "say how this host is"),
        ("update", "install packages; take them back if the exporter does not become ready"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
        if name == "status":
            command.add_argument(
                "--write", action="store_true", help="also beside jumpstarter.yaml, if it changed"
            )
        if name == "update":
            _add_update_options(command)
    return parser


def _add_update_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "files", type=Path, nargs="*", metavar="FILE.deb", help="none: what apt would upgrade"
    )
    command.add_argument("--dry-run", action="store_true", help="only say what would be done")
    command.add_argument(
        "--during-leases", action="store_true", help="also while boards are leased; the leases go on"
    )
    command.add_argument(
        "--no-way-back",
        action="store_true",
        help="also if the version before is not kept, and cannot be taken back",
    )
    command.add_argument("--continue", dest="go_on", action="store_true", help=argparse.SUPPRESS)
    command.add_argument("--seal", action="store_true", help=argparse.SUPPRESS)


def _check(file: Path) -> int:
    from jumpstarter_image.kept import Kept  # noqa: PLC0415 - each command loads its own
    from jumpstarter_image.settings import read_site  # noqa: PLC0415
    from jumpstarter_image.site_text import NotTextError, SiteText  # noqa: PLC0415

    try:
        reading = read_site(SiteText.decoded(file.read_bytes()).text, Kept())
    except OSError as error:
        print_error_line(f"jumpstarter-image: {file} cannot be read: {error.strerror}; check the path")
        return ExitCode.NOT_FOUND
    except NotTextError as error:
        print_error_line(f"jumpstarter-image: {error}")
        return ExitCode.USAGE
    for fault in reading.faults:
        print_error_line(f"jumpstarter-image: {fault.sentence(file)}")
    if reading.faults:
        return ExitCode.USAGE
    print_line(f"{file}: valid for a host that is new")
    return ExitCode.OK


def _apply(host: HostSystem) -> int:
    from jumpstarter_image.apply import apply_until_unchanged  # noqa: PLC0415
    from jumpstarter_image.status import note_problems  # noqa: PLC0415

    outcome = apply_until_unchanged(host)
    try:
        note_problems(host, outcome.problems)
    except OSError as error:
        outcome.problems.append(f"{host.run_folder} cannot be written: {error.strerror}")
    if not _write_status(host, is_starting=outcome.is_booting):
        # The file already has this text, but the console of this boot has not shown it.
        for sentence in (*map(str, outcome.faults), *outcome.problems):
            print_line(sentence)
    if outcome.faults:
        return ExitCode.USAGE
    return ExitCode.FAILED if outcome.problems else ExitCode.OK


def _enrol(host: HostSystem) -> int:
    from jumpstarter_image.enrolment import EnrolmentResult, enrol  # noqa: PLC0415

    try:
        step, said = enrol(host)
    except OSError as error:
        print_error_line(
            f"jumpstarter-image: {error.filename} cannot be written: {error.strerror}; check the card"
        )
        return TRY_AGAIN
    if step is not EnrolmentResult.NOTHING_TO_DO:
        _write_status(host)
    if said:
        print_error_line(f"jumpstarter-image: {said}")
    return {EnrolmentResult.AGAIN: TRY_AGAIN, EnrolmentResult.REFUSED: ExitCode.DENIED}.get(step, ExitCode.OK)


def _update(host: HostSystem, options: argparse.Namespace) -> int:
    from jumpstarter_proto.private_files import PrivateFileError  # noqa: PLC0415

    from jumpstarter_image.system_packages import CommandError  # noqa: PLC0415
    from jumpstarter_image.update_prepare import ObjectionError, UpdateOptions, prepare  # noqa: PLC0415
    from jumpstarter_image.update_record import Ending, update_lines  # noqa: PLC0415
    from jumpstarter_image.update_run import last_record, running_record  # noqa: PLC0415

    given = UpdateOptions(
        tuple(options.files),
        during_leases=options.during_leases,
        no_way_back=options.no_way_back,
        is_trial=options.dry_run,
    )
    try:
        if prepare(host, given, print_line) is None:
            return ExitCode.OK
        print_line(
            f"it continues if this connection ends: journalctl -fu {UPDATE_UNIT.removesuffix('.service')}"
        )
        host.run("systemctl", "start", UPDATE_UNIT, timeout=UPDATE_SECONDS)
        if running_record(host) is not None:
            print_error_line(f"jumpstarter-image: the update has not ended; see journalctl -u {UPDATE_UNIT}")
            return ExitCode.TIMEOUT
        record = last_record(host)
    except ObjectionError as error:
        print_error_line(f"jumpstarter-image: {error}")
        return error.code
    except (CommandError, PrivateFileError) as error:
        print_error_line(f"jumpstarter-image: {error}; nothing was touched")
        return ExitCode.FAILED
    except OSError as error:
        print_error_line(
            f"jumpstarter-image: {error.filename}: {error.strerror}; nothing was touched, check the card"
        )
        return ExitCode.FAILED
    assert record is not None
    for line in update_lines(record):
        print_line(line)
    codes = {Ending.INSTALLED: ExitCode.OK, Ending.TAKEN_BACK: TAKEN_BACK, Ending.STUCK: NEITHER_IS_READY}
    return codes.get(record.ending or Ending.STUCK, ExitCode.FAILED)


def _seal(host: HostSystem) -> int:
    """Make the root read-only again after an update, or report in the status that this failed."""
    from jumpstarter_image.system_packages import make_read_only  # noqa: PLC0415

    trouble = make_read_only(host)
    host.sealing_mark.unlink(missing_ok=True)
    _write_status(host)
    if trouble:
        print_line(f"the root stays writable until the next start: {trouble}")
    return ExitCode.OK


def _continue_update(host: HostSystem) -> int:
    """Continue an update, as its unit. Fails if a person must repair the host."""
    from jumpstarter_proto.private_files import PrivateFileError  # noqa: PLC0415

    from jumpstarter_image.status import show  # noqa: PLC0415
    from jumpstarter_image.update_prepare import ObjectionError  # noqa: PLC0415
    from jumpstarter_image.update_record import Ending, UpdateRecord, update_lines  # noqa: PLC0415
    from jumpstarter_image.update_run import continue_update  # noqa: PLC0415

    def tell(record: UpdateRecord) -> None:
        if trouble := show(host).trouble:
            print_error_line(f"jumpstarter-image: {trouble}")
        for line in update_lines(record):
            print_line(line)

    try:
        record = continue_update(host, tell)
    except (ObjectionError, PrivateFileError) as error:
        print_error_line(f"jumpstarter-image: {error}")
        return ExitCode.FAILED
    except OSError as error:
        print_error_line(
            f"jumpstarter-image: {error.filename}: {error.strerror}; it is tried again by the next start"
        )
        return ExitCode.FAILED
    return ExitCode.FAILED if record is not None and record.ending is Ending.STUCK else ExitCode.OK


def _status(host: HostSystem, *, write: bool) -> int:
    from jumpstarter_image.apply import is_unread  # noqa: PLC0415
    from jumpstarter_image.sentences import status_lines  # noqa: PLC0415
    from jumpstarter_image.status import gather  # noqa: PLC0415

    if write:
        if is_unread(host):
            host.run("systemctl", "--no-block", "start", "jumpstarter-image.service")
        _write_status(host)
        return ExitCode.OK
    for line in status_lines(gather(host)):
        print_line(line)
    return ExitCode.OK


def _write_status(host: HostSystem, *, is_starting: bool = False) -> bool:
    """Write the status; if it is new, also to the console and the journal. Returns whether it was new."""
    from jumpstarter_image.status import show  # noqa: PLC0415

    shown = show(host, is_starting=is_starting)
    if shown.trouble:
        print_error_line(f"jumpstarter-image: {shown.trouble}")
    if shown.is_new:
        for line in shown.lines:
            print_line(line)
    return shown.is_new
