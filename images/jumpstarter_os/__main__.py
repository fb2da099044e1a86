"""``python -m jumpstarter_os [arm64|amd64]``: build the image, unattended, without root."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from jumpstarter_os import disk, namespace, recipe
from jumpstarter_os.rootfs import RootError

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
"""What is needed, and the package of Debian that has it."""


def main() -> int:
    """Build the image and print where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m jumpstarter_os",
        description="Build the image that lab hosts boot.",
        epilog="example: python -m jumpstarter_os arm64 --deb dist/jumpstarter-exporter_0.1.0_arm64.deb",
    )
    parser.add_argument("architecture", choices=["arm64", "amd64"], nargs="?", default="arm64")
    parser.add_argument(
        "--deb", type=Path, action="append", default=[], help="a package of ours to install, too"
    )
    parser.add_argument("--into", type=Path, default=Path("dist"), help="the folder for the results [dist]")
    parser.add_argument("--level", type=int, default=19, help="how hard zstd works; 0: do not pack at all")
    given = parser.parse_args()
    architecture: recipe.Architecture = given.architecture

    missing = disk.missing_programs(list(PROGRAMS))
    if missing:
        packages = " ".join(sorted({PROGRAMS[name] for name in missing}))
        print(f"{', '.join(missing)} not found; sudo apt install {packages}", file=sys.stderr)
        return 1
    begun = time.monotonic()
    name = f"jumpstarter-{architecture}"
    work = given.into.resolve() / f"{name}.build"
    work.mkdir(parents=True, exist_ok=True)
    debs = [str(deb.resolve(strict=True)) for deb in given.deb]
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    try:
        namespace.run(
            [sys.executable, "-m", "jumpstarter_os.inside", architecture, work, *debs],
            emulated=architecture == "arm64",
        )
    except (namespace.NamespaceError, RootError) as error:
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
