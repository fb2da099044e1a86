"""Tools of systemd that check files of ours: the host's, and those of Debian 13, unpacked beside the peers."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.peers import MARKER, PeerUnavailableError, build_lock, cache, run

SUITE = "trixie"
CAN_VERIFY = 254


@dataclass(frozen=True)
class Tool:
    """One version of one program."""

    command: list[str]
    """To be followed by its arguments."""
    version: int
    units: Path
    """The units that came with it."""


def udevadm() -> list[str]:
    """The command of one that can verify rules, of systemd 254 or newer; to be followed by its arguments.

    Raises:
        PeerUnavailableError: the host's is too old, and no archive of Debian can be reached.
    """
    own = _of_host("udevadm")
    return (own if own is not None and own.version >= CAN_VERIFY else _of_debian_13("udevadm")).command


def systemd_analyze() -> list[Tool]:
    """The host's, if it has one, and Debian 13's, unless the host's is as new or no archive of Debian can be reached.

    Raises:
        PeerUnavailableError: there is neither.
    """
    own = _of_host("systemd-analyze")
    if own is None:
        return [_of_debian_13("systemd-analyze")]
    try:
        return [own] if own.version >= CAN_VERIFY else [own, _of_debian_13("systemd-analyze")]
    except PeerUnavailableError:
        if os.environ.get("CI"):
            raise
        return [own]


def _of_host(name: str) -> Tool | None:
    if (program := shutil.which(name)) is None:
        return None
    return Tool([program], _version([program]), Path("/usr/lib/systemd/system"))


def _of_debian_13(name: str) -> Tool:
    root = cache() / "peers" / f"udevadm-{SUITE}-{platform.machine()}"
    with build_lock("udevadm"):
        if not (root / MARKER).exists():
            _unpack(root)
    # With the loader and the libraries that it was built for.
    [loader] = root.glob("usr/lib*/ld-linux-*.so.*")
    libraries = [
        str(path) for pattern in ("", "systemd") for path in root.glob(f"usr/lib/*-linux-gnu/{pattern}")
    ]
    command = [str(loader), "--library-path", ":".join(libraries), str(root / "usr/bin" / name)]
    return Tool(command, _version(command), root / "usr/lib/systemd/system")


def _version(command: list[str]) -> int:
    """Of what `udevadm` and the others print: "257", and "systemd 257 (257.9-1)"."""
    said = _run([*command, "--version"]).split()
    return int(next(word for word in said if word.isdecimal()))


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
        run([*apt, "install", "--yes", "--no-install-recommends", "--download-only", "udev", "systemd"])
        for package in sorted((home / "archives").glob("*.deb")):
            run(["dpkg-deb", "--extract", str(package), str(root)])
    (root / MARKER).touch()


def _run(command: list[str]) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}
    ).stdout
