"""Stage the files of a package in a folder, with their installed paths."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from jumpstarter_deb import manpages
from jumpstarter_deb.recipe import LAB_FOLDER, MAINTAINER, Package, Program, Release
from jumpstarter_deb.source import SourceTree, python_version
from jumpstarter_deb.wheels import Library, unpack

__all__ = ["documents", "freeze", "libraries", "programs", "shared_files"]

LAUNCHER = '''\
#!{interpreter} -IS
"""Starts {name}: nothing of PYTHONPATH, of the user's or of this host's other Python packages is on its path."""

import os
import sys

sys.path.insert(0, "{folder}/lib")
if os.path.isdir("{lab}"):  # the drivers of a lab
    import site

    site.addsitedir("{lab}")

from {module} import {function} as main

sys.argv[0] = "{name}"
sys.exit(main())
'''
ALTERNATIVES = (
    "/usr/share/man/man1",
    "/usr/share/bash-completion/completions",
    "/usr/share/zsh/vendor-completions",
    "/usr/share/fish/vendor_completions.d",
)
OVERRIDES = """\
# Compiled for this release's Python, which no other has: a root that is read-only is not slower at each start.
package-installs-python-pycache-dir *
# Wheels bring the C libraries that they were built with; locks say which, and new ones come with an upgrade.
embedded-library *
"""
METADATA = """\
Metadata-Version: 2.1
Name: jumpstarter-sbc
Version: {version}
License-Expression: Apache-2.0
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: jumpstarter-sbc

Files: *
Copyright: the authors of jumpstarter-sbc
License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.

"""
BUNDLED = """\
Files: {folder}/lib/{name}*
Copyright: the authors of {name} {version}{home}
License: {license}
 The text is beside it, in {folder}/lib/*.dist-info.

"""


def libraries(package: Package, source: SourceTree, chosen: Iterable[Library], root: Path) -> None:
    """Stage the folder with the project and its libraries."""
    folder = root / package.folder[1:] / "lib"
    folder.mkdir(parents=True)
    for library in chosen:
        unpack(library, folder)
    own = source.own_packages()
    for name in package.sources:
        for path in source.own_files(name):
            target = folder / name / path.relative_to(own[name])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    about = folder / "jumpstarter_sbc.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA.format(version=python_version(source.version)))


def programs(package: Package, release: Release, root: Path) -> None:
    """Stage the commands in /usr/bin; those of the client in the package's folder, for dpkg's alternatives."""
    for program in package.programs:
        target = root / _place(package, program)[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            LAUNCHER.format(
                interpreter=release.interpreter,
                name=program.name,
                folder=package.folder,
                lab=LAB_FOLDER,
                module=program.module,
                function=program.function,
            )
        )


def shared_files(package: Package, source: SourceTree, root: Path) -> None:
    """Stage units, rules and configuration files at their installed paths."""
    for pattern, place in package.files:
        found = sorted(source.folder.glob(pattern))
        if not found:
            raise FileNotFoundError(f"the recipe of {package.name} names {pattern}, which is not in the tree")
        for path in found:
            name = place.replace("*", path.parent.name) if "*" in place else place
            target = root / name[1:] / path.name if name.endswith("/") else root / name[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    # Where the alternatives put links: update-alternatives makes no folders.
    linked = ALTERNATIVES if package.shares_client else ()
    for folder in (*package.folders, *linked):
        (root / folder[1:]).mkdir(parents=True, exist_ok=True)


def documents(
    package: Package,
    source: SourceTree,
    version: str,
    *,
    chosen: Iterable[Library],
    run: Callable[[Program, tuple[str, ...]], str],
    root: Path,
) -> None:
    """Stage manual pages, completion, licences and the change log. `run` returns the output of a program."""
    date = datetime.fromtimestamp(source.epoch, UTC)
    for program in package.programs:
        place = _share(package, program, root)
        if program.described_in:
            _write_gz(place / f"{program.name}.1.gz", f".so man1/{program.described_in}.1\n")
            continue

        def get_help(words: tuple[str, ...], program: Program = program) -> str:
            return run(program, (*words, "--help"))

        text = manpages.page(program.name, package.summary, f"{date:%Y-%m-%d}", source.version, get_help)
        _write_gz(place / f"{program.name}.1.gz", text)
        if program.name == "jumpstarter":
            for shell in ("bash", "zsh", "fish"):
                (place / f"jumpstarter.{shell}").write_text(run(program, ("completion", shell)))
    overrides = root / "usr/share/lintian/overrides"
    overrides.mkdir(parents=True)
    (overrides / package.name).write_text(OVERRIDES)
    about = root / "usr/share/doc" / package.name
    about.mkdir(parents=True, exist_ok=True)
    entry = f"{package.name} ({version}) unstable; urgency=medium\n\n  * {source.subject}\n\n"
    _write_gz(about / "changelog.gz", f"{entry} -- {MAINTAINER}  {format_datetime(date)}\n")
    (about / "copyright").write_text(
        COPYRIGHT
        + "".join(
            BUNDLED.format(
                folder=package.folder,
                name=library.name,
                version=library.version,
                home=f", {library.home}" if library.home else "",
                license=library.license,
            )
            for library in chosen
        )
    )


def freeze(root: Path, epoch: int) -> None:
    """Set the same modes and times in every build."""
    for path in [*root.rglob("*"), root]:
        if path.is_dir():
            path.chmod(0o755)
        elif not path.is_symlink():
            runs = path.parent.name in ("bin", "DEBIAN") and path.name not in (
                "control",
                "conffiles",
                "md5sums",
            )
            path.chmod(0o755 if runs else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _place(package: Package, program: Program) -> str:
    own = program.module.startswith("jumpstarter_client")
    return f"{package.folder}/bin/{program.name}" if own else f"/usr/bin/{program.name}"


def _share(package: Package, program: Program, root: Path) -> Path:
    own = program.module.startswith("jumpstarter_client")
    place = root / (f"{package.folder[1:]}/share" if own else "usr/share/man/man1")
    place.mkdir(parents=True, exist_ok=True)
    return place


def _write_gz(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
