"""A udevadm that can verify rules, of systemd 254 or newer: the host's, or Debian 13's, unpacked beside the peers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.peers import MARKER, PeerUnavailableError, build_lock, cache, run

SUITE = "trixie"
CAN_VERIFY = 254


def udevadm() -> list[str]:
    """The command, to be followed by its arguments.

    Raises:
        PeerUnavailableError: the host's is too old, and no archive of Debian can be reached.
    """
    program = shutil.which("udevadm")
    if program is not None and int(_run([program, "--version"])) >= CAN_VERIFY:
        return [program]
    root = cache() / "peers" / f"udevadm-{SUITE}-{platform.machine()}"
    with build_lock("udevadm"):
        if not (root / MARKER).exists():
            _unpack(root)
    # With the loader and the libraries that it was built for.
    [loader] = root.glob("usr/lib*/ld-linux-*.so.*")
    libraries = [
        str(path) for pattern in ("", "systemd") for path in root.glob(f"usr/lib/*-linux-gnu/{pattern}")
    ]
    return [str(loader), "--library-path", ":".join(libraries), str(root / "usr/bin/udevadm")]


def _unpack(root: Path) -> None:
    targets = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    try:
        lines = _run(targets).splitlines()
    except FileNotFoundError:
        raise PeerUnavailableError("this is no Debian, whose packages could be unpacked") from None
    archive = next((line.removeprefix("Debian ") for line in lines if line.startswith("Debian ")), None)
    if archive is None:
        raise PeerUnavailableError("apt knows no archive of Debian here; run apt-get update")
    shutil.rmtree(root, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in ("lists/partial", "archives/partial"):
            (home / name).mkdir(parents=True)
        (home / "sources.list").write_text(f"deb {archive} {SUITE} main\n")
        (home / "status").touch()  # nothing is installed, so that all of it is fetched
        apt = [
            *("apt-get", "-qq", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="),
            *("-o", f"Dir::Etc::SourceList={home}/sources.list", "-o", "Dir::Etc::SourceParts=-"),
            *(
                "-o",
                f"Dir::State={home}",
                "-o",
                f"Dir::State::Status={home}/status",
                "-o",
                f"Dir::Cache={home}",
            ),
        ]
        run([*apt, "update"])
        run([*apt, "install", "--yes", "--no-install-recommends", "--download-only", "udev"])
        for package in sorted((home / "archives").glob("*.deb")):
            run(["dpkg-deb", "--extract", str(package), str(root)])
    (root / MARKER).touch()


def _run(command: list[str]) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}
    ).stdout
