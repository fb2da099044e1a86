"""Why a device node of the host cannot be opened, in a sentence: who has it, which group may, what is not there."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from jumpstarter_proto.texts import shown

from jumpstarter_exporter.errors import DeviceBusy, DeviceError, DeviceFailed, DeviceMissing

__all__ = ["check_access", "explain_open_error", "permission_hint", "users_of"]

MAX_USERS = 3
"""Processes that are named."""


def explain_open_error(path: str, error: Exception, what: str) -> DeviceError:
    """What opening that node has raised, for users; `what` is what it was to be: "a serial port". Blocking."""
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return DeviceMissing(f"there is no {path}; check the cable")
    if number in (errno.ENODEV, errno.ENXIO, errno.EIO):
        if not os.path.exists(path):
            return DeviceMissing(f"{path} went away while it was being opened; plug it in again")
        return DeviceMissing(
            f"{path} is there, and no hardware behind it ({errno.errorcode[number]}); "
            "plug it in again, or load its driver"
        )
    if number in (errno.EACCES, errno.EPERM):
        return DeviceFailed(f"the exporter may not open {path}; {permission_hint(path)}")
    if number in (errno.EAGAIN, errno.EBUSY):
        users = users_of(path)
        if not users:
            return DeviceBusy(f"another program has {path} open; end it first")
        return DeviceBusy(f"{path} is open in {' and '.join(users)}; end that first")
    return DeviceFailed(f"{path} cannot be used as {what}: {error}")


def check_access(path: str | Path) -> None:
    """Raise DeviceFailed if the exporter may not open a node that is there. It is not opened. Blocking."""
    if not os.access(path, os.R_OK | os.W_OK):
        raise DeviceFailed(f"the exporter may not open {path}; {permission_hint(path)}")


def permission_hint(path: str | Path) -> str:
    """What to do so that the exporter may open it. Blocking."""
    try:
        facts = os.stat(path)
    except OSError:
        return "correct the permissions of its folder"
    if facts.st_mode & 0o060 != 0o060 or facts.st_gid == 0:
        mode = stat.filemode(facts.st_mode)
        return f"only its owner may ({mode}): give it a group, as the exporter's rules for udev do"
    group, user = _group(facts.st_gid), _user(os.geteuid())
    if facts.st_gid in {os.getegid(), *os.getgroups()}:
        return f"its user {user} is in the group {group}, so something else forbids it: check DeviceAllow= of its unit"
    return f"add its user {user} to the group {group}, and start it again"


def users_of(path: str | Path) -> list[str]:
    """The processes that have it open, `cu (process 4711)`, as far as /proc shows them. Blocking."""
    found = []
    with suppress(OSError):
        node = os.path.realpath(path)
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and node in _open_files(process):
                found.append(_named(process))
                if len(found) == MAX_USERS:
                    break
    return found


def _open_files(process: Path) -> Iterator[str]:
    with suppress(OSError):  # another user's, or it has ended
        for entry in (process / "fd").iterdir():
            with suppress(OSError):
                yield os.readlink(entry)


def _named(process: Path) -> str:
    if process.name == str(os.getpid()):
        return "this exporter itself"
    name = "a process"
    with suppress(OSError):
        name = shown((process / "comm").read_text(errors="replace").strip())
    return f"{name} (process {process.name})"


def _group(number: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)


def _user(number: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)
