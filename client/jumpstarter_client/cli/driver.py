"""`jumpstarter driver new`: create a package for a new driver, with a passing test."""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from jumpstarter_proto import driver_packages
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.terminal import print_line

from jumpstarter_client.cli.arguments import parse_arguments
from jumpstarter_client.cli.command_options import DRIVER_NEW
from jumpstarter_client.cli.options import GlobalOptions
from jumpstarter_client.command_errors import UsageError, nearest

__all__ = ["KINDS", "driver"]

KINDS = ("power", "serial", "storage", "network")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class DriverFilesError(JumpstarterError):
    """The package cannot be written."""


def driver(arguments: list[str], _: GlobalOptions) -> ExitCode:
    """Run the command."""
    verb, *rest = arguments
    if verb != "new":
        raise UsageError(f"`driver` has no verb {verb!r}{nearest(verb, ('new',))}")
    parsed = parse_arguments("driver new", rest, DRIVER_NEW)
    kind = parsed.one("--kind")
    if len(parsed.words) != 1 or kind is None:
        raise UsageError(f"`driver new` takes one NAME, and --kind {'|'.join(KINDS)}")
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}{nearest(kind, KINDS)}")
    [name] = parsed.words
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"the name {name!r} is invalid: use small letters, digits and hyphens, such as lab-relay"
        )
    if any(package.name == name for package in driver_packages.all_packages()):
        raise UsageError(f"there is a driver package {name} already; choose another name")
    for path in _write(Path(name), name, kind):
        print_line(str(path))
    return ExitCode.OK


def _write(folder: Path, name: str, kind: str) -> list[Path]:
    templates = resources.files("jumpstarter_drivers") / "templates"
    package = f"{name.replace('-', '_')}_driver"
    values = {
        "name": name,
        "kind": kind,
        "project": f"{name}-driver",
        "package": package,
        "class": "".join(part.capitalize() for part in name.split("-")),
        "config": (templates / kind / "config.in").read_text(encoding="utf-8").rstrip("\n"),
    }
    sources: dict[Path, Traversable] = {
        Path(file): templates / f"{file}.in" for file in ("pyproject.toml", "README.md", "exporter.yaml")
    }
    sources[Path(package, "__init__.py")] = templates / "__init__.py.in"
    for file in ("driver.py", "test_driver.py"):
        sources[Path(package, file)] = templates / kind / f"{file}.in"
    try:
        folder.mkdir()
        (folder / package).mkdir()
        for path, source in sources.items():
            text = Template(source.read_text(encoding="utf-8")).substitute(values)
            (folder / path).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise DriverFilesError(f"{folder} exists already; choose another name, or remove it") from None
    except OSError as error:
        raise DriverFilesError(
            f"{folder} cannot be written: {error.strerror}; go to another folder"
        ) from error
    return [folder / path for path in sources]
