"""What runs in the namespace: ``python -m jumpstarter_os.inside ARCHITECTURE WORK [DEB...]``. Leaves WORK/disk.img.

Also WORK/vmlinuz, WORK/initrd and WORK/dtb, which an emulator starts as the Pi's boot loader would.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import cast, get_args

from jumpstarter_os import disk, firmware, modules, recipe, rootfs


def main(arguments: list[str]) -> None:
    """Build the image."""
    architecture, folder, *debs = arguments
    assert architecture in get_args(recipe.Architecture)
    work = Path(folder)
    root = work / "root"
    begun = time.monotonic()
    shutil.rmtree(root, ignore_errors=True)
    rootfs.make(cast("recipe.Architecture", architecture), root, work, [Path(deb) for deb in debs])
    print(f"image: root, {time.monotonic() - begun:.0f} s", flush=True)
    for name in ("vmlinuz", "initrd.img"):
        (found,) = root.glob(f"boot/{name}-*")
        shutil.copyfile(found, work / name.removesuffix(".img"))
    shutil.rmtree(work / "dtb", ignore_errors=True)
    (work / "dtb").mkdir()
    for path in root.glob("boot/firmware/*.dtb"):
        shutil.copy(path, work / "dtb")
    (kernel,) = (root / "usr/lib/modules").iterdir()
    wrong = modules.faults(kernel, is_pi=architecture == "arm64")
    if architecture == "arm64":
        wrong += firmware.faults(root / "boot/firmware")
    if wrong:
        sys.exit("\n".join(f"image: {fault}" for fault in wrong))
    disk.make(root, work / "disk.img", work)
    shutil.rmtree(root)
    print(f"image: disk, {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
