"""``python -m jumpstarter_os [arm64|amd64]``: build the image, unattended, without root."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from jumpstarter_os import disk, namespace, recipe
from jumpstarter_os.rootfs import ImageRootError

PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "zstd": "zstd",
    "bmaptool": "bmap-tools",
    "newuidmap": "uidmap",
}
"""Required programs, and their Debian packages."""
FOREIGN_PROGRAMS = {"arch-test": "arch-test"}
"""...and those for another architecture; mmdebstrap checks whether its programs run."""


def packages(folder: Path, architecture: recipe.Architecture) -> list[Path] | None:
    """The newest file of each of our packages in the image; None if one is missing."""
    pattern = f"_*+deb{recipe.RELEASE_NUMBER}_{architecture}.deb"
    found = [list(folder.resolve().glob(f"{name}{pattern}")) for name in recipe.OURS]
    return [max(ones, key=lambda one: one.stat().st_mtime_ns) for ones in found] if all(found) else None


def main() -> int:
    """Build the image and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m jumpstarter_os",
        description="Build the image that lab hosts boot.",
        epilog="example: python -m jumpstarter_os amd64 --level 0",
    )
    parser.add_argument("architecture", choices=["arm64", "amd64"], nargs="?", default="arm64")
    parser.add_argument(
        "--debs", type=Path, default=Path("dist/deb"), help="the folder of our packages [dist/deb]"
    )
    parser.add_argument("--into", type=Path, default=Path("dist"), help="the folder for the results [dist]")
    parser.add_argument(
        "--level", type=int, default=12, help="how hard zstd works, to 19; 0: do not pack at all"
    )
    given = parser.parse_args()
    architecture: recipe.Architecture = given.architecture

    is_foreign = architecture == "arm64" and os.uname().machine != "aarch64"
    programs = PROGRAMS | (FOREIGN_PROGRAMS if is_foreign else {})
    missing = disk.missing_programs(list(programs))
    if missing:
        needed = " ".join(sorted({programs[name] for name in missing}))
        print(f"{', '.join(missing)} not found; sudo apt install {needed}", file=sys.stderr)
        return 1
    debs = packages(given.debs, architecture)
    if debs is None:
        wanted = f"{' and '.join(recipe.OURS)} for {architecture} and Debian {recipe.RELEASE_NUMBER}"
        print(f"{given.debs} lacks a package of {wanted}; make them: make deb", file=sys.stderr)
        return 1
    for deb in debs:
        print(f"image: {deb.name}")
    begun = time.monotonic()
    name = f"jumpstarter-{architecture}"
    work = given.into.resolve() / f"{name}.build"
    work.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    try:
        namespace.run(
            [sys.executable, "-m", "jumpstarter_os.inside", architecture, work, *debs],
            emulated=architecture == "arm64",
        )
    except (namespace.NamespaceError, ImageRootError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(
            f"image: not built: {Path(error.cmd[0]).name} failed with exit code {error.returncode}",
            file=sys.stderr,
        )
        return 1
    image = work.parent / f"{name}.img"
    (work / "disk.img").replace(image)
    print(f"{image}: {image.stat().st_size / 1e6:.0f} MB, {time.monotonic() - begun:.0f} s")
    if given.level:
        for path in disk.pack(image, given.level):
            print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
