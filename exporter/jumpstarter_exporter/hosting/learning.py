"""Learns what the hosted devices of a board are, from a child that makes them and ends: at load, when nobody uses them.

What was learned is stored in the state directory, by environment and configuration, so that it is learned once. What
could not be made is remembered in this process only, and learned again at the next load.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
import trio
from jumpstarter_proto.json_texts import decode_json
from jumpstarter_proto.private_files import PrivateFileError, read_private, write_private

from jumpstarter_exporter.hosting.child_messages import MAX_LINE_BYTES, Ready
from jumpstarter_exporter.hosting.environments import Environment
from jumpstarter_exporter.hosting.groups import HostedGroup
from jumpstarter_exporter.hosting.process import ChildProcess
from jumpstarter_exporter.paths import state_directory

__all__ = ["forget", "learn", "learned"]

MAX_KEPT_REPORTS = 128
"""Files in the state directory; the oldest are removed."""
_VERSION = "1"
"""To be changed with the format of reports."""

_log = logging.getLogger(__name__)
_known: dict[str, Ready | str] = {}
"""By key: the report, or why there is none."""


def learned(group: HostedGroup) -> Ready | str | None:
    """The report of the group, or why there is none; None if it was not learned. Reads a file."""
    key = _key(group)
    if key not in _known and (stored := _read(key)) is not None:
        _known[key] = stored
    return _known.get(key)


def forget(group: HostedGroup) -> None:
    """Learn it again at the next load: its devices have changed."""
    key = _key(group)
    _known.pop(key, None)
    with suppress(OSError):
        _file(key).unlink(missing_ok=True)


async def learn(groups: Iterable[HostedGroup], *, again: bool = False) -> None:
    """Learn those groups that are not known; with `again`, also those of which not everything could be made.

    The devices must not be in use: constructors of drivers may take the hardware.
    """
    for group in groups:
        known = await trio.to_thread.run_sync(learned, group)
        if known is None or (again and (isinstance(known, str) or known.failed)):
            await _learn(group)


async def _learn(group: HostedGroup) -> None:
    child = ChildProcess(group)
    await child.run()
    key = _key(group)
    report = child.life.report
    if report is None:
        _known[key] = child.life.reason or f"{group} ended without a report of its devices"
        return
    _known[key] = report
    if not report.failed:
        await trio.to_thread.run_sync(_write, key, report)


def _key(group: HostedGroup) -> str:
    parts = (_VERSION, Environment(group.python).fingerprint(), group.devices)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _file(key: str) -> Path:
    return state_directory(os.environ) / "hosted" / f"{key}.json"


def _read(key: str) -> Ready | None:
    try:
        return decode_json(read_private(_file(key), MAX_LINE_BYTES), Ready)
    except FileNotFoundError:
        return None
    except (OSError, PrivateFileError, ValueError) as error:
        _log.debug("a report of hosted devices cannot be read and is learned again: %s", error)
        return None


def _write(key: str, report: Ready) -> None:
    file = _file(key)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, msgspec.json.encode(report))
        for old in sorted(file.parent.glob("*.json"), key=lambda one: one.stat().st_mtime)[
            :-MAX_KEPT_REPORTS
        ]:
            old.unlink(missing_ok=True)
    except (OSError, PrivateFileError) as error:
        _log.warning("the devices of %s are learned again at the next start: %s", file.stem[:8], error)
