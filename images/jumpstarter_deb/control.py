"""The control files of a package: its fields, configuration files, checksums and scripts."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from jumpstarter_deb.recipe import MAINTAINER, Architecture, Package, Release

__all__ = ["conffiles", "fields", "installed_size", "release_version", "scripts", "write"]

SCRIPTS = Path(__file__).parent / "maintainer"
WIDTH = 78


def release_version(version: str, release: Release) -> str:
    """The version of the package for a release. It is newer for a newer release of Debian, so upgrades install it."""
    return f"{version}+deb{release.number}"


def fields(
    package: Package,
    version: str,
    release: Release,
    architecture: Architecture,
    *,
    system: list[str],
    size: int,
) -> dict[str, str]:
    """The control fields; `system` is what the extension modules need, `size` is in KiB."""
    # Not python3: the libraries are for this version, and an upgrade of Debian also upgrades the package.
    python = [f"python{release.python}"]
    found = {
        "Package": package.name,
        "Version": version,
        "Architecture": architecture.name,
        "Maintainer": MAINTAINER,
        "Installed-Size": str(size),
        "Depends": ", ".join([*python, *system, *package.depends]),
        "Recommends": ", ".join(package.recommends),
        "Suggests": ", ".join(package.suggests),
        "Section": "devel",
        "Priority": "optional",
        "Description": "\n".join([package.summary, *_paragraphs(package.description)]),
    }
    return {key: value for key, value in found.items() if value}


def scripts(package: Package, version: str) -> dict[str, str]:
    """The maintainer scripts, by name."""
    found = {}
    words = {"PACKAGE": package.name, "FOLDER": package.folder, "PRIORITY": str(package.priority)}
    words |= {"VERSION": version, **package.substitutions}
    for path in sorted(SCRIPTS.glob(f"{package.short}.*")):
        text = re.sub(
            r"^# include (\S+)\n",
            lambda match: (SCRIPTS / match[1]).read_text(),
            path.read_text(),
            flags=re.M,
        )
        text = re.sub(r"@([A-Z]+)@", lambda match: words[match[1]], text)
        found[path.suffix[1:]] = text
    return found


def conffiles(root: Path) -> list[str]:
    """The files below /etc. An upgrade does not change the host's versions of them."""
    return sorted(f"/{path.relative_to(root)}" for path in (root / "etc").rglob("*") if path.is_file())


def installed_size(root: Path) -> int:
    """The size in KiB, as dpkg counts it: each file rounded up, and 1 for each folder."""
    paths = [path for path in root.rglob("*") if path.relative_to(root).parts[0] != "DEBIAN"]
    return sum(-(-path.stat().st_size // 1024) if path.is_file() else 1 for path in paths)


def write(root: Path, told: dict[str, str], programs: dict[str, str]) -> None:
    """Write the folder DEBIAN for the files in `root`."""
    folder = root / "DEBIAN"
    files = sorted(path for path in root.rglob("*") if path.is_file())
    sums = "".join(f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.relative_to(root)}\n" for p in files)
    kept = conffiles(root)
    folder.mkdir()
    (folder / "control").write_text("".join(f"{key}: {value}\n" for key, value in told.items()))
    (folder / "md5sums").write_text(sums)
    if kept:
        (folder / "conffiles").write_text("".join(f"{path}\n" for path in kept))
    for name, text in programs.items():
        (folder / name).write_text(text)


def _paragraphs(description: str) -> list[str]:
    lines: list[str] = []
    for text in description.strip().split("\n\n"):
        if lines:
            lines.append(" .")
        line = ""
        for word in text.split():
            if len(line) + len(word) > WIDTH:
                lines.append(line)
                line = ""
            line += f" {word}"
        lines.append(line)
    return lines
