"""Run the programs for packages, services and mounts that an update needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jumpstarter_image.host_system import Done, HostSystem
from jumpstarter_image.update_plan import Deb, parse_deb

__all__ = [
    "CONTROLLER",
    "EXPORTER",
    "PACKAGES_SECONDS",
    "READY_SECONDS",
    "SETTLE_SECONDS",
    "CommandError",
    "apt",
    "configure_rest",
    "install_files",
    "installed_version",
    "invocation",
    "is_newer",
    "make_read_only",
    "make_writable",
    "read_deb",
    "wait_ready",
]

EXPORTER = "jumpstarter-exporter.service"
CONTROLLER = "jumpstarter-controller.service"
READY_SECONDS = 180.0
"""Seconds for a service to become ready, on a slow card and with repeated starts..."""
SETTLE_SECONDS = 15.0
"""...and seconds that it must then stay ready."""
BUSY_SECONDS = 30.0
"""Seconds to wait for programs that still use replaced files."""
POLL_SECONDS = 1.0
PACKAGES_SECONDS = 1800.0
"""Seconds for apt and dpkg, on a slow card."""
LOCK_SECONDS = 60.0
"""Seconds to wait for another user of dpkg, as apt does."""
_LOCKED = "lock was locked by another process"
_QUIETLY = {"DEBIAN_FRONTEND": "noninteractive"}
_TAKING_BACK = {"JUMPSTARTER_TAKE_BACK": "1"}
"""The variable that allows the packages to be downgraded."""
_CONFIGURATION = ("--force-confdef", "--force-confold")
DPKG = "var/lib/dpkg"


class CommandError(Exception):
    """A program failed; the message has the end of its output."""


def _checked(done: Done, what: str) -> Done:
    if done.code != 0:
        lines = [line.strip() for line in f"{done.output}\n{done.errors}".splitlines() if line.strip()]
        said = next(
            (line for line in reversed(lines) if line.startswith(("E: ", "dpkg: error", "mount: "))), ""
        )
        raise CommandError(
            f"{what} failed: {said or (lines[-1] if lines else f'exit code {done.code}')}"[:400]
        )
    return done


def read_deb(host: HostSystem, path: Path) -> Deb | None:
    """Read the description of a package file; None if it is not a package."""
    form = "${Package}\t${Version}\t${Architecture}\t${Installed-Size}\n"
    done = host.run("dpkg-deb", "--show", f"--showformat={form}", str(path))
    return parse_deb(str(path), done.output) if done.code == 0 else None


def installed_version(host: HostSystem, name: str) -> str:
    """The installed version of a package; empty if it is not installed."""
    done = host.run("dpkg-query", "--show", "--showformat=${db:Status-Status}\t${Version}", name)
    status, _, version = done.output.strip().partition("\t")
    return version if done.code == 0 and status not in {"not-installed", "config-files"} else ""


def is_newer(host: HostSystem, one: str, other: str) -> bool:
    """Whether a version is newer than another one."""
    return host.run("dpkg", "--compare-versions", one, "gt", other).code == 0


def apt(
    host: HostSystem, command: str, *words: str, given: Iterable[str] = (), timeout: float = PACKAGES_SECONDS
) -> Done:
    """Run a command of `apt-get`, with these options and `given`, without questions. CommandError."""
    options = ["-y", "-q", "-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=60"]
    options += [word for option in _CONFIGURATION for word in ("-o", f"Dpkg::Options::={option}")]
    done = host.run("apt-get", *options, *words, command, *given, timeout=timeout, variables=_QUIETLY)
    return _checked(done, f"apt-get {command}")


def install_files(host: HostSystem, files: Iterable[Path], *, back: bool = False) -> str:
    """Install these files; with `back` also over a newer version. Returns the output of dpkg. Raises CommandError."""
    variables = _QUIETLY | (_TAKING_BACK if back else {})
    return _checked(_dpkg(host, "--install", *map(str, files), variables=variables), "dpkg").output


def configure_rest(host: HostSystem) -> Done:
    """Complete an interrupted installation. Callers may ignore errors if they install the same packages again."""
    return _dpkg(host, "--configure", "-a", variables=_QUIETLY)


def _dpkg(host: HostSystem, *words: str, variables: Mapping[str, str]) -> Done:
    """Run dpkg when no other program uses it."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        done = host.run("dpkg", *_CONFIGURATION, *words, timeout=PACKAGES_SECONDS, variables=variables)
        if done.code == 0 or _LOCKED not in done.errors or time.monotonic() >= end:
            return done
        time.sleep(POLL_SECONDS)


def make_writable(host: HostSystem) -> None:
    """Make the root writable, and the list of packages, which is a mount of its own. Raises CommandError."""
    _checked(host.run("mount", "-o", "remount,rw", str(host.root)), "mount")
    _checked(host.run("mount", "-o", "remount,bind,rw", str(host.root / DPKG)), "mount")


def make_read_only(host: HostSystem) -> str:
    """Make the root read-only again. Returns why this failed: a running program still has a replaced file open.

    Waits for programs that are about to end, such as a query of the boards for the status.
    """
    os.sync()
    host.run("mount", "-o", "remount,bind,ro", str(host.root / DPKG))
    # dpkg's triggers have replaced the hwdb, and udevd still has the old one open.
    host.run("udevadm", "control", "--reload")
    end = time.monotonic() + BUSY_SECONDS
    while True:
        done = host.run("mount", "-o", "remount,ro", str(host.root))
        if done.code == 0:
            return ""
        if time.monotonic() >= end:
            return " ".join(done.errors.split()) or f"exit code {done.code}"
        time.sleep(POLL_SECONDS)


def _shown(host: HostSystem, unit: str, *names: str) -> Mapping[str, str]:
    done = host.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
    return dict(line.partition("=")[::2] for line in done.output.splitlines())


def invocation(host: HostSystem, unit: str) -> str:
    """The invocation ID of a service; empty if it is not ready."""
    shown = _shown(host, unit, "ActiveState", "InvocationID")
    return shown.get("InvocationID", "") if shown.get("ActiveState") == "active" else ""


def wait_ready(
    host: HostSystem,
    units: Sequence[str],
    before: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Wait until these services are ready and stay ready. Returns which one is not ready and why; empty if all are.

    `before` has their invocation IDs before the installation; a service that still runs under it is restarted.
    """
    for unit in units:
        if before.get(unit) and before[unit] == invocation(host, unit):
            host.run("systemctl", "restart", unit, timeout=READY_SECONDS)
    end = clock() + READY_SECONDS
    runs: dict[str, str] = {}
    since = clock()
    while True:
        asked = clock()
        now = {unit: invocation(host, unit) for unit in units}
        if now != runs:
            runs, since = now, asked
        is_ready = all(now.values())
        if is_ready and clock() - since >= SETTLE_SECONDS:
            return ""
        # A service that became ready in time gets the time to show that it stays ready.
        if clock() >= end and not (is_ready and since < end):
            late = next((unit for unit in units if not now[unit]), units[0])
            return _why_not(host, late)
        sleep(POLL_SECONDS)


def _why_not(host: HostSystem, unit: str) -> str:
    name = unit.removesuffix(".service")
    shown = _shown(host, unit, "ActiveState", "Result", "ExecMainStatus", "NRestarts")
    how = {"exit-code": f"it ends with exit code {shown.get('ExecMainStatus')}"}.get(
        shown.get("Result", ""), ""
    )
    how = how or f"it is {shown.get('ActiveState', 'not there')}, {shown.get('Result', 'of no result')}"
    return f"{name} was not ready, and stayed so, within {READY_SECONDS:.0f} s: {how}"
