"""From the command line to the command, and from whatever it raises to an exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from jumpstarter_proto.errors import ExitCode, JumpstarterError

from jumpstarter_client.cli.options import Options, UsageError, split

__all__ = ["run", "start", "start_j"]

COMMANDS = ("devices", "shell", "completion", "version")


def run(command: Callable[[list[str], Options], int | None]) -> NoReturn:
    """Run a command of the process's arguments and exit: one sentence for what went wrong, never a traceback."""
    # A command is over before the collector finds anything; it would only look, again and again.
    gc.disable()
    options, arguments = Options(), sys.argv[1:]
    try:
        options, arguments = split(arguments)
        options.apply()
        code = command(arguments, options) or ExitCode.OK
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Who read our output has seen enough; nor must the interpreter's own flush complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
    except JumpstarterError as error:
        code = _explain(error, str(error), error.exit_code, options)
    except ValueError as error:  # a verb's own check of what it was given
        code = _explain(error, str(error), ExitCode.USAGE, options)
    except OSError as error:
        code = _explain(
            error, f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), ExitCode.FAILED, options
        )
    sys.exit(code)


def _explain(error: BaseException, sentence: str, code: ExitCode, options: Options) -> ExitCode:
    sys.stdout.flush()
    if options.log_level == "debug":
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)
    sys.stderr.write(f"error: {sentence or type(error).__name__}\n")
    return code


def start(arguments: list[str], options: Options) -> int | None:
    """`jumpstarter …`."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        from jumpstarter_client.cli.help import print_main_help  # noqa: PLC0415

        print_main_help()
        return None
    if arguments[0] == "--version":
        arguments = ["version"]
    word, rest = arguments[0], arguments[1:]
    match word:
        case "devices":
            from jumpstarter_client.cli.devices import devices  # noqa: PLC0415

            return devices(rest, options)
        case "shell":
            from jumpstarter_client.cli.shell import shell  # noqa: PLC0415

            return shell(rest, options)
        case "completion":
            from jumpstarter_client.cli.completion import completion  # noqa: PLC0415

            return completion(rest)
        case "__complete":
            from jumpstarter_client.cli.completion import complete  # noqa: PLC0415

            return complete(rest, options)
        case "version":
            from jumpstarter_client.cli.version import version  # noqa: PLC0415

            return version(rest, options)
    from jumpstarter_client.cli.verbs import run_verb  # noqa: PLC0415

    if word.startswith("-"):
        raise UsageError(f"unknown option {word}; `jumpstarter --help` shows what there is")
    return run_verb(word, rest, options)


def start_j(arguments: list[str], options: Options) -> int | None:
    """`j …`."""
    from jumpstarter_client.cli.tree import run_tree  # noqa: PLC0415

    return run_tree(arguments, options)
