"""What a user of Jumpstarter's own `jmp` types: a script of that name, and where to find the commands that differ."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_client.cli.arguments import parse_arguments
from jumpstarter_client.cli.command_options import JMP_INSTALL
from jumpstarter_client.cli.options import GlobalOptions
from jumpstarter_client.command_errors import UsageError, nearest

__all__ = ["jmp", "where_to_find"]

_MARK = "# Made by `jumpstarter jmp install`."
_SCRIPT = f"""#!/bin/sh
{_MARK} It runs the commands of Jumpstarter's own client by `jumpstarter`.
exec @PROGRAM@ "$@"
"""

_ELSEWHERE = {
    "get": "`get` takes exporters or leases: jumpstarter get exporters",
    "create": "`create` takes lease: jumpstarter create lease -l board=rpi4",
    "update": "`update` takes lease: jumpstarter update lease NAME --duration 2h",
    "delete": "`delete` takes leases: jumpstarter delete leases NAME",
    "run": "exporters have their own program: jumpstarter-exporter run --config FILE",
    "admin": "controllers have their own program, which runs on their machine: jumpstarter-controller admin --help",
    "mcp": "there is no MCP server here; `jumpstarter` prints data with -o json, and README.md shows the Python API",
}
"""What to type instead of a command that only Jumpstarter's own client has."""


class ScriptError(JumpstarterError):
    """The script cannot be written."""


def where_to_find(word: str) -> str:
    """Return a sentence about a command of Jumpstarter's own client that this one does not have; or an empty text."""
    return _ELSEWHERE.get(word, "")


def jmp(arguments: list[str], _: GlobalOptions) -> ExitCode:
    """Run `jumpstarter jmp install`."""
    verb, *rest = arguments
    if verb != "install":
        raise UsageError(f"`jmp` has no verb {verb!r}{nearest(verb, ('install',))}")
    parsed = parse_arguments("jmp install", rest, JMP_INSTALL)
    if parsed.words:
        raise UsageError(f"unexpected argument {parsed.words[0]!r}; name the folder with --dir")
    program = _own_program()
    given = parsed.one("--dir")
    folder = user_path(given).absolute() if given else program.parent
    if given and str(user_path(given)).startswith("~"):
        raise UsageError(f"there is no user of the name in {given}; name a folder, or ./{given}")
    if os.path.lexists(folder) and not folder.is_dir():
        raise ScriptError(f"{folder} is not a folder; choose one with --dir")
    script = folder / "jmp"
    if os.path.lexists(script) and not _is_ours(script):
        raise ScriptError(
            f"{script} is another program, probably Jumpstarter's own, and stays; choose a folder with --dir that "
            "comes before it in PATH"
        )
    _write(script, _SCRIPT.replace("@PROGRAM@", shlex.quote(str(program))))
    print_line(str(script))
    found = shutil.which("jmp")
    if found is None or not os.path.samefile(found, script):
        first = f"{found} comes first" if found else f"{folder} is not"
        quoted = shlex.quote(str(folder))
        print_error_line(f'warning: {first} in PATH; put {folder} in front: export PATH={quoted}:"$PATH"')
    return ExitCode.OK


def _own_program() -> Path:
    """Return the `jumpstarter` that runs."""
    program = shutil.which(sys.argv[0]) or sys.argv[0]
    path = Path(program).absolute()
    if not os.access(path, os.X_OK):
        raise ScriptError(
            f"{path} is not a program that a script can run; install the package, and run it from there"
        )
    return path


def _is_ours(script: Path) -> bool:
    try:
        with script.open("rb") as file:
            return _MARK.encode() in file.read(len(_SCRIPT) + 100)
    except OSError:
        return False


def _write(script: Path, text: str) -> None:
    """Write the script whole or not at all, and never through a link. A missing folder is made."""
    try:
        script.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=".jmp-", dir=script.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(part, 0o755)  # noqa: S103 - a program
            os.replace(part, script)
        except BaseException:  # Ctrl-C, too
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ScriptError(
            f"{script} cannot be written: {error.strerror}; choose a folder with --dir"
        ) from None
