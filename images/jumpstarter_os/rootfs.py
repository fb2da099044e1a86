"""Make the root file system of the image from Debian's packages and our files. Runs in a namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from jumpstarter_os import recipe

HERE = Path(__file__).parent


class ImageRootError(Exception):
    """The root cannot be made; the message gives the reason."""


def archive() -> str:
    """The archive from which this machine installs Debian's packages."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    )
    for line in listed.stdout.splitlines():
        label, _, address = line.partition(" ")
        if label == "Debian":
            return address
    raise ImageRootError("apt knows no archive of Debian here; run apt-get update")


def how_it_is_reached() -> str:
    """This machine's settings for that archive (proxies, certificates), as lines for apt."""
    settings = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::Check-")
    return "".join(f"{line}\n" for line in settings.splitlines() if line.startswith(wanted))


def make(architecture: recipe.Architecture, root: Path, work: Path, debs: Sequence[Path]) -> None:
    """Make the folder ``root``.

    Args:
        architecture: For which machines.
        root: Does not exist yet.
        work: A folder for what is needed meanwhile.
        debs: Packages of ours, which are installed too.

    Raises:
        subprocess.CalledProcessError: mmdebstrap failed; its messages are on standard error.
    """
    sources = work / "sources.list"
    components = " ".join(recipe.COMPONENTS)
    sources.write_text("".join(f"deb {archive()} {suite} {components}\n" for suite in recipe.SUITES))
    settings = work / "apt.conf"
    settings.write_text(how_it_is_reached() + 'Apt::Install-Recommends "false";\n')
    command = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--architectures={architecture}",
        f"--aptopt={settings}",
        "--dpkgopt=force-confold",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt={option}" for option in recipe.excluded_paths()),
        f"--include={','.join(recipe.packages(architecture))}",
        f"--include={recipe.kernel(architecture)}",
        # mknod is refused in a user namespace; udev makes what is in /dev.
        "--skip=output/dev",
        f'--setup-hook=sh "{HERE}/hooks/setup.sh" "$1"',
        f'--customize-hook=sh "{HERE}/hooks/customize.sh" "$1"',
        recipe.RELEASE,
        str(root),
        str(sources),
    ]
    environment = {
        **os.environ,
        "ROOTFS": str(HERE.parent / "rootfs"),
        "PROGRAM": str(HERE.parent / "jumpstarter_image"),
        "EXAMPLE": str(HERE.parent / "jumpstarter.yaml"),
        "DEBS": " ".join(map(str, debs)),
        "RELEASE": recipe.RELEASE,
        "COMPONENTS": components,
        "INITRAMFS_MODULES": " ".join(recipe.INITRAMFS_MODULES),
        # The kernel's package makes none (kernel-img.conf(5), and its hooks): customize.sh does, when all is there.
        "INITRD": "No",
    }
    subprocess.run(command, check=True, env=environment)
