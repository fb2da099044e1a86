"""Finds the packages that bring drivers, by their manifests. Importing a manifest loads no driver and no client class.

A manifest is found in two places: in a folder of a `jumpstarter_drivers` directory on Python's path (this project's
drivers, and a lab's own), and through the entry point group `jumpstarter_sbc.drivers` of an installed package. A
package whose manifest is wrong is ignored, and `report_problems` logs one sentence for each: it breaks nothing else.

Reading entry points is slow, so they are read only for names that no folder has.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ast
    from importlib.machinery import ModuleSpec

__all__ = [
    "GROUP",
    "DriverPackage",
    "Manifest",
    "ManifestError",
    "all_packages",
    "folder_package",
    "folder_packages",
    "installed_packages",
    "problems",
    "report_problems",
    "steps_module",
]

GROUP = "jumpstarter_sbc.drivers"
FOLDERS = "jumpstarter_drivers"
_WORD = re.compile(r"[a-z][a-z0-9_-]*")
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_VERSION = re.compile(r"\d+(\.\d+)*")
_EMPTY: Mapping[str, str] = MappingProxyType({})
_log = logging.getLogger(__name__)


class ManifestError(ValueError):
    """A manifest is wrong; the message is the part of a sentence that says why."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a package brings. Modules and classes are named relative to `package`, such as `driver.Fan`.

        MANIFEST = Manifest(
            package=__name__,
            interface="fan",
            summary="turn the board's fan",
            types=("driver.Fan",),
            clients=("client.FanClient",),
            steps="steps",
        )

    Raises:
        ManifestError: A value is of a wrong kind, or a type is named twice.
    """

    package: str
    """The import name: `__name__`."""
    interface: str
    """The word behind `jumpstarter`. An interface of another package, such as `power`, is used without clients."""
    summary: str = ""
    """What its verbs are for: a line of `jumpstarter --help`."""
    types: tuple[str, ...] = ()
    """Driver classes: `driver.Fan` is `type: NAME.Fan`, where NAME is that of the entry point or of the folder."""
    clients: tuple[str, ...] = ()
    """Client classes, which reports name by their full path; the first one defines the interface's verbs."""
    steps: str = ""
    """The module with the steps of YAML tests, if there is one."""
    type_aliases: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    """What other projects call a type, and the class here."""
    client_aliases: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    """What other projects' exporters call a client class, and the class here."""
    needs: str = ""
    """The lowest version of jumpstarter-sbc, such as 0.2."""

    def __post_init__(self) -> None:
        """Check each value."""
        if not _is_text(self.interface, _WORD):
            raise ManifestError(
                f"its interface is {self.interface!r}, which is not a word of small letters, such as fan"
            )
        if not _is_line(self.summary):
            raise ManifestError(f"its summary is {self.summary!r}, which is not one line of text")
        for key in ("types", "clients"):
            names = getattr(self, key)
            if not isinstance(names, tuple) or not all(map(_is_path, names)):
                raise ManifestError(f"its {key} are not a tuple of names such as driver.Fan")
            short = [name.rpartition(".")[2] for name in names]
            if twice := next((name for name in short if short.count(name) > 1), None):
                raise ManifestError(f"it names {twice} twice in {key}")
        for key in ("type_aliases", "client_aliases"):
            names = getattr(self, key)
            if not isinstance(names, Mapping) or not all(map(_is_path, names.values())):
                raise ManifestError(f"its {key} do not map names to names such as driver.Fan")
        if not _is_name(self.package):
            raise ManifestError("its package is not an import name; write package=__name__")
        if self.steps != "" and not _is_name(self.steps):
            raise ManifestError(f"its steps are {self.steps!r}, which is not the name of a module")
        if self.needs != "" and not _is_text(self.needs, _VERSION):
            raise ManifestError(f"it needs {self.needs!r}, which is not a version such as 0.2")

    def path(self, name: str) -> str:
        """The full path of one of its modules or classes."""
        return f"{self.package}.{name}"


@dataclass(frozen=True)
class DriverPackage:
    """A package that was found."""

    name: str
    """Of its folder or entry point: what is before the dot in `type:`."""
    manifest: Manifest

    @property
    def types(self) -> dict[str, str]:
        """The full path of each driver class, by its short `type:`."""
        return {
            f"{self.name}.{path.rpartition('.')[2]}": self.manifest.path(path) for path in self.manifest.types
        }

    @property
    def type_aliases(self) -> dict[str, str]:
        """The full path of each driver class that another project has a name for."""
        return {alias: self.manifest.path(path) for alias, path in self.manifest.type_aliases.items()}

    @property
    def clients(self) -> dict[str, str]:
        """The full path of each client class, by what a report may call it."""
        paths = {alias: self.manifest.path(path) for alias, path in self.manifest.client_aliases.items()}
        return {self.manifest.path(path): self.manifest.path(path) for path in self.manifest.clients} | paths

    @property
    def verbs_client(self) -> str:
        """The full path of the class that defines the interface's verbs; empty if another package has it."""
        return next((self.manifest.path(path) for path in self.manifest.clients), "")


_problems: dict[str, bool] = {}
"""The sentences, and whether each was reported."""


def steps_module(package: DriverPackage) -> ModuleType | None:
    """Import the module with a package's steps, if it has one. One that cannot be imported is a problem, and None."""
    if not package.manifest.steps:
        return None
    try:
        return _imported(package.manifest.path(package.manifest.steps))
    except ManifestError as error:
        _ignore(f"the steps of the driver package {package.name}", error)
        return None


def problems() -> list[str]:
    """One sentence for each package that was found and is ignored."""
    return list(_problems)


def report_problems() -> None:
    """Log each sentence as a warning, once in a process."""
    for sentence, is_reported in _problems.items():
        if not is_reported:
            _problems[sentence] = True
            _log.warning("%s", sentence)


def all_packages() -> tuple[DriverPackage, ...]:
    """Those in folders, then those of entry points."""
    return (*folder_packages(), *installed_packages())


@cache
def folder_packages() -> tuple[DriverPackage, ...]:
    """Those in folders, sorted by their names in each directory; none when no drivers are installed."""
    found = [folder_package(name) for name in _folder_names()]
    return tuple(package for package in found if package is not None)


@cache
def folder_package(name: str) -> DriverPackage | None:
    """The one in the folder of that name."""
    if name not in _folder_names():
        return None
    try:
        module = _imported(f"{FOLDERS}.{name}")
        manifest = _manifest(module, "MANIFEST") if hasattr(module, "MANIFEST") else _constants(module)
        if name not in _own_folders():  # a lab's; ours are tested
            _check_whole(manifest)
            own = (folder_package(one) for one in sorted(_own_folders()))
            _check_interface(manifest, [one for one in own if one is not None])
    except ManifestError as error:
        _ignore(f"the driver folder {name}", error)
        return None
    except (Exception, SystemExit) as error:  # a module's own __getattr__, or what its constants do
        _ignore(f"the driver folder {name}", ManifestError(f"it cannot be read ({_reason(error)})"))
        return None
    return DriverPackage(name, manifest)


@cache
def installed_packages() -> tuple[DriverPackage, ...]:
    """Those of entry points, in the order of their names. What a folder has, or one before has, is not taken over."""
    found: list[DriverPackage] = []
    for name, value, distribution in sorted(_entry_points()):
        if value.partition(":")[0].partition(".")[0] == FOLDERS:
            continue  # found by its folder
        try:
            package = DriverPackage(name, _loaded(value))
            _check_claims(package, (*folder_packages(), *found))
        except ManifestError as error:
            _ignore(f"the driver package {distribution}", error)
        else:
            found.append(package)
    return tuple(found)


def _check_claims(package: DriverPackage, others: Iterable[DriverPackage]) -> None:
    """Raise ManifestError if one of the others has the name, or the interface with its verbs."""
    others = tuple(others)
    if not _WORD.fullmatch(package.name):
        raise ManifestError(
            f"its entry point is named {package.name!r}, which is not a word of small letters"
        )
    for other in others:
        if other.name == package.name:
            raise ManifestError(f"it claims the name {package.name}, which another package has")
    _check_interface(package.manifest, others)


def _check_interface(manifest: Manifest, others: Iterable[DriverPackage]) -> None:
    """Raise ManifestError if one of the others has the interface with its verbs."""
    for other in others:
        has_both = bool(manifest.clients or manifest.steps) and bool(other.manifest.clients)
        if has_both and other.manifest.interface == manifest.interface:
            raise ManifestError(f"it claims the interface {manifest.interface}, which another package has")


def _ignore(what: str, error: ManifestError) -> None:
    sentence = " ".join(f"{what} is ignored: {error}; correct, update or remove it".split())
    _problems.setdefault(sentence[:500], False)


def _loaded(value: str) -> Manifest:
    """The manifest that an entry point names, checked. Raises ManifestError."""
    module_name, _, attribute = value.partition(":")
    if not _is_name(module_name) or not _is_name(attribute):
        raise ManifestError(f"its entry point {value!r} is not like fan_driver:MANIFEST")
    manifest = _manifest(_imported(module_name), attribute)
    _check_whole(manifest)
    return manifest


def _check_whole(manifest: Manifest) -> None:
    """Raise ManifestError if it is for a newer version of this project, or names what does not exist."""
    if manifest.needs:
        from jumpstarter_proto.installed import installed_version  # noqa: PLC0415 - it reads metadata

        if _version(installed_version()) < _version(manifest.needs):
            raise ManifestError(
                f"it needs jumpstarter-sbc {manifest.needs}, and {installed_version()} is installed"
            )
    aliases = (*manifest.type_aliases.values(), *manifest.client_aliases.values())
    for path in (*manifest.types, *manifest.clients, *aliases):
        _check_defined(manifest.path(path))
    if manifest.steps and _spec(manifest.path(manifest.steps)) is None:
        raise ManifestError(f"its module {manifest.path(manifest.steps)} does not exist")


def _imported(module: str) -> ModuleType:
    """Import a module of another package. ManifestError: its import failed."""
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a package that breaks must break nothing else
        raise ManifestError(f"{module} cannot be imported ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _manifest(module: ModuleType, name: str) -> Manifest:
    try:
        manifest = getattr(module, name, None)
    except Exception as error:  # a module's own __getattr__
        raise ManifestError(f"{module.__name__} cannot be read ({_reason(error)})") from error
    if type(manifest) is not Manifest:
        raise ManifestError(f"{module.__name__}:{name} is not a Manifest")
    return manifest


def _constants(module: ModuleType) -> Manifest:
    """The manifest of a lab's folder that says it by constants: INTERFACE, DRIVERS and CLIENTS."""
    interface = getattr(module, "INTERFACE", None)
    if interface is None:
        raise ManifestError("it has no MANIFEST")
    try:
        return _of_constants(module, interface)
    except (AttributeError, TypeError) as error:
        raise ManifestError(f"its constants are not those of a driver folder ({error})") from error


def _of_constants(module: ModuleType, interface: str) -> Manifest:
    folder = os.path.dirname(module.__file__ or "")
    clients: Mapping[str, str] = getattr(module, "CLIENTS", {})
    has_clients = bool(clients) and os.path.isfile(f"{folder}/client.py")
    drivers: Mapping[str, str] = getattr(module, "DRIVERS", {})
    return Manifest(
        package=module.__name__,
        interface=interface,
        types=tuple(
            f"driver.{name}" for name in _offered(f"{module.__name__}.driver", f"{folder}/driver.py")
        ),
        clients=tuple(f"client.{name}" for name in dict.fromkeys(clients.values())) if has_clients else (),
        steps="steps" if os.path.isfile(f"{folder}/steps.py") else "",
        type_aliases={alias: f"driver.{name}" for alias, name in drivers.items()},
        client_aliases={alias: f"client.{name}" for alias, name in clients.items()} if has_clients else {},
    )


@cache
def _own_folders() -> frozenset[str]:
    """The folders beside the package's own `__init__.py`: this project's."""
    package = importlib.import_module(FOLDERS)
    return frozenset(os.listdir(os.path.dirname(package.__file__ or "")))


@cache
def _folder_names() -> tuple[str, ...]:
    try:
        package = importlib.import_module(FOLDERS)
    except ModuleNotFoundError:
        return ()
    found: list[str] = []
    for location in package.__path__:  # several, when a lab keeps drivers of its own
        try:
            names = sorted(os.listdir(location))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            _ignore(f"the driver directory {location}", ManifestError(f"it cannot be read ({reason})"))
            continue
        found += (name for name in names if os.path.isfile(f"{location}/{name}/__init__.py"))
    return tuple(dict.fromkeys(found))


def _entry_points() -> Iterator[tuple[str, str, str]]:
    """Name, value, and the distribution, of each entry point of the group; that of the first place on the path counts.

    `importlib.metadata` would do the same in five times the time, half of it for importing it.
    """
    seen: set[str] = set()
    for place in dict.fromkeys(sys.path):
        try:
            folders = sorted(
                name for name in os.listdir(place or ".") if name.endswith((".dist-info", ".egg-info"))
            )
        except OSError:
            continue
        for folder in folders:
            distribution, _, version = folder.rpartition(".")[0].partition("-")
            if (key := distribution.lower().replace("-", "_").replace(".", "_")) in seen:
                continue
            seen.add(key)
            try:
                with open(f"{place or '.'}/{folder}/entry_points.txt", encoding="utf-8") as file:
                    text = file.read()
            except (OSError, UnicodeDecodeError):
                continue
            if GROUP in text:
                for name, value in _of_group(text):
                    yield name, value, f"{distribution} {version}".strip()


def _of_group(text: str) -> Iterator[tuple[str, str]]:
    is_inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            is_inside = line == f"[{GROUP}]"
        elif is_inside and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _check_defined(path: str) -> None:
    """Raise ManifestError if there is no such class, as far as that is seen without an import."""
    module, _, name = path.rpartition(".")
    spec = _spec(module)
    if spec is None:
        raise ManifestError(f"its module {module} does not exist")
    names = _bound_names(spec.origin or "")
    if names is not None and name not in names:
        raise ManifestError(f"its class {path} does not exist")


def _spec(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (Exception, SystemExit):  # a package above it is imported for that
        return None


def _bound_names(source: str) -> set[str] | None:
    """What a module defines or imports at its top; None where that cannot be told."""
    tree = _tree(source)
    if tree is None:
        return None
    found: set[str] = set()
    for node in tree.body:
        for name in _names_of(node):
            if name in ("*", "__getattr__"):
                return None
            found.add(name)
    return found


def _offered(module: str, source: str) -> list[str]:
    """The `__all__` of a module, read from its source. If it is computed there, the module is imported.

    Raises:
        ManifestError: The module cannot be imported.
    """
    import ast  # noqa: PLC0415 - for a lab's own folders

    match [node for node in getattr(_tree(source), "body", []) if "__all__" in _names_of(node)]:
        case []:
            return []
        case [ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value)]:
            with suppress(ValueError):  # it is not a literal
                names: list[str] = ast.literal_eval(value)
                return names
    return list(_imported(module).__all__)


def _tree(source: str) -> ast.Module | None:
    import ast  # noqa: PLC0415 - as above

    try:
        with open(source, encoding="utf-8") as file:
            return ast.parse(file.read())
    except (OSError, ValueError, SyntaxError):
        return None


def _names_of(node: ast.stmt) -> list[str]:
    import ast  # noqa: PLC0415 - as above

    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.Import() | ast.ImportFrom():
            return [(alias.asname or alias.name).partition(".")[0] or alias.name for alias in node.names]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign() | ast.AugAssign() if isinstance(node.target, ast.Name):
            return [node.target.id]
        case ast.If() | ast.Try():  # either of its branches may define it
            return ["*"]
    return []


def _is_line(text: object) -> bool:
    return isinstance(text, str) and text.isprintable()


def _is_text(text: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def _is_name(text: object) -> bool:
    return _is_text(text, _NAME)


def _is_path(text: object) -> bool:
    return _is_name(text) and "." in str(text)


def _version(text: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version; empty if there is none."""
    found = _VERSION.match(text)
    return tuple(map(int, found[0].split("."))) if found else ()
