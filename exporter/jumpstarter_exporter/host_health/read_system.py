"""Reads a host's system from /proc, /etc and /dev: disks, memory, clock, users, other programs. Blocking."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from jumpstarter_proto.mounts import MOUNTINFO, mount_of, parse_fstab, parse_mountinfo
from jumpstarter_proto.numbers import find_number
from jumpstarter_proto.regular_files import open_regular

from jumpstarter_exporter.devices.hwdb import shipped_folder
from jumpstarter_exporter.host_health.facts import (
    Account,
    ClockFacts,
    DeviceAccess,
    DiskWear,
    FileAccess,
    FilesystemSpace,
    GpioFacts,
    MemoryFacts,
    MountFacts,
    ProgramFacts,
    StorageFacts,
    UdevFacts,
)
from jumpstarter_exporter.host_health.host_files import HostFiles
from jumpstarter_exporter.host_health.read_hardware import read_model

__all__ = [
    "account_named",
    "current_account",
    "kernel_clock",
    "read_clock",
    "read_devices",
    "read_gpio",
    "read_memory",
    "read_programs",
    "read_storage",
    "read_udev",
    "read_unreadable",
    "serial_nodes",
]

_INTRUDERS = ("ModemManager", "brltty")
_RULE_FOLDERS = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
_HWDB_FOLDERS = ("/etc/udev/hwdb.d", "/usr/lib/udev/hwdb.d", "/lib/udev/hwdb.d")
_COMPILED = ("/etc/udev/hwdb.bin", "/usr/lib/udev/hwdb.bin", "/lib/udev/hwdb.bin")
MAX_PROCESSES = 4096
MAX_DEVICES = 256
_UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""

StatVfs = Callable[[str], os.statvfs_result]


def read_storage(
    files: HostFiles, uses: Sequence[tuple[str, str]], statvfs: StatVfs | None = None
) -> StorageFacts:
    """Of what the folders lie on, each with what it is used for; a folder that is not there is where it will be made.

    OSError: nobody knows what is mounted. A file system that hangs, as one of a server that is away, blocks.
    """
    measure = statvfs or (lambda place: os.statvfs(files.path(place)))
    mounts = list(parse_mountinfo(files.text(f"/{MOUNTINFO}")))
    planned = {one.target: one.is_read_only for one in parse_fstab(files.find_text("/etc/fstab") or "")}
    found: dict[str, MountFacts] = {}
    spaces: dict[str, FilesystemSpace] = {}
    for place, use in uses:
        folder = _existing(files, place)
        mount = mount_of(mounts, folder)
        target = "/" if mount is None else mount.target
        if mount is not None:
            device = mount.source.removeprefix("/dev/")
            errors = files.number(f"/sys/fs/ext4/{device}/errors_count") if "/" not in device else 0
            found[target] = MountFacts(
                target, mount.source, mount.is_read_only, planned.get(target), errors or 0
            )
        size = measure(folder)
        before = spaces[target].uses if target in spaces else ()
        spaces[target] = FilesystemSpace(
            target,
            (*before, use),
            size.f_blocks * size.f_frsize,
            size.f_bavail * size.f_frsize,
            size.f_files,
            size.f_favail,
        )
    return StorageFacts(tuple(found.values()), tuple(spaces.values()), tuple(_wear(files)))


def _existing(files: HostFiles, place: str) -> str:
    while place not in ("", "/") and not os.path.isdir(files.path(place)):
        place = place.rpartition("/")[0]
    return place or "/"


def _wear(files: HostFiles) -> Iterator[DiskWear]:
    for name in files.names("/sys/block"):
        if re.fullmatch(r"mmcblk\d+", name):
            text = files.find_text(f"/sys/block/{name}/device/life_time")
            try:
                worst = max(int(one, 16) for one in (text or "").split())
            except ValueError:
                continue  # an SD card has no such file
            reserve = files.number(f"/sys/block/{name}/device/pre_eol_info", 16) or 0
            yield DiskWear(name, worst * 10, reserve)


def read_memory(files: HostFiles) -> MemoryFacts:
    """OSError or ValueError: /proc does not have it."""
    said = _pairs(files.text("/proc/meminfo"), ":")
    kills = _pairs(files.find_text("/proc/vmstat") or "", " ").get("oom_kill", "0")
    try:
        numbers = [find_number(said[key].split()[0]) for key in ("MemTotal", "MemAvailable")]
    except (KeyError, IndexError):
        numbers = []
    match numbers:
        case [int(total), int(available)]:
            return MemoryFacts(total * 1024, available * 1024, find_number(kills) or 0)
    raise ValueError("/proc/meminfo has no MemTotal and MemAvailable")


def _pairs(text: str, sign: str) -> dict[str, str]:
    return {
        key.strip(): value.strip() for key, _, value in (one.partition(sign) for one in text.splitlines())
    }


class _Timex(ctypes.Structure):
    """The beginning of adjtimex(2)'s structure, and space for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def kernel_clock() -> bool | None:
    """Whether the kernel's clock is synchronised; None if that may not be read, as in our unit's sandbox."""
    state = _Timex()
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return not state.status & _UNSYNCHRONISED


def read_clock(
    files: HostFiles, now: float | None = None, kernel: Callable[[], bool | None] = kernel_clock
) -> ClockFacts:
    """The time, and whether it is synchronised, from systemd-timesyncd or the kernel."""
    synchronised = True if files.exists("/run/systemd/timesync/synchronized") else kernel()
    has_rtc = any(
        files.exists(f"/sys/class/rtc/{name}/since_epoch") for name in files.names("/sys/class/rtc")
    )
    return ClockFacts(time.time() if now is None else now, synchronised, has_rtc)


def current_account(files: HostFiles) -> Account:
    """The current user, as which devices would be opened."""
    uid = os.geteuid()
    name = next((one[0] for one in _entries(files, "/etc/passwd", 4) if one[2] == str(uid)), str(uid))
    return Account(name, uid, frozenset((os.getegid(), *os.getgroups())), _groups_of(files, name))


def account_named(files: HostFiles, name: str, groups: Iterable[str] = ()) -> Account:
    """The service's user, with the groups of its unit. ValueError if there is none."""
    entry = next((one for one in _entries(files, "/etc/passwd", 4) if one[0] == name), None)
    uid, gid = (None, None) if entry is None else (find_number(entry[2]), find_number(entry[3]))
    if uid is None or gid is None:
        raise ValueError(f"there is no user {name} in /etc/passwd")
    wanted = _groups_of(files, name) | frozenset(groups)
    known = {one[0]: find_number(one[2]) for one in _entries(files, "/etc/group", 3)}
    gids = {found for one in wanted if (found := known.get(one)) is not None}
    return Account(name, uid, frozenset({gid, *gids}), wanted, is_exporters=True)


def _groups_of(files: HostFiles, name: str) -> frozenset[str]:
    return frozenset(one[0] for one in _entries(files, "/etc/group", 4) if name in one[3].split(","))


def _entries(files: HostFiles, place: str, fields: int) -> Iterator[list[str]]:
    for line in (files.find_text(place) or "").splitlines():
        entry = line.split(":")
        if len(entry) >= fields:
            yield entry


def serial_nodes(files: HostFiles) -> list[str]:
    """Consoles that discovery offers."""
    return [f"/dev/{name}" for name in files.names("/dev") if re.fullmatch(r"tty(USB|ACM)\d+", name)]


def read_devices(
    files: HostFiles, account: Account, nodes: Mapping[str, Sequence[str]]
) -> tuple[DeviceAccess, ...]:
    """Whether the account may use the nodes, each with the devices of boards that it is of. None is opened.

    What is not there is left out: its device is `missing`, and says so.
    """
    found = []
    for node, boards in list(nodes.items())[:MAX_DEVICES]:
        try:
            status = files.path(node).stat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        allowed = _may(account, status, 0o6)
        if not allowed and not account.is_exporters:
            allowed = os.access(
                files.path(node), os.R_OK | os.W_OK, effective_ids=True
            )  # including access lists
        found.append(DeviceAccess(_access(files, node, status), allowed, tuple(boards)))
    return tuple(found)


def _access(files: HostFiles, place: str, status: os.stat_result) -> FileAccess:
    users = {one[2]: one[0] for one in _entries(files, "/etc/passwd", 4)}
    groups = {one[2]: one[0] for one in _entries(files, "/etc/group", 3)}
    uid, gid = str(status.st_uid), str(status.st_gid)
    return FileAccess(place, users.get(uid, uid), groups.get(gid, gid), stat.S_IMODE(status.st_mode))


def _may(account: Account, status: os.stat_result, wanted: int) -> bool:
    """The kernel's decision, without access lists: the first match counts. `wanted` is as for others: 4 reads."""
    if account.uid == 0:
        return True
    shift = 6 if status.st_uid == account.uid else 3 if status.st_gid in account.gids else 0
    return status.st_mode >> shift & wanted == wanted


def read_unreadable(files: HostFiles, account: Account, places: Sequence[str]) -> tuple[FileAccess, ...]:
    """The files that the account may not read."""
    found = []
    for place in places:
        try:
            status = files.path(place).stat()
        except OSError:
            continue
        if not _may(account, status, 0o4):
            found.append(_access(files, place, status))
    return tuple(found)


def read_gpio(files: HostFiles, outputs: Sequence[str]) -> GpioFacts:
    """What happens to outputs when their process ends."""
    modules = [name for name in files.names("/sys/module") if name.startswith("pinctrl_")]
    told = [files.find_text(f"/sys/module/{name}/parameters/persist_gpio_outputs") for name in modules]
    said = [one.upper() in ("Y", "1") for one in told if one]
    line = files.find_text("/proc/cmdline") or ""
    persists = any(said) if said else None
    if persists is None and (
        match := re.search(r"(?:^|\s)pinctrl_bcm2835\.persist_gpio_outputs=([YyNn01])", line)
    ):
        persists = match[1] in "Yy1"
    return GpioFacts(tuple(outputs), "Raspberry Pi" in read_model(files), persists)


def read_programs(files: HostFiles) -> ProgramFacts:
    """Running intruders: by their processes, or by their control groups if processes are hidden."""
    found = {
        name
        for name in _INTRUDERS
        if "populated 1"
        in (files.find_text(f"/sys/fs/cgroup/system.slice/{name}.service/cgroup.events") or "")
    }
    processes = [name for name in files.names("/proc") if name.isdigit()]
    for name in processes[:MAX_PROCESSES]:
        if (program := files.find_text(f"/proc/{name}/comm")) in _INTRUDERS:
            found.add(program)
    return ProgramFacts(tuple(sorted(found)))


def read_udev(files: HostFiles) -> UdevFacts:
    """Our rules and tables as installed. Reads some megabytes."""
    wanted = [one for one in shipped_folder().iterdir() if one.name.endswith((".rules", ".hwdb"))]
    found = {}
    for one in sorted(wanted, key=lambda each: each.name):
        folders = _RULE_FOLDERS if one.name.endswith(".rules") else _HWDB_FOLDERS
        found[one.name] = _compare(files, [f"{folder}/{one.name}" for folder in folders], one.read_bytes())
    return UdevFacts(found, _is_compiled(files), files.exists("/run/udev/control"))


def _compare(files: HostFiles, places: Sequence[str], wanted: bytes) -> str:
    """The first path counts, as for udev; a link to /dev/null there is intended."""
    for place in places:
        path = files.path(place)
        if path.is_symlink() and os.readlink(path) == "/dev/null":
            return "masked"
        try:
            return "same" if files.read(place, len(wanted) + 1) == wanted else "other"
        except FileNotFoundError:
            continue
    return "missing"


def _is_compiled(files: HostFiles) -> bool | None:
    """Whether our tables are in the output of `systemd-hwdb update`, without loading all of it."""
    for place in _COMPILED:
        try:
            with (
                open_regular(files.path(place)) as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                return content.find(b"ID_JUMPSTARTER_KIND") >= 0
        except FileNotFoundError:
            continue
        except (OSError, ValueError):  # an empty file cannot be mapped
            return None
    return False
