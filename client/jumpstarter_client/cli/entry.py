"""From the command line to the command, and from whatever it raises to an exit code."""

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

from jumpstarter_client.cli.options import Options, UsageError, split

__all__ = ["COMMANDS", "run", "start", "start_j", "straight"]

COMMANDS = (
    "devices",
    "shell",
    "test",
    "lease",
    "exporters",
    "login",
    "auth",
    "config",
    "completion",
    "driver",
    "version",
)
_ALIASES = {"leases": "lease", "l": "lease", "exporter": "exporters", "e": "exporters", "conf": "config"}
_TURNED: dict[str, dict[str, tuple[str, ...]]] = {
    # `jumpstarter create lease`: the words in Jumpstarter's own order.
    "create": {"lease": ("lease", "create")},
    "get": {"lease": ("lease", "list"), "exporters": ("exporters",)},
    "update": {"lease": ("lease", "update")},
    "delete": {"lease": ("lease", "release")},
}

MAX_SENTENCE = 16 * 1024
"""Characters of an error that are printed."""


def run(command: Callable[[list[str], Options], int | None]) -> NoReturn:
    """Run a command of the process's arguments and exit: one sentence for what went wrong, never a traceback."""
    # A command is over before the collector finds anything; it would only look, again and again.
    gc.disable()
    _end_cleanly_when_told_to()
    code = run_guarded(lambda: _run(command), "error")
    # While it ends the interpreter collects once more, over all modules; what is frozen it leaves alone.
    gc.freeze()
    sys.exit(code)


def _run(command: Callable[[list[str], Options], int | None]) -> int:
    options = Options()
    try:
        arguments = sys.argv[1:]
        if arguments[:1] != ["__complete"]:  # of which the options are not whole yet
            options, arguments = split(arguments)
        options.apply()
        return int(command(arguments, options) or ExitCode.OK)
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:  # the edge of the process
        if contains_output_error(error):
            raise
        return _explain(error, options)


def _explain(error: BaseException, options: Options) -> ExitCode:
    """Say it in a sentence, if a user can do something about it; a fault of ours is raised again."""
    if options.log_level == "debug":
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)
    match _first(error):
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case JumpstarterError() as known:
            # Without the name of the call, which says nothing to who typed a command.
            sentence, code = _continued(getattr(known, "details", "")) or str(known), known.exit_code
        case ValueError() as known:  # a verb's own check of what it was given
            sentence, code = str(known), ExitCode.USAGE
        case OSError() as known:
            sentence = f"{known.strerror or known}: {known.filename or ''}".rstrip(": ")
            code = ExitCode.FAILED
        case _:
            raise error
    with suppress(StandardOutputError):
        sys.stdout.flush()
    # A peer wrote some of it.
    print_error_text(f"error: {sentence[:MAX_SENTENCE] or type(error).__name__}\n")
    return code


def _continued(sentence: str) -> str:
    """A peer's sentence, whose further lines are indented: none of them passes for a message of ours."""
    first, *further = sentence.split("\n")
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in further)])


def _first(error: BaseException) -> BaseException:
    """Of several tasks that failed at once, mostly of one cause, the one that can be explained."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    explained = error.subgroup((JumpstarterError, KeyboardInterrupt)) or error
    return _first(explained.exceptions[0])


def _end_cleanly_when_told_to() -> None:
    """A signal to end unwinds the command as Ctrl-C does: a relay or a card is not left halfway."""

    def end(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, end)


def start(arguments: list[str], options: Options) -> int | None:
    """`jumpstarter …`."""
    if arguments and arguments[0].partition("=")[0] in ("-o", "--output"):
        # In front of the command or behind it, it means the same.
        count = 1 if "=" in arguments[0] else 2
        arguments = arguments[count:] + arguments[:count]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        from jumpstarter_client.cli.help import print_main_help  # noqa: PLC0415

        print_main_help()
        return None
    if arguments[0] == "--version":
        arguments = ["version"]
    word, *rest = straight(arguments)
    match word:
        case "devices":
            from jumpstarter_client.cli.devices import devices  # noqa: PLC0415

            return devices(rest, options)
        case "shell":
            from jumpstarter_client.cli.shell import shell  # noqa: PLC0415

            return shell(rest, options)
        case "test":
            from jumpstarter_client.cli.test import test  # noqa: PLC0415

            return test(rest, options)
        case "lease":
            from jumpstarter_client.cli.lease import lease  # noqa: PLC0415

            return lease(rest, options)
        case "exporters":
            from jumpstarter_client.cli.exporters import exporters  # noqa: PLC0415

            return exporters(rest, options)
        case "auth":
            from jumpstarter_client.cli.auth import auth  # noqa: PLC0415

            return auth(rest, options)
        case "login":
            from jumpstarter_client.cli.login import login  # noqa: PLC0415

            return login(rest, options)
        case "config":
            from jumpstarter_client.cli.config import config  # noqa: PLC0415

            return config(rest, options)
        case "completion":
            from jumpstarter_client.cli.completion import completion  # noqa: PLC0415

            return completion(rest)
        case "driver":
            from jumpstarter_client.cli.driver import driver  # noqa: PLC0415

            return driver(rest)
        case "__complete":
            from jumpstarter_client.cli.completion import complete  # noqa: PLC0415

            return complete(rest)
        case "version":
            from jumpstarter_client.cli.help import version  # noqa: PLC0415

            return version(rest, options)
    from jumpstarter_client.cli.verbs import run_verb  # noqa: PLC0415

    if word.startswith("-"):
        raise UsageError(f"unknown option {word}; `jumpstarter --help` shows what there is")
    return run_verb(word, rest, options)


def straight(arguments: list[str]) -> list[str]:
    """The words with the command first, under its own name."""
    word, *rest = arguments
    if word in _TURNED and rest:
        noun = _ALIASES.get(rest[0], rest[0])
        if noun in _TURNED[word]:
            return [*_TURNED[word][noun], *rest[1:]]
    return [_ALIASES.get(word, word), *rest]


def start_j(arguments: list[str], options: Options) -> int | None:
    """`j …`."""
    from jumpstarter_client.cli.tree import run_tree  # noqa: PLC0415

    return run_tree(arguments, options)
