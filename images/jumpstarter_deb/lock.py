"""The libraries in the packages: the version of each, and the hashes of its files.

A lock is a requirements file of pip, one for each release, with the wheels for all machines. `resolve` makes a new one
with pip and its index; all other functions only read it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from jumpstarter_deb.recipe import ARCHITECTURES, EXCLUDED, Architecture, Release

__all__ = ["FOLDER", "LockError", "Pin", "lock_file", "parse", "pip_options", "render", "resolve"]

FOLDER = Path(__file__).parent / "locks"
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_5")
"""Wheels that run on Debian 12 and newer (glibc 2.36)."""
HEADER = """\
# The libraries of the packages for Debian {number}. Written by `python -m jumpstarter_deb lock`; not by hand.
"""


class LockError(Exception):
    """A lock cannot be read or made."""


@dataclass(frozen=True)
class Pin:
    """One library: its version, the SHA-256 of each wheel, and the machines that it is for."""

    name: str
    version: str
    hashes: frozenset[str]
    machines: frozenset[str]


def lock_file(release: Release) -> Path:
    """The path of a release's lock."""
    return FOLDER / f"debian-{release.number}.txt"


def pip_options(release: Release, architecture: Architecture) -> list[str]:
    """The options that make pip choose wheels for a release and a machine instead of this one."""
    platforms = [f"--platform={platform}_{architecture.machine}" for platform in PLATFORMS]
    return [
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={release.python}",
        f"--abi={release.tag}",
        "--abi=abi3",
        "--abi=none",
        *platforms,
    ]


def render(pins: list[Pin], release: Release) -> str:
    """The text of a lock."""
    lines = [HEADER.format(number=release.number)]
    everywhere = frozenset(architecture.machine for architecture in ARCHITECTURES.values())
    for pin in sorted(pins, key=lambda pin: pin.name):
        marker = "" if pin.machines == everywhere else f' ; platform_machine == "{min(pin.machines)}"'
        hashes = "".join(f" \\\n    --hash=sha256:{value}" for value in sorted(pin.hashes))
        lines.append(f"{pin.name}=={pin.version}{marker}{hashes}\n")
    return "".join(lines)


def parse(text: str) -> list[Pin]:
    """Read what `render` wrote. Raises LockError."""
    pins = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        requirement, *hashes = line.split(" --hash=")
        what, _, marker = requirement.partition(";")
        name, _, version = what.strip().partition("==")
        if not version or not hashes or not all(value.strip().startswith("sha256:") for value in hashes):
            raise LockError(f"a lock names each library as NAME==VERSION with its hashes, not {line[:60]!r}")
        machine = marker.partition("==")[2].strip().strip('"')
        machines = [machine] if machine else [item.machine for item in ARCHITECTURES.values()]
        values = frozenset(value.strip().removeprefix("sha256:") for value in hashes)
        pins.append(Pin(name, version, values, frozenset(machines)))
    return pins


def resolve(requirements: dict[str, list[str]], release: Release) -> list[Pin]:
    """Return the versions that pip selects now for each machine (by Python's name); they are the same for all machines.

    Raises:
        LockError: pip finds no such wheels, or not the same versions.
    """
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    constraints: list[str] = []
    for architecture in ARCHITECTURES.values():
        chosen = _choose(requirements[architecture.machine], constraints, release, architecture)
        constraints = [f"{name}=={version}" for name, version, _hash in chosen]
        for name, version, value in chosen:
            hashes, machines = found.setdefault((name, version), (set(), set()))
            hashes.add(value)
            machines.add(architecture.machine)
    return [
        Pin(name, version, frozenset(hashes), frozenset(machines))
        for (name, version), (hashes, machines) in found.items()
        if name not in EXCLUDED
    ]


def _choose(
    requirements: list[str], constraints: list[str], release: Release, architecture: Architecture
) -> list[tuple[str, str, str]]:
    with tempfile.TemporaryDirectory(prefix="jumpstarter-lock-") as name:
        folder = Path(name)
        (folder / "wanted").write_text("\n".join(requirements))
        (folder / "constraints").write_text("\n".join(constraints))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"),
                *("--target", folder / "nothing", "--report", folder / "report"),
                *("-r", folder / "wanted", "-c", folder / "constraints"),
                *pip_options(release, architecture),
            ],
            env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            check=False,
        )
        if done.returncode:
            raise LockError(f"pip found no libraries for Debian {release.number} on {architecture.name}")
        report = json.loads((folder / "report").read_text())
    return [
        (
            canonicalize_name(item["metadata"]["name"]),
            item["metadata"]["version"],
            item["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for item in report["install"]
    ]
