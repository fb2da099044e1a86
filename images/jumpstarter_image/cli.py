"""The command `jumpstarter-image`: what its units run, and what a person may run to look."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.standard_streams import run_guarded
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_image.host import Host

__all__ = ["TRY_AGAIN", "main"]

TRY_AGAIN = 75
"""Exit code of `enrol` when it was not possible now: EX_TEMPFAIL of sysexits.h, after which systemd starts it again."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(run_guarded(lambda: _run(words), "jumpstarter-image"))


def _run(words: list[str]) -> int:
    options = _parser().parse_args(words)
    if options.command == "check":
        return _check(options.file)
    host = Host(options.root)
    if options.command == "apply":
        return _apply(host)
    if options.command == "enrol":
        return _enrol(host)
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
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
        if name == "status":
            command.add_argument(
                "--write", action="store_true", help="also beside jumpstarter.yaml, if it changed"
            )
    return parser


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
        print_error_line(f"jumpstarter-image: {fault}")
    if reading.faults:
        return ExitCode.USAGE
    print_line(f"{file}: valid for a host that is new")
    return ExitCode.OK


def _apply(host: Host) -> int:
    from jumpstarter_image.apply import apply_until_unchanged  # noqa: PLC0415
    from jumpstarter_image.status import note_problems  # noqa: PLC0415

    outcome = apply_until_unchanged(host)
    try:
        note_problems(host, outcome.problems)
    except OSError as error:
        outcome.problems.append(f"{host.run_folder} cannot be written: {error.strerror}")
    if not _write_status(host):
        # It says so already; the console of this boot has not heard it.
        for sentence in (*map(str, outcome.faults), *outcome.problems):
            print_line(sentence)
    if outcome.faults:
        return ExitCode.USAGE
    return ExitCode.FAILED if outcome.problems else ExitCode.OK


def _enrol(host: Host) -> int:
    from jumpstarter_image.enrolment import Step, enrol  # noqa: PLC0415

    try:
        step, said = enrol(host)
    except OSError as error:
        print_error_line(
            f"jumpstarter-image: {error.filename} cannot be written: {error.strerror}; check the card"
        )
        return TRY_AGAIN
    if step is not Step.NOTHING_TO_DO:
        _write_status(host)
    if said:
        print_error_line(f"jumpstarter-image: {said}")
    return {Step.AGAIN: TRY_AGAIN, Step.REFUSED: ExitCode.DENIED}.get(step, ExitCode.OK)


def _status(host: Host, *, write: bool) -> int:
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


def _write_status(host: Host) -> bool:
    """Also to the console and the journal, if it says something new. Says whether it did."""
    from jumpstarter_image.status import show  # noqa: PLC0415

    shown = show(host)
    if shown.trouble:
        print_error_line(f"jumpstarter-image: {shown.trouble}")
    if shown.is_new:
        for line in shown.lines:
            print_line(line)
    return shown.is_new
