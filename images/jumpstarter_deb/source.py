"""The committed project: its files, its version, and the time of all files in the packages."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

__all__ = ["SourceError", "SourceTree", "debian_version", "export", "python_version"]


class SourceError(Exception):
    """The tree cannot be packed."""


@dataclass(frozen=True)
class SourceTree:
    """The files of a commit, in a private folder."""

    folder: Path
    commit: str
    subject: str
    epoch: int
    """The time of the commit in seconds since 1970."""
    version: str
    """Debian's version without the release; it sorts in the order of the commits."""

    @property
    def project(self) -> dict[str, Any]:
        """Read pyproject.toml."""
        return tomllib.loads((self.folder / "pyproject.toml").read_text())

    def own_packages(self) -> dict[str, Path]:
        """The folders of the project's packages by their names."""
        folders = self.project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        return {Path(folder).name: self.folder / folder for folder in folders}

    def own_files(self, package: str) -> list[Path]:
        """The installed files of a package: those of the wheel, without tests."""
        left_out = self.project["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"]
        root = self.own_packages()[package]
        return sorted(
            path
            for path in root.rglob("*")
            if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in left_out)
        )

    def requirements(self, extras: tuple[str, ...]) -> list[str]:
        """The requirements of the project and of these extras."""
        project = self.project["project"]
        return [*project["dependencies"], *(r for e in extras for r in project["optional-dependencies"][e])]


def debian_version(number: str, *, released: bool, epoch: int, commit: str) -> str:
    """The version of a commit. Before a release it sorts before that release, by the time of the commit."""
    if released:
        return number
    return f"{number}~git{_stamp(epoch)}.{commit[:8]}"


def python_version(version: str) -> str:
    """The same in Python's notation."""
    if found := re.fullmatch(r"([\d.]+)~git(\d+)\.([0-9a-f]+)", version):
        return f"{found[1]}.dev{found[2]}+g{found[3]}"
    return re.sub(r"[~+].*", "", version)


def export(checkout: Path, folder: Path, version: str | None = None) -> SourceTree:
    """Write the files of HEAD into `folder`. `version` overrides the version from git's tags.

    Raises:
        SourceError: the tree is not a git checkout.
    """
    commit = _git(checkout, "rev-parse", "HEAD")
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "-C", checkout, "archive", "HEAD"], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    epoch = int(_git(checkout, "show", "-s", "--format=%ct", "HEAD"))
    number = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
    released = f"v{number}" in _git(checkout, "tag", "--points-at", "HEAD").split()
    return SourceTree(
        folder=folder,
        commit=commit,
        subject=_git(checkout, "show", "-s", "--format=%s", "HEAD"),
        epoch=epoch,
        version=version or debian_version(number, released=released, epoch=epoch, commit=commit),
    )


def has_changes(checkout: Path) -> bool:
    """Whether there are changes that are not committed."""
    return bool(_git(checkout, "status", "--porcelain", "--untracked-files=no"))


def _git(checkout: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", checkout, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SourceError(f"{checkout} is not a checkout of git: {done.stderr.strip()}")
    return done.stdout.strip()


def _stamp(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%d%H%M%S")
