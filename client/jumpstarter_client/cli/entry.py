"""Run the command of a command line, and turn its errors into a message and an exit code."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.standard_streams import StandardOutputError, contains_output_error, run_guarded
from jumpstarter_proto.terminal import print_error_text
from jumpstarter_proto.texts import not_text

from jumpstarter_client.cli.commands import COMMANDS, INTERNAL_COMMANDS, canonical
from jumpstarter_client.cli.options import GlobalOptions, split
from jumpstarter_client.command_errors import UsageError

__all__ = ["run", "start", "start_j"]

MAX_ERROR_LENGTH = 16 * 1024
"""In characters; longer error messages are cut."""


def run(command: Callable[[list[str], GlobalOptions], int | None]) -> NoReturn:
    """Run a command with the arguments of the process, and exit. User errors are one message, without a traceback."""
    # A command ends before the garbage collector finds anything.
    gc.disable()
    _exit_on_signal()
    code = run_guarded(lambda: _run(command), "error")
    # At exit the interpreter collects once more, over all modules; frozen objects are skipped.
    gc.freeze()
    sys.exit(code)


def _run(command: Callable[[list[str], GlobalOptions], int | None]) -> int:
    options = GlobalOptions()
    try:
        arguments = sys.argv[1:]
        if arguments[:1] != ["__complete"]:  # its options may be incomplete
            options, arguments = split(arguments, is_tree=command is start_j)
        options.apply()
        return int(command(arguments, options) or ExitCode.OK)
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # the edge of the process
        if contains_output_error(error):
            raise
        return _explain(error, options)


def _explain(error: BaseException, options: GlobalOptions) -> ExitCode:
    """Print the error as one message if a user can act on it; raise a bug again."""
    if options.log_level == "debug":
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)
    match _main_error(error):
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case JumpstarterError() as known:
            # `details` leaves out the name of the gRPC method.
            sentence, code = _indented(getattr(known, "details", "")) or str(known), known.exit_code
        case UnicodeEncodeError() as known:
            sentence, code = not_text(known), ExitCode.USAGE
        case ValueError() as known:  # a verb rejected its arguments
            sentence, code = str(known), ExitCode.USAGE
        case OSError() as known:
            sentence = f"{known.strerror or known}: {known.filename or ''}".rstrip(": ")
            code = ExitCode.FAILED
        case _:
            raise error
    with suppress(StandardOutputError):
        sys.stdout.flush()
    # A peer may have written a part of it.
    print_error_text(f"error: {sentence[:MAX_ERROR_LENGTH] or type(error).__name__}\n")
    return code


def _indented(sentence: str) -> str:
    """Indent the further lines of a peer's message, so that none looks like a message of this program."""
    first, *further = sentence.split("\n")
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in further)])


def _main_error(error: BaseException) -> BaseException:
    """Return one error of a group: of several failed tasks, one with an error for users."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    known = error.subgroup((JumpstarterError, KeyboardInterrupt)) or error
    return _main_error(known.exceptions[0])


def _exit_on_signal() -> None:
    """Unwind the command on SIGTERM and SIGHUP as on Ctrl-C, so that a relay or a card is not left in between."""

    def end(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, end)


def start(arguments: list[str], options: GlobalOptions) -> int | None:
    """Run `jumpstarter …`."""
    if arguments and arguments[0].partition("=")[0] in ("-o", "--output"):
        # Before or after the command, it means the same.
        count = 1 if "=" in arguments[0] else 2
        arguments = arguments[count:] + arguments[:count]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        from jumpstarter_client.cli.help import print_main_help  # noqa: PLC0415

        print_main_help()
        return None
    if arguments[0] == "--version":
        arguments = ["version"]
    word, *rest = canonical(arguments)
    if command := COMMANDS.get(word) or INTERNAL_COMMANDS.get(word):
        return command.run(rest, options)
    if word.startswith("-"):
        raise UsageError(f"unknown option {word}; `jumpstarter --help` lists the options")
    from jumpstarter_client.cli.verbs import run_verb  # noqa: PLC0415 - only for the verbs of drivers

    return run_verb(word, rest, options)


def start_j(arguments: list[str], options: GlobalOptions) -> int | None:
    """Run `j …`."""
    if arguments[:1] == ["__complete"]:
        from jumpstarter_client.cli.completion import complete_tree  # noqa: PLC0415

        return complete_tree(arguments[1:])
    from jumpstarter_client.cli.tree import run_tree  # noqa: PLC0415

    return run_tree(arguments, options)
