"""Collect the facts about the host, and write the status. Writes are limited to protect the card."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from jumpstarter_proto.json_texts import decode_json, parse_json
from jumpstarter_proto.mounts import MOUNTINFO, Mount, mount_of, parse_mountinfo

from jumpstarter_image import fat, settings_store
from jumpstarter_image.apply import read_file
from jumpstarter_image.enrolment import enrolled_as, is_time_known, last_trouble
from jumpstarter_image.host_system import HostSystem
from jumpstarter_image.kept import Kept
from jumpstarter_image.plan import hostname_of
from jumpstarter_image.sentences import Board, Interface, StatusFacts, status_bytes, status_lines
from jumpstarter_image.update_prepare import RECORD, ObjectionError, load_record
from jumpstarter_image.update_record import update_lines

__all__ = ["WRITES_AT_ONCE", "WRITE_SECONDS", "Budget", "Shown", "gather", "note_problems", "show"]

WRITES_AT_ONCE = 6
"""The status may be written so many times in quick succession, such as during a boot..."""
WRITE_SECONDS = 60.0
"""...and then once in so many seconds."""
_BUDGET = "status-writes"
_PROBLEMS = "problems"
_CONFLICT = re.compile(r"changing published hostname from '[^']*' to '([A-Za-z0-9-]{1,63})'")
_WIFI_EVENTS = (
    ("WRONG_KEY", "key"),
    ("pre-shared key may be incorrect", "key"),
    ("CTRL-EVENT-NETWORK-NOT-FOUND", "range"),
    ("CTRL-EVENT-CONNECTED", ""),
)


def gather(host: HostSystem, *, is_starting: bool = False) -> StatusFacts:
    """Collect all facts. A fact that cannot be determined is left out, or becomes a sentence.

    `is_starting`: during the boot, before other services run. Then no program is started, because each takes a
    part of a second on a slow host.
    """
    problems = list(_noted(host))
    kept = Kept()
    try:
        kept = settings_store.load(host)
    except settings_store.StateError as error:
        problems.append(str(error))
    updates: list[str] = []
    try:
        updates = _updates(host)
    except ObjectionError as error:
        problems.append(str(error))
    site, _, faults, missing = read_file(host, kept)
    hostname = hostname_of(kept, host.machine_id())
    enrolled = enrolled_as(host)
    boards, boards_trouble = _boards(host) if not is_starting else ((), "")
    return StatusFacts(
        hostname=hostname,
        faults=tuple(map(str, faults)),
        problems=tuple(dict.fromkeys((*problems, *missing))),
        has_file=site is not None or bool(faults) or host.site_file.exists(),
        other_host="" if is_starting else _other_host(host),
        interfaces=() if is_starting else tuple(_interfaces(host)),
        wifi="" if kept.wifi is None else kept.wifi.ssid,
        wifi_trouble=_wifi_trouble(host) if kept.wifi is not None and not is_starting else "",
        has_keys=bool(kept.ssh_keys),
        is_time_known=is_starting or is_time_known(host),
        time_server=kept.time_server,
        enrolled="" if enrolled is None else f"{enrolled.name} of {enrolled.endpoint}",
        endpoint=kept.endpoint,
        is_controller=kept.controller,
        is_waiting=kept.is_to_enrol,
        refusal=kept.refusal,
        trouble=last_trouble(host),
        boards=boards,
        boards_trouble=boards_trouble,
        free_bytes=_free(host),
        read_only=tuple(_read_only(host)),
        updates=tuple(updates),
        is_root_writable=_is_root_writable(host),
        is_starting=is_starting,
        data=_data(host),
    )


@dataclass(frozen=True)
class Shown:
    """A status, and whether it was written."""

    lines: list[str]
    is_new: bool
    """Whether it is new: it was written, or the write failed."""
    trouble: str = ""
    """Why it could not be written."""


def show(host: HostSystem, *, is_starting: bool = False) -> Shown:
    """Write the status if it has changed and the limit for writes allows it."""
    lines = status_lines(gather(host, is_starting=is_starting))
    if _budget(host).left < 1:
        return Shown(lines, is_new=False)
    try:
        is_new, trouble = fat.write_padded(host.status_file, status_bytes(lines)), ""
    except OSError as error:
        is_new, trouble = True, f"{host.status_file} cannot be written: {error.strerror}; check the card"
    if is_new:
        _take_from_budget(host)
    return Shown(lines, is_new, trouble)


def note_problems(host: HostSystem, problems: Sequence[str]) -> None:
    """Store the problems of the last run for the status, until the shutdown. Raises OSError."""
    if list(problems) != _noted(host):
        host.run_folder.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{problem}\n" for problem in problems)
        (host.run_folder / _PROBLEMS).write_text(text, encoding="utf-8")


def _noted(host: HostSystem) -> list[str]:
    try:
        return (host.run_folder / _PROBLEMS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


class Budget(msgspec.Struct, frozen=True):
    """The number of writes that are left, and since when, in seconds since the boot."""

    left: float
    at: float

    def at_time(self, now: float) -> Budget:
        """The budget at a later time."""
        return Budget(min(WRITES_AT_ONCE, self.left + max(0.0, now - self.at) / WRITE_SECONDS), now)


def _budget(host: HostSystem) -> Budget:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        return decode_json((host.run_folder / _BUDGET).read_bytes(), Budget).at_time(now)
    except (OSError, ValueError):
        return Budget(WRITES_AT_ONCE, now)


def _take_from_budget(host: HostSystem) -> None:
    budget = _budget(host)
    host.run_folder.mkdir(parents=True, exist_ok=True)
    (host.run_folder / _BUDGET).write_bytes(msgspec.json.encode(Budget(budget.left - 1, budget.at)))


def _interfaces(host: HostSystem) -> Iterator[Interface]:
    found = _json(host.run("ip", "-j", "address", "show").output)
    for one in found if isinstance(found, list) else []:
        name = str(one.get("ifname", ""))
        if one.get("link_type") != "ether" or not name.startswith(("e", "w", "usb")):
            continue
        addresses = tuple(
            str(address.get("local"))
            for address in one.get("addr_info", [])
            if address.get("scope") == "global" and not address.get("temporary")
        )
        is_wireless = name.startswith("w")
        yield Interface(name, is_wireless, "LOWER_UP" in one.get("flags", []), addresses)


def _wifi_trouble(host: HostSystem) -> str:
    """The last report of wpa_supplicant about the connection."""
    said = _journal(host, "jumpstarter-image-wifi@*")
    for line in reversed(said):
        for word, trouble in _WIFI_EVENTS:
            if word in line:
                return trouble
    return ""


def _other_host(host: HostSystem) -> str:
    for line in reversed(_journal(host, "systemd-resolved.service")):
        if found := _CONFLICT.search(line):
            return found[1]
    return ""


def _journal(host: HostSystem, unit: str) -> list[str]:
    done = host.run("journalctl", "-b", "-q", "--no-pager", "-o", "cat", "-n", "200", "-u", unit)
    return done.output.splitlines() if done.code == 0 else []


def _boards(host: HostSystem) -> tuple[tuple[Board, ...], str]:
    trouble = "the exporter does not run yet; see `systemctl status jumpstarter-exporter`"
    if not host.exporter_socket.exists():  # early in a boot, where each program costs time
        return (), trouble
    done = host.run(
        *("jumpstarter-exporter", "boards", "-o", "json", "--socket", str(host.exporter_socket)), timeout=30.0
    )
    data = _json(done.output)
    if done.code != 0 or not isinstance(data, Mapping):
        return (), trouble
    try:
        return tuple(map(_board, data.get("boards", []))), ""
    except (AttributeError, LookupError, TypeError):
        # The exporter may be a version that an update has just installed; no answer of it may end the update.
        return (), "the exporter reports invalid data about its boards; see `jumpstarter-exporter boards`"


def _board(board: Mapping[str, Any]) -> Board:
    return Board(
        str(board.get("name")),
        str(board.get("problem") or ""),
        str(board.get("use") or ""),
        tuple(_device(device) for device in board.get("devices", [])),
    )


def _device(device: Mapping[str, Any]) -> str:
    reason = f": {device['reason']}" if device.get("reason") else ""
    return f"{device.get('path')} ({device.get('interface')}) is {device.get('state')}{reason}."


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class _Place:
    name: str
    path: Path


def _places(host: HostSystem) -> Iterator[_Place]:
    yield _Place("the partition with jumpstarter.yaml", host.site_file.parent)
    yield _Place("the partition with this host's state", host.data_folder)


def _mount_of(host: HostSystem, path: Path) -> Mount | None:
    """The mount of a path; None if the kernel does not show it, as for the root of a chroot."""
    try:
        text = (host.root / MOUNTINFO).read_bytes().decode(errors="surrogateescape")
    except OSError:
        return None
    return mount_of(parse_mountinfo(text), "/" + path.relative_to(host.root).as_posix().removeprefix("."))


def _read_only(host: HostSystem) -> Iterator[str]:
    for place in _places(host):
        # An overlay is never read-only itself: check the file system with its changes.
        mount = _mount_of(host, place.path)
        if mount is not None and mount.is_read_only:
            yield place.name


def _updates(host: HostSystem) -> list[str]:
    record = load_record(host.update_folder / RECORD) or load_record(host.last_update)
    return [] if record is None else update_lines(record)


def _is_root_writable(host: HostSystem) -> bool:
    """Whether the root, which the boot made read-only, is writable and will not be sealed soon."""
    if not host.data_report.exists() or host.sealing_mark.exists():
        return False
    mount = _mount_of(host, host.root)
    return mount is not None and not mount.is_read_only


def _data(host: HostSystem) -> str:
    try:
        return host.data_report.read_text(errors="replace").strip()
    except OSError:
        return ""


def _free(host: HostSystem) -> int | None:
    try:
        found = os.statvfs(host.state_folder.parent)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
