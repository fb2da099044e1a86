"""A root of Debian in which commands run. Mounts and processes end with each command."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from jumpstarter_deb import roots

__all__ = ["Guest"]

LIMIT_SECONDS = 1200.0
"""Seconds for a command. On a busy machine, an installation compiles Python's modules for more than 300 s."""
MOUNTS = """
set -e
root=$1; cache=$2; shift 2
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$cache/archives/partial" "$cache/lists/partial"
mount --bind "$cache/archives" "$root/var/cache/apt/archives"
mount --bind "$cache/lists" "$root/var/lib/apt/lists"
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root \
    DEBIAN_FRONTEND=noninteractive "$@"
"""


class Guest:
    """One root. /run is new with each command, as after a boot."""

    def __init__(self, root: Path, release: int) -> None:
        self.root = root
        self._cache = roots.cache() / f"apt-{release}"
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(Path("/etc") / name, root / "etc" / name)

    def run(
        self, *command: str | Path, check: bool = True, limit: float = LIMIT_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root. With `check`, a failure fails the test and shows the output."""
        done = subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"),
                *("sh", "-c", MOUNTS, "guest", self.root, self._cache, *command),
            ],
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def sh(self, script: str, *, check: bool = True, limit: float = LIMIT_SECONDS) -> str:
        """Run a script of the shell, and return what it prints."""
        return self.run("sh", "-euc", script, check=check, limit=limit).stdout

    def put(self, *files: Path) -> list[str]:
        """Copy files into the guest's /tmp, and return their paths there."""
        for file in files:
            shutil.copyfile(file, self.root / "tmp" / file.name)
        return [f"/tmp/{file.name}" for file in files]

    def packages(self) -> dict[str, int]:
        """The installed packages, with their sizes in KiB."""
        listed = self.sh("dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Installed-Size}\\n'")
        rows = [line.split() for line in listed.splitlines()]
        return {row[1]: int(row[2]) for row in rows if row[0] == "ii"}

    def install(self, *files: Sequence[Path] | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`apt install` of these files, as the README says."""
        paths = self.put(*(file for file in files if isinstance(file, Path)))
        if not any((self._cache / "lists").glob("*_Packages*")):
            self.run("apt-get", "update", "-qq")
        return self.run("apt-get", "install", "-y", "-qq", "--allow-downgrades", *paths, check=check)
