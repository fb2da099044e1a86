"""The programs that deal with packages, services and mounts, as an update asks them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from jumpstarter_image.host import Done, Host
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
"""A service has so long to become ready: it starts slowly on a slow card, and again if a start fails."""
SETTLE_SECONDS = 15.0
"""...and then has to stay so for this time."""
BUSY_SECONDS = 30.0
"""So long somebody may still use files that were replaced."""
POLL_SECONDS = 1.0
PACKAGES_SECONDS = 1800.0
"""For apt and dpkg, on a slow card."""
LOCK_SECONDS = 60.0
"""So long somebody else may use dpkg, as apt waits, too."""
_LOCKED = "lock was locked by another process"
_QUIETLY = {"DEBIAN_FRONTEND": "noninteractive"}
_TAKING_BACK = {"JUMPSTARTER_TAKE_BACK": "1"}
"""The packages refuse to go back to an older version unless this is set."""
_CONFIGURATION = ("--force-confdef", "--force-confold")
DPKG = "var/lib/dpkg"


class CommandError(Exception):
    """A program failed: a sentence with the end of what it said."""


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


def read_deb(host: Host, path: Path) -> Deb | None:
    """What a file is; None if it is no package."""
    form = "${Package}\t${Version}\t${Architecture}\t${Installed-Size}\n"
    done = host.run("dpkg-deb", "--show", f"--showformat={form}", str(path))
    return parse_deb(str(path), done.output) if done.code == 0 else None


def installed_version(host: Host, name: str) -> str:
    """Of a package that is installed; empty if it is not."""
    done = host.run("dpkg-query", "--show", "--showformat=${db:Status-Status}\t${Version}", name)
    status, _, version = done.output.strip().partition("\t")
    return version if done.code == 0 and status not in {"not-installed", "config-files"} else ""


def is_newer(host: Host, one: str, other: str) -> bool:
    """Whether a version is newer than another."""
    return host.run("dpkg", "--compare-versions", one, "gt", other).code == 0


def apt(
    host: Host, command: str, *words: str, given: Iterable[str] = (), timeout: float = PACKAGES_SECONDS
) -> Done:
    """Run a command of `apt-get`, with these options and `given`, without questions. CommandError."""
    options = ["-y", "-q", "-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=60"]
    options += [word for option in _CONFIGURATION for word in ("-o", f"Dpkg::Options::={option}")]
    done = host.run("apt-get", *options, *words, command, *given, timeout=timeout, variables=_QUIETLY)
    return _checked(done, f"apt-get {command}")


def install_files(host: Host, files: Iterable[Path], *, back: bool = False) -> str:
    """Install these; with `back` also where a newer version is. Returns what dpkg said. CommandError."""
    variables = _QUIETLY | (_TAKING_BACK if back else {})
    return _checked(_dpkg(host, "--install", *map(str, files), variables=variables), "dpkg").output


def configure_rest(host: Host) -> Done:
    """Finish what an installation has left. After a power cut, what cannot be is replaced by what follows."""
    return _dpkg(host, "--configure", "-a", variables=_QUIETLY)


def _dpkg(host: Host, *words: str, variables: Mapping[str, str]) -> Done:
    """Run it, when nobody else does."""
    end = time.monotonic() + LOCK_SECONDS
    while True:
        done = host.run("dpkg", *_CONFIGURATION, *words, timeout=PACKAGES_SECONDS, variables=variables)
        if done.code == 0 or _LOCKED not in done.errors or time.monotonic() >= end:
            return done
        time.sleep(POLL_SECONDS)


def make_writable(host: Host) -> None:
    """Let the root be written, and the list of packages, which is mounted on its own. CommandError."""
    _checked(host.run("mount", "-o", "remount,rw", str(host.root)), "mount")
    _checked(host.run("mount", "-o", "remount,bind,rw", str(host.root / DPKG)), "mount")


def make_read_only(host: Host) -> str:
    """Undo that. Says why it cannot be: a program that runs still has a file open that was replaced.

    One that is about to end, such as a look at the boards for the status, is waited for.
    """
    os.sync()
    host.run("mount", "-o", "remount,bind,ro", str(host.root / DPKG))
    # dpkg's triggers have made its table of hardware anew, and udevd still has the one before open.
    host.run("udevadm", "control", "--reload")
    end = time.monotonic() + BUSY_SECONDS
    while True:
        done = host.run("mount", "-o", "remount,ro", str(host.root))
        if done.code == 0:
            return ""
        if time.monotonic() >= end:
            return " ".join(done.errors.split()) or f"exit code {done.code}"
        time.sleep(POLL_SECONDS)


def _shown(host: Host, unit: str, *names: str) -> Mapping[str, str]:
    done = host.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
    return dict(line.partition("=")[::2] for line in done.output.splitlines())


def invocation(host: Host, unit: str) -> str:
    """What systemd calls this run of a service; empty if it is not ready."""
    shown = _shown(host, unit, "ActiveState", "InvocationID")
    return shown.get("InvocationID", "") if shown.get("ActiveState") == "active" else ""


def wait_ready(
    host: Host,
    units: Sequence[str],
    before: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Wait until these services are ready, and stay so for a while. Says which one is not, and why; empty if all are.

    `before` is how systemd called their runs before the installation; one that still runs is started again.
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
        # What has become ready in time may show that it stays so.
        if clock() >= end and not (is_ready and since < end):
            late = next((unit for unit in units if not now[unit]), units[0])
            return _why_not(host, late)
        sleep(POLL_SECONDS)


def _why_not(host: Host, unit: str) -> str:
    name = unit.removesuffix(".service")
    shown = _shown(host, unit, "ActiveState", "Result", "ExecMainStatus", "NRestarts")
    how = {"exit-code": f"it ends with exit code {shown.get('ExecMainStatus')}"}.get(
        shown.get("Result", ""), ""
    )
    how = how or f"it is {shown.get('ActiveState', 'not there')}, {shown.get('Result', 'of no result')}"
    return f"{name} was not ready, and stayed so, within {READY_SECONDS:.0f} s: {how}"
