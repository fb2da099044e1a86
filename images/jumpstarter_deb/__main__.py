"""`python -m jumpstarter_deb build` and `python -m jumpstarter_deb lock`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from jumpstarter_deb import build, lock, roots, source
from jumpstarter_deb.elf import ElfError
from jumpstarter_deb.recipe import ARCHITECTURES, PACKAGES, RELEASES

CHECKOUT = Path(__file__).parents[2]


def main() -> int:
    """Read the command line; a mistake or a failure is one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m jumpstarter_deb", description="Debian packages of HEAD.")
    parser.add_argument(
        "command", choices=("build", "lock"), help="build packages, or choose their libraries anew"
    )
    parser.add_argument(
        "--release", type=int, choices=RELEASES, action="append", help="of Debian; both if left out"
    )
    parser.add_argument("--architecture", choices=ARCHITECTURES, action="append", help="both if left out")
    parser.add_argument("--package", choices=PACKAGES, action="append", help="all if left out")
    parser.add_argument("--version", help="in place of the commit's")
    parser.add_argument("--level", type=int, default=6, help="of xz; 0 packs quickly, for a try")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "dist" / "deb", help="the folder for them")
    options = parser.parse_args()
    try:
        _run(options)
    except (lock.LockError, roots.BuildRootError, source.SourceError, ElfError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    releases = [RELEASES[number] for number in options.release or RELEASES]
    packages = [PACKAGES[name] for name in options.package or PACKAGES]
    architectures = [ARCHITECTURES[name] for name in options.architecture or ARCHITECTURES]
    with tempfile.TemporaryDirectory(prefix="jumpstarter-deb-") as name:
        tree = source.export(CHECKOUT, Path(name) / "tree", options.version)
        if options.command == "lock":
            for release in releases:
                text = build.lock_release(tree, PACKAGES.values(), release)
                lock.FOLDER.mkdir(exist_ok=True)
                lock.lock_file(release).write_text(text)
                print(f"wrote {lock.lock_file(release)}")
            return
        if source.has_changes(CHECKOUT):
            build.complain(
                f"files have changes that are not in commit {tree.commit[:8]}, and not in the packages"
            )
        for release in releases:
            started = time.monotonic()
            build.complain(f"{tree.version} for Debian {release.number}")
            build.build(
                tree, packages, release, architectures, output=options.output, say=print, level=options.level
            )
            build.complain(f"Debian {release.number} took {time.monotonic() - started:.0f} s")


sys.exit(main())
