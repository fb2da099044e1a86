"""`jumpstarter driver new|list`: create a package for a new driver, with a passing test; list the drivers."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from google.protobuf import descriptor_pb2
from jumpstarter_proto import driver_packages
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.terminal import print_line

from jumpstarter_client.cli.arguments import parse_arguments
from jumpstarter_client.cli.command_options import DRIVER_NEW
from jumpstarter_client.cli.options import GlobalOptions, take_output
from jumpstarter_client.cli.output import print_table, write_data
from jumpstarter_client.command_errors import UsageError, nearest

__all__ = ["KINDS", "driver"]

KINDS = ("power", "serial", "storage", "network")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class DriverFilesError(JumpstarterError):
    """The package cannot be written."""


def driver(arguments: list[str], _: GlobalOptions) -> ExitCode:
    """Run the command."""
    verb, *rest = arguments
    if verb == "list":
        return _list(rest)
    if verb != "new":
        raise UsageError(f"`driver` has no verb {verb!r}{nearest(verb, ('new', 'list'))}")
    return _new(rest)


def _list(arguments: list[str]) -> ExitCode:
    """Print the types that `type:` of a configuration may name here."""
    output, rest = take_output(arguments)
    if rest:
        raise UsageError(f"unexpected argument {rest[0]!r}; `jumpstarter driver list` lists all drivers")
    rows = sorted(
        (name, package.manifest.interface, path)
        for package in driver_packages.all_packages()
        for name, path in package.types.items()
    )
    if output == "name":
        for name, _, _ in rows:
            print_line(name)
    elif output:
        write_data(
            {"drivers": [dict(zip(("type", "interface", "class"), row, strict=True)) for row in rows]}, output
        )
    else:
        print_table(("TYPE", "INTERFACE", "CLASS"), rows)
    driver_packages.report_problems()
    return ExitCode.OK


def _new(rest: list[str]) -> ExitCode:
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
    """Write the package beside its place first: there is all of it or nothing, also after Ctrl-C or on a full disk."""
    contents = _contents(name, kind)
    if os.path.lexists(folder):
        raise DriverFilesError(f"{folder} exists already; choose another name, or remove it")
    beside: Path | None = None
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        for path, content in contents.items():
            (beside / path).parent.mkdir(exist_ok=True)
            (beside / path).write_bytes(content)
        beside.chmod((beside / path).parent.stat().st_mode)  # mkdtemp's is for its owner alone
        beside.rename(folder)
    except BaseException as error:  # also Ctrl-C: nothing is left behind
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, OSError):
            raise DriverFilesError(
                f"{folder} cannot be written: {error.strerror}; go to another folder"
            ) from error
        raise
    return [folder / path for path in contents]


def _contents(name: str, kind: str) -> dict[Path, bytes]:
    """The package's files by their paths in its folder."""
    templates = resources.files("jumpstarter_drivers") / "templates"
    module = name.replace("-", "_")
    package = f"{module}_driver"
    values = {
        "name": name,
        "kind": kind,
        "project": f"{name}-driver",
        "package": package,
        "module": module,
        "class": "".join(part.capitalize() for part in name.split("-")),
        "config": (templates / kind / "config.in").read_text(encoding="utf-8").rstrip("\n"),
        # As purerpc's plugin names the module.
        "alias": f"{package}_dot_{module}__pb2",
    }
    service = _service(package, module, values["class"])
    values["descriptor"] = repr(service.SerializeToString(deterministic=True))
    sources: dict[Path, Traversable] = {
        Path(file): templates / f"{file}.in" for file in ("pyproject.toml", "README.md", "exporter.yaml")
    }
    sources[Path(package, "__init__.py")] = templates / "__init__.py.in"
    for file in ("driver.py", "test_driver.py"):
        sources[Path(package, file)] = templates / kind / f"{file}.in"
    for ending in (".proto", "_grpc.py", "_pb2.py", "_pb2.pyi"):
        sources[Path(package, module + ending)] = templates / f"interface{ending}.in"
    contents = {
        path: Template(source.read_text(encoding="utf-8")).substitute(values).encode()
        for path, source in sources.items()
    }
    service.message_type[0].field[0].json_name = "value"  # protoc writes it into this file only
    reported = descriptor_pb2.FileDescriptorSet(file=[service])
    return contents | {Path(package, f"{module}.binpb"): reported.SerializeToString(deterministic=True)}


def _service(package: str, module: str, name: str) -> descriptor_pb2.FileDescriptorProto:
    """What protoc makes of the template of the .proto file; a user may be without protoc."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}/{module}.proto",
        package=f"{package}.v1",
        dependency=["google/protobuf/empty.proto"],
        syntax="proto3",
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    file.message_type.add(name="LocationResponse").field.add(
        name="value", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL
    )
    file.service.add(name=f"{name}Interface").method.add(
        name="Location", input_type=".google.protobuf.Empty", output_type=f".{package}.v1.LocationResponse"
    )
    return file
