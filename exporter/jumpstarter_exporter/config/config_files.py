"""Finds configuration files, as in Jumpstarter 0.9: the user's own first, then the system's."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.file_names import user_path
from jumpstarter_proto.private_files import PrivateFileError
from jumpstarter_proto.yaml_files import nearest

from jumpstarter_exporter.paths import config_folders

__all__ = ["ConfigNotFoundError", "find_config", "list_configs", "locate_config"]


class ConfigNotFoundError(JumpstarterError):
    """There is no configuration, or the choice is ambiguous."""

    status = "NOT_FOUND"
    exit_code = ExitCode.NOT_FOUND
    is_empty = False
    """This host has no configuration, and every folder could be read."""


def list_configs(places: Iterable[Path] | None = None, *, must_see: bool = False) -> dict[str, Path]:
    """All files, by name; one of the user's own in the place of the system's. A folder that is not there is empty.

    So is one that this user may not see, unless they `must_see` it.

    Raises:
        PrivateFileError: they may not.
    """
    found: dict[str, Path] = {}
    for folder in reversed(list(config_folders() if places is None else places)):
        found |= {path.stem: path for path in _files_in(folder, must_see) if path.suffix == ".yaml"}
    return found


def misnamed_configs(places: Iterable[Path] | None = None) -> list[Path]:
    """Files that look like configurations but are ignored, because their names do not end with `.yaml`.

    Raises:
        PrivateFileError: as `list_configs`.
    """
    files = [
        file
        for folder in (config_folders() if places is None else places)
        for file in _files_in(folder, True)
    ]
    return [file for file in files if file.suffix != ".yaml" and file.suffix.lower() in (".yaml", ".yml")]


def _files_in(folder: Path, must_see: bool) -> list[Path]:
    """All files except editors' backups, locks and hidden files."""
    try:
        return sorted(file for file in folder.iterdir() if file.name[0] not in ".#~")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if not must_see:
            return []
        raise PrivateFileError(
            f"{folder} cannot be read: {error.strerror}; use sudo, or change its permissions"
        ) from None


def find_config(name: str | None = None) -> Path:
    """The file with that name, or the only one.

    Raises:
        ConfigNotFoundError: there is none, or there are several and no name.
    """
    found = list_configs()
    places = " or ".join(str(folder) for folder in config_folders())
    if name is not None:
        if name in found:
            return found[name]
        raise ConfigNotFoundError(
            f"there is no exporter configuration {name!r} in {places}; {nearest(name, found)}"
        )
    if not found:
        none = ConfigNotFoundError(
            f"there is no exporter configuration; put one as NAME.yaml into {places}, "
            "or give the path of a file; `jumpstarter-exporter run` serves what is plugged in without one"
        )
        with suppress(PrivateFileError):
            none.is_empty = not list_configs(must_see=True)
        raise none
    if len(found) > 1:
        raise ConfigNotFoundError(
            f"there are several exporter configurations: {', '.join(sorted(found))}; name one with --config; "
            "`jumpstarter-exporter run` serves all of them"
        )
    return next(iter(found.values()))


def locate_config(config: str | Path | None) -> Path:
    """A file for what a user says: a path, the name of a configuration, with or without `.yaml`, or nothing.

    `rpi4.yaml` is the file of the working directory, and else that of the folders, if it is there.

    Raises:
        ConfigNotFoundError: see `find_config`. A path is not checked.
    """
    if config is None:
        return find_config()
    path = user_path(config)
    if "/" not in str(config) and path.suffix == ".yaml" and not path.exists():
        return list_configs().get(path.stem, path)
    is_path = len(path.parts) > 1 or path.suffix in (".yaml", ".yml") or path.is_file()
    return path if is_path else find_config(str(config))
