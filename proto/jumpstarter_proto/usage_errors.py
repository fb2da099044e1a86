"""Runs commands of cyclopts'; a command line that it cannot read is answered with what to write instead."""

from __future__ import annotations

import inspect
import shlex
from typing import Any

from cyclopts import App, CycloptsError, MissingArgumentError, UnusedCliTokensError

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.page_width import fit_page, terminal_width
from jumpstarter_proto.terminal import print_error_line

__all__ = ["run_app", "usage_sentence"]

PIPE_WIDTH = 80
"""The columns of help that does not go to a terminal; it is cyclopts' own choice, too."""

_YAML = (".yaml", ".yml")


def run_app(app: App, arguments: list[str]) -> int | dict[str, Any]:
    """Run one command, and give its exit code, or the options that it gives for a daemon."""
    if not arguments or {"--help", "-h"} & {*arguments}:
        _fit_help(app, terminal_width() or PIPE_WIDTH)
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print_error_line(f"{app.name[0]}: {' '.join(usage_sentence(error, app.name[0]).split())}")
        return ExitCode.USAGE
    return result if isinstance(result, dict) else int(result or 0)


def _fit_help(app: App, width: int) -> None:
    """Fit what cyclopts would break anywhere: its own parts of a page fit, the examples in our texts are lines."""
    description, heading, parameters = inspect.cleandoc(app.help or "").partition(
        "\n\nParameters\n----------\n"
    )
    if description:
        app.help = fit_page(description, width) + heading + parameters
    for name in app:
        if not name.startswith("-"):
            _fit_help(app[name], width)


def usage_sentence(error: CycloptsError, program: str) -> str:
    """One sentence without the program's name before it."""
    command = " ".join([program, *(error.command_chain or ())])
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        word = error.unused_tokens[0]
        option = _option_for(error, word)
        meant = f"did you mean {option} {shlex.quote(word)}? " if option else ""
        return f"`{command}` takes no {word!r}; {meant}`{command} --help` shows how it is used"
    if type(error) is MissingArgumentError and error.keyword is None and error.argument is not None:
        # Of an option that was given without a value there is a keyword, and cyclopts says that well.
        return f"`{command}` needs {error.argument.name}; `{command} --help` shows how it is used"
    sentence = " ".join(str(error).split())
    if "Did you mean" in sentence or "Available commands" in sentence:
        return sentence
    return f"{sentence.rstrip('.')}; `{command} --help` shows how it is used"


def _option_for(error: CycloptsError, word: str) -> str:
    """The option of the command for its configuration, folder or board, which people write alone; empty without one."""
    if error.target is None:
        return ""
    known = inspect.signature(error.target).parameters
    if "config" in known and "data" in known and not word.endswith(_YAML):
        return "--data"  # the configuration of a program with a folder of its own is about less
    return next((f"--{name}" for name in ("config", "board") if name in known), "")
