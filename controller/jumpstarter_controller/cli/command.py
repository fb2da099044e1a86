"""Runs one command of an app, and turns every error into one sentence and an exit code."""

from __future__ import annotations

import sys
from typing import Literal

from cyclopts import App, CycloptsError
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.standard_streams import run_guarded
from jumpstarter_proto.terminal import print_error_line
from jumpstarter_proto.usage_errors import usage_sentence

__all__ = ["Level", "LogFormat", "run_app"]

Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]


def run_app(app: App, arguments: list[str] | None) -> None:
    """Run one command, of the process's own arguments for None, and exit with its code."""
    sys.exit(run_guarded(lambda: _run(app, sys.argv[1:] if arguments is None else arguments), app.name[0]))


def _run(app: App, arguments: list[str]) -> int:
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _complain(app, usage_sentence(error, app.name[0]), ExitCode.USAGE)
    except JumpstarterError as error:
        return _complain(app, str(error), error.exit_code)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return int(result or 0)


def _complain(app: App, sentence: str, code: ExitCode) -> int:
    print_error_line(f"{app.name[0]}: {' '.join(sentence.split())}")
    return code
