"""`jumpstarter-exporter profiles test` and `suggest`: how profiles match devices, and drafts for those without."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.terminal import print_error_line, print_line, print_text

from jumpstarter_exporter.config.builder import build_entry
from jumpstarter_exporter.config.model import DeviceEntry
from jumpstarter_exporter.devices.host_use import read_host_use
from jumpstarter_exporter.devices.hwdb import shipped
from jumpstarter_exporter.devices.match import Finding, ProfileMatch, match_devices
from jumpstarter_exporter.devices.offer import HostUse
from jumpstarter_exporter.devices.profiles import ProfileSet, read_host_profiles, read_profiles
from jumpstarter_exporter.devices.suggestion import suggested, unmatched
from jumpstarter_exporter.devices.udev_database import UdevError, read_devices
from jumpstarter_exporter.devices.udev_device import DeviceTree, parse_database

__all__ = ["DeviceNotFoundError", "explain_devices", "fault_of", "suggest_profiles"]

_MAX_DATABASE_BYTES = 64 * 1024 * 1024


class DeviceNotFoundError(JumpstarterError):
    """There is no such device."""

    status = "NOT_FOUND"
    exit_code = ExitCode.NOT_FOUND


@dataclass(frozen=True)
class _Look:
    """The devices, and how the profiles match them."""

    tree: DeviceTree
    profiles: ProfileSet
    findings: Sequence[Finding]


def explain_devices(
    device: str, *, database: Path | None = None, folder: Path | None = None, output: str = "text"
) -> int:
    """Print what each profile makes of a device: the exit code.

    Raises:
        DeviceNotFoundError: there is none.
        UdevError: the devices cannot be read.
    """
    look = _look(database, folder)
    found = _meant(look, device)
    if output == "json":
        described = {
            "devices": [_described(one, look.profiles) for one in found],
            "errors": [str(error) for error in look.profiles.errors],
        }
        print_text(json.dumps(described, indent=2) + "\n")
    else:
        for number, one in enumerate(found):
            for line in (*([""] if number else []), *_lines(one)):
                print_line(line)
        if database is not None:
            print_line(
                "Its database does not say what that host uses itself: its disks and network look free here."
            )
    return _with_errors(look.profiles, output)


def suggest_profiles(device: str | None, *, database: Path | None = None, folder: Path | None = None) -> int:
    """Print profiles for a device, or for all that none matches: the exit code.

    Raises:
        DeviceNotFoundError: there is none, or the host needs it itself.
        UdevError: the devices cannot be read.
    """
    look = _look(database, folder)
    if device is None:
        found = unmatched(look.tree, look.findings)
        if not found:
            print_error_line(
                "each device on USB is matched by a profile, or used by the host; nothing is suggested"
            )
            return _with_errors(look.profiles, "text")
    else:
        # A USB device is offered as its parts; a part that was named is meant itself.
        parts = _meant(look, device)
        found = [one for one in parts if not one.device.is_usb_device] or parts
        if kept := [one for one in found if one.protection]:
            raise DeviceNotFoundError(f"{device} is never offered: {kept[0].protection}; name another device")
        for one in found:
            for match in one.matches:
                print_error_line(
                    f"{_name(one)} is matched by {match.profile} already; yours will take precedence"
                )
    print_text(suggested(look.tree, found))
    return _with_errors(look.profiles, "text")


def _look(database: Path | None, folder: Path | None) -> _Look:
    use = HostUse()
    if database is None:
        tree = trio.run(_devices)
        use = read_host_use()
    else:
        tree = _from_file(database)
    profiles = read_host_profiles() if folder is None else read_profiles(folder)
    return _Look(tree, profiles, match_devices(tree, profiles, shipped(), use))


async def _devices() -> DeviceTree:
    return await read_devices(trio.CapacityLimiter(1))


def _from_file(file: Path) -> DeviceTree:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            tree = parse_database(stream.read(_MAX_DATABASE_BYTES))
    except OSError as error:
        raise UdevError(f"{file} cannot be read: {error.strerror}") from None
    if not len(tree):
        raise UdevError(f"{file} has no devices; write it with: udevadm info --export-db > {file}")
    return tree


def _meant(look: _Look, name: str) -> list[Finding]:
    """The devices with that name; for a USB device also its parts that have a node."""
    paths = {one.path for one in look.tree.find(name)}
    if not paths:
        raise DeviceNotFoundError(
            f"there is no device {name!r}; name a node (/dev/ttyUSB0), a port (1-1.4) or a path below /sys"
        )
    usb = {path for path in paths if (one := look.tree.get(path)) is not None and one.is_usb_device}
    for device in look.tree:
        above = look.tree.usb_device(device)
        if above is not None and above.path in usb and device.node:
            paths.add(device.path)
    return [one for one in look.findings if one.device.path in paths]


def _name(one: Finding) -> str:
    return one.device.node if one.device.node and not one.device.is_usb_device else one.device.name


def _lines(one: Finding) -> Iterator[str]:
    what = " ".join(
        part for part in (one.facts.model, f"({one.facts.kind})" if one.facts.kind else "") if part
    )
    yield f"{_name(one)}: {what or 'not in the tables'}"
    yield f"  Known by its {one.identity}: {one.identity.why}"
    if one.protection:
        yield f"  Never offered: {one.protection}"
    for match in one.matches:
        how = match.type if match.type is not None else f"known, but not driven: {match.no_driver}"
        yield f"  Offered as {match.path} by {match.profile}: {how}"
        yield from (f"    {key}: {value}" for key, value in match.config.items())
        if fault := fault_of(match):
            yield f"    It will be failed: {fault}"
        yield from (
            f"    port {port} is never switched: {why}" for port, why in match.protected_ports.items()
        )
    for refusal in one.refusals:
        if refusal.reason != one.protection:
            yield f"  Not by {refusal.profile}: {refusal.reason}"
    if not (one.matches or one.refusals):
        yield (
            "  No profile is for all of it; see its parts"
            if one.device.is_usb_device
            else "  No profile matches it; `jumpstarter-exporter suggest` writes one"
        )
    elsewhere = 0
    for attempt in one.attempts:
        if attempt.difference and attempt.profile.match.subsystem == one.device.subsystem:
            yield f"  {attempt.profile} does not match: {attempt.difference}"
        elsewhere += attempt.profile.match.subsystem != one.device.subsystem
    if elsewhere:
        yield f"  {elsewhere} profiles are not for {one.device.subsystem}"


def fault_of(match: ProfileMatch) -> str:
    """The driver's error for the profile's configuration; empty if there is none."""
    if match.type is None:
        return ""
    path = ("profiles", match.profile.name)
    entry = DeviceEntry(path, type=match.type, config=dict(match.config), description=match.description)
    return build_entry(match.profile.document, entry).fault


def _described(one: Finding, profiles: ProfileSet) -> dict[str, Any]:
    files = {profile.name: str(profile.document.file) for profile in profiles.profiles}
    return {
        "device": _name(one),
        "path": f"/sys{one.device.path}",
        "kind": one.facts.kind,
        "model": one.facts.model,
        "identity": {"by": one.identity.source.value, "value": one.identity.value, "why": one.identity.why},
        "never_offered": one.protection or None,
        "offered": [
            {
                "path": match.path,
                "profile": match.profile.name,
                "file": files[match.profile.name],
                "interface": match.interface,
                "type": match.type,
                "no_driver": match.no_driver or None,
                "config": match.config,
                "fault": fault_of(match) or None,
                "labels": match.labels,
                "protected_ports": {str(port): why for port, why in match.protected_ports.items()},
            }
            for match in one.matches
        ],
        "not_offered": [{"profile": no.profile.name, "reason": no.reason} for no in one.refusals],
        "not_matched": [
            {"profile": attempt.profile.name, "difference": attempt.difference}
            for attempt in one.attempts
            if attempt.difference
        ],
    }


def _with_errors(profiles: ProfileSet, output: str) -> int:
    if output != "json":
        for error in profiles.errors:
            print_error_line(f"jumpstarter-exporter: {error}")
    return ExitCode.USAGE if profiles.errors else ExitCode.OK
