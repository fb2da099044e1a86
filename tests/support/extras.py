"""Which modules need which extra of pyproject.toml, found from their imports without running any of them.

A module belongs to the extra whose libraries it imports, at its top or in a function (`IMPORTERS`), and so do the
modules of ours that load it (`members`). All others belong to the base.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache

from packaging.requirements import Requirement

from tests.house.rooms import Module, all_modules
from tests.support.peers import ROOT

__all__ = [
    "BASE",
    "IMPORTERS",
    "IMPORT_NAMES",
    "closed",
    "extras",
    "imported",
    "libraries",
    "loaded",
    "members",
    "modules",
    "names",
]

BASE = ""
"""What is installed without an extra."""

IMPORT_NAMES = {
    "adafruit-lgpio": ("lgpio",),
    "backports.zstd": ("backports",),
    "cyclopts": ("cyclopts",),
    "gpiozero": ("gpiozero",),
    "hpack": ("hpack",),
    "idna": ("idna",),
    "kubernetes": ("kubernetes",),
    "lgpio": ("lgpio",),
    "lz4": ("lz4",),
    "msgspec": ("msgspec",),
    "outcome": ("outcome",),
    "paho-mqtt": ("paho",),
    "pexpect": ("pexpect",),
    "pillow": ("PIL",),
    "prometheus-client": ("prometheus_client",),
    "protobuf": ("google",),
    "purerpc": ("purerpc",),
    "pyjwt": ("jwt", "cryptography"),
    "pyserial": ("serial",),
    "pyudev": ("pyudev",),
    "pyusb": ("usb",),
    "PyYAML": ("yaml",),
    "snmp": ("snmp",),
    "trio": ("trio",),
    "urllib3": ("urllib3",),
}
"""The names by which the libraries in pyproject.toml are imported."""

BROUGHT_BY_USERS = {
    "pytest": {"jumpstarter_client.pytest_plugin"},
    "pytest_trio": {"jumpstarter_client.pytest_plugin"},
    "grpc_tools": {"jumpstarter_proto.purerpc_adapter.generate"},
    "jumpstarter": {"jumpstarter_exporter.hosting.child"},
    "jumpstarter_driver_composite": {"jumpstarter_exporter.hosting.child"},
}
"""Imported only in the program that has them: a test run, protoc's, or an environment with Jumpstarter 0.9."""

IMPORTERS = {
    "exporter": {
        "jumpstarter_drivers.power.gpio_chip",
        "jumpstarter_drivers.power.pins",
        "jumpstarter_drivers.power.usb_hub.transfers",
        "jumpstarter_drivers.relay_power.serial_line",
        "jumpstarter_drivers.serial.kept_serial",
        "jumpstarter_drivers.serial.port",
        "jumpstarter_drivers.usb_devices",
        "jumpstarter_exporter.devices.udev_database",
        "jumpstarter_exporter.devices.udev_monitor",
    },
    "pi": {"jumpstarter_drivers.power.gpio_chip"},
    "controller": {
        "jumpstarter_controller.app",
        "jumpstarter_controller.identity.authenticate",
        "jumpstarter_controller.identity.jumpstarter_key",
        "jumpstarter_controller.identity.keys",
        "jumpstarter_controller.identity.oidc.issuer",
        "jumpstarter_controller.identity.oidc.keys",
        "jumpstarter_controller.identity.tokens",
        "jumpstarter_controller.metrics.prometheus",
        "jumpstarter_controller.process.certificates",
        "jumpstarter_controller.router.tokens",
    },
    "kubernetes": {"jumpstarter_controller.store.kubernetes.api"},
    "pexpect": {"jumpstarter_client.adapters.spawn", "jumpstarter_drivers.serial.client"},
    "lz4": {"jumpstarter_proto.encoding"},
    "mqtt": {"jumpstarter_drivers.mqtt_power.broker"},
    "snmp": {"jumpstarter_drivers.snmp_power.agent"},
    "video": {"jumpstarter_drivers.video.client", "jumpstarter_drivers.video.comparison"},
}
"""The modules that import the libraries of each extra, at their top or in a function."""


@cache
def extras() -> dict[str, list[str]]:
    """The requirements of the base and of each extra but `all`, which is only a sum."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {BASE: project["dependencies"]} | {
        name: requirements for name, requirements in project["optional-dependencies"].items() if name != "all"
    }


def closed(extra: str) -> list[str]:
    """An extra and those that it includes, without the base."""
    found = [extra] if extra else []
    for requirement in map(Requirement, extras()[extra]):
        if requirement.name == "jumpstarter-sbc":
            found += [name for included in sorted(requirement.extras) for name in closed(included)]
    return found


def libraries(extra: str, *, here: bool = False) -> set[str]:
    """The names by which what an extra installs is imported; with `here`, only of what it installs on this machine."""
    found: set[str] = set()
    for requirement in map(Requirement, extras()[extra]):
        if requirement.name != "jumpstarter-sbc" and not (
            here and requirement.marker and not requirement.marker.evaluate()
        ):
            found.update(IMPORT_NAMES[requirement.name])
    return found


@cache
def names(module: str) -> frozenset[str]:
    """The dotted names that a module of ours imports anywhere, `import_module` with a literal name too."""
    found: set[str] = set()
    for node in ast.walk(modules()[module].tree):
        found.update(modules()[module].names(node))
        if isinstance(node, ast.Call) and _name(node.func) == "import_module":
            texts = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
            found.update(text for text in texts if isinstance(text, str) and text[:1].isalpha())
    return frozenset(found)


def imported(module: str) -> set[str]:
    """The packages that a module of ours imports anywhere."""
    return {name.partition(".")[0] for name in names(module)}


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@cache
def modules() -> dict[str, Module]:
    """All modules of ours but tests, by their names; each is parsed once."""
    return {module.name: module for module in all_modules() if not module.is_test}


@cache
def loaded(name: str) -> frozenset[str]:
    """The dotted names that loading a module of ours imports: its statements outside functions, and its packages."""
    module = modules()[name]
    names = {one for statement in _statements(module.tree) for one in module.names(statement)} | {name}
    return frozenset(
        ".".join(parts[: n + 1]) for parts in (one.split(".") for one in names) for n in range(len(parts))
    )


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs when a module is loaded."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        yield node
        waiting += [
            one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt | ast.ExceptHandler)
        ]


@cache
def members() -> dict[str, list[str]]:
    """The modules that the base can load, and those that each extra adds: the smallest that has all that they load.

    Raises:
        LookupError: no extra has everything that a module loads.
    """
    installed = {
        extra: {name for one in {BASE, *closed(extra)} for name in libraries(one)} for extra in extras()
    }
    optional = {name for names in installed.values() for name in names} - installed[BASE]
    found: dict[str, list[str]] = {extra: [] for extra in extras()}
    for module in modules():
        needs = {one for one in _reached(module) if one in optional}
        enough = [extra for extra, names in installed.items() if needs <= names]
        if not enough:
            raise LookupError(f"{module} loads {sorted(needs)}, and no extra installs them all")
        found[min(enough, key=lambda extra: len(installed[extra]))].append(module)
    return found


def _reached(name: str) -> set[str]:
    """Everything that is imported when a module of ours is loaded."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            if current in modules():
                waiting += loaded(current)
    return seen
