"""Small root file systems of Debian: made once by mmdebstrap, unpacked for each use, used in their own namespaces."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jumpstarter_deb.recipe import Release

__all__ = ["BuildRootError", "cache", "enter", "native_architecture", "unpacked"]


class BuildRootError(Exception):
    """A root cannot be made, or a command in it failed."""


def cache() -> Path:
    """The folder that keeps roots and wheels between builds."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jumpstarter-deb"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # a root in it has programs that are root's
    return folder


def native_architecture() -> str:
    """Debian's name of this machine."""
    return _output("dpkg", "--print-architecture")


def unpacked(
    release: Release,
    packages: Sequence[str],
    folder: Path,
    variant: str = "minbase",
    architecture: str | None = None,
) -> Path:
    """Unpack a new root of the release with these packages into `folder`, which the caller removes.

    For another architecture only the variant `extract` is possible: packages are unpacked and not configured.
    Files belong to the user who runs this, so a build needs no root; a test that installs packages runs as root.

    Raises:
        BuildRootError: mmdebstrap is not installed, or failed.
    """
    architecture = architecture or native_architecture()
    words = " ".join([variant, architecture, *sorted(packages)])
    key = hashlib.sha256(words.encode()).hexdigest()[:12]
    archive = cache() / f"root-{release.number}-{key}.tar"
    if not archive.exists():
        _make(release, packages, archive, ["--variant", variant, "--arch", architecture])
    folder.mkdir(parents=True)
    options = ["--numeric-owner"] if os.geteuid() == 0 else ["--no-same-owner", "--exclude=./dev/*"]
    subprocess.run(["tar", "-x", "-f", archive, "-C", folder, *options], check=True)
    return folder


def enter(root: Path, command: Sequence[str | Path], **options: str) -> str:
    """Run a command in a root as its root, and return what it prints.

    Raises:
        BuildRootError: it failed; the sentence has the end of what it said.
    """
    done = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--"),
            *("chroot", root, *command),
        ],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **options},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise BuildRootError(
            f"{' '.join(map(str, command))[:200]} ended with {done.returncode} in the root: {said}"
        )
    return done.stdout


def _make(release: Release, packages: Sequence[str], archive: Path, options: Sequence[str]) -> None:
    if shutil.which("mmdebstrap") is None:
        raise BuildRootError("mmdebstrap is not installed; apt install mmdebstrap")
    # The archive from which this machine itself installs, and how it reaches that: proxies, certificates.
    targets = _output("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages")
    uri = next((line.split()[1] for line in targets.splitlines() if line.startswith("Debian ")), None)
    if uri is None:
        raise BuildRootError("apt knows no archive of Debian here; run apt-get update")
    settings = [
        line
        for line in _output("apt-config", "dump").splitlines()
        if line.startswith(("Acquire::http", "Acquire::Check-", "Acquire::Retries"))
    ]
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        os.chmod(name, 0o755)
        (Path(name) / "apt.conf").write_text("\n".join(settings) + "\n")
        done = subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--format=tar", *options),
                f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
                *(f"--aptopt={name}/apt.conf", "--dpkgopt=force-unsafe-io"),
                *([f"--include={','.join(packages)}"] if packages else []),
                *(release.suite, f"{name}/root.tar", f"deb {uri} {release.suite} main"),
            ],
            check=False,
        )
        if done.returncode:
            raise BuildRootError(
                f"mmdebstrap made no root of Debian {release.number}; see what it says above"
            )
        Path(name, "root.tar").rename(archive)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
