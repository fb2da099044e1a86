"""`jumpstarter-exporter init`: a configuration with what was found on this host."""

from __future__ import annotations

import os
import shlex
import socket
from dataclasses import replace
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.file_names import safe_name, user_path
from jumpstarter_proto.terminal import print_error_line, print_line, print_text

from jumpstarter_exporter.boards.grouping import host_name
from jumpstarter_exporter.cli.profiles import fault_of
from jumpstarter_exporter.config.config_files import list_configs
from jumpstarter_exporter.config.folder import nodes_in, read_file
from jumpstarter_exporter.config.model import check_command
from jumpstarter_exporter.devices.draft_configuration import DraftConfiguration, draft_configuration
from jumpstarter_exporter.devices.host_parts import read_host_parts
from jumpstarter_exporter.devices.hwdb import shipped
from jumpstarter_exporter.devices.profiles import read_host_profiles
from jumpstarter_exporter.paths import config_folders

__all__ = ["NotWrittenError", "write_configuration"]

_MODE = 0o644


class NotWrittenError(JumpstarterError):
    """The file exists already, or cannot be written."""

    status = "ALREADY_EXISTS"
    exit_code = ExitCode.USAGE


def write_configuration(output: str | None) -> int:
    """Write what was found into a new file, or print it for `-`: the exit code.

    Raises:
        NotWrittenError: see there; an existing file is unchanged.
        UdevError: the devices cannot be read.
    """
    host = host_name(socket.gethostname())
    if output and output != "-" and output.startswith("-"):
        raise NotWrittenError(
            f"`init` has no option {output}; a file of that name is ./{output}, and - prints the text"
        )
    file = user_path(output or f"{host}.yaml")
    if output and output.endswith("/"):
        raise NotWrittenError(f"{output} names a folder; name a file: {file / 'board.yaml'}")
    name = host if output == "-" else host_name(file.stem)
    profiles = read_host_profiles()
    parts = replace(read_host_parts(), configured=_configured())
    draft = draft_configuration(name, parts, profiles, shipped(), fault_of)
    for error in profiles.errors:
        print_error_line(f"jumpstarter-exporter: {error}")
    if output == "-":
        print_text(draft.text)
        return ExitCode.OK
    _write(file, draft.text)
    for line in _summary(file, draft):
        print_line(line)
    return ExitCode.OK


def _configured() -> dict[str, str]:
    """The nodes in the configurations of this host that its user may read, with the file."""
    files = [read_file(path) for path in list_configs().values()]
    return {node: str(file.path) for file in files for node in nodes_in(file.content)}


def _write(file: Path, text: str) -> None:
    """Complete, or not at all."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise _unwritable(file, error) from None
    try:
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
        except BaseException:  # Ctrl-C, too: the next `init` would not overwrite a part of it
            file.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(file, error) from None


def _exists(file: Path) -> NotWrittenError:
    if file.is_dir():
        return _is_folder(file)
    other = file.with_name(safe_name(f"{file.stem}-2{file.suffix}"))
    return NotWrittenError(
        f"{file} exists and is not overwritten; name another file: "
        f"jumpstarter-exporter init {shlex.quote(str(other))} (or - to print it)"
    )


def _is_folder(file: Path) -> NotWrittenError:
    return NotWrittenError(f"{file} is a folder; name a file in it: {file / 'board.yaml'}")


def _unwritable(file: Path, error: OSError) -> NotWrittenError:
    if isinstance(error, FileNotFoundError):
        folder = file.absolute().parent
        return NotWrittenError(f"there is no folder {folder}; make it: mkdir -p {shlex.quote(str(folder))}")
    return NotWrittenError(f"{file} cannot be written: {error.strerror}; name another file, or - to print it")


def _summary(file: Path, draft: DraftConfiguration) -> list[str]:
    names = ", ".join(draft.offered)
    if draft.is_virtual:
        said = f"{file}: nothing was found that can be offered at once, so it has a virtual board: {names}"
    else:
        said = f"{file}: {names}"
    if draft.commented:
        said += f"; in comments: {', '.join(draft.commented)}"
    # The daemon of the host serves what is in these folders; `run --config` would be a second one.
    is_of_the_host = file.absolute().parent in config_folders()
    run = "run; or, where that runs: jumpstarter-exporter reload"
    return [
        said,
        "Edit it, then:",
        f"  {check_command(file)}",
        f"  jumpstarter-exporter {run if is_of_the_host else f'run --config {shlex.quote(str(file))}'}",
    ]
