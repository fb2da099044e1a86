"""Download wheels once by their hashes, select those that are needed, and unpack them without unused files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from jumpstarter_deb.lock import LockError, Pin, pip_options, render
from jumpstarter_deb.recipe import EXCLUDED, Architecture, Release

__all__ = ["Library", "applying", "environment", "fetch", "needed", "read", "unpack"]

LEFT_OUT = re.compile(
    r"""(^|/)(tests?|_tests?|testing)/(?!.*\.so$)   # test suites, and what helps to write some
      | (^|/)docs?/
      | \.(h|hpp|c|cpp|pyx|pxd|pyi|exe|orig)$       # for compilers and type checkers
      | \.dist-info/(RECORD|INSTALLER|REQUESTED|WHEEL|direct_url\.json|zip-safe|top_level\.txt)$
    """,
    re.VERBOSE,
)
KEPT = re.compile(r"^trio/testing/|^usb/")
"""Exceptions to LEFT_OUT."""


@dataclass(frozen=True)
class Library:
    """A wheel and its metadata."""

    wheel: Path
    name: str
    version: str
    license: str
    home: str
    requires: tuple[Requirement, ...]


def environment(release: Release, architecture: Architecture) -> dict[str, str]:
    """The environment for the markers of requirements."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{release.python}.0",
        "os_name": "posix",
        "platform_machine": architecture.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{release.python}.0",
        "python_version": release.python,
        "sys_platform": "linux",
    }


def applying(requirements: Iterable[str], markers: dict[str, str]) -> list[str]:
    """The requirements whose markers match, without their markers."""
    parsed = [Requirement(text) for text in requirements]
    return [
        str(item).partition(";")[0].strip()
        for item in parsed
        if item.marker is None or item.marker.evaluate(markers | {"extra": ""})
    ]


def fetch(pins: list[Pin], release: Release, architecture: Architecture, cache: Path) -> dict[str, Library]:
    """The wheels of a lock for one machine, by name, from the cache or by pip.

    Raises:
        LockError: pip cannot get them, or they are not those of the lock.
    """
    wanted = [pin for pin in pins if architecture.machine in pin.machines]
    text = render(wanted, release).replace(f' ; platform_machine == "{architecture.machine}"', "")
    folder = cache / f"{architecture.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as name:
            fresh = Path(name) / "wheels"
            (Path(name) / "lock").write_text(text)
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
                    *("--dest", fresh, "-r", Path(name) / "lock"),
                    *pip_options(release, architecture),
                ],
                env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
                check=False,
            )
            if done.returncode:
                raise LockError(
                    f"pip could not fetch the libraries for Debian {release.number}; see what it says above"
                )
            fresh.rename(folder)
    found = {}
    for wheel in sorted(folder.glob("*.whl")):
        library = read(wheel)
        pin = next((pin for pin in wanted if pin.name == library.name), None)
        if pin is None or hashlib.sha256(wheel.read_bytes()).hexdigest() not in pin.hashes:
            raise LockError(f"{wheel} is not what the lock has; remove {folder} and build again")
        found[library.name] = library
    if missing := sorted({pin.name for pin in wanted} - found.keys()):
        raise LockError(f"{folder} lacks {', '.join(missing)}; remove it and build again")
    return found


def needed(
    requirements: Iterable[str], libraries: dict[str, Library], markers: dict[str, str]
) -> list[Library]:
    """The libraries that these requirements need, directly or indirectly, without those that the recipe excludes.

    Raises:
        LockError: one is not in the lock, or has a version that does not fit.
    """
    chosen: dict[str, Library] = {}
    waiting = [(Requirement(text), "the project") for text in requirements]
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement, by = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in done or name in EXCLUDED:
            continue
        if requirement.marker and not requirement.marker.evaluate(markers | {"extra": ""}):
            continue
        done.add(key)
        library = libraries.get(name)
        if library is None or not requirement.specifier.contains(library.version, prereleases=True):
            raise LockError(
                f"{by} needs {requirement}, which the lock lacks; run `python -m jumpstarter_deb lock`"
            )
        chosen[name] = library
        for item in library.requires:
            extras = requirement.extras or {""}
            if item.marker is None or any(item.marker.evaluate(markers | {"extra": e}) for e in extras):
                waiting.append((Requirement(str(item).partition(";")[0]), name))
    return [chosen[name] for name in sorted(chosen)]


def unpack(library: Library, folder: Path) -> None:
    """Unpack the modules of the library into `folder`, without its scripts, headers and tests."""
    with zipfile.ZipFile(library.wheel) as archive:
        for item in archive.infolist():
            name = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", item.filename)
            if item.is_dir() or ".data/" in name or (LEFT_OUT.search(name) and not KEPT.search(name)):
                continue
            target = folder / name
            if not target.resolve().is_relative_to(folder.resolve()):
                raise LockError(f"{library.wheel} has a file outside of it: {item.filename}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(item) as source, target.open("xb") as copy:
                shutil.copyfileobj(source, copy)


def read(wheel: Path) -> Library:
    """Read the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)]
        fields = HeaderParser().parsestr(archive.read(name).decode())
    own, version, _build, _tags = parse_wheel_filename(wheel.name)
    return Library(
        wheel=wheel,
        name=own,
        version=str(version),
        license=fields["License-Expression"] or _license(fields.get_all("Classifier", []), fields["License"]),
        home=fields["Home-page"] or _home(fields.get_all("Project-URL", [])),
        requires=tuple(Requirement(text) for text in fields.get_all("Requires-Dist", [])),
    )


def _license(classifiers: list[str], text: str | None) -> str:
    known = [item.rpartition(" :: ")[2] for item in classifiers if item.startswith("License :: OSI")]
    lines = (text or "").strip().splitlines()
    return " and ".join(known) or (lines[0] if lines else "unknown")


def _home(urls: list[str]) -> str:
    return urls[0].partition(",")[2].strip() if urls else ""
